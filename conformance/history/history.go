// Package history puts a node database through random histories: what a host, its trees and its
// checkpoints do to a database over time, in any order that the contract (package framework/mkvs/db) allows,
// and what it has to refuse. After each step the database is held against a model of plain maps, whose root
// hashes come from trees built by definition (package reference). A backend runs it with
//
//	func TestHistories(t *testing.T) {
//		history.Run(t, history.Harness{Harness: conformance.Harness{Open: mybackend.New().New}})
//	}
//
// # What happens in a history
//
// A mkvs.Tree is opened at any root that can have descendants, changed, and committed as one of several
// candidates, also unchanged, emptied, and as an IO tree; other candidates are put as several runs of
// records, as another program's tree may do. Versions are finalized, pinned, walked through while other
// things happen, and pruned. Checkpoints that a checkpoint.Creator made of another database are restored,
// in chunks of any size, in any order, at once and twice, next to roots of which the chunks are cut
// anywhere; restores are aborted, and taken up again after the database was opened anew. It is closed,
// opened for reading only, and, where the harness can, killed.
//
// # How many
//
// A run is of 30 histories of some 30 steps. The flags of pgregory.net/rapid change that:
//
//	go test ./mybackend -run TestHistories -rapid.checks=5000 -rapid.steps=60 -timeout 0
//
// A failure names a file that -rapid.failfile takes to run the same history again.
package history

import (
	"cmp"
	"context"
	"flag"
	"os"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/ckpt-project/ckpt/conformance"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// DefaultHistories is the number of histories in a run where neither the harness nor the flag -rapid.checks
// says another.
const DefaultHistories = 30

// Harness opens the databases that histories happen to.
type Harness struct {
	conformance.Harness
	// Histories is the number of histories in a run, where the flag -rapid.checks isn't given; 0 means
	// DefaultHistories. Where every fsync takes its time, fewer do.
	Histories int
	// AtEnd looks at a history's database at its end, when nothing is open any more and Compact has been
	// called. It is given all that can be reached, by root type: whatever else is stored was leaked. It may
	// be nil.
	AtEnd func(ctx context.Context, ndb db.NodeDB, reached map[node.RootType][]db.Entry) error
}

// Run runs histories, each with a fresh database. It sets a flag, and so may not run beside other tests
// that use rapid.
func Run(t *testing.T, h Harness) {
	limitChecks(t, cmp.Or(h.Histories, DefaultHistories))
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		own := dir + "/" + strconv.Itoa(n)
		defer os.RemoveAll(own) // thousands of them would fill the disk
		begin(rt, h, own).live()
	})
}

// limitChecks sets rapid's number of checks for the test, where it was not given.
func limitChecks(t *testing.T, checks int) {
	const name = "rapid.checks"
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == name })
	if given {
		return
	}
	// flag.Set would make the flag look given to the next test.
	value := flag.Lookup(name).Value
	before := value.String()
	set := func(to string) {
		if err := value.Set(to); err != nil {
			t.Fatal(err)
		}
	}
	set(strconv.Itoa(checks))
	t.Cleanup(func() { set(before) })
}
