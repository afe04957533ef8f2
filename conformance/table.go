package conformance

// Cases returns the whole table, in the order of the contract.
func Cases() []Case {
	var all []Case
	for _, area := range [][]Case{
		readWriteCases, versionCases, walkCases, writeLogCases, pruneCases, multipartCases, upkeepCases,
		readOnlyCases, creatorCases, restorerCases, formatCases, crashCases, corruptionCases, wireCases, leakCases,
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
		Name: "read-write/paths-at-once", Level: Core, Clauses: clauses("DB25"), run: pathsAtOnce,
		Explanation: "Where GetPaths is there, it returns what GetPath would for each start, and each node once. Commits of many changes read by it.",
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
	{
		Name: "read-only/candidates", Level: Durable, Clauses: clauses("DB5"), run: readOnlyCandidates,
		Explanation: "A database with candidates, and what is left of a batch that was never ended, is opened for reading. Every question is answered as before, no file changes, and afterwards the candidates can be finalized.",
	},
	{
		Name: "read-only/open-insert", Level: Durable, Clauses: clauses("DB5", "DB60"), run: readOnlyInsert,
		Explanation: "A database with a restore half done is opened for reading. It says what it said, changes no file, and the restore goes on afterwards.",
	},
	{
		Name: "read-only/garbage", Level: Durable, Clauses: clauses("DB5", "DB53"), run: readOnlyGarbage,
		Explanation: "A database that has not freed the space of pruned versions is opened for reading. It frees none, and afterwards all of it can be freed.",
	},
	{
		Name: "read-only/two-readers", Level: Durable, Clauses: clauses("DB5"), run: twoReaders,
		Explanation: "Two readers at once, where the backend lets them in: both read the same, and no file changes. Where it does not, the second is told ErrLocked.",
	},
	{
		Name: "read-only/nothing-there", Level: Durable, Clauses: clauses("DB5"), run: readingNothing,
		Explanation: "Opened for reading, a directory that is not there, is empty, or holds something else is an error; nothing is made, and nothing stands in the way of a database later.",
	},
}

var creatorCases = []Case{
	{
		Name: "creator/not-there", Level: Core, Clauses: clauses("checkpoint.Creator"), run: creatorErrors,
		Explanation: "Checkpoints and chunks that are not there, and roots that can't be made one of, are refused with the API's errors.",
	},
	{
		Name: "creator/checkpoint-not-there", Level: Core, Clauses: clauses("checkpoint.Creator", "DB10"), run: checkpointNotThere,
		Explanation: "A checkpoint of another version, root, type or format is ErrCheckpointNotFound, to whoever asks for it, for a chunk of it, or for its deletion. None is made of a root that the database does not have, though it has another of the version.",
	},
	{
		Name: "creator/not-to-be-made", Level: Core, Clauses: clauses("checkpoint.Creator"), run: rootsNotToBeCheckpointed,
		Explanation: "Roots that nobody committed, that are not final, were pruned, or are another namespace's have no checkpoint. Each is refused with the error that says why, and leaves no pin.",
	},
	{
		Name: "creator/same-again", Level: Core, Clauses: clauses("checkpoint.Creator"), run: checkpointAgain,
		Explanation: "The same checkpoint, made again, at once, or elsewhere, is the same one. With other parameters it is refused: ErrParametersDiffer.",
	},
	{
		Name: "creator/delete", Level: Core, Clauses: clauses("checkpoint.Creator"), run: deletedCheckpoint,
		Explanation: "A deleted checkpoint is gone, with its chunks, and no other is. It can be made again, and then is the same.",
	},
	{
		Name: "creator/list", Level: Core, Clauses: clauses("checkpoint.Creator", "DB50"), run: listedCheckpoints,
		Explanation: "Checkpoints are listed, the newest version first, by version where one is asked for; those of other namespaces and formats are not. When its version has been pruned, a checkpoint is still there.",
	},
	{
		Name: "creator/empty-root", Level: Core, Clauses: clauses("checkpoint.Creator"), run: checkpointOfEmptyRoot,
		Explanation: "The empty root has a checkpoint like any other: one chunk, which says that there is nothing.",
	},
	{
		Name: "creator/version-kept", Level: Core, Clauses: clauses("checkpoint.Creator", "DB50"), run: versionKeptWhileCheckpointed,
		Explanation: "While a checkpoint is being made its version can't be pruned, and afterwards it can: the pin is there, and goes.",
	},
	{
		Name: "creator/broken-off", Level: Core, Clauses: clauses("checkpoint.Creator"), run: checkpointBrokenOff,
		Explanation: "The making of a checkpoint is broken off. It ends with the context's error, no checkpoint is there, no pin is left, and the next try succeeds.",
	},
	{
		Name: "creator/process-killed", Level: Process, Clauses: clauses("checkpoint.Creator", "DB3"), run: killedWhileCheckpointed, needsCrash: true,
		Explanation: "The database's process is killed while a checkpoint is being made. That is ErrUnavailable, and no checkpoint, or the whole if all had been read: never one of half the tree.",
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
	{
		Name: "restorer/none-in-progress", Level: Core, Clauses: clauses("checkpoint.Restorer"), run: noRestoreInProgress,
		Explanation: "Before a restore begins, after it was aborted and after its end, a chunk is ErrNoRestoreInProgress. An abort then is no error, and takes nothing away that is complete.",
	},
	{
		Name: "restorer/already-in-progress", Level: Core, Clauses: clauses("checkpoint.Restorer", "DB60"), run: restoreInProgress,
		Explanation: "While a restore is going, another one, or the same, is refused with ErrRestoreAlreadyInProgress, by this restorer and by others. The first goes on.",
	},
	{
		Name: "restorer/chunk-not-there", Level: Core, Clauses: clauses("checkpoint.Restorer", "DB63"), run: chunkBeyond,
		Explanation: "A chunk beyond the last one is ErrChunkNotFound, no mark in the database is one of it, and the restore goes on.",
	},
	{
		Name: "restorer/chunk-again", Level: Core, Clauses: clauses("checkpoint.Restorer", "DB63"), run: chunkAgain,
		Explanation: "A chunk that is restored is ErrChunkAlreadyRestored, also where what is given now is something else, and for another restorer that takes the restore up and knows it by its mark.",
	},
	{
		Name: "restorer/chunk-corrupted", Level: Core, Clauses: clauses("checkpoint.Restorer", "DB63"), run: corruptedChunk,
		Explanation: "A chunk that is not the metadata's (a byte changed, cut short, too long, another one) is ErrChunkCorrupted, one that can't be read the reader's error. It gets no mark; the restore goes on, and the right chunk is taken.",
	},
	{
		Name: "restorer/bad-proof", Level: Core, Clauses: clauses("checkpoint.Restorer"), run: badProof,
		Explanation: "A chunk that has the right digest and proves something else is ErrChunkProofVerificationFailed. That ends the restore: nothing of it is left, and another can begin.",
	},
	{
		Name: "restorer/limits", Level: Core, Clauses: clauses("checkpoint.Restorer", "DB31"), run: restoreBeyondLimits,
		Explanation: "A chunk that is larger than a limit allows is ErrLimitExceeded, whichever limit it is, the database's own among them. The restore goes on.",
	},
	{
		Name: "restorer/bad-metadata", Level: Core, Clauses: clauses("checkpoint.Restorer", "DB60"), run: restoreOfBadMetadata,
		Explanation: "Metadata of an unknown version of the format, without chunks, of no type, or of another namespace begins no restore, and leaves no insert open.",
	},
	{
		Name: "restorer/version-not-above", Level: Core, Clauses: clauses("checkpoint.Restorer"), run: restoreOfOldVersion,
		Explanation: "A version that is not above the latest can't be restored: ErrInvalidMultipartVersion, and what is there stays.",
	},
	{
		Name: "restorer/empty-root", Level: Core, Clauses: clauses("checkpoint.Restorer"), run: restoreOfEmptyRoot,
		Explanation: "The checkpoint of an empty tree is restored, and versions are made on top of it.",
	},
	{
		Name: "restorer/any-order", Level: Core, Clauses: clauses("checkpoint.Restorer"), run: restoreInAnyOrder,
		Explanation: "Chunks are restored in random orders. The last one to come completes the restore, and no other.",
	},
	{
		Name: "restorer/at-once", Level: Core, Clauses: clauses("checkpoint.Restorer", "DB62"), run: restoreAtOnce,
		Explanation: "Chunks are restored by several goroutines. Exactly one of them is told that the restore is complete, and the tree is whole.",
	},
	{
		Name: "restorer/same-chunk-at-once", Level: Core, Clauses: clauses("checkpoint.Restorer", "DB62"), run: sameChunkAtOnce,
		Explanation: "Several goroutines restore the same chunk, with two restorers. One of each does, the others are told ErrChunkAlreadyRestored, and the database takes the chunk from both.",
	},
	{
		Name: "restorer/abort-in-flight", Level: Core, Clauses: clauses("checkpoint.Restorer"), run: abortWithChunksInFlight,
		Explanation: "A restore is aborted while chunks are being read and written. They fail with ErrNoRestoreInProgress, nothing of them is left, and none counts for the next restore.",
	},
	{
		Name: "restorer/taken-up", Level: Core, Clauses: clauses("checkpoint.Restorer", "DB63"), run: restoreTakenUpAgain,
		Explanation: "Another restorer takes a restore up, after a reopening where the database lasts: chunks that are done stay done.",
	},
}

var formatCases = []Case{
	{
		Name: "format/vectors", Level: Core, Clauses: clauses("format"), run: formatVectors,
		Explanation: "States with known answers are made: roots, chunks and metadata have to be the known ones, byte for byte. They are restored, and their checkpoints made again.",
	},
}

const historiesExplanation = "A database lives through a random history of commits, finalizes, prunes, restores, collections and compactions. Its process is killed in the middle of one of them again and again. Each time the database is opened by another process, read as a whole, checked, and held against a model: what was acknowledged is there, and what was in flight is there as a whole or not at all."

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
	{
		Name: "crash/histories-1", Level: Durable, Clauses: clauses("DB34", "DB40", "DB51", "DB63"), run: crashHistories(1), needsCrash: true, timesKills: true,
		Explanation: historiesExplanation,
	},
	{
		Name: "crash/histories-2", Level: Durable, Clauses: clauses("DB34", "DB40", "DB51", "DB63"), run: crashHistories(2), needsCrash: true, timesKills: true,
		Explanation: historiesExplanation,
	},
	{
		Name: "crash/histories-3", Level: Durable, Clauses: clauses("DB34", "DB40", "DB51", "DB63"), run: crashHistories(3), needsCrash: true, timesKills: true,
		Explanation: historiesExplanation,
	},
	{
		Name: "crash/histories-4", Level: Durable, Clauses: clauses("DB34", "DB40", "DB51", "DB63"), run: crashHistories(4), needsCrash: true, timesKills: true,
		Explanation: historiesExplanation,
	},
}

// corruptionCases damage the files of a database.
var corruptionCases = []Case{
	{
		Name: "corruption/flipped-bytes", Level: Integrity, Clauses: clauses("DB7", "DB72"), run: flippedBytes,
		Explanation: "A byte of the database's files is changed, at many places, one at a time. Opening it, and each answer, is right or an error: never a wrong record, never a process that dies. Check finds what reading finds. An older state of the whole database is taken for right where it opens as one: a damaged end of a log can't be told from a loss of power. An answer that takes too long counts as an error. Without a process only bytes of values are changed.",
	},
	{
		Name: "corruption/flipped-values", Level: Integrity, Clauses: clauses("DB7", "DB72"), run: flippedInValues,
		Explanation: "A byte of a value is changed where it is stored, at many places, one at a time. Whoever reads it is told ErrCorrupted. An older state of the whole database is taken for right where it opens as one: a damaged end of a log can't be told from a loss of power.",
	},
	{
		Name: "corruption/truncated-files", Level: Integrity, Clauses: clauses("DB7"), run: truncatedFiles,
		Explanation: "Each of the database's files is cut short. That is an error, or an older state of the whole: never an empty database in the place of what was there, and never less of the files than before.",
	},
	{
		Name: "corruption/missing-file", Level: Integrity, Clauses: clauses("DB7"), run: missingFiles,
		Explanation: "Each of the database's files is taken away. That is an error, or makes no difference: never a new, empty database in its place.",
	},
}

// wireCases are about what is between a process and this one: messages, handles, locks, and the process's end.
var wireCases = []Case{
	{
		Name: "wire/records-around-frames", Level: Process, Clauses: clauses("DB21", "DB22", "DB23", "DB31"), run: recordsAroundFrames,
		Explanation: "Records just below, at and above the sizes at which frames and messages end go in by batch and by chunk, and come back by every way of reading. What is cut or joined wrongly is one byte off.",
	},
	{
		Name: "wire/no-shared-memory", Level: Process, Clauses: clauses("DB21", "DB22", "DB23", "DB31"), run: noSharedMemory,
		Explanation: "The same with a host that shares no memory with the program, so that walks go through the connection.",
	},
	{
		Name: "wire/largest-value", Level: Process, Clauses: clauses("DB31"), run: largestValue,
		Explanation: "A value as large as a message goes in and comes out whole. One that is larger than Info allows is ErrLimitExceeded, and the database goes on.",
	},
	{
		Name: "wire/long-write-log", Level: Process, Clauses: clauses("DB33", "DB70"), run: longWriteLog,
		Explanation: "A write log of many thousand changes, some of them megabytes, goes in and comes out as it was.",
	},
	{
		Name: "wire/long-path", Level: Process, Clauses: clauses("DB22"), run: longPath,
		Explanation: "A key with more nodes above it than one message takes: GetPath returns them all.",
	},
	{
		Name: "wire/huge-tags", Level: Process, Clauses: clauses("DB3", "DB61"), run: hugeTags,
		Explanation: "Tags that fit into a message come back as they were. What does not, on the way there or back, is ErrLimitExceeded, and neither the process nor the insert is lost.",
	},
	{
		Name: "wire/cancelled-walk", Level: Process, Clauses: clauses("DB2", "DB23"), run: cancelledWalk,
		Explanation: "A walk's context ends in the middle. The walk ends soon, with the context's error, and holds nothing any more.",
	},
	{
		Name: "wire/cancelled-batch", Level: Process, Clauses: clauses("DB2", "DB34"), run: cancelledBatch,
		Explanation: "Contexts end while a batch is filled and while it is committed. The root is there as a whole or not at all, and the same batch again is taken.",
	},
	{
		Name: "wire/cancelled-chunk", Level: Process, Clauses: clauses("DB2", "DB63"), run: cancelledChunk,
		Explanation: "Contexts end while chunks are filled and while they are committed. A chunk whose Commit gave no error has its mark, one that has its mark is whole whatever Commit said, and each can be written again.",
	},
	{
		Name: "wire/cancelled-upkeep", Level: Process, Clauses: clauses("DB2", "DB53", "DB71", "DB72"), run: cancelledUpkeep,
		Explanation: "Check, CollectGarbage and Compact are cancelled in the middle. They end soon, nothing is damaged, and they can be called again.",
	},
	{
		Name: "wire/cancelled-open", Level: Process, Clauses: clauses("DB2"), run: cancelledOpen,
		Explanation: "Opening is given up in the middle. The database does not stay open or locked by somebody who does not want it any more.",
	},
	{
		Name: "wire/rings-and-turns", Level: Process, Clauses: clauses("DB2", "DB23"), run: ringsAndTurns,
		Explanation: "Over the bare wire, walks share memory with the host: one whose ring another still uses leaves that alone, and turns that come late are refused; a program that shares none refuses them all. Otherwise a walk that was cancelled writes into the frames of the next one.",
	},
	{
		Name: "wire/stopped-process", Level: Process, Clauses: clauses("DB2"), run: stoppedProcess,
		Explanation: "The process is stopped, and answers nothing. Calls end with their contexts all the same, soon, and when the process goes on, so does everything.",
	},
	{
		Name: "wire/two-processes", Level: Process, Clauses: clauses("DB3"), run: twoProcesses,
		Explanation: "A directory that one process has open is refused to another, for writing and for reading: ErrLocked, and the text names the process that has it. Who waits gets it when it is free.",
	},
	{
		Name: "wire/killed-holder", Level: Process, Clauses: clauses("DB3"), run: killedHolder, needsCrash: true,
		Explanation: "A process that had a directory open is killed. The next one opens it at once: a lock does not outlive its holder.",
	},
	{
		Name: "wire/two-databases", Level: Process, Clauses: clauses("DB3", "DB6"), run: twoDatabases,
		Explanation: "Two databases are open in one process, and a third of another namespace. Nothing of one is seen in another, and closing one closes no other.",
	},
	{
		Name: "wire/closed-handle", Level: Process, Clauses: clauses("DB4"), run: closedHandle,
		Explanation: "A database is closed, and another opened in the same process at the same place. The old one stays closed: every method returns ErrClosed, and none reaches the new one.",
	},
	{
		Name: "wire/made-up-handle", Level: Process, Clauses: clauses("DB4"), run: madeUpHandles,
		Explanation: "Each call is made over the bare wire with handles, and sessions, that the process never gave. Each is refused with ErrClosed, and the process goes on.",
	},
	{
		Name: "wire/malformed-messages", Level: Process, Clauses: clauses("DB31"), run: malformedMessages,
		Explanation: "Messages and frames that make no sense are sent over the bare wire. Each is refused, nothing of it is stored, and neither the process nor another database in it suffers.",
	},
	{
		Name: "wire/slow-close", Level: Process, Clauses: clauses("DB34", "DB71"), run: slowClose,
		Explanation: "A database with much that is not safe yet is closed, and its process killed as soon as Close has returned: all of it is there. A process that is asked to end with a database open closes it first, and the directory is free.",
	},
	{
		Name: "wire/error-identity", Level: Process, Clauses: clauses("DB3"), run: errorIdentities,
		Explanation: "Each error that a caller is meant to tell apart is provoked: errors.Is finds it, and finds none that it is not.",
	},
	{
		Name: "wire/killed-process", Level: Process, Clauses: clauses("DB3"), run: killedProcess, needsCrash: true,
		Explanation: "The process is killed in the middle of calls, a walk, a batch, a chunk and a pin. All that is asked of it from then on is ErrUnavailable: never an answer, such as that there is no such root.",
	},
}

// leakCases are about what is left of a process, and of what was begun in it. What processes have open can
// be seen on Linux alone.
var leakCases = []Case{
	{
		Name: "leaks/after-close", Level: Process, Clauses: clauses("DB71"), run: nothingLeftAfterClose,
		Explanation: "A database is closed in the middle of a walk, a batch, a chunk and a pin. Its process has gone, with all that it started, its socket and the socket's directory; nobody has one of the database's files open.",
	},
	{
		Name: "leaks/after-kill", Level: Process, Clauses: clauses("DB35"), run: nothingLeftAfterKill, needsCrash: true,
		Explanation: "The process is killed. Nothing that it started lives on, and its socket's directory is removed.",
	},
	{
		Name: "leaks/open-and-close", Level: Process, Clauses: clauses("DB71"), run: openedAndClosed,
		Explanation: "One process opens and closes a database over and over. It does not end up with more open files, nor with more memory.",
	},
	{
		Name: "leaks/walks", Level: Process, Clauses: clauses("DB23"), run: walksLeft,
		Explanation: "Walks and write logs are left early, over and over. The process has no more open files or memory than before, prunes what was walked, and closes.",
	},
	{
		Name: "leaks/batches", Level: Process, Clauses: clauses("DB35", "DB62"), run: batchesAborted,
		Explanation: "Batches and chunks are filled and aborted, over and over. Nothing of them stays in memory, in open files, or stored.",
	},
	{
		Name: "leaks/pins", Level: Process, Clauses: clauses("DB50"), run: pinsReleased,
		Explanation: "Versions are pinned and released, over and over. Nothing of it stays, and the version can be pruned.",
	},
}
