package mkvs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/ckpt-project/ckpt/backends/bbolt"
	"github.com/ckpt-project/ckpt/backends/memory"
	"github.com/ckpt-project/ckpt/conformance/reference"
	"github.com/ckpt-project/ckpt/conformance/vectors"
	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/mkvs"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// recordingDB notes what a commit names with Remove.
type recordingDB struct {
	db.NodeDB
	removed map[entryID]int
}

func (r *recordingDB) NewBatch(ctx context.Context, oldRoot node.Root, version uint64) (db.Batch, error) {
	b, err := r.NodeDB.NewBatch(ctx, oldRoot, version)
	if err != nil {
		return nil, err
	}
	r.removed = map[entryID]int{}
	return &recordingBatch{b, r}, nil
}

type recordingBatch struct {
	db.Batch
	db *recordingDB
}

func (b *recordingBatch) Remove(ctx context.Context, address node.Address, position node.Position) error {
	b.db.removed[entryID{address, string(position)}]++
	return b.Batch.Remove(ctx, address, position)
}

// reachable lists the entries that a walk through root yields.
func (r *recordingDB) reachable(ctx context.Context, root node.Root) (map[entryID]bool, error) {
	found := map[entryID]bool{}
	if root.IsEmpty() {
		return found, nil
	}
	for e, err := range r.Walk(ctx, root, node.RootPosition()) {
		if err != nil {
			return nil, err
		}
		found[entryID{e.Address, string(e.Position)}] = true
	}
	return found, nil
}

func openDB(ctx context.Context, factory db.Factory, cfg db.Config) (db.NodeDB, error) {
	cfg.Namespace = testNamespace
	return factory.New(ctx, &cfg)
}

// On a real database, what a commit removes is exactly what its old root reaches and its new one does
// not; versions finalized and pruned on the way make no difference.
func TestHistoryOnDatabase(t *testing.T) {
	ctx := context.Background()
	rapid.Check(t, func(t *rapid.T) {
		ndb, err := openDB(ctx, memory.New(), db.Config{})
		if err != nil {
			t.Fatal(err)
		}
		rec := &recordingDB{NodeDB: ndb}
		h := newHistory(ctx, rec, ndb.Info().EmbedBytes,
			mkvs.WithCapacity(rapid.SampledFrom([]int{0, 5, 100}).Draw(t, "capacity")), mkvs.WithVerifyReads())
		pruned := uint64(0)
		h.committed = func(old, root node.Root) error {
			before := map[entryID]bool{}
			if old.Version > 0 {
				if before, err = rec.reachable(ctx, old); err != nil {
					return err
				}
			}
			after, err := rec.reachable(ctx, root)
			if err != nil {
				return err
			}
			maps.DeleteFunc(before, func(id entryID, _ bool) bool { return after[id] })
			for id, times := range rec.removed {
				if times != 1 || !before[id] {
					return fmt.Errorf("%v was removed %d times, and is gone: %v", id, times, before[id])
				}
			}
			if len(before) != len(rec.removed) {
				return fmt.Errorf("%d entries were removed, and %d are gone", len(rec.removed), len(before))
			}
			if err := rec.Finalize(ctx, []node.Root{root}); err != nil {
				return err
			}
			if rapid.Bool().Draw(t, "prune") {
				for ; pruned+1 < root.Version; pruned++ {
					if err := rec.Prune(ctx, pruned+1); err != nil {
						return err
					}
				}
			}
			return nil
		}
		h.run(t)
		if err := rec.Close(ctx); err != nil {
			t.Fatal(err)
		}
	})
}

// The known answers' roots come out of a database, read back after it was closed and opened again.
func TestVectorsOnDatabase(t *testing.T) {
	for _, v := range distinctVectors(10_000) {
		t.Run(v.Name(), func(t *testing.T) {
			t.Parallel()
			ctx, dir := t.Context(), t.TempDir()
			var ns common.Namespace
			if err := ns.UnmarshalHex(vectors.Namespace); err != nil {
				t.Fatal(err)
			}
			open := func() db.NodeDB {
				ndb, err := bbolt.New().New(ctx, &db.Config{Dir: dir, Namespace: ns})
				if err != nil {
					t.Fatal(err)
				}
				return ndb
			}
			ndb := open()
			tree := mkvs.New(ndb, node.RootTypeState)
			commit := func(version uint64) node.Root {
				_, h, err := tree.Commit(ctx, ns, version)
				if err != nil {
					t.Fatal(err)
				}
				root := node.Root{Namespace: ns, Version: version, Type: node.RootTypeState, Hash: h}
				if err := ndb.Finalize(ctx, []node.Root{root}); err != nil {
					t.Fatal(err)
				}
				return root
			}
			for i := range v.N {
				key, value := v.DataSet().Entry(i)
				if err := tree.Insert(ctx, key, value); err != nil {
					t.Fatal(err)
				}
			}
			root := commit(1)
			if v.RemoveEvery > 0 {
				tree = mkvs.NewWithRoot(ndb, root)
				for _, key := range v.RemovedKeys() {
					if err := tree.Remove(ctx, key); err != nil {
						t.Fatal(err)
					}
				}
				root = commit(2)
			}
			if root.Hash != v.Root {
				t.Fatalf("root %s, want %s", root.Hash, v.Root)
			}
			if err := ndb.Close(ctx); err != nil {
				t.Fatal(err)
			}
			ndb = open()
			defer ndb.Close(context.WithoutCancel(ctx))
			tree = mkvs.NewWithRoot(ndb, root, mkvs.WithVerifyReads(), mkvs.WithCapacity(100))
			want := v.Final()
			it := tree.NewIterator(ctx)
			defer it.Close()
			i := 0
			for it.Rewind(); it.Valid(); it.Next() {
				if i >= len(want) || !bytes.Equal(it.Key(), want[i].Key) || !bytes.Equal(it.Value(), want[i].Value) {
					t.Fatalf("entry %d is %x", i, it.Key())
				}
				i++
			}
			if it.Err() != nil || i != len(want) {
				t.Fatalf("%d entries, want %d: %v", i, len(want), it.Err())
			}
			for _, p := range slices.Concat(want[:min(len(want), 50)], want[len(want)/2:]) {
				if value, err := tree.Get(ctx, p.Key); err != nil || !bytes.Equal(value, p.Value) {
					t.Fatalf("value of %x: %x, %v", p.Key, value, err)
				}
			}
		})
	}
}

// Two candidates of a version are made from one root, and each tree goes on with its own.
func TestCandidates(t *testing.T) {
	ctx := t.Context()
	ndb, err := openDB(ctx, memory.New(), db.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer ndb.Close(context.WithoutCancel(ctx))
	tree := mkvs.New(ndb, node.RootTypeState)
	insert(t, tree, "a", "1", "b", "2", "ab", string(bytes.Repeat([]byte("x"), 2000)))
	_, base := commit(t, tree, 1)
	if err := ndb.Finalize(ctx, []node.Root{base}); err != nil {
		t.Fatal(err)
	}
	trees := []*mkvs.Tree{mkvs.NewWithRoot(ndb, base), mkvs.NewWithRoot(ndb, base)}
	roots := make([]node.Root, 2)
	for i, tree := range trees {
		insert(t, tree, "c", fmt.Sprint("tree ", i))
		_, roots[i] = commit(t, tree, 2)
	}
	for i, tree := range trees {
		insert(t, tree, "d", fmt.Sprint("tree ", i))
		_, next := commit(t, tree, 3)
		want := fmt.Sprintf("a=1 ab=%s b=2 c=tree %d d=tree %d", bytes.Repeat([]byte("x"), 2000), i, i)
		if got := contents(t, mkvs.NewWithRoot(ndb, next)); got != want {
			t.Errorf("tree %d holds %q", i, got)
		}
	}
	if err := ndb.Finalize(ctx, roots[1:]); err != nil {
		t.Fatal(err)
	}
	if got := contents(t, mkvs.NewWithRoot(ndb, roots[1])); !bytes.Contains([]byte(got), []byte("c=tree 1")) {
		t.Errorf("the finalized tree holds %q", got)
	}
}

// A tree is open at a candidate that can't be finalized, and the same root is restored: the candidate's
// nodes go, and what the tree has of them must not get into another root.
func TestBaseReplacedByRestore(t *testing.T) {
	ctx := t.Context()
	ndb, err := memory.New().New(ctx, &db.Config{Namespace: testNamespace})
	if err != nil {
		t.Fatal(err)
	}
	defer ndb.Close(ctx)
	tree := mkvs.New(ndb, node.RootTypeState)
	content := reference.Content{}
	var root node.Root
	for v := uint64(1); v <= 2; v++ { // the second is made from what is not finalized
		for i := range 50 {
			key := fmt.Sprintf("key %d of %d", i, v)
			content[key] = "value"
			if err := tree.Insert(ctx, []byte(key), []byte("value")); err != nil {
				t.Fatal(err)
			}
		}
		_, h, err := tree.Commit(ctx, testNamespace, v)
		if err != nil {
			t.Fatal(err)
		}
		root = node.Root{Namespace: testNamespace, Version: v, Type: node.RootTypeState, Hash: h}
	}
	restoreWhole(t, ndb, root, reference.Build(content))

	if err := tree.Insert(ctx, []byte("key 0 of 1"), []byte("another")); err != nil && !errors.Is(err, db.ErrNodeNotFound) {
		t.Fatal(err)
	}
	if _, _, err := tree.Commit(ctx, testNamespace, 3); !errors.Is(err, db.ErrRootMustFollowOld) {
		t.Errorf("committed with error %v, want %v", err, db.ErrRootMustFollowOld)
	}
	again := mkvs.NewWithRoot(ndb, root)
	defer again.Close()
	if err := again.Insert(ctx, []byte("key 0 of 1"), []byte("another")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := again.Commit(ctx, testNamespace, 3); err != nil {
		t.Errorf("a tree opened at the restored root: %v", err)
	}
}

// restoreWhole restores and finalizes a root in one chunk.
func restoreWhole(t *testing.T, ndb db.NodeDB, root node.Root, top *reference.Node) {
	t.Helper()
	ctx := t.Context()
	chunk := reference.NewChunk(top.List())
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(ndb.StartMultipart(ctx, root.Version))
	must(ndb.AddMultipartRoot(ctx, root, 1, nil))
	w, err := ndb.NewChunk(ctx, root, 0)
	must(err)
	must(chunk.Put(ctx, w, ndb.Info().EmbedBytes))
	must(w.Commit(ctx, true))
	must(ndb.CompleteRoot(ctx, root))
	must(ndb.Finalize(ctx, []node.Root{root}))
}
