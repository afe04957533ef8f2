package kvdb_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/ckpt-project/ckpt/conformance/reference"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// smallVersions finalizes versions that change some of a few keys, and returns their roots.
func smallVersions(t tester, ctx context.Context, ndb db.NodeDB, m *model, from, to uint64) {
	rng := rand.New(rand.NewPCG(from, to))
	for v := from; v <= to; v++ {
		old := &mroot{root: emptyRoot(v, node.RootTypeState), data: reference.Content{}}
		if m.any {
			old = m.final[m.latest][node.RootTypeState]
		}
		data := reference.Content{}
		for k, value := range old.data {
			data[k] = value
		}
		for range 3 {
			data[fmt.Sprint(rng.IntN(20))] = fmt.Sprint(v)
		}
		r, err := commit(ctx, t, rng, ndb, old, v, data)
		must(t, err)
		must(t, ndb.Finalize(ctx, []node.Root{r.root}))
		m.finalize([]*mroot{r})
	}
}

func TestPruneBefore(t *testing.T) {
	ctx := t.Context()
	store := newLastingStore(t)
	ndb, err := openDB(ctx, store, nil)
	must(t, err)
	_, err = ndb.PruneBefore(ctx, 1)
	wantErr(t, err, db.ErrVersionNotFound)
	m := newModel()
	smallVersions(t, ctx, ndb, m, 5, 30)

	for _, c := range []struct{ below, removed uint64 }{{0, 0}, {5, 0}, {6, 1}, {6, 0}, {20, 14}} {
		removed, err := ndb.PruneBefore(ctx, c.below)
		must(t, err)
		if removed != c.removed {
			t.Fatalf("PruneBefore(%d) removed %d versions, want %d", c.below, removed, c.removed)
		}
		m.pruneBefore(c.below)
		check(ctx, t, rand.New(rand.NewPCG(1, 1)), ndb, m)
	}
	_, err = ndb.PruneBefore(ctx, 31)
	wantErr(t, err, db.ErrCannotPruneLatestVersion)
	pin, err := ndb.Pin(ctx, 25, "a reader")
	must(t, err)
	before := store.applies
	_, err = ndb.PruneBefore(ctx, 26)
	wantErr(t, err, db.ErrVersionPinned)
	if store.applies != before {
		t.Error("something was written by a prune that was refused")
	}
	check(ctx, t, rand.New(rand.NewPCG(1, 1)), ndb, m)
	removed, err := ndb.PruneBefore(ctx, 25)
	must(t, err)
	if m.pruneBefore(25); removed != 5 || store.applies != before+1 {
		t.Errorf("%d versions removed, with %d writes", removed, store.applies-before)
	}
	must(t, pin.Release(ctx))
	removed, err = ndb.PruneBefore(ctx, 30)
	must(t, err)
	if m.pruneBefore(30); removed != 5 {
		t.Errorf("%d versions removed", removed)
	}
	checkExact(ctx, t, ndb, m)
	must(t, ndb.Close(ctx))
}

// Pruning does not cost more where more versions are kept.
func TestPruneCostsWhatItFrees(t *testing.T) {
	ctx := t.Context()
	cost := func(kept uint64) (applies, moves int64) {
		store := &countingStore{lastingStore: newLastingStore(t)}
		ndb, err := openDB(ctx, store, nil)
		must(t, err)
		m := newModel()
		smallVersions(t, ctx, ndb, m, 1, kept+40)
		store.moves.Store(0)
		a := int64(store.applies)
		for v := uint64(1); v <= 40; v++ {
			must(t, ndb.Prune(ctx, v))
		}
		must(t, ndb.CollectGarbage(ctx, nil))
		a = int64(store.applies) - a
		must(t, ndb.Close(ctx))
		return a, store.moves.Load()
	}
	fewApplies, few := cost(100)
	manyApplies, many := cost(1000)
	if manyApplies != fewApplies || many > few+few/20 {
		t.Errorf("with 1,000 versions kept: %d writes and %d reads, with 100: %d and %d", manyApplies, many, fewApplies, few)
	}
}

// countingStore counts what is asked of its snapshots.
type countingStore struct {
	*lastingStore
	moves atomic.Int64
}

func (s *countingStore) Snapshot(ctx context.Context) (kv.Snapshot, error) {
	inner, err := s.lastingStore.Snapshot(ctx)
	return &countingSnapshot{inner, &s.moves}, err
}

type countingSnapshot struct {
	kv.Snapshot
	moves *atomic.Int64
}

func (s *countingSnapshot) Get(key []byte) ([]byte, error) {
	s.moves.Add(1)
	return s.Snapshot.Get(key)
}

func (s *countingSnapshot) Cursor() kv.Cursor { return &countingCursor{s.Snapshot.Cursor(), s.moves} }

type countingCursor struct {
	kv.Cursor
	moves *atomic.Int64
}

func (c *countingCursor) Seek(key []byte) bool {
	c.moves.Add(1)
	return c.Cursor.Seek(key)
}

func (c *countingCursor) Next() bool {
	c.moves.Add(1)
	return c.Cursor.Next()
}

// A round is broken off anywhere, and the next one goes on.
func TestCollectionIsResumed(t *testing.T) {
	ctx := t.Context()
	store := newLastingStore(t)
	store.limits.PreferredBatchBytes = 3000
	ndb, err := openDB(ctx, store, nil)
	must(t, err)
	m := newModel()
	smallVersions(t, ctx, ndb, m, 1, 300)
	_, err = ndb.PruneBefore(ctx, 280)
	must(t, err)
	m.pruneBefore(280)
	rounds := 0
	for broken := 1; ; broken++ {
		running, cancel := context.WithCancel(ctx)
		left := store.applies + broken
		store.onApply = func() {
			if store.applies >= left {
				cancel()
			}
		}
		err := ndb.CollectGarbage(running, func(done, total int64) {
			if done < 0 || done > total {
				t.Fatalf("progress of %d of %d", done, total)
			}
		})
		cancel()
		if err == nil {
			break
		}
		wantErr(t, err, context.Canceled)
		if rounds++; rounds%3 == 0 {
			must(t, ndb.Close(ctx))
			ndb, err = openDB(ctx, store, nil)
			must(t, err)
		}
	}
	if rounds < 3 {
		t.Errorf("it was broken off %d times only", rounds)
	}
	store.onApply = nil
	checkExact(ctx, t, ndb, m)
	must(t, ndb.Close(ctx))
}

// The background begins by itself, goes on after an open, and ends with Close.
func TestBackgroundFreesSpace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		store := newLastingStore(t)
		paced := func(c *db.Config) { c.GarbageRate = 10_000 }
		ndb, err := openDB(ctx, store, paced)
		must(t, err)
		m := newModel()
		smallVersions(t, ctx, ndb, m, 1, 200)
		lists := func() int {
			counts, err := kvdb.KindCounts(ctx, ndb)
			must(t, err)
			return counts[0x41]
		}
		must(t, ndb.Prune(ctx, 1))
		m.pruneBefore(2)
		synctest.Wait()
		if before := lists(); before != 199 {
			t.Fatalf("%d lists are left of 199 while little is due", before)
		}
		_, err = ndb.PruneBefore(ctx, 60)
		must(t, err)
		m.pruneBefore(60)
		synctest.Wait() // it stands in its first pause
		must(t, ndb.Close(ctx))

		ndb, err = openDB(ctx, store, paced)
		must(t, err)
		must(t, kvdb.AwaitBackground(ctx, ndb)) // time passes at once in here
		if after := lists(); after != 200-60 {
			t.Errorf("%d lists are left, want %d", after, 200-60)
		}
		// Far behind, whoever prunes has it done.
		_, err = ndb.PruneBefore(ctx, 199)
		must(t, err)
		m.pruneBefore(199)
		if after := lists(); after != 1 {
			t.Errorf("%d lists are left of many", after)
		}
		check(ctx, t, rand.New(rand.NewPCG(1, 1)), ndb, m)
		must(t, ndb.Close(ctx))
	})
}

// A version whose record, or whose list, is damaged is no dead end.
func TestDamagedVersionsArePruned(t *testing.T) {
	ctx := t.Context()
	store := newLastingStore(t)
	ndb, err := openDB(ctx, store, nil)
	must(t, err)
	m := newModel()
	smallVersions(t, ctx, ndb, m, 1, 60)
	must(t, ndb.Close(ctx))
	spoil := func(key []byte) {
		s, err := store.Store.Snapshot(ctx)
		must(t, err)
		value, err := s.Get(key)
		must(t, err)
		bad := bytes.Clone(value)
		bad[len(bad)/2] ^= 1
		must(t, s.Close())
		var b kv.Batch
		b.Put(key, bad)
		must(t, store.Store.Apply(ctx, &b, true))
	}
	version := func(v byte) []byte { return []byte{3, 0, 0, 0, 0, 0, 0, 0, v} }
	for _, v := range []byte{1, 2, 7, 20, 59} {
		spoil(version(v))
	}
	for _, v := range []byte{9, 30} {
		spoil([]byte{0x41, 0, 0, 0, 0, 0, 0, 0, v, 0, 0, 0, 0, 0, 0})
	}
	ndb, err = openDB(ctx, store, nil)
	must(t, err)
	_, err = ndb.GetRootsForVersion(ctx, 7)
	wantErr(t, err, db.ErrCorrupted)
	for v := uint64(1); v < 10; v++ {
		must(t, ndb.Prune(ctx, v))
	}
	must(t, ndb.CollectGarbage(ctx, nil))
	_, err = ndb.PruneBefore(ctx, 60)
	must(t, err)
	m.pruneBefore(60)
	must(t, ndb.CollectGarbage(ctx, nil))
	check(ctx, t, rand.New(rand.NewPCG(1, 1)), ndb, m)
	// What the two damaged lists named stays stored, and nothing else.
	live, err := kvdb.LiveEntries(ctx, ndb)
	must(t, err)
	if reached := len(m.final[60][node.RootTypeState].tree.Stored()); len(live) < reached || len(live) > reached+40 {
		t.Errorf("%d entries are stored, %d reached", len(live), reached)
	}
	must(t, ndb.Close(ctx))
}

// A store that can have only one snapshot open is asked for no second one.
func TestReadersAreBounded(t *testing.T) {
	ctx := t.Context()
	store := newLastingStore(t)
	store.limits.Readers = 1
	ndb, err := openDB(ctx, store, nil)
	must(t, err)
	m := newModel()
	smallVersions(t, ctx, ndb, m, 1, 30)
	done := make(chan error, 4)
	for i := range 4 {
		go func() {
			done <- func() error {
				for v := uint64(1); v <= 30; v++ {
					r := m.final[v][node.RootTypeState]
					for range 3 {
						if err := firstErr(ndb.Walk(ctx, r.root, nil)); err != nil {
							return err
						}
					}
					if _, err := ndb.GetRootsForVersion(ctx, v); err != nil {
						return err
					}
					start := r.parent
					if start.IsEmpty() {
						start.Version = v
					}
					if err := firstErr(ndb.GetWriteLog(ctx, start, r.root)); err != nil {
						return err
					}
				}
				if i == 0 {
					return ndb.CollectGarbage(ctx, nil)
				}
				return nil
			}()
		}()
	}
	for range 4 {
		must(t, <-done)
	}
	if most := store.mostOpen.Load(); most != 1 {
		t.Errorf("%d snapshots were open at once", most)
	}
	waiting, cancel := context.WithCancel(ctx)
	release, err := kvdb.HoldReader(ctx, ndb)
	must(t, err)
	cancel()
	if err := firstErr(ndb.Walk(waiting, m.final[30][node.RootTypeState].root, nil)); !errors.Is(err, context.Canceled) {
		t.Errorf("a walk that waits for a snapshot: %v", err)
	}
	must(t, release())
	must(t, ndb.Close(ctx))
}

func TestMemoryHasALeast(t *testing.T) {
	_, err := openDB(t.Context(), newLastingStore(t), func(c *db.Config) { c.MemoryBytes = 1000 })
	wantErr(t, err, db.ErrBadSettings)
}
