package faulty

import (
	"slices"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// Defects returns all defects, in the order of the contract.
func Defects() []Defect { return slices.Clone(defects) }

func clauses(names ...string) []string { return names }

// defects is the table.
var defects = []Defect{
	// All methods.

	{
		Name: "context-ignored", Clauses: clauses("DB2"),
		Wrong: "Calls can't be interrupted: a context that is done ends none.",
		spoil: contextIgnored,
	},
	{
		Name: "context-error-lost", Clauses: clauses("DB2"),
		Wrong: "A call that was interrupted fails, with an error that does not say that it was.",
		spoil: contextErrorFlat,
	},
	{
		Name: "chunk-context-ignored", Clauses: clauses("DB2"),
		Wrong: "The writing of a chunk can't be interrupted.",
		spoil: func(ndb db.NodeDB) db.NodeDB {
			return &chunks{ndb, func(w db.ChunkWriter, _ node.Root, _ uint64) db.ChunkWriter { return &chunkContextIgnored{w} }}
		},
	},
	{
		Name: "errors-flat", Clauses: clauses("DB3"),
		Wrong: "Errors have the right texts, and errors.Is finds nothing in them.",
		spoil: errorsFlat,
	},
	{
		Name: "closed-unnoticed", Clauses: clauses("DB4"),
		Wrong: "After Close the methods fail with whatever error the files below give.",
		spoil: closedUnnoticed,
	},
	{
		Name: "closed-answers", Clauses: clauses("DB4"),
		Wrong: "After Close a question is answered from memory.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &closedAnswers{NodeDB: ndb} },
	},
	{
		Name: "closes-twice", Clauses: clauses("DB4"),
		Wrong: "A second Close is no error.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &closesTwice{ndb} },
	},
	{
		Name: "chunk-outlives-close", Clauses: clauses("DB4"),
		Wrong: "A chunk goes on after Close, without an error.",
		spoil: func(ndb db.NodeDB) db.NodeDB {
			return &chunks{ndb, func(w db.ChunkWriter, _ node.Root, _ uint64) db.ChunkWriter { return &chunkOutlives{w} }}
		},
	},
	{
		Name: "close-waits", Clauses: clauses("DB4", "DB71"),
		Wrong: "Close waits for walks, whose readers may never come back.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &closeWaits{NodeDB: ndb} },
	},
	{
		Name: "namespace-ignored", Clauses: clauses("DB6"),
		Wrong: "What is read of a root is read whatever namespace it is of.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &anyNamespace{ndb} },
	},
	{
		Name: "panics", Clauses: clauses("DB7", "DB21"),
		Wrong: "Reading a node that is not there ends in a panic.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &panics{ndb} },
	},
	{
		Name: "path-panics", Clauses: clauses("DB7", "DB22"),
		Wrong: "Reading a long path ends in a panic.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &pathPanics{ndb} },
	},
	{
		Name: "hangs", Clauses: clauses("DB40"),
		Wrong: "Finalize waits for something that does not come, until its context ends.",
		spoil: hangs("Finalize"),
	},
	{
		Name: "deaf", Clauses: clauses("DB2", "DB40"),
		Wrong: "Finalize waits, and does not look at its context.",
		spoil: deaf("Finalize"),
	},
	{
		Name: "slow", Clauses: nil,
		Wrong: "Every call takes a third of a second: nothing is wrong, and no case ends in time.",
		spoil: slow,
	},

	// Roots and versions.

	{
		Name: "empty-root-unknown", Clauses: clauses("DB10"),
		Wrong: "The empty root is there only where it was committed.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &emptyUnknown{ndb} },
	},
	{
		Name: "unknown-root-empty", Clauses: clauses("DB10"),
		Wrong: "A root that is not there is read as one that holds nothing.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &unknownEmpty{ndb} },
	},
	{
		Name: "unknown-root-ignored", Clauses: clauses("DB10", "DB24"),
		Wrong: "A node is read by its address alone, also for a root that is not there.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &rootIgnored{ndb, db.ErrRootNotFound} },
	},
	{
		Name: "root-by-version", Clauses: clauses("DB10"),
		Wrong: "A final root is found by its version alone, whatever its type and hash.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &rootByVersion{ndb} },
	},
	{
		Name: "roots-unsorted", Clauses: clauses("DB12"),
		Wrong: "The roots of a version come in no order.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &rootsUnsorted{ndb} },
	},
	{
		Name: "gap-filled", Clauses: clauses("DB11", "DB50"),
		Wrong: "Versions in the gap below a restored one can be pinned, as if they were there.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &gapFilled{ndb} },
	},
	{
		Name: "pruned-not-found", Clauses: clauses("DB11"),
		Wrong: "What belongs to a pruned version is answered as if it had never been there.",
		spoil: prunedForgotten,
	},
	{
		Name: "pruned-root-ignored", Clauses: clauses("DB24"),
		Wrong: "A node is read by its address alone, also for a root whose version was pruned.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &rootIgnored{ndb, db.ErrVersionPruned} },
	},

	// Nodes, paths and walks.

	{
		Name: "root-address-wrong", Clauses: clauses("DB20"),
		Wrong: "A root's node is thought to be where the root's version would have written it.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &rootAtOwnVersion{ndb} },
	},
	{
		Name: "node-by-position", Clauses: clauses("DB21"),
		Wrong: "GetNode finds a node by its position, whichever version wrote it.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &nodeByPosition{ndb} },
	},
	{
		Name: "stale-read", Clauses: clauses("DB21"),
		Wrong: "A cache of nodes has no address in its key, and answers with another version's.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &staleNode{NodeDB: ndb, cache: make(map[string][]byte)} },
	},
	{
		Name: "memory-reused", Clauses: clauses("DB8"),
		Wrong: "What GetNode returned is overwritten by the next call.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &bufferReused{NodeDB: ndb} },
	},
	{
		Name: "path-memory-reused", Clauses: clauses("DB8"),
		Wrong: "What GetPath returned is overwritten by the next call.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &pathMemoryReused{NodeDB: ndb} },
	},
	{
		Name: "path-short", Clauses: clauses("DB22"),
		Wrong: "A path ends before the node that the key leads to.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &pathShort{ndb} },
	},
	{
		Name: "path-from-root", Clauses: clauses("DB22"),
		Wrong: "A path begins at the root wherever it was to begin.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &pathFromRoot{ndb} },
	},
	{
		Name: "paths-again", Clauses: clauses("DB25"),
		Wrong: "Many paths that are read at once come with the nodes that they share again and again.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &pathsAgain{ndb} },
	},
	{
		Name: "path-past-labels", Clauses: clauses("DB22"),
		Wrong: "A path goes on below a node whose label does not agree with the key.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &pathPastLabels{ndb} },
	},
	{
		Name: "walk-unordered", Clauses: clauses("DB23"),
		Wrong: "A walk yields some neighbours in the wrong order.",
		spoil: walked(walkReversed),
	},
	{
		Name: "walk-skips", Clauses: clauses("DB23"),
		Wrong: "A walk loses an entry between two frames.",
		spoil: walked(walkSkips),
	},
	{
		Name: "walk-repeats", Clauses: clauses("DB23"),
		Wrong: "A walk begins each frame with the last entry of the one before.",
		spoil: walked(walkRepeats),
	},
	{
		Name: "walk-begins-late", Clauses: clauses("DB23"),
		Wrong: "A walk from a position leaves out the nodes on the way there.",
		spoil: walked(walkWithoutAncestors),
	},
	{
		Name: "walk-begins-early", Clauses: clauses("DB23"),
		Wrong: "A walk from a position begins at the root.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &walkFromStart{ndb} },
	},
	{
		Name: "walk-ends-quietly", Clauses: clauses("DB4", "DB23"),
		Wrong: "A walk that can't go on ends as if it were through.",
		spoil: walked(walkEndsQuietly),
	},
	{
		Name: "walk-keeps-reader", Clauses: clauses("DB23"),
		Wrong: "What a walk holds is not given back when it is left early.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &walkKeepsReader{NodeDB: ndb} },
	},
	{
		Name: "walk-keeps-pin", Clauses: clauses("DB23", "DB50"),
		Wrong: "A walk that is left early keeps its version pinned.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &walkKeepsPin{ndb} },
	},
	{
		Name: "walk-mixes", Clauses: clauses("DB23"),
		Wrong: "A walk goes on in the latest version when that changes.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &walkMixes{ndb} },
	},
	{
		Name: "walk-uninterrupted", Clauses: clauses("DB2", "DB23"),
		Wrong: "A walk that has begun can't be interrupted.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &walkUninterrupted{ndb} },
	},
	{
		Name: "rotten-record", Clauses: clauses("DB7", "DB23"),
		Wrong: "A record is handed out with a bit flipped.",
		spoil: walked(recordRotten),
	},

	// Batches.

	{
		Name: "lost-write", Clauses: clauses("DB34"),
		Wrong: "Commit returns, and has stored nothing.",
		spoil: batched(func(b db.Batch) db.Batch { return &lostWrite{b} }),
	},
	{
		Name: "arguments-kept", Clauses: clauses("DB8", "DB31"),
		Wrong: "Put keeps the memory it was given until the run ends.",
		spoil: batched(func(b db.Batch) db.Batch { return &argumentsKept{Batch: b} }),
	},
	{
		Name: "log-arguments-kept", Clauses: clauses("DB8", "DB33"),
		Wrong: "PutWriteLog keeps the memory it was given until Commit.",
		spoil: batched(func(b db.Batch) db.Batch { return &logKeysKept{Batch: b} }),
	},
	{
		Name: "runs-ascend", Clauses: clauses("DB31"),
		Wrong: "A run is refused that lies before an earlier one.",
		spoil: batched(func(b db.Batch) db.Batch { return &runsAscend{Batch: b} }),
	},
	{
		Name: "large-refused", Clauses: clauses("DB31"),
		Wrong: "Records of more than 4 MiB are refused, as by a wire with the usual limit.",
		spoil: batched(func(b db.Batch) db.Batch { return &largeRefused{b} }),
	},
	{
		Name: "long-positions-refused", Clauses: clauses("DB31"),
		Wrong: "Positions of more than 511 bytes are refused, as by a store with short keys.",
		spoil: batched(func(b db.Batch) db.Batch { return &longPositionsRefused{b} }),
	},
	{
		Name: "limits-forgotten", Clauses: clauses("DB31"),
		Wrong: "Info tells of limits that are not kept.",
		open:  limitsForgotten,
	},
	{
		Name: "limits-unread", Clauses: clauses("DB31"),
		Wrong: "The limits of the configuration are neither told nor kept.",
		open:  limitsUnread,
	},
	{
		Name: "entries-unchecked", Clauses: clauses("DB31"),
		Wrong: "Entries are taken that are none, or out of order.",
		spoil: batched(func(b db.Batch) db.Batch { return &entriesUnchecked{Batch: b} }),
	},
	{
		Name: "removals-forgotten", Clauses: clauses("DB32", "DB51"),
		Wrong: "What a new root does not need any more is never freed.",
		spoil: batched(func(b db.Batch) db.Batch { return &removalsForgotten{b} }),
	},
	{
		Name: "removals-at-once", Clauses: clauses("DB32", "DB51"),
		Wrong: "What a new root does not need is dropped when it is committed, and older versions lack it.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &removalsAtOnce{NodeDB: ndb, removed: make(map[string]bool)} },
	},
	{
		Name: "removals-by-position", Clauses: clauses("DB32", "DB51"),
		Wrong: "Pruning frees what was removed at a position by whichever version wrote it.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &removesByPosition{NodeDB: ndb, removed: make(map[string]bool)} },
	},
	{
		Name: "removals-unchecked", Clauses: clauses("DB32"),
		Wrong: "Entries are said to have gone that can't be the old root's.",
		spoil: batched(func(b db.Batch) db.Batch { return &removalsUnchecked{b} }),
	},
	{
		Name: "batch-from-anything", Clauses: clauses("DB30"),
		Wrong: "A batch that can't begin with its old root begins with nothing.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &batchFromAnything{ndb} },
	},
	{
		Name: "io-from-io", Clauses: clauses("DB13"),
		Wrong: "An IO root can have descendants.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &ioFromIO{ndb} },
	},
	{
		Name: "next-version-only", Clauses: clauses("DB30"),
		Wrong: "Batches above the next version are refused.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &nextOnly{ndb} },
	},
	{
		Name: "address-shared", Clauses: clauses("DB30"),
		Wrong: "Two batches that are open at the same time have one address.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &addressShared{NodeDB: ndb, open: make(map[uint64]node.Address)} },
	},
	{
		Name: "seen-before-commit", Clauses: clauses("DB34"),
		Wrong: "A root is there as soon as its node is written.",
		spoil: newSeenEarly,
	},
	{
		Name: "same-root-refused", Clauses: clauses("DB34"),
		Wrong: "A root that is there already is an error.",
		spoil: func(ndb db.NodeDB) db.NodeDB {
			return &batches{ndb, func(b db.Batch, _ node.Root, _ uint64) db.Batch { return &againRefused{b, ndb} }}
		},
	},
	{
		Name: "same-root-moves", Clauses: clauses("DB34"),
		Wrong: "When a root is committed again its node is said to be where the second one is.",
		spoil: newAgainMoves,
	},
	{
		Name: "any-root-committed", Clauses: clauses("DB34"),
		Wrong: "Commit does not compare the root with its batch.",
		spoil: func(ndb db.NodeDB) db.NodeDB {
			return &batches{ndb, func(b db.Batch, oldRoot node.Root, version uint64) db.Batch {
				return &anyRootCommitted{b, oldRoot, version}
			}}
		},
	},
	{
		Name: "root-without-node", Clauses: clauses("DB34"),
		Wrong: "A root is committed whose node was not put.",
		spoil: batched(func(b db.Batch) db.Batch { return &rootWithoutNode{b} }),
	},
	{
		Name: "root-before-nodes", Clauses: clauses("DB2", "DB34"),
		Wrong: "Commit writes the root first: one that is interrupted leaves a root without its nodes.",
		spoil: newRootFirst,
	},
	{
		Name: "abort-commits", Clauses: clauses("DB35"),
		Wrong: "An aborted batch leaves its root.",
		spoil: func(ndb db.NodeDB) db.NodeDB {
			return &batches{ndb, func(b db.Batch, oldRoot node.Root, version uint64) db.Batch {
				return &abortCommits{newPending(b, oldRoot, version)}
			}}
		},
	},

	// Finalize.

	{
		Name: "finalize-says-yes", Clauses: clauses("DB40"),
		Wrong: "Finalize of what can't be finalized does nothing, and is no error.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &finalizesAnything{ndb} },
	},
	{
		Name: "finalize-known", Clauses: clauses("DB40"),
		Wrong: "Finalize leaves out the roots that are not there.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &finalizesKnown{ndb} },
	},
	{
		Name: "finalize-last", Clauses: clauses("DB12", "DB40"),
		Wrong: "Of two roots of a type Finalize takes the last.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &finalizesLast{ndb} },
	},
	{
		Name: "finalize-one", Clauses: clauses("DB40"),
		Wrong: "Finalize takes the first of its roots.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &finalizesOne{ndb} },
	},
	{
		Name: "parent-unchecked", Clauses: clauses("DB41"),
		Wrong: "Finalize does not look whether what a root was made from is final.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &parentUnchecked{ndb} },
	},
	{
		Name: "losers-stay", Clauses: clauses("DB42"),
		Wrong: "Candidates that lost are still there.",
		spoil: newLosersStay(false),
	},
	{
		Name: "losers-descendants-stay", Clauses: clauses("DB42"),
		Wrong: "What descends from candidates that lost is still there.",
		spoil: newLosersStay(true),
	},
	{
		Name: "restore-drops-candidates", Clauses: clauses("DB42"),
		Wrong: "When a root that is a candidate, too, is restored, what descends from the candidate goes.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &restoreDropsCandidates{NodeDB: ndb} },
	},
	{
		Name: "finalize-again-refused", Clauses: clauses("DB43"),
		Wrong: "Finalize with the same roots again is an error.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &againIsError{ndb} },
	},
	{
		Name: "finalize-again-anything", Clauses: clauses("DB43"),
		Wrong: "Finalize of the latest version again with other roots is no error.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &againAnything{ndb} },
	},

	// Pins and pruning.

	{
		Name: "pins-ignored", Clauses: clauses("DB50"),
		Wrong: "A pinned version is pruned.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &pinsIgnored{ndb} },
	},
	{
		Name: "pins-by-version", Clauses: clauses("DB50"),
		Wrong: "Releasing one pin of a version releases all of it.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &pinsByVersion{NodeDB: ndb, pins: make(map[uint64][]db.Pin)} },
	},
	{
		Name: "pins-counted", Clauses: clauses("DB50"),
		Wrong: "Pins are counted: releasing one twice releases another.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &pinsCounted{NodeDB: ndb, pins: make(map[uint64][]db.Pin)} },
	},
	{
		Name: "release-prunes", Clauses: clauses("DB50"),
		Wrong: "When the last pin of a version is released the version goes, too.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &releasePrunes{ndb} },
	},
	{
		Name: "pins-anything", Clauses: clauses("DB50"),
		Wrong: "What is not final, or not there, can be pinned.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &pinsAnything{ndb} },
	},
	{
		Name: "pins-unnamed", Clauses: clauses("DB50"),
		Wrong: "Pins have no owners.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &pinsUnnamed{ndb} },
	},
	{
		Name: "prune-too-much", Clauses: clauses("DB51"),
		Wrong: "Pruning a version frees what it wrote, although later ones share it.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &prunesShared{ndb} },
	},
	{
		Name: "prune-too-little", Clauses: clauses("DB51"),
		Wrong: "A pruned version can be read until the next one is pruned.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &prunesLater{NodeDB: ndb} },
	},
	{
		Name: "prune-below", Clauses: clauses("DB51"),
		Wrong: "Prune of another version than the earliest removes all up to it.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &prunesBelow{ndb} },
	},
	{
		Name: "prune-latest", Clauses: clauses("DB51"),
		Wrong: "Prune of the latest version is no error.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &prunesLatest{ndb} },
	},
	{
		Name: "prune-during-restore", Clauses: clauses("DB51"),
		Wrong: "Prune while a multipart insert is open is no error.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &prunesDuringRestore{ndb} },
	},
	{
		Name: "prune-one-by-one", Clauses: clauses("DB52"),
		Wrong: "PruneBefore has removed some versions where it is refused.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &prunesOneByOne{ndb} },
	},
	{
		Name: "prune-miscounted", Clauses: clauses("DB52"),
		Wrong: "PruneBefore counts numbers, not versions.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &prunedMiscounted{ndb} },
	},
	{
		Name: "prune-into-gap", Clauses: clauses("DB11", "DB51"),
		Wrong: "When the last version below a gap is pruned the next number is said to be the earliest.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &gapPruned{NodeDB: ndb} },
	},
	{
		Name: "garbage-stays", Clauses: clauses("DB53"),
		Wrong: "CollectGarbage frees nothing.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &garbageStays{ndb} },
	},
	{
		Name: "garbage-anew", Clauses: clauses("DB53"),
		Wrong: "A collection that was broken off begins anew.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &garbageAnew{NodeDB: ndb} },
	},

	// Multipart inserts.

	{
		Name: "insert-replaced", Clauses: clauses("DB60"),
		Wrong: "Another version's multipart insert takes the place of the one that is open.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &insertReplaced{ndb} },
	},
	{
		Name: "insert-untold", Clauses: clauses("DB60"),
		Wrong: "An insert is not told of before its roots are complete.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &insertUntold{ndb} },
	},
	{
		Name: "insert-invented", Clauses: clauses("DB60"),
		Wrong: "Where no insert is open, an empty one is told of.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &insertInvented{ndb} },
	},
	{
		Name: "start-again-refused", Clauses: clauses("DB60"),
		Wrong: "Opening the insert that is open is an error.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &startAgainRefused{ndb} },
	},
	{
		Name: "tag-cut", Clauses: clauses("DB61"),
		Wrong: "Only the first 255 bytes of a tag come back.",
		spoil: tagLost,
	},
	{
		Name: "root-retold", Clauses: clauses("DB61"),
		Wrong: "A root that is told of again with other chunks or another tag is no error.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &rootRetold{ndb} },
	},
	{
		Name: "root-again-refused", Clauses: clauses("DB61"),
		Wrong: "A root that is told of again as it was is an error.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &rootAgainRefused{ndb} },
	},
	{
		Name: "chunks-in-order", Clauses: clauses("DB62"),
		Wrong: "Chunks are taken only in their order.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &chunksInOrder{ndb} },
	},
	{
		Name: "chunk-once", Clauses: clauses("DB62"),
		Wrong: "A chunk that is done is refused when it comes again.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &chunkOnce{ndb} },
	},
	{
		Name: "one-chunk-at-a-time", Clauses: clauses("DB62"),
		Wrong: "A chunk is refused while another is being written.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &oneChunkAtATime{NodeDB: ndb} },
	},
	{
		Name: "chunk-commits-alone", Clauses: clauses("DB62"),
		Wrong: "A chunk is refused while another is being committed.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &commitsAlone{NodeDB: ndb} },
	},
	{
		Name: "chunk-unchecked", Clauses: clauses("DB62"),
		Wrong: "Chunks are taken whose entries are none.",
		spoil: func(ndb db.NodeDB) db.NodeDB {
			return &chunks{ndb, func(w db.ChunkWriter, _ node.Root, _ uint64) db.ChunkWriter { return &chunkUnchecked{w} }}
		},
	},
	{
		Name: "chunk-of-any-root", Clauses: clauses("DB62"),
		Wrong: "Chunks are taken of a root that nobody told of.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &chunkOfAnyRoot{ndb} },
	},
	{
		Name: "chunk-late", Clauses: clauses("DB66"),
		Wrong: "A chunk that was begun before its root was aborted counts for the root that came again.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &chunkLate{ndb} },
	},
	{
		Name: "mark-forgotten", Clauses: clauses("DB63"),
		Wrong: "The mark of a chunk is lost.",
		spoil: markForgotten,
	},
	{
		Name: "mark-before-nodes", Clauses: clauses("DB63"),
		Wrong: "A chunk has its mark when it begins.",
		spoil: newMarkBefore,
	},
	{
		Name: "mark-interrupted", Clauses: clauses("DB2", "DB63"),
		Wrong: "A chunk whose Commit is interrupted has its mark all the same, without its nodes.",
		spoil: newMarkInterrupted,
	},
	{
		Name: "mark-wide", Clauses: clauses("DB63"),
		Wrong: "With a chunk the one behind it has its mark.",
		spoil: markWide,
	},
	{
		Name: "complete-unchecked", Clauses: clauses("DB64"),
		Wrong: "CompleteRoot finds every root whole.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &completeUnchecked{ndb} },
	},
	{
		Name: "complete-by-marks", Clauses: clauses("DB64"),
		Wrong: "CompleteRoot counts marks, and does not look for the nodes.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &completeByMarks{ndb} },
	},
	{
		Name: "overlap-unseen", Clauses: clauses("DB64"),
		Wrong: "Chunks that claim the same nodes are not noticed.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &overlapUnseen{ndb} },
	},
	{
		Name: "seen-before-finalize", Clauses: clauses("DB65"),
		Wrong: "A restored root is there when it is complete.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &completeVisible{NodeDB: ndb} },
	},
	{
		Name: "finalize-complete", Clauses: clauses("DB40", "DB64"),
		Wrong: "Finalize leaves out the restored roots that are not complete.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &finalizesComplete{ndb} },
	},
	{
		Name: "insert-hidden", Clauses: clauses("DB60"),
		Wrong: "An insert is not told of any more when its roots are complete.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &insertHidden{ndb} },
	},
	{
		Name: "restored-elsewhere", Clauses: clauses("DB30", "DB65"),
		Wrong: "Nothing can be made from a restored root.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &restoredElsewhere{NodeDB: ndb, restored: make(map[uint64]bool)} },
	},
	{
		Name: "abort-root-all", Clauses: clauses("DB66"),
		Wrong: "AbortRoot aborts the whole insert.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &abortRootAll{ndb} },
	},
	{
		Name: "abort-root-keeps-marks", Clauses: clauses("DB66"),
		Wrong: "A root that was aborted and is told of again has its marks.",
		spoil: newAbortRootKeepsMarks,
	},
	{
		Name: "abort-forgets-writers", Clauses: clauses("DB66"),
		Wrong: "A chunk of an insert that was aborted goes on, without an error.",
		spoil: func(ndb db.NodeDB) db.NodeDB {
			return &chunks{ndb, func(w db.ChunkWriter, _ node.Root, _ uint64) db.ChunkWriter { return &abortForgets{w} }}
		},
	},
	{
		Name: "abort-keeps-insert", Clauses: clauses("DB66"),
		Wrong: "AbortMultipart leaves the insert open.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &abortKeepsInsert{ndb} },
	},

	// Write logs and upkeep.

	{
		Name: "log-unsorted", Clauses: clauses("DB70"),
		Wrong: "A write log comes in no order.",
		spoil: logged(logUnsorted),
	},
	{
		Name: "log-short", Clauses: clauses("DB70"),
		Wrong: "A write log lacks its last change.",
		spoil: logged(logShort),
	},
	{
		Name: "log-empty-is-gone", Clauses: clauses("DB70"),
		Wrong: "A write log tells of an empty value as of a removal.",
		spoil: logged(logEmptyIsGone),
	},
	{
		Name: "log-invented", Clauses: clauses("DB70"),
		Wrong: "A write log that is not known is said to hold no changes.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &logInvented{ndb} },
	},
	{
		Name: "log-kept", Clauses: clauses("DB70"),
		Wrong: "Write logs are kept that are to be discarded.",
		open:  logKept,
	},
	{
		Name: "size-unknown", Clauses: clauses("DB71"),
		Wrong: "Size says that nothing is live.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &sizeUnknown{ndb} },
	},
	{
		Name: "compact-loses", Clauses: clauses("DB71"),
		Wrong: "Compact loses entries.",
		spoil: newCompactLoses,
	},
	{
		Name: "upkeep-stays-busy", Clauses: clauses("DB2", "DB53", "DB71", "DB72"),
		Wrong: "After upkeep that was interrupted no other can begin.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &staysBusy{NodeDB: ndb} },
	},
	{
		Name: "check-blind", Clauses: clauses("DB72"),
		Wrong: "Check looks at nothing, and finds nothing wrong.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &checkBlind{ndb} },
	},
	{
		Name: "check-alarms", Clauses: clauses("DB72"),
		Wrong: "Check takes what waits to be collected for lost.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &checkAlarms{NodeDB: ndb} },
	},
	{
		Name: "check-alarms-restore", Clauses: clauses("DB72"),
		Wrong: "Check takes what a restore has written so far for lost.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &checkAlarmsRestore{ndb} },
	},

	// What is stored.

	{
		Name: "namespace-cleared", Clauses: clauses("DB6"), Stored: true,
		Wrong: "A directory with another namespace's database is cleared for a new one.",
		open:  foreignCleared,
	},
	{
		Name: "candidates-lost", Clauses: clauses("DB34"), Stored: true,
		Wrong: "What was committed and not finalized is not there when the database is opened again.",
		open:  reopened(loseCandidates),
	},
	{
		Name: "close-commits", Clauses: clauses("DB35"), Stored: true,
		Wrong: "Close makes the batches count that are open.",
		spoil: newCloseCommits,
	},
	{
		Name: "earlier-forgotten", Clauses: clauses("DB71"), Stored: true,
		Wrong: "A database that is opened again knows only its latest version.",
		open:  reopened(forgetEarlier),
	},
	{
		Name: "lock-kept", Clauses: clauses("DB71"), Stored: true,
		Wrong: "Close leaves the lock.",
		open:  lockKept,
	},
	{
		Name: "pins-stored", Clauses: clauses("DB50"), Stored: true,
		Wrong: "Pins are in force again when a database is opened again.",
		open:  openPinsStored,
	},
	{
		Name: "marks-lost", Clauses: clauses("DB63"), Stored: true,
		Wrong: "The marks of an open insert are lost when the database is opened again.",
		open:  reopened(loseMarks),
	},
	{
		Name: "insert-lost", Clauses: clauses("DB60"), Stored: true,
		Wrong: "An open insert is lost when the database is opened again.",
		open:  reopened(loseInsert),
	},
	{
		Name: "read-only-writes", Clauses: clauses("DB5"), Stored: true,
		Wrong: "A database that is opened for reading only is opened for writing.",
		open:  readOnlyWrites,
	},
	{
		Name: "read-only-touches", Clauses: clauses("DB5"), Stored: true,
		Wrong: "Opening for reading only makes a file.",
		open:  readOnlyTouches,
	},
	{
		Name: "commit-unsafe", Clauses: clauses("DB34"), Stored: true, Killed: true,
		Wrong: "What was committed is lost when the process is killed: it was in the process's memory.",
		open:  killed(loseCandidates),
	},
	{
		Name: "insert-unsafe", Clauses: clauses("DB63"), Stored: true, Killed: true,
		Wrong: "The marks of an open insert are lost when the process is killed.",
		open:  killed(loseMarks),
	},
	{
		Name: "insert-torn", Clauses: clauses("DB63"), Stored: true, Killed: true,
		Wrong: "After the process was killed chunks have marks whose nodes are not there.",
		open:  killed(tearInsert),
	},

	// Damage, locks and leaks.

	{
		Name: "damage-wiped", Clauses: clauses("DB7"), Stored: true,
		Wrong: "A database that can't be opened is replaced by a new one.",
		open:  damageWiped,
	},
	{
		Name: "damage-skipped", Clauses: clauses("DB7"), Stored: true,
		Wrong: "A walk ends at what is damaged as if it were through.",
		spoil: walked(damageSkipped),
	},
	{
		Name: "read-only-makes", Clauses: clauses("DB5"), Stored: true,
		Wrong: "Opening for reading makes the directory.",
		open:  readOnlyMakes,
	},
	{
		Name: "lock-stale", Clauses: clauses("DB3", "DB71"), Stored: true, Killed: true,
		Wrong: "A lock outlives the process that had it.",
		open:  lockStale,
	},
	{
		Name: "lock-missing", Clauses: clauses("DB3"), Stored: true,
		Wrong: "A second process gets a database that another has.",
		open:  lockMissing,
	},
	{
		Name: "lock-unnamed", Clauses: clauses("DB3"), Stored: true,
		Wrong: "Who has the lock is not said.",
		open:  lockUnnamed,
	},
	{
		Name: "open-uninterrupted", Clauses: clauses("DB2"), Stored: true,
		Wrong: "Opening goes on when nobody waits for it, and keeps the lock.",
		open:  openUninterrupted,
	},
	{
		Name: "close-unsafe", Clauses: clauses("DB71"), Stored: true,
		Wrong: "Close does not make safe what was committed last.",
		open:  closeUnsafe,
	},
	{
		Name: "pins-shared", Clauses: clauses("DB50"),
		Wrong: "All databases of a process have their pins in one list.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &pinsShared{ndb} },
	},
	{
		Name: "pins-kept", Clauses: clauses("DB50"),
		Wrong: "Releasing a pin does nothing.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &pinsKept{ndb} },
	},
	{
		Name: "insert-anywhere", Clauses: clauses("DB60"),
		Wrong: "An insert of a version that is not above the latest is no error.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &insertAnywhere{ndb} },
	},
	{
		Name: "same-chunk-refused", Clauses: clauses("DB62"),
		Wrong: "A chunk that another writer has begun is refused.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &sameChunkRefused{NodeDB: ndb, busy: make(map[uint64]bool)} },
	},
	{
		Name: "leaks-file", Clauses: clauses("DB71"), Stored: true,
		Wrong: "Each open database leaves a file open.",
		open:  leaksFile,
	},
	{
		Name: "leaks-process", Clauses: clauses("DB71"), Stored: true,
		Wrong: "A database leaves a process behind.",
		open:  leaksProcess,
	},
	{
		Name: "leaks-walks", Clauses: clauses("DB23"),
		Wrong: "A walk that is left early leaves a file open.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &leaks{NodeDB: ndb, walk: true} },
	},
	{
		Name: "leaks-batches", Clauses: clauses("DB35"),
		Wrong: "A batch that is aborted leaves a file open.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &leaks{NodeDB: ndb, batch: true} },
	},
	{
		Name: "leaks-pins", Clauses: clauses("DB50"),
		Wrong: "A pin leaves a file open.",
		spoil: func(ndb db.NodeDB) db.NodeDB { return &leaks{NodeDB: ndb, pin: true} },
	},
}
