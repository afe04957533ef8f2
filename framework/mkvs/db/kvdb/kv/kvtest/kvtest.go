// Package kvtest proves a kv.Store: a table of cases, each named for the clauses of package kv that it
// checks, each with a fresh store. A backend runs it with three lines:
//
//	func TestMain(m *testing.M) { kvtest.Main(m, harness) }
//	func TestStore(t *testing.T) { kvtest.Run(t, harness) }
//	var harness = kvtest.Harness{Open: mybackend.OpenStore}
//
// TestMain is needed by the cases in which a process is killed or runs out of space: the test's own
// binary is run again as that process.
package kvtest

import (
	"context"
	"testing"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
)

// Harness opens the stores to be proved.
type Harness struct {
	// Open opens the store in cfg.Dir and makes it where there is none. Of the config it is given Dir,
	// ReadOnly and LockWait.
	Open func(ctx context.Context, cfg *db.Config) (kv.Store, error)
	// Lingering are functions of the engine's goroutines that end by themselves some time after the store
	// was closed, and hold nothing by then. Others must have ended when Close returns.
	Lingering []string
}

type testCase struct {
	name string
	run  func(e *env)
	// durable cases are only for stores that outlive their process.
	durable bool
}

var cases = []testCase{
	{"KV1/readers beside a writer", readersBesideWriter, false},
	{"KV2/a context that is done", contextDone, false},
	{"KV3/slices are not kept", slicesNotKept, false},
	{"KV4/after Close", afterClose, false},
	{"KV5/out of space", outOfSpace, true},
	{"KV10/limits stay the same", limitsStay, false},
	{"KV11/what a store has to take", leastLimits, false},
	{"KV11/beyond the limits", beyondLimits, false},
	{"KV11/snapshots at once", snapshotsAtOnce, false},
	{"KV12/how much its files take", amplified, false},
	{"KV20/a batch is seen as a whole", batchIsWhole, false},
	{"KV20/a later snapshot sees it", laterSnapshotSees, false},
	{"KV21/kill -9", killed, true},
	{"KV23/the last operation counts", lastOperationCounts, false},
	{"KV24/empty values and short keys", emptyValues, false},
	{"KV30/a snapshot does not change", snapshotStays, false},
	{"KV31/absent keys", absentKeys, false},
	{"KV32/seek and next", seekAndNext, false},
	{"KV32/against a model", againstModel, false},
	{"KV33/how long values are valid", valuesStay, false},
	{"KV34/closing twice", closingTwice, false},
	{"KV40/sync", syncReturns, false},
	{"KV41/size", sizeTells, false},
	{"KV42/compact", compactKeeps, false},
	{"KV42/compact that is interrupted", compactInterrupted, false},
	{"KV43/close and open again", reopen, true},
	{"KV50/a private directory", privateDirectory, true},
	{"KV50/something else's directory", foreignDirectory, true},
	{"KV51/reading only", readOnly, true},
	{"KV51/reading what is not there", readOnlyMissing, true},
	{"KV52/held by another", lockHeld, true},
	{"KV52/held, and released in time", lockReleased, true},
}

// Run checks all clauses that apply to the harness's stores.
func Run(t *testing.T, h Harness) {
	durable := isDurable(t, h)
	for _, c := range cases {
		if c.durable && !durable {
			continue
		}
		t.Run(c.name, func(t *testing.T) { c.run(newEnv(t, h)) })
	}
}

func isDurable(t *testing.T, h Harness) bool {
	e := newEnv(t, h)
	return e.open().Limits().Durable
}
