package kvdb_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/ckpt-project/ckpt/conformance/reference"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// unfinished begins a batch that stores some of its blocks and is never ended.
func (f *fixture) unfinished(version uint64) {
	f.Helper()
	b, err := f.ndb.NewBatch(f.ctx, emptyRoot(version, node.RootTypeState), version)
	must(f, err)
	for _, n := range fresh(randomContents(f.rng, 500), b.Address()).Stored() {
		must(f, b.Put(f.ctx, n.Position, n.Record()))
	}
	if live, err := kvdb.LiveEntries(f.ctx, f.ndb); err != nil || len(live) == 0 {
		f.Fatalf("the batch has stored nothing yet (%v)", err)
	}
}

func TestUnfinishedBatchesAreFoundWhateverWasFinalizedMeanwhile(t *testing.T) {
	f := newFixture(t, nil)
	f.store.limits.PreferredBatchBytes = 2000
	f.reopen(nil)
	// Below the version that is finalized first, and beside one that others follow.
	f.unfinished(1)
	f.unfinished(5)
	roots := f.chain(5, 9)
	m := newModel()
	m.any, m.earliest, m.latest = true, 5, 9
	for _, r := range roots {
		m.final[r.root.Version] = map[node.RootType]*mroot{node.RootTypeState: r}
	}
	f.reopen(nil)
	checkExact(f.ctx, t, f.ndb, m)
}

func TestFinalizeLeavesNothingOfARestore(t *testing.T) {
	f := newFixture(t, nil)
	r, chunks := f.restoring(1, randomContents(f.rng, 500), 10)
	other := emptyRoot(1, node.RootTypeIO)
	must(t, f.ndb.AddMultipartRoot(f.ctx, other, 1, []byte("not restored")))
	f.writeAll(r, chunks)
	before := f.store.applies
	f.writeAll(r, chunks) // a durable chunk is not written again
	if f.store.applies != before {
		t.Fatalf("chunks that are durable cost %d writes", f.store.applies-before)
	}
	must(t, f.ndb.CompleteRoot(f.ctx, r.root))
	f.finalize(r)
	counts, err := kvdb.KindCounts(f.ctx, f.ndb)
	must(t, err)
	for kind, n := range counts {
		if kind>>4 >= 6 || kind == 2 {
			t.Errorf("%d keys of kind %02x are left", n, kind)
		}
	}
}

func TestNodesOfARestoreCanNotBeReadThroughAnotherRoot(t *testing.T) {
	f := newFixture(t, nil)
	r, chunks := f.restoring(1, randomContents(f.rng, 50), 1)
	for len(chunks) > 1 { // one chunk, all of it whole
		must(t, f.ndb.AbortMultipart(f.ctx))
		r, chunks = f.restoring(1, randomContents(f.rng, 50), 1)
	}
	f.writeAll(r, chunks)
	candidate := f.commit(nothing(1, node.RootTypeState), 1, reference.Content{"a": "b"})
	_, err := f.ndb.GetNode(f.ctx, candidate.root, f.addressOf(r), node.RootPosition())
	wantErr(t, err, db.ErrNodeNotFound)
}

// Blocks most of which is dead are written again.
func TestPruningGivesSpaceBack(t *testing.T) {
	f := newFixture(t, nil)
	old := f.commit(nothing(1, node.RootTypeState), 1, randomContents(f.rng, 3000))
	f.finalize(old)
	full := stored(f.ctx, t, f.ndb)
	for v := uint64(2); v < 14; v++ {
		data := make(reference.Content)
		for k, value := range old.data {
			if f.rng.IntN(4) > 0 {
				data[k] = value
			}
		}
		old = f.commit(old, v, data)
		f.finalize(old)
		must(t, f.ndb.Prune(f.ctx, v-1))
	}
	must(t, f.ndb.Compact(f.ctx, nil))
	live := 0
	for _, n := range old.tree.Stored() {
		live += len(n.Position) + len(n.Record())
	}
	if left := stored(f.ctx, t, f.ndb); left > 3*live+10*200 || left > full/4 {
		t.Fatalf("%d bytes are stored, %d of them live; at first there were %d", left, live, full)
	}
}

// stored is the number of bytes of a database's values.
func stored(ctx context.Context, t *testing.T, ndb db.NodeDB) int {
	t.Helper()
	size, err := ndb.Size(ctx)
	must(t, err)
	return int(size.Live)
}

func TestInfoNamesTheBackend(t *testing.T) {
	f := newFixture(t, nil)
	info := f.ndb.Info()
	if info.Backend != "test" || info.BackendVersion != "1" || info.Namespace != testNamespace || !info.Capabilities.Compact ||
		info.EmbedBytes != db.DefaultEmbedBytes || !bytes.Equal(info.Namespace[:], testNamespace[:]) {
		t.Fatalf("Info is %+v", info)
	}
}

// A batch whose version is finalized with another root, and pruned, leaves nothing, whenever its process
// ends, and stores nothing any more.
func TestNothingIsLeftOfABatchThatIsOvertaken(t *testing.T) {
	for _, c := range []struct {
		name string
		then func(f *fixture) // after the version's finalization
	}{
		{"finalized", func(*fixture) {}},
		{"pruned", func(f *fixture) { must(f, f.ndb.Prune(f.ctx, 1)) }},
		{"collected", func(f *fixture) {
			must(f, f.ndb.Prune(f.ctx, 1))
			must(f, f.ndb.CollectGarbage(f.ctx, nil))
		}},
		{"pruned, opened and collected", func(f *fixture) {
			must(f, f.ndb.Prune(f.ctx, 1))
			f.reopen(nil)
			must(f, f.ndb.CollectGarbage(f.ctx, nil))
		}},
	} {
		for _, end := range []string{"process", "abort", "commit"} {
			t.Run(c.name+"/"+end, func(t *testing.T) {
				f := newFixture(t, nil)
				f.store.limits.PreferredBatchBytes = 2000
				f.reopen(nil)
				b, err := f.ndb.NewBatch(f.ctx, emptyRoot(1, node.RootTypeState), 1)
				must(t, err)
				loser := fresh(randomContents(f.rng, 3000), b.Address())
				nodes := loser.Stored()
				put := func(nodes []*reference.Node) {
					for _, n := range nodes {
						must(t, b.Put(f.ctx, n.Position, n.Record()))
					}
				}
				put(nodes[:len(nodes)/2])
				if live, err := kvdb.LiveEntries(f.ctx, f.ndb); err != nil || len(live) == 0 {
					t.Fatalf("the batch has stored nothing yet (%v)", err)
				}
				roots := f.chain(1, 3)
				m := newModel()
				m.any, m.earliest, m.latest = true, 1, 3
				for _, r := range roots {
					m.final[r.root.Version] = map[node.RootType]*mroot{node.RootTypeState: r}
				}
				checkSound(f.ctx, t, f.ndb, m)
				c.then(f)
				if earliest, _, err := f.ndb.GetEarliestVersion(f.ctx); err != nil || earliest > 1 {
					must(t, err)
					m.pruneBefore(2)
				}
				checkSound(f.ctx, t, f.ndb, m)
				if end != "process" && c.name != "pruned, opened and collected" {
					before := f.store.applies
					put(nodes[len(nodes)/2:])
					if f.store.applies != before {
						t.Error("it has stored something more")
					}
					if end == "commit" {
						root := node.Root{Namespace: testNamespace, Version: 1, Type: node.RootTypeState, Hash: loser.RootHash()}
						wantErr(t, b.Commit(f.ctx, root, b.Address()), db.ErrAlreadyFinalized)
					}
					must(t, b.Abort(f.ctx))
				}
				if end == "process" {
					f.reopen(nil)
				}
				checkExact(f.ctx, t, f.ndb, m)
			})
		}
	}
}

// A batch that begins just when its version is finalized gets no number that the finalized root has.
func TestNumbersOfFinalizedVersionsAreNotTakenAnew(t *testing.T) {
	f := newFixture(t, nil)
	f.chain(1, 2)
	n, err := kvdb.TakeNumber(f.ndb, 2, node.RootTypeState)
	if wantErr(t, err, db.ErrAlreadyFinalized); n != 0 {
		t.Errorf("number %d", n)
	}
	if _, err := kvdb.TakeNumber(f.ndb, 3, node.RootTypeState); err != nil {
		t.Error(err)
	}
}
