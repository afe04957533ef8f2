package mkvs_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/ckpt-project/ckpt/backends/memory"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// A tree that was emptied, applied, and filled again with many entries, still names the entries that go.
func TestFillEmptiedTree(t *testing.T) {
	const n = 300
	fill := func(tree *mkvs.Tree, value string) {
		for i := range n {
			insert(t, tree, fmt.Sprint(i), value)
		}
	}
	empty := func(tree *mkvs.Tree) {
		for i := range n {
			remove(t, tree, fmt.Sprint(i))
		}
		contents(t, tree) // which applies it
	}
	for name, opts := range map[string][]mkvs.Option{"write log": nil, "no write log": {mkvs.WithoutWriteLog()}} {
		t.Run(name, func(t *testing.T) {
			tree := mkvs.New(newStrictDB(), node.RootTypeState, opts...)
			fill(tree, "value")
			commit(t, tree, 1)
			empty(tree)
			fill(tree, "other")
			commit(t, tree, 2)
		})
	}
	t.Run("small commit that failed", func(t *testing.T) {
		ndb := newStrictDB()
		tree := mkvs.New(ndb, node.RootTypeState, mkvs.WithoutWriteLog())
		insert(t, tree, "a", "1", "b", "1")
		commit(t, tree, 1)
		remove(t, tree, "a", "b")
		ndb.fail = func(call string) error { return map[string]error{"Commit": errInjected}[call] }
		if _, _, err := tree.Commit(t.Context(), testNamespace, 2); !errors.Is(err, errInjected) {
			t.Fatal(err)
		}
		ndb.fail = nil
		fill(tree, "other")
		commit(t, tree, 2)
	})
	t.Run("on a database", func(t *testing.T) {
		ctx := t.Context()
		ndb, err := openDB(ctx, memory.New(), db.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer ndb.Close(ctx)
		tree := mkvs.New(ndb, node.RootTypeState)
		next := func(version uint64, value string) {
			fill(tree, value)
			_, root := commit(t, tree, version)
			if err := ndb.Finalize(ctx, []node.Root{root}); err != nil {
				t.Fatal(err)
			}
		}
		next(1, "value")
		empty(tree)
		next(2, "other")
		if err := ndb.Prune(ctx, 1); err != nil {
			t.Fatal(err)
		}
		if report, err := ndb.Check(ctx, db.CheckOptions{}); err != nil || !report.OK() {
			t.Errorf("%+v, %v", report, err)
		}
	})
}

// Nodes that were written while others were made stay in memory, with the hashes that they are stored under, and
// are counted as what they take; the next versions read nothing.
func TestWrittenNodesStay(t *testing.T) {
	manyWorkers(t)
	rng := rand.New(rand.NewPCG(21, 22))
	ndb := newStrictDB()
	ndb.info.EmbedBytes = 40
	tree := mkvs.New(ndb, node.RootTypeState, mkvs.WithCapacity(0))
	now := model{}
	for version := uint64(1); version <= 5; version++ {
		randomChanges(t, rng, tree, now, 1500)
		_, root := commit(t, tree, version)
		if want := now.root(); root.Hash != want {
			t.Fatalf("version %d: root %s, want %s", version, root.Hash, want)
		}
		nodes := 0
		mkvs.EachInMemory(tree, func(ptr *node.Pointer) {
			nodes++
			h := ptr.Node.GetHash()
			if embedded := ptr.Embedded && h == (hash.Hash{}); embedded {
				return // it is hashed when it is needed
			}
			ptr.Node.UpdateHash()
			if !ptr.Clean || ptr.Hash != h || ptr.Node.GetHash() != h {
				t.Fatalf("version %d: a node of hash %s, and the pointer (clean: %t) says %s", version, ptr.Node.GetHash(), ptr.Clean, ptr.Hash)
			}
		})
		if nodes < len(now) {
			t.Fatalf("version %d: %d nodes in memory of %d entries", version, nodes, len(now))
		}
		// Own leaves that are replaced are not taken off.
		if counted, there := mkvs.CountedInMemory(tree), mkvs.BytesInMemory(tree); counted < there || counted > there+there/10 {
			t.Errorf("version %d: %d bytes in memory, and the tree takes them for %d", version, there, counted)
		}
	}
	if reads := ndb.calls["GetPath"] + ndb.calls["GetNode"]; reads != 0 {
		t.Errorf("%d reads", reads)
	}
	if err := now.checkContents(t.Context(), mkvs.NewWithRoot(ndb, tree.Base(), mkvs.WithVerifyReads())); err != nil {
		t.Error(err)
	}
}

// Whichever way a commit is made, its root, its write log and what is stored are the same.
func TestCommitsAreTheSameEachWay(t *testing.T) {
	manyWorkers(t)
	type outcome struct{ root, log, stored string }
	var first outcome
	for i, opts := range [][]mkvs.Option{
		{mkvs.WithCapacity(0), mkvs.WithRunChanges(1 << 20)},
		{mkvs.WithCapacity(0), mkvs.WithRunChanges(5)},
		{mkvs.WithCapacity(100), mkvs.WithRunChanges(5)},
	} {
		rng := rand.New(rand.NewPCG(23, 24))
		ndb := newStrictDB()
		tree, now := mkvs.New(ndb, node.RootTypeState, opts...), model{}
		randomChanges(t, rng, tree, now, 600)
		commit(t, tree, 1)
		randomChanges(t, rng, tree, now, 600)
		log, root := commit(t, tree, 2)
		got := outcome{root.String(), fmt.Sprint(log), fmt.Sprint(ndb.entries)}
		if i == 0 {
			first = got
		}
		if got.root != first.root || got.log != first.log || got.stored != first.stored {
			t.Errorf("with options %d something else comes out", i)
		}
	}
}

// Many changes of which none is one are no version of their own where there is that version already.
func TestCommitNothingOfMany(t *testing.T) {
	for _, opts := range [][]mkvs.Option{nil, {mkvs.WithCapacity(20), mkvs.WithRunChanges(5)}} {
		ndb := newStrictDB()
		tree := mkvs.New(ndb, node.RootTypeState, opts...)
		same := func() {
			for i := range 1000 {
				insert(t, tree, fmt.Sprint(i), "value")
			}
		}
		same()
		_, root := commit(t, tree, 1)
		batches := ndb.calls["NewBatch"]
		same()
		if _, again := commit(t, tree, 1); again != root || ndb.calls["NewBatch"] != batches {
			t.Errorf("committed again as %s, %d batches", again, ndb.calls["NewBatch"]-batches)
		}
		same()
		log, next := commit(t, tree, 2)
		if next.Hash != root.Hash || ndb.roots[next] != ndb.roots[root] || len(log) != 1000 {
			t.Errorf("root %s at %s, %d changes", next, ndb.roots[next], len(log))
		}
	}
}

// A change that was applied and changed nothing is in the write log all the same, however many come after it.
func TestWriteLogOfWhatWasAppliedBefore(t *testing.T) {
	for _, opts := range [][]mkvs.Option{nil, {mkvs.WithCapacity(20), mkvs.WithRunChanges(5)}} {
		ndb := newStrictDB()
		tree := mkvs.New(ndb, node.RootTypeState, opts...)
		insert(t, tree, "a", "1", "b", "1")
		commit(t, tree, 1)
		insert(t, tree, "a", "1")
		contents(t, tree) // which applies it
		for i := range 1000 {
			insert(t, tree, fmt.Sprint("key", i), strings.Repeat("v", 20))
		}
		log, root := commit(t, tree, 2)
		if len(log) != 1001 || len(ndb.logs[root]) != 1001 || string(log[0].Key) != "a" {
			t.Errorf("%d changes, %d of them stored, the first to %q", len(log), len(ndb.logs[root]), log[0].Key)
		}
	}
}

// Histories of many shapes, whose commits are refused at any call of the database, and tried again with more
// changes: what is committed in the end is what the model has, and what the database was told agrees with it.
func TestCommitsRefusedAnywhere(t *testing.T) {
	manyWorkers(t)
	for seed := range uint64(24) {
		rng := rand.New(rand.NewPCG(seed, 77))
		ndb := newStrictDB()
		ndb.info.EmbedBytes = []int{0, 20, 40, 200}[rng.IntN(4)]
		opts := []mkvs.Option{
			mkvs.WithCapacity([]int{0, 50, 1000}[rng.IntN(3)]), mkvs.WithRunChanges([]int{1, 5, 64, 200}[rng.IntN(4)]),
		}
		if rng.IntN(3) == 0 {
			opts = append(opts, mkvs.WithoutWriteLog())
		}
		prefix := []string{"", "a long prefix that all of them have ", "x"}[rng.IntN(3)]
		tree := mkvs.New(ndb, node.RootTypeState, opts...)
		now := model{}
		for version := uint64(1); version <= 5; version++ {
			for range rng.IntN(1200) {
				key := prefix
				for range 1 + rng.IntN(4) {
					key += string(rune('a' + rng.IntN(12)))
				}
				if version%2 == 0 && rng.IntN(3) == 0 {
					remove(t, tree, key)
					delete(now, key)
					continue
				}
				value := fmt.Sprint(rng.IntN(3)) + strings.Repeat("v", rng.IntN(60))
				insert(t, tree, key, value)
				now[key] = []byte(value)
			}
			committed := false
			for tries := 0; tries < 3 && !committed; tries++ {
				left := 1 + rng.IntN(600)
				ndb.fail = func(string) error {
					if left--; left < 0 {
						return errInjected
					}
					return nil
				}
				_, _, err := tree.Commit(t.Context(), testNamespace, version)
				ndb.fail = nil
				if committed = err == nil; !committed && rng.IntN(2) == 0 {
					key := prefix + fmt.Sprint("more", rng.IntN(5))
					insert(t, tree, key, "v")
					now[key] = []byte("v")
				}
			}
			if !committed {
				commit(t, tree, version)
			}
			if tree.Base().Hash != now.root() {
				t.Fatalf("seed %d, version %d: another root than the model's", seed, version)
			}
			if err := now.checkContents(t.Context(), tree); err != nil {
				t.Fatalf("seed %d, version %d: %v", seed, version, err)
			}
			if rng.IntN(3) == 0 {
				tree = mkvs.NewWithRoot(ndb, tree.Base(), append(opts, mkvs.WithVerifyReads())...)
			}
		}
	}
}
