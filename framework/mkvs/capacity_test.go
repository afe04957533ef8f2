package mkvs_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"weak"

	"github.com/ckpt-project/ckpt/framework/mkvs"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// A tree keeps no more stored nodes in memory than it may, after commits and however much is read, and those
// that it keeps are the ones nearest to the root.
func TestCapacity(t *testing.T) {
	const entries, path = 3000, 40 // a lookup can bring in as much as a path before anything is given up
	for _, capacity := range []int{1, 100, 1000} {
		t.Run(fmt.Sprint(capacity), func(t *testing.T) {
			ndb := newStrictDB()
			ndb.info.EmbedBytes = 100
			tree := mkvs.New(ndb, node.RootTypeState, mkvs.WithCapacity(capacity))
			for i := range entries {
				insert(t, tree, fmt.Sprint(i), strings.Repeat("v", i%200))
			}
			_, root := commit(t, tree, 1)
			if n := mkvs.NodesInMemory(tree); n > capacity {
				t.Errorf("%d nodes after the commit", n)
			}
			for _, tree := range []*mkvs.Tree{tree, mkvs.NewWithRoot(ndb, root, mkvs.WithCapacity(capacity))} {
				most := 0
				for i := range entries {
					if value, err := tree.Get(t.Context(), fmt.Append(nil, i*7%entries)); err != nil || value == nil {
						t.Fatal(i, err)
					}
					most = max(most, mkvs.NodesInMemory(tree))
				}
				if most > capacity+path || capacity > path && most <= capacity/2 {
					t.Errorf("%d nodes after %d lookups", most, entries)
				}
			}
		})
	}
	unbounded := mkvs.New(newStrictDB(), node.RootTypeState, mkvs.WithCapacity(0))
	for i := range entries {
		insert(t, unbounded, fmt.Sprint(i), "v")
	}
	commit(t, unbounded, 1)
	if n := mkvs.NodesInMemory(unbounded); n < entries {
		t.Errorf("%d nodes without a bound", n)
	}
}

// A tree keeps no more bytes of stored nodes in memory than it may, be they many or long.
func TestCapacityBytes(t *testing.T) {
	for _, length := range []int{10, 5000} {
		const capacity = 200_000
		// A lookup can bring in a path, and what it ends at, before anything is given up.
		most := capacity + 40*300 + length
		ndb := newStrictDB()
		opts := []mkvs.Option{mkvs.WithCapacity(0), mkvs.WithCapacityBytes(capacity)}
		tree := mkvs.New(ndb, node.RootTypeState, opts...)
		for i := range 2000 {
			insert(t, tree, fmt.Sprint(i), strings.Repeat("v", length))
		}
		_, root := commit(t, tree, 1)
		if n := mkvs.BytesInMemory(tree); n > capacity || n < capacity/4 {
			t.Errorf("values of %d: %d bytes after the commit", length, n)
		}
		for _, tree := range []*mkvs.Tree{tree, mkvs.NewWithRoot(ndb, root, opts...)} {
			peak := 0
			for i := range 2000 {
				if value, err := tree.Get(t.Context(), fmt.Append(nil, i*7%2000)); err != nil || len(value) != length {
					t.Fatal(i, err)
				}
				peak = max(peak, mkvs.BytesInMemory(tree))
			}
			if peak > most || peak <= capacity/2 {
				t.Errorf("values of %d: %d bytes after lookups", length, peak)
			}
		}
		insert(t, tree, "more", "of it")
		insert(t, tree, "1", "of it")
		commit(t, tree, 2)
		if n := mkvs.BytesInMemory(tree); n > capacity {
			t.Errorf("values of %d: %d bytes after the second commit", length, n)
		}
	}
}

// What a tree gives up can be collected, also what it had made itself: nothing that stays leads to it.
func TestWhatIsGivenUpIsCollected(t *testing.T) {
	const entries, capacity = 2000, 100
	ndb := newStrictDB()
	tree := mkvs.New(ndb, node.RootTypeState, mkvs.WithCapacity(0))
	for i := range entries {
		insert(t, tree, fmt.Sprint(i), "v")
	}
	commit(t, tree, 1)
	seen := make(map[weak.Pointer[node.Pointer]]bool)
	mkvs.EachInMemory(tree, func(ptr *node.Pointer) { seen[weak.Make(ptr)] = true })
	if len(seen) < entries {
		t.Fatalf("%d nodes in memory of %d entries", len(seen), entries)
	}
	mkvs.SetCapacity(tree, capacity)
	if v, err := tree.Get(t.Context(), []byte("1")); err != nil || v == nil {
		t.Fatal(v, err)
	}
	kept := make(map[weak.Pointer[node.Pointer]]bool)
	mkvs.EachInMemory(tree, func(ptr *node.Pointer) { kept[weak.Make(ptr)] = true })
	runtime.GC()
	alive := 0
	for w := range seen {
		if w.Value() != nil && !kept[w] {
			alive++
		}
	}
	// A pointer whose node was given up may lie beside that of a node that is kept.
	if alive > capacity {
		t.Errorf("%d of %d nodes that were given up stay in memory", alive, len(seen)-len(kept))
	}
	runtime.KeepAlive(tree)
}
