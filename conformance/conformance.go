// Package conformance proves a node database: a table of cases, each named for the clauses of package
// framework/mkvs/db that it checks, each with a fresh database. It looks at nothing but the contract, so
// that a database may store what it likes how it likes, in this process or another. A backend runs it
// with
//
//	func TestConformance(t *testing.T) {
//		conformance.Run(t, conformance.Harness{Open: mybackend.New().New})
//	}
package conformance

import (
	"context"
	"testing"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// Harness opens the databases to be proved. Its functions are called at the same time by several cases,
// for several databases.
type Harness struct {
	// Open opens the database that cfg names, and makes it where there is none, as a factory's New does.
	// With the same config after a Close, or a Crash, it opens the same database again.
	Open func(ctx context.Context, cfg *db.Config) (db.NodeDB, error)
	// Crash ends the process that serves a database as kill -9 does, and returns when it is gone. It is nil
	// where the database lives in the test's own process.
	Crash func(ndb db.NodeDB) error
	// Settings are the backend's own, for all databases that are opened.
	Settings []byte
}

// Case is a line of the table.
type Case struct {
	// Name begins with the clause that the case is about.
	Name string
	// run is the case. It fails by the env's methods.
	run func(e *env)
	// needs says what a database, or the harness, must have for the case to make sense.
	needs need
}

type need int

const (
	anything need = iota
	// durable cases open a database again.
	durable
	// crash cases kill its process.
	crash
	// writeLogs cases read them.
	writeLogs
)

// Cases is the whole table.
func Cases() []Case {
	return []Case{
		{"DB1/readers beside a writer", readersBesideWriter, anything},
		{"DB2/a context that is done", contextDone, anything},
		{"DB4/after Close", afterClose, anything},
		{"DB4/Close while a walk goes on", closeDuringWalk, anything},
		{"DB5/opened for reading", openedForReading, durable},
		{"DB6/another namespace", otherNamespace, anything},
		{"DB6/a database of another namespace", databaseOfOtherNamespace, durable},
		{"DB8/what was passed is not kept", passedNotKept, anything},
		{"DB8/what was returned stays", returnedStays, anything},

		{"DB10/the empty root", emptyRoot, anything},
		{"DB10/a root that was not committed", unknownRoot, anything},
		{"DB11/a version that was pruned", prunedVersion, anything},
		{"DB11/versions in a gap", versionsInGap, anything},
		{"DB12/one root of each type", oneRootOfEachType, anything},
		{"DB13/IO roots have no descendants", ioRootsStandAlone, anything},

		{"DB20/root addresses", rootAddresses, anything},
		{"DB21/nodes", singleNodes, anything},
		{"DB22/paths", paths, anything},
		{"DB22/paths from within", pathsFromWithin, anything},
		{"DB22/paths that labels end", pathsThatLabelsEnd, anything},
		{"DB23/a whole tree", wholeWalk, anything},
		{"DB23/from a position on", walkFrom, anything},
		{"DB23/left early", walkLeft, anything},
		{"DB23/a tree as deep as keys allow", deepTree, anything},
		{"DB24/nodes of a version that was pruned", nodesOfPrunedVersion, anything},

		{"DB30/what a batch can begin with", batchBeginnings, anything},
		{"DB30/versions a batch can have", batchVersions, anything},
		{"DB31/several runs", severalRuns, anything},
		{"DB31/large records", largeRecords, anything},
		{"DB31/entries that are none", malformedEntries, anything},
		{"DB31/beyond the limits", beyondLimits, anything},
		{"DB32/removed entries", removedEntries, anything},
		{"DB34/nothing counts before Commit", nothingBeforeCommit, anything},
		{"DB34/the same root again", sameRootAgain, anything},
		{"DB34/roots that don't follow", rootsThatDontFollow, anything},
		{"DB34/committed and opened again", committedAndReopened, durable},
		{"DB34/committed and killed", committedAndKilled, crash},
		{"DB35/Abort", abortedBatch, anything},
		{"DB35/a batch that was left", leftBatch, durable},

		{"DB40/finalize", finalizeRoots, anything},
		{"DB40/what can't be finalized", notFinalizable, anything},
		{"DB41/a parent that is not finalized", parentNotFinalized, anything},
		{"DB42/other candidates go", otherCandidatesGo, anything},
		{"DB42/a root that was restored, too", committedAndRestored, anything},
		{"DB43/finalize again", finalizeAgain, anything},

		{"DB50/pins", pins, anything},
		{"DB50/what can't be pinned", notPinnable, anything},
		{"DB50/pins are not stored", pinsNotStored, durable},
		{"DB51/prune", pruneVersions, anything},
		{"DB51/what can't be pruned", notPrunable, anything},
		{"DB52/all versions below one", pruneBefore, anything},
		{"DB53/garbage is collected", collectGarbage, anything},

		{"DB60/start", startMultipart, anything},
		{"DB61/roots to restore", multipartRoots, anything},
		{"DB62/chunks in any order", chunksInAnyOrder, anything},
		{"DB62/chunks at the same time", chunksAtOnce, anything},
		{"DB62/chunks that are none", malformedChunks, anything},
		{"DB63/marks", chunkMarks, anything},
		{"DB63/marks survive", chunkMarksSurvive, durable},
		{"DB63/marks survive kill -9", chunkMarksSurviveKill, crash},
		{"DB64/what is missing", incompleteRoot, anything},
		{"DB64/chunks that overlap", overlappingChunks, anything},
		{"DB65/nothing counts before Finalize", nothingBeforeFinalize, anything},
		{"DB65/two roots of a version", twoRootsRestored, anything},
		{"DB65/versions on top", versionsOnTop, anything},
		{"DB66/abort a root", abortRoot, anything},
		{"DB66/abort everything", abortMultipart, anything},

		{"DB70/write logs", readWriteLogs, writeLogs},
		{"DB70/write logs that were not kept", writeLogsNotKept, anything},
		{"DB70/write logs that were not given", writeLogsNotGiven, writeLogs},
		{"DB71/size, compact, sync", upkeep, anything},
		{"DB71/close and open again", closeAndReopen, durable},
		{"DB72/a check", soundDatabase, anything},

		{"creator/what is not there", creatorErrors, anything},
		{"restorer/from start to end", restoreInOrder, anything},
		{"restorer/abort", restoreAborted, anything},
		{"restorer/bad proofs", restoreOfBadProofs, anything},
		{"restorer/two roots, one after a failure", restoreOfTwoRoots, anything},
		{"restorer/another version before Finalize", restoreOfOtherVersion, anything},
		{"restorer/taken up after kill -9", restoreTakenUp, crash},

		{"format/vectors", formatVectors, anything},
	}
}

// Run runs the cases that apply to the harness's databases.
func Run(t *testing.T, h Harness) {
	probe := newEnv(t, h)
	info := probe.open().Info()
	for _, c := range Cases() {
		switch {
		case c.needs == durable && !info.Capabilities.Durable,
			c.needs == crash && (!info.Capabilities.Durable || h.Crash == nil),
			c.needs == writeLogs && !info.Capabilities.WriteLogs:
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel() // much of it is waiting for the disk
			c.run(newEnv(t, h))
		})
	}
}
