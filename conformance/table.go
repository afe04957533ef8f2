package conformance

// Cases returns the whole table, in the order of the contract.
func Cases() []Case {
	var all []Case
	for _, area := range [][]Case{
		readWriteCases, versionCases, walkCases, writeLogCases, pruneCases, multipartCases, upkeepCases,
		readOnlyCases, creatorCases, restorerCases, formatCases, crashCases,
	} {
		all = append(all, area...)
	}
	return all
}

func clauses(names ...string) []string { return names }

var readWriteCases = []Case{
	{
		Name: "read-write/whole-tree", Level: Core, Clauses: clauses("DB20", "DB23", "DB31"), run: wholeWalk,
		Explanation: "Trees of many shapes are committed and walked through. What comes back is what was put: each record once, in pre-order, byte for byte.",
	},
	{
		Name: "read-write/root-address", Level: Core, Clauses: clauses("DB20"), run: rootAddresses,
		Explanation: "RootAddress says where a root's node is: where its batch put it, or where an older version did if nothing changed. A wrong address makes every path into the tree end at once.",
	},
	{
		Name: "read-write/single-nodes", Level: Core, Clauses: clauses("DB21"), run: singleNodes,
		Explanation: "GetNode returns each record by its address and position, and ErrNodeNotFound for what is not there, or is there for another version.",
	},
	{
		Name: "read-write/paths", Level: Core, Clauses: clauses("DB22"), run: paths,
		Explanation: "GetPath returns the records that a key's bits lead to, in order, for keys that are there and for keys that are not.",
	},
	{
		Name: "read-write/paths-from-within", Level: Core, Clauses: clauses("DB22"), run: pathsFromWithin,
		Explanation: "GetPath begins at any node of the tree, not just at the root: a tree that has the upper nodes in memory asks only for the rest.",
	},
	{
		Name: "read-write/paths-end-at-labels", Level: Core, Clauses: clauses("DB22"), run: pathsThatLabelsEnd,
		Explanation: "A node whose label does not agree with the key is the last of a path. Going on below it returns nodes that have nothing to do with the key.",
	},
	{
		Name: "read-write/runs", Level: Core, Clauses: clauses("DB31"), run: severalRuns,
		Explanation: "A batch takes its records as several runs, in any order of the runs: trees send subtrees as soon as they are hashed.",
	},
	{
		Name: "read-write/large-records", Level: Core, Clauses: clauses("DB31"), run: largeRecords,
		Explanation: "Values of megabytes go in and come out whole, also where the store, or a message between processes, takes less at once.",
	},
	{
		Name: "read-write/malformed-entries", Level: Core, Clauses: clauses("DB31"), run: malformedEntries,
		Explanation: "Records and positions that are none, and entries that are out of order, are refused; a batch that holds any can't be read by anybody later.",
	},
	{
		Name: "read-write/limits", Level: Core, Clauses: clauses("DB31"), run: beyondLimits,
		Explanation: "Keys and values longer than Info says are refused with ErrLimitExceeded, and those just as long are taken.",
	},
	{
		Name: "read-write/removed-entries", Level: Core, Clauses: clauses("DB32"), run: removedEntries,
		Explanation: "A batch names what the new root does not reach any more. It has gone when its versions have, and nothing else has. What can't be an entry of the old root is refused.",
	},
	{
		Name: "read-write/arguments-not-kept", Level: Core, Clauses: clauses("DB8"), run: passedNotKept,
		Explanation: "What is passed to a method may be overwritten when the method has returned. A backend that keeps it stores whatever comes next in that memory.",
	},
	{
		Name: "read-write/results-stay", Level: Core, Clauses: clauses("DB8"), run: returnedStays,
		Explanation: "What was returned stays as it is while other calls are made, versions pruned and files compacted.",
	},
	{
		Name: "read-write/readers-beside-writer", Level: Core, Clauses: clauses("DB1", "DB23", "DB50"), run: readersBesideWriter,
		Explanation: "Pinned versions are read over and over while others are made, finalized and pruned, by several goroutines. Readers see all of a version or an error, never a mixture.",
	},
	{
		Name: "read-write/context-done", Level: Core, Clauses: clauses("DB2"), run: contextDone,
		Explanation: "A context that is done ends every method, with the context's error and nothing done.",
	},
	{
		Name: "read-write/after-close", Level: Core, Clauses: clauses("DB4"), run: afterClose,
		Explanation: "After Close every method returns ErrClosed, and a second Close does, too.",
	},
	{
		Name: "read-write/other-namespace", Level: Core, Clauses: clauses("DB6"), run: otherNamespace,
		Explanation: "Roots of another namespace are refused with ErrBadNamespace wherever a root is taken.",
	},
	{
		Name: "read-write/database-of-other-namespace", Level: Durable, Clauses: clauses("DB6"), run: databaseOfOtherNamespace,
		Explanation: "A directory that holds another namespace's database is refused, and left as it is.",
	},
}

var versionCases = []Case{
	{
		Name: "versions/empty-root", Level: Core, Clauses: clauses("DB10"), run: emptyRoot,
		Explanation: "The empty root is always there, of every version that may have one, and holds nothing.",
	},
	{
		Name: "versions/unknown-root", Level: Core, Clauses: clauses("DB10"), run: unknownRoot,
		Explanation: "A root that nobody committed is ErrRootNotFound, whatever is asked of it.",
	},
	{
		Name: "versions/gap", Level: Core, Clauses: clauses("DB11"), run: versionsInGap,
		Explanation: "After a restore far above the latest version, the versions between are not there, and say so.",
	},
	{
		Name: "versions/one-root-a-type", Level: Core, Clauses: clauses("DB12"), run: oneRootOfEachType,
		Explanation: "A version has one finalized root of each type, and GetRootsForVersion lists them in order.",
	},
	{
		Name: "versions/io-roots-stand-alone", Level: Core, Clauses: clauses("DB13"), run: ioRootsStandAlone,
		Explanation: "IO roots have no descendants: a batch from one is refused, and all they hold goes with their version.",
	},
	{
		Name: "versions/batch-beginnings", Level: Core, Clauses: clauses("DB30"), run: batchBeginnings,
		Explanation: "A batch begins with an empty root or one of the version before. Anything else is ErrRootMustFollowOld.",
	},
	{
		Name: "versions/batch-versions", Level: Core, Clauses: clauses("DB30"), run: batchVersions,
		Explanation: "Which versions a batch may have: above the latest, next to its old root, in a chain of candidates.",
	},
	{
		Name: "versions/invisible-before-commit", Level: Core, Clauses: clauses("DB34"), run: nothingBeforeCommit,
		Explanation: "Nothing of a batch can be seen before Commit, however much of it is stored.",
	},
	{
		Name: "versions/same-root-again", Level: Core, Clauses: clauses("DB34"), run: sameRootAgain,
		Explanation: "A root that is there already is committed again without an error and without a change: two writers, or one that was restarted, may do the same work.",
	},
	{
		Name: "versions/roots-must-follow", Level: Core, Clauses: clauses("DB34"), run: rootsThatDontFollow,
		Explanation: "Commit refuses a root that is not of the batch's version and type, or whose node was not put.",
	},
	{
		Name: "versions/committed-and-reopened", Level: Durable, Clauses: clauses("DB34"), run: committedAndReopened,
		Explanation: "A root that was committed, and not finalized, is there after the database was closed and opened again.",
	},
	{
		Name: "versions/abort", Level: Core, Clauses: clauses("DB35"), run: abortedBatch,
		Explanation: "A batch that is aborted leaves nothing that can be seen, and the same root can be committed afterwards.",
	},
	{
		Name: "versions/batch-left-behind", Level: Durable, Clauses: clauses("DB35"), run: leftBatch,
		Explanation: "A batch that was never ended leaves nothing that can be seen when the database is opened again.",
	},
	{
		Name: "versions/finalize", Level: Core, Clauses: clauses("DB40"), run: finalizeRoots,
		Explanation: "Finalize makes roots their version's only ones, all at once, and the version the latest.",
	},
	{
		Name: "versions/not-finalizable", Level: Core, Clauses: clauses("DB40"), run: notFinalizable,
		Explanation: "What can't be finalized is refused with the error that says why, and nothing changes: no such root, not the next version, two of a type, not complete.",
	},
	{
		Name: "versions/parent-not-finalized", Level: Core, Clauses: clauses("DB41"), run: parentNotFinalized,
		Explanation: "A root made from one that did not become final can't become final: the version would share nodes with what is being removed.",
	},
	{
		Name: "versions/other-candidates-go", Level: Core, Clauses: clauses("DB42"), run: otherCandidatesGo,
		Explanation: "When a version is finalized its other candidates go, and with them every candidate of later versions that descends from one.",
	},
	{
		Name: "versions/committed-and-restored", Level: Core, Clauses: clauses("DB42"), run: committedAndRestored,
		Explanation: "Of a root that was both committed and restored the committed one counts, and candidates made from it stay whole.",
	},
	{
		Name: "versions/finalize-again", Level: Core, Clauses: clauses("DB43"), run: finalizeAgain,
		Explanation: "Finalize again with the same roots, while they are the latest, is no error: whoever was interrupted asks again. With others it is ErrAlreadyFinalized.",
	},
}

var walkCases = []Case{
	{
		Name: "walk/from-a-position", Level: Core, Clauses: clauses("DB23"), run: walkFrom,
		Explanation: "A walk that starts at a position yields the nodes on the way there and all at it or after it: so checkpoints are made in chunks, and go on where they were broken off.",
	},
	{
		Name: "walk/left-early", Level: Core, Clauses: clauses("DB23"), run: walkLeft,
		Explanation: "A walk may be left at any time. What it held is given up: the database can be pruned and closed.",
	},
	{
		Name: "walk/deep-tree", Level: Core, Clauses: clauses("DB23"), run: deepTree,
		Explanation: "Keys that are prefixes of each other make a tree as deep as keys are long. It is written, walked and read like any other.",
	},
	{
		Name: "walk/close-during-walk", Level: Core, Clauses: clauses("DB4"), run: closeDuringWalk,
		Explanation: "Close does not wait for a walk whose reader may never come back: the walk ends with ErrClosed.",
	},
	{
		Name: "walk/pruned-meanwhile", Level: Core, Clauses: clauses("DB11", "DB24"), run: nodesOfPrunedVersion,
		Explanation: "Nodes that a pruned version shares with later ones can be read through the later ones, and not through it.",
	},
}

var writeLogCases = []Case{
	{
		Name: "write-logs/read", Level: WriteLogs, Clauses: clauses("DB33", "DB70"), run: readWriteLogs,
		Explanation: "GetWriteLog returns the changes from one root to the next, sorted by key, as they were given, values included.",
	},
	{
		Name: "write-logs/discarded", Level: Core, Clauses: clauses("DB70"), run: writeLogsNotKept,
		Explanation: "Where write logs are to be discarded, asking for one is ErrWriteLogNotFound, and Info says so.",
	},
	{
		Name: "write-logs/not-given", Level: WriteLogs, Clauses: clauses("DB70"), run: writeLogsNotGiven,
		Explanation: "A batch that was given no write log has none: an empty one would say that nothing changed.",
	},
}

var pruneCases = []Case{
	{
		Name: "prune/versions", Level: Core, Clauses: clauses("DB51"), run: pruneVersions,
		Explanation: "Versions are made and pruned in strides. Those that are kept can be read whole, always; those that went are gone.",
	},
	{
		Name: "prune/refused", Level: Core, Clauses: clauses("DB51"), run: notPrunable,
		Explanation: "Only the earliest version can be pruned, never the latest, and nothing while a restore is open. Each refusal has its error, and changes nothing.",
	},
	{
		Name: "prune/before", Level: Core, Clauses: clauses("DB52"), run: pruneBefore,
		Explanation: "PruneBefore removes all versions below one at once, and counts them; where it is refused nothing has gone.",
	},
	{
		Name: "prune/pruned-version", Level: Core, Clauses: clauses("DB11"), run: prunedVersion,
		Explanation: "A version that was pruned is named as such, ErrVersionPruned, by every method: that it never was there is another answer.",
	},
	{
		Name: "prune/garbage", Level: Core, Clauses: clauses("DB53"), run: collectGarbage,
		Explanation: "CollectGarbage frees what pruned versions took, reports how far it is, and can be broken off and called again.",
	},
	{
		Name: "prune/pins", Level: Core, Clauses: clauses("DB50"), run: pins,
		Explanation: "A pinned version is not pruned, until the last of its pins is released. Pins are listed with owner and time.",
	},
	{
		Name: "prune/not-pinnable", Level: Core, Clauses: clauses("DB50"), run: notPinnable,
		Explanation: "What is not final, was pruned or never was can't be pinned.",
	},
	{
		Name: "prune/pins-not-stored", Level: Durable, Clauses: clauses("DB50"), run: pinsNotStored,
		Explanation: "Pins end with their process: after a reopening there are none, and nobody has to clean up after one that died.",
	},
}

var multipartCases = []Case{
	{
		Name: "multipart/start", Level: Core, Clauses: clauses("DB60"), run: startMultipart,
		Explanation: "One insert is open at a time, of a version above the latest. Opening it again is nothing; another is refused.",
	},
	{
		Name: "multipart/roots", Level: Core, Clauses: clauses("DB61"), run: multipartRoots,
		Explanation: "Roots to be restored are told of with chunks and tag, which come back as they were; the same again is no error, another number or tag is.",
	},
	{
		Name: "multipart/any-order", Level: Core, Clauses: clauses("DB62"), run: chunksInAnyOrder,
		Explanation: "Chunks come in any order, and twice. The tree that comes of it is the same.",
	},
	{
		Name: "multipart/at-once", Level: Core, Clauses: clauses("DB62"), run: chunksAtOnce,
		Explanation: "Chunks are written at the same time, the same one by several writers, too.",
	},
	{
		Name: "multipart/malformed-chunks", Level: Core, Clauses: clauses("DB62"), run: malformedChunks,
		Explanation: "Chunks of entries that are none, out of order, or of a root that nobody told of are refused, and leave nothing.",
	},
	{
		Name: "multipart/marks", Level: Core, Clauses: clauses("DB63"), run: chunkMarks,
		Explanation: "A chunk is done when its Commit has returned, and not before: an aborted one has no mark.",
	},
	{
		Name: "multipart/marks-survive", Level: Durable, Clauses: clauses("DB63"), run: chunkMarksSurvive,
		Explanation: "An open insert is there after a reopening, with the chunks that are done, and the restore goes on.",
	},
	{
		Name: "multipart/incomplete", Level: Core, Clauses: clauses("DB64"), run: incompleteRoot,
		Explanation: "CompleteRoot finds what is missing: a chunk, or a node within chunks that are all there. A restore that says that it is done, and is not, is worse than none.",
	},
	{
		Name: "multipart/overlap", Level: Core, Clauses: clauses("DB64"), run: overlappingChunks,
		Explanation: "Two chunks that claim the same whole nodes are ErrChunksOverlap: what is stored then depends on which came last.",
	},
	{
		Name: "multipart/invisible-before-finalize", Level: Core, Clauses: clauses("DB65"), run: nothingBeforeFinalize,
		Explanation: "Nothing of a restore can be read before Finalize, not even when it is complete.",
	},
	{
		Name: "multipart/two-roots", Level: Core, Clauses: clauses("DB61", "DB65"), run: twoRootsRestored,
		Explanation: "State and IO root of a version are restored by one insert and become final together.",
	},
	{
		Name: "multipart/versions-on-top", Level: Core, Clauses: clauses("DB65"), run: versionsOnTop,
		Explanation: "Versions are made on top of a restored one, in a database that held older ones, and pruned from below: nothing is shared across the gap.",
	},
	{
		Name: "multipart/abort-root", Level: Core, Clauses: clauses("DB66"), run: abortRoot,
		Explanation: "One root of an insert is aborted: its marks and nodes go, the other root stays as it was.",
	},
	{
		Name: "multipart/abort", Level: Core, Clauses: clauses("DB66"), run: abortMultipart,
		Explanation: "The whole insert is aborted, with chunks being written: nothing is left, and another can begin.",
	},
}

var upkeepCases = []Case{
	{
		Name: "upkeep/size-compact-sync", Level: Core, Clauses: clauses("DB71"), run: upkeep,
		Explanation: "Size, Compact and Sync do what they say beside everything else; what is stored is the same afterwards.",
	},
	{
		Name: "upkeep/close-and-open", Level: Durable, Clauses: clauses("DB71"), run: closeAndReopen,
		Explanation: "After Close, which gives up files and locks, the database opens again with everything that was in it.",
	},
	{
		Name: "upkeep/check", Level: Core, Clauses: clauses("DB72"), run: soundDatabase,
		Explanation: "Check finds nothing wrong with a sound database, at any stage of its life: with candidates, garbage, a restore half done.",
	},
}

var readOnlyCases = []Case{
	{
		Name: "read-only/open", Level: Durable, Clauses: clauses("DB5"), run: openedForReading,
		Explanation: "Opened for reading only, a database answers every question, refuses every change with ErrReadOnly, and changes no file.",
	},
}

var creatorCases = []Case{
	{
		Name: "creator/not-there", Level: Core, Clauses: clauses("checkpoint.Creator"), run: creatorErrors,
		Explanation: "Checkpoints and chunks that are not there, and roots that can't be made one of, are refused with the API's errors.",
	},
}

var restorerCases = []Case{
	{
		Name: "restorer/in-order", Level: Core, Clauses: clauses("checkpoint.Restorer"), run: restoreInOrder,
		Explanation: "A checkpoint made of one database is restored into another, chunk by chunk, and reads back the same.",
	},
	{
		Name: "restorer/abort", Level: Core, Clauses: clauses("checkpoint.Restorer"), run: restoreAborted,
		Explanation: "A restore is aborted, and another begun: nothing of the first is left.",
	},
	{
		Name: "restorer/bad-proofs", Level: Core, Clauses: clauses("checkpoint.Restorer"), run: restoreOfBadProofs,
		Explanation: "Chunks with a wrong digest, a proof of something else, entries missing or too many: each is refused with its error, and nothing of it can be seen.",
	},
	{
		Name: "restorer/second-root-after-failure", Level: Core, Clauses: clauses("checkpoint.Restorer"), run: restoreOfTwoRoots,
		Explanation: "One root of a version is complete; the other's restore fails and is begun again. The first stays complete.",
	},
	{
		Name: "restorer/other-version", Level: Core, Clauses: clauses("checkpoint.Restorer"), run: restoreOfOtherVersion,
		Explanation: "A restore of another version, while one waits for Finalize, is refused.",
	},
}

var formatCases = []Case{
	{
		Name: "format/vectors", Level: Core, Clauses: clauses("format"), run: formatVectors,
		Explanation: "States with known answers are made: roots, chunks and metadata have to be the known ones, byte for byte. They are restored, and their checkpoints made again.",
	},
}

// crashCases need a process that can be killed.
var crashCases = []Case{
	{
		Name: "crash/after-commit", Level: Durable, Clauses: clauses("DB34"), run: committedAndKilled, needsCrash: true,
		Explanation: "The process is killed when Commit has returned. The root is there afterwards.",
	},
	{
		Name: "crash/after-chunks", Level: Durable, Clauses: clauses("DB63"), run: chunkMarksSurviveKill, needsCrash: true,
		Explanation: "The process is killed between a restore's chunks. Those whose Commit had returned are done afterwards, and the restore goes on.",
	},
	{
		Name: "crash/during-restore", Level: Durable, Clauses: clauses("checkpoint.Restorer", "DB63"), run: restoreTakenUp, needsCrash: true,
		Explanation: "The process is killed in the middle of a restore through the API. The same metadata takes it up again.",
	},
}
