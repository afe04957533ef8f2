package kvdb_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/ckpt-project/ckpt/backends/memory"
	"github.com/ckpt-project/ckpt/conformance/reference"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// everything is a database that has a value of every kind, and what it holds.
func everything(t *testing.T) (*fixture, *model) {
	f := newFixture(t, nil)
	m := newModel()
	// A restored version, versions on top of it, some pruned, some candidates, and a restore in progress.
	r, chunks := f.restoring(2, randomContents(f.rng, 400), 10)
	f.writeAll(r, chunks)
	must(t, f.ndb.CompleteRoot(f.ctx, r.root))
	restored(r.tree, chunks, f.addressOf(r))
	f.finalize(r)
	m.finalize([]*mroot{r})
	old := r
	for v := uint64(3); v < 12; v++ {
		data := make(reference.Content)
		for _, k := range old.data.Keys() { // in the same order each time
			if f.rng.IntN(20) > 0 {
				data[k] = old.data[k]
			}
		}
		data["large"] = strings.Repeat("x", 5000)
		old = f.commit(old, v, data)
		io := f.commit(nothing(v, node.RootTypeIO), v, randomContents(f.rng, 10))
		f.finalize(old, io)
		m.finalize([]*mroot{old, io})
	}
	for v := uint64(2); v < 8; v++ {
		must(t, f.ndb.Prune(f.ctx, v))
		m.prune()
		if v == 5 {
			must(t, f.ndb.Compact(f.ctx, nil))
		}
	}
	next := f.commit(old, 12, reference.Content{"only": "this"})
	m.candidates[next.name()] = next
	r, chunks = f.restoring(20, randomContents(f.rng, 100), 5)
	f.writeAll(r, chunks[1:])
	must(t, f.ndb.Close(f.ctx))
	return f, m
}

// readAll reads all that a model has and wants each answer to be right, or an error that says damage.
func readAll(ctx context.Context, t *testing.T, ndb db.NodeDB, m *model, what string) (damaged int) {
	t.Helper()
	failed := func(err error) bool {
		if err == nil {
			return false
		}
		var c *db.CorruptedError
		if !errors.Is(err, db.ErrCorrupted) || !errors.As(err, &c) {
			t.Fatalf("%s: %v, want damage", what, err)
		}
		damaged++
		return true
	}
	for _, r := range m.all() {
		if has, err := ndb.HasRoot(ctx, r.root); !failed(err) && !has {
			t.Fatalf("%s: %s is not there", what, r.root)
		}
		want, i := r.tree.Stored(), 0
		for e, err := range ndb.Walk(ctx, r.root, nil) {
			if failed(err) {
				i = len(want)
				break
			}
			if i >= len(want) || !reference.SameEntry(e, want[i].Entry()) {
				t.Fatalf("%s: %s: wrong entry", what, r.root)
			}
			i++
		}
		if i != len(want) {
			t.Fatalf("%s: %s: walk ends early", what, r.root)
		}
		for _, n := range want[:min(len(want), 30)] {
			record, err := ndb.GetNode(ctx, r.root, n.Address, n.Position)
			if !failed(err) && !bytes.Equal(record, n.Record()) {
				t.Fatalf("%s: %s: wrong record", what, r.root)
			}
		}
		if r.restored {
			continue
		}
		start := r.parent
		if start.IsEmpty() {
			start.Version = r.root.Version
		}
		i = 0
		for e, err := range ndb.GetWriteLog(ctx, start, r.root) {
			if errors.Is(err, db.ErrVersionPruned) || failed(err) {
				break
			}
			if i >= len(r.log) || !bytes.Equal(e.Key, r.log[i].Key) || !bytes.Equal(e.Value, r.log[i].Value) {
				t.Fatalf("%s: %s: wrong write log", what, r.root)
			}
			i++
		}
	}
	return damaged
}

func TestDamageIsSeen(t *testing.T) {
	f, m := everything(t)
	ctx, rng := t.Context(), rand.New(rand.NewPCG(8, 8))
	pairs := dump(t, f.store)
	kinds := make(map[string]int)
	for i, p := range pairs {
		kinds[kvdb.KindName(p.key)]++
		for range 2 {
			bad := bytes.Clone(p.value)
			at := rng.IntN(len(bad))
			bad[at] ^= byte(1 + rng.IntN(255))
			if rng.IntN(5) == 0 {
				bad = bad[:at]
			}
			store := loaded(t, pairs, i, bad)
			what := string(p.key[:1])
			ndb, err := openDB(ctx, store, nil)
			if err != nil {
				// The stamp can look like another program's.
				if !errors.Is(err, db.ErrCorrupted) && !(i == 0 && errors.Is(err, db.ErrForeign)) {
					t.Fatalf("key %x: opening: %v", p.key, err)
				}
				continue
			}
			damaged := readAll(ctx, t, ndb, m, what)
			if isIOBlock(p.key, m) && damaged == 0 {
				t.Fatalf("a damaged block of an IO root, %x, is not seen", p.key)
			}
			// What is only there to free space, or is damaged in a pruned version, is in nobody's way.
			_ = ndb.Compact(ctx, nil)
			for v := m.earliest; v < m.latest; v++ {
				_ = ndb.AbortMultipart(ctx)
				if err := ndb.Prune(ctx, v); err != nil && !errors.Is(err, db.ErrCorrupted) && !errors.Is(err, db.ErrNotEarliest) {
					t.Fatalf("key %x: pruning version %d: %v", p.key, v, err)
				}
			}
			_ = ndb.Compact(ctx, nil)
			left := m.clone()
			for left.earliest < left.latest {
				left.prune()
			}
			if earliest, _, err := ndb.GetEarliestVersion(ctx); err == nil && earliest == m.latest {
				readAll(ctx, t, ndb, left, what)
			}
			must(t, ndb.Close(ctx))
		}
	}
	for _, kind := range kvdb.Kinds() {
		if kinds[kind.Name] == 0 {
			t.Errorf("no value of the kind %s was damaged", kind.Name)
		}
	}
}

// isIOBlock says whether a key is that of a block of an IO root that is there: each is read with its root.
func isIOBlock(key []byte, m *model) bool {
	return key[0] == 0x22 && binary.BigEndian.Uint64(key[1:]) >= m.earliest
}

// pair is a key of a store, and its value.
type pair struct{ key, value []byte }

// dump returns all keys and values of a store.
func dump(t *testing.T, store kv.Store) (pairs []pair) {
	s, err := store.Snapshot(t.Context())
	must(t, err)
	c := s.Cursor()
	for ok := c.Seek([]byte{0}); ok; ok = c.Next() {
		pairs = append(pairs, pair{bytes.Clone(c.Key()), bytes.Clone(c.Value())})
	}
	must(t, c.Err())
	must(t, c.Close())
	must(t, s.Close())
	return pairs
}

// loaded makes a store of pairs, one of them with another value.
func loaded(t *testing.T, pairs []pair, changed int, value []byte) kv.Store {
	store, err := memory.OpenStore(t.Context(), &db.Config{})
	must(t, err)
	var b kv.Batch
	for i, p := range pairs {
		if i == changed {
			p.value = value
		}
		b.Put(p.key, p.value)
	}
	must(t, store.Apply(t.Context(), &b, false))
	return store
}

// A block that is gone is damage, too.
func TestMissingBlocksAreSeen(t *testing.T) {
	f, m := everything(t)
	ctx := t.Context()
	pairs := dump(t, f.store)
	for i, p := range pairs {
		if !isIOBlock(p.key, m) {
			continue
		}
		store := loaded(t, append(append([]pair{}, pairs[:i]...), pairs[i+1:]...), -1, nil)
		ndb, err := openDB(ctx, store, nil)
		must(t, err)
		found := false
		for _, r := range m.all() {
			if err := firstErr(ndb.Walk(ctx, r.root, nil)); err != nil {
				wantErr(t, err, db.ErrCorrupted)
				found = true
			}
		}
		if !found {
			t.Fatalf("block %x is gone, and nothing is missed", p.key)
		}
		must(t, ndb.Close(ctx))
	}
}
