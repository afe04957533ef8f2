package kvdb_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/ckpt-project/ckpt/conformance/reference"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// restoring opens an insert of a version and tells of a tree.
func (f *fixture) restoring(version uint64, data reference.Content, pieces int) (r *mroot, chunks []reference.Chunk) {
	f.Helper()
	r = &mroot{root: emptyRoot(version, node.RootTypeState), data: data, tree: reference.Build(data), restored: true}
	r.root.Hash = r.tree.RootHash()
	chunks = cut(f.rng, r.tree, pieces)
	must(f, f.ndb.StartMultipart(f.ctx, version))
	must(f, f.ndb.AddMultipartRoot(f.ctx, r.root, uint64(len(chunks)), []byte("tag")))
	return r, chunks
}

func (f *fixture) writeAll(r *mroot, chunks []reference.Chunk) {
	f.Helper()
	for i := range chunks {
		must(f, writeChunk(f.ctx, f.ndb, r.root, &chunks[i], i))
	}
}

func (f *fixture) addressOf(r *mroot) node.Address {
	f.Helper()
	w, err := f.ndb.NewChunk(f.ctx, r.root, 0)
	must(f, err)
	must(f, w.Abort(f.ctx))
	return w.Address()
}

func TestMultipartRefuses(t *testing.T) {
	f := newFixture(t, nil)
	last := f.chain(1, 3)[2]
	wantErr(t, f.ndb.AddMultipartRoot(f.ctx, emptyRoot(9, node.RootTypeState), 1, nil), db.ErrNoMultipart)
	wantErr(t, f.ndb.StartMultipart(f.ctx, 3), db.ErrInvalidMultipartVersion)
	wantErr(t, f.ndb.CompleteRoot(f.ctx, emptyRoot(9, node.RootTypeState)), db.ErrNoMultipart)
	must(t, f.ndb.AbortMultipart(f.ctx))
	must(t, f.ndb.AbortRoot(f.ctx, emptyRoot(9, node.RootTypeState)))
	if mp, err := f.ndb.Multipart(f.ctx); mp != nil || err != nil {
		t.Fatalf("multipart insert is %v (%v)", mp, err)
	}
	r, chunks := f.restoring(9, randomContents(f.rng, 300), 5)
	must(t, f.ndb.StartMultipart(f.ctx, 9))
	wantErr(t, f.ndb.StartMultipart(f.ctx, 10), db.ErrMultipartInProgress)
	must(t, f.ndb.AddMultipartRoot(f.ctx, r.root, uint64(len(chunks)), []byte("tag")))
	wantErr(t, f.ndb.AddMultipartRoot(f.ctx, r.root, uint64(len(chunks)+1), []byte("tag")), db.ErrMultipartInProgress)
	wantErr(t, f.ndb.AddMultipartRoot(f.ctx, r.root, uint64(len(chunks)), []byte("other")), db.ErrMultipartInProgress)
	wantErr(t, f.ndb.AddMultipartRoot(f.ctx, emptyRoot(8, node.RootTypeState), 1, nil), db.ErrInvalidMultipartVersion)
	wantErr(t, f.ndb.AddMultipartRoot(f.ctx, emptyRoot(9, node.RootTypeIO), 0, nil), db.ErrMalformed)
	foreign := r.root
	foreign.Namespace[31] ^= 1
	wantErr(t, f.ndb.AddMultipartRoot(f.ctx, foreign, 1, nil), db.ErrBadNamespace)
	_, err := f.ndb.NewChunk(f.ctx, foreign, 0)
	wantErr(t, err, db.ErrBadNamespace)
	_, err = f.ndb.NewChunk(f.ctx, r.root, uint64(len(chunks)))
	wantErr(t, err, db.ErrMalformed)
	_, err = f.ndb.NewChunk(f.ctx, emptyRoot(9, node.RootTypeState), 0)
	wantErr(t, err, db.ErrNoMultipart)
	wantErr(t, f.ndb.CompleteRoot(f.ctx, r.root), db.ErrNotComplete)
	wantErr(t, f.ndb.Finalize(f.ctx, []node.Root{r.root}), db.ErrNotComplete)
	// Nothing of it can be read.
	f.writeAll(r, chunks)
	must(t, f.ndb.CompleteRoot(f.ctx, r.root))
	must(t, f.ndb.CompleteRoot(f.ctx, r.root))
	_, err = f.ndb.RootAddress(f.ctx, r.root)
	wantErr(t, err, db.ErrRootNotFound)
	if roots, err := f.ndb.GetRootsForVersion(f.ctx, 9); len(roots) != 0 || err != nil {
		t.Fatalf("a root in the making is there: %v (%v)", roots, err)
	}
	candidate := f.commit(nothing(9, node.RootTypeState), 9, reference.Content{"a": "b"})
	_, err = f.ndb.GetNode(f.ctx, candidate.root, f.addressOf(r), node.RootPosition())
	wantErr(t, err, db.ErrNodeNotFound)
	_, err = f.ndb.Pin(f.ctx, 9, "x")
	wantErr(t, err, db.ErrNotFinalized)
	// The version after the latest can still be finalized.
	next := f.commit(last, 4, reference.Content{"a": "b"})
	f.finalize(next)
	restored(r.tree, chunks, f.addressOf(r))
	f.finalize(r)
	m := newModel()
	m.any, m.earliest, m.latest = true, 9, 9
	m.final[9] = map[node.RootType]*mroot{node.RootTypeState: r}
	for v := uint64(1); v <= 4; v++ {
		must(t, f.ndb.Prune(f.ctx, v))
	}
	check(f.ctx, t, f.rng, f.ndb, m)
	checkExact(f.ctx, t, f.ndb, m)
	for v := uint64(5); v < 9; v++ { // the gap
		_, err = f.ndb.Pin(f.ctx, v, "x")
		wantErr(t, err, db.ErrVersionPruned)
	}
}

func TestChunkRefuses(t *testing.T) {
	f := newFixture(t, nil)
	r, _ := f.restoring(1, reference.Content{"a": "1", "b": "2", "c": "3"}, 1)
	w, err := f.ndb.NewChunk(f.ctx, r.root, 0)
	must(t, err)
	here := func(k *reference.Node) node.Child { return k.ChildAt(w.Address()) }
	inPlace := (*reference.Node).ChildWithin
	elsewhere := func(k *reference.Node) node.Child { return k.ChildAt(node.Address{Version: 0}) }
	leaf := r.tree.Stored()[len(r.tree.Stored())-1]
	wantErr(t, w.Put(f.ctx, r.tree.Position, r.tree.RecordWith(w.Address(), inPlace), false), db.ErrMalformed)
	wantErr(t, w.Put(f.ctx, r.tree.Position, r.tree.RecordWith(w.Address(), elsewhere), true), db.ErrMalformed)
	wantErr(t, w.Put(f.ctx, leaf.Position, []byte{0x80}, true), db.ErrMalformed)
	must(t, w.Put(f.ctx, r.tree.Position, r.tree.RecordWith(w.Address(), here), false))
	wantErr(t, w.Put(f.ctx, r.tree.Position, r.tree.RecordWith(w.Address(), here), false), db.ErrMalformed)
	wantErr(t, w.Put(f.ctx, leaf.Position, leaf.RecordWith(w.Address(), here), false), db.ErrMalformed)
	must(t, w.Abort(f.ctx))
	must(t, w.Abort(f.ctx))
	wantErr(t, w.Commit(f.ctx, true), db.ErrMalformed)
}

// A tree whose chunks all have their marks can still lack nodes.
func TestCompleteRootMissesWhatIsMissing(t *testing.T) {
	f := newFixture(t, nil)
	r, chunks := f.restoring(1, randomContents(f.rng, 500), 6)
	chunks[2].Nodes = chunks[2].Nodes[:1] // the proof of nearly nothing
	chunks[2].Whole = map[*reference.Node]bool{}
	f.writeAll(r, chunks)
	wantErr(t, f.ndb.CompleteRoot(f.ctx, r.root), db.ErrNotComplete)
	wantErr(t, f.ndb.Finalize(f.ctx, []node.Root{r.root}), db.ErrNotComplete)
	must(t, f.ndb.AbortMultipart(f.ctx))
	checkExact(f.ctx, t, f.ndb, newModel())
}

func TestCompleteRootHashesTheSpine(t *testing.T) {
	f := newFixture(t, nil)
	r, chunks := f.restoring(1, randomContents(f.rng, 500), 6)
	other := reference.Build(func() reference.Content {
		c := make(reference.Content)
		for k := range r.data {
			c[k] = "something else"
		}
		return c
	}())
	for i := range chunks {
		if i == 3 { // right positions, wrong values
			at := other.ByPosition()
			swapped := reference.Chunk{Whole: make(map[*reference.Node]bool)}
			for _, n := range chunks[i].Nodes {
				o := at[string(n.Position)]
				if !chunks[i].Whole[n] {
					o = n
				}
				swapped.Nodes = append(swapped.Nodes, o)
				swapped.Whole[o] = chunks[i].Whole[n]
			}
			chunks[i] = swapped
		}
	}
	f.writeAll(r, chunks)
	wantErr(t, f.ndb.CompleteRoot(f.ctx, r.root), db.ErrNotComplete)
}

func TestOverlappingChunksAreRefused(t *testing.T) {
	f := newFixture(t, nil)
	data := randomContents(f.rng, 500)
	r := &mroot{root: emptyRoot(1, node.RootTypeState), data: data, tree: reference.Build(data), restored: true}
	r.root.Hash = r.tree.RootHash()
	chunks := cut(f.rng, r.tree, 4)
	chunks = append(chunks, cut(f.rng, r.tree, 3)[1])
	must(t, f.ndb.StartMultipart(f.ctx, 1))
	must(t, f.ndb.AddMultipartRoot(f.ctx, r.root, uint64(len(chunks)), nil))
	f.writeAll(r, chunks)
	wantErr(t, f.ndb.CompleteRoot(f.ctx, r.root), db.ErrChunksOverlap)
}

// Chunks that only share a leaf that is embedded overlap, too.
func TestEmbeddedLeavesAreClaimed(t *testing.T) {
	f := newFixture(t, nil)
	data := reference.Content{"\x00": "1", "\x40": "2", "\x80": "3"} // root: (left: (leaf, leaf), right: leaf)
	r := &mroot{root: emptyRoot(1, node.RootTypeState), data: data, tree: reference.Build(data), restored: true}
	r.root.Hash = r.tree.RootHash()
	left, right := r.tree.Kids[0], r.tree.Kids[1]
	all := reference.Chunk{
		Nodes: []*reference.Node{r.tree, left, left.Kids[0], left.Kids[1], right},
		Whole: map[*reference.Node]bool{r.tree: true, left: true, left.Kids[0]: true, left.Kids[1]: true, right: true},
	}
	leaf := reference.Chunk{Nodes: []*reference.Node{r.tree, right}, Whole: map[*reference.Node]bool{right: true}}
	must(t, f.ndb.StartMultipart(f.ctx, 1))
	must(t, f.ndb.AddMultipartRoot(f.ctx, r.root, 2, nil))
	f.writeAll(r, []reference.Chunk{all, leaf})
	wantErr(t, f.ndb.CompleteRoot(f.ctx, r.root), db.ErrChunksOverlap)
}

// The same, where the chunk goes on with a partial node, and ends on its own leaf: otherwise the leaf's
// second copy would be an entry that nothing refers to, for ever.
func TestEmbeddedLeavesAreClaimedBeforePartialNodes(t *testing.T) {
	f := newFixture(t, nil)
	data := reference.Content{"\x00": "1", "\x40": "2", "\x80": "3", "\x80\x00": "4", "\x80\x80": "5"}
	r := &mroot{root: emptyRoot(1, node.RootTypeState), data: data, tree: reference.Build(data), restored: true}
	r.root.Hash = r.tree.RootHash()
	left, right := r.tree.Kids[0], r.tree.Kids[1]
	first := reference.Chunk{
		Nodes: []*reference.Node{r.tree, left, left.Kids[0], left.Kids[1], right},
		Whole: map[*reference.Node]bool{left: true, left.Kids[0]: true, left.Kids[1]: true},
	}
	second := reference.Chunk{
		Nodes: []*reference.Node{r.tree, left, left.Kids[1], right, right.Kids[0], right.Kids[1]},
		Whole: map[*reference.Node]bool{left.Kids[1]: true, right: true, right.Kids[0]: true, right.Kids[1]: true},
	}
	must(t, f.ndb.StartMultipart(f.ctx, 1))
	must(t, f.ndb.AddMultipartRoot(f.ctx, r.root, 2, nil))
	f.writeAll(r, []reference.Chunk{first, second})
	wantErr(t, f.ndb.CompleteRoot(f.ctx, r.root), db.ErrChunksOverlap)
}

// A spine of several blocks, in several writes.
func TestLongSpines(t *testing.T) {
	for _, limits := range limitSets {
		f := newFixture(t, nil)
		f.store.limits = limits
		f.reopen(nil)
		data := make(reference.Content)
		for range 3000 {
			key := make([]byte, 8)
			for i := range key {
				key[i] = byte(f.rng.Uint32())
			}
			data[string(key)] = fmt.Sprint(f.rng.Uint64())
		}
		r, chunks := f.restoring(3, data, 200)
		f.rng.Shuffle(len(chunks), func(i, j int) { chunks[i], chunks[j] = chunks[j], chunks[i] })
		f.writeAll(r, chunks)
		f.writeAll(r, chunks[:20])
		f.reopen(nil)
		must(t, f.ndb.CompleteRoot(f.ctx, r.root))
		restored(r.tree, chunks, f.addressOf(r))
		f.finalize(r)
		m := newModel()
		m.finalize([]*mroot{r})
		check(f.ctx, t, f.rng, f.ndb, m)
		checkExact(f.ctx, t, f.ndb, m)
		// Versions on top of a restored one, until nothing of it is left.
		old := r
		for v := uint64(4); v < 12; v++ {
			next := make(reference.Content)
			for k, value := range old.data {
				if f.rng.IntN(3) > 0 {
					next[k] = value
				}
			}
			old = f.commit(old, v, next)
			f.finalize(old)
			m.candidates[old.name()] = old
			m.finalize([]*mroot{old})
			must(t, f.ndb.Prune(f.ctx, v-1))
			m.prune()
			check(f.ctx, t, f.rng, f.ndb, m)
			checkExact(f.ctx, t, f.ndb, m)
		}
	}
}

func TestLargeTag(t *testing.T) {
	f := newFixture(t, nil)
	tag := make([]byte, 3<<20)
	for i := range tag {
		tag[i] = byte(f.rng.Uint32())
	}
	must(t, f.ndb.StartMultipart(f.ctx, 1))
	root := emptyRoot(1, node.RootTypeState)
	must(t, f.ndb.AddMultipartRoot(f.ctx, root, 1, tag))
	f.reopen(nil)
	mp, err := f.ndb.Multipart(f.ctx)
	must(t, err)
	if string(mp.Roots[0].Tag) != string(tag) {
		t.Fatal("the tag came back different")
	}
	must(t, writeChunk(f.ctx, f.ndb, root, &reference.Chunk{}, 0))
	must(t, f.ndb.CompleteRoot(f.ctx, root))
	must(t, f.ndb.Finalize(f.ctx, []node.Root{root}))
	checkWalk(f.ctx, t, f.ndb, root, nil, nil)
	checkExact(f.ctx, t, f.ndb, newModel())
}

// Chunks that are being written when their root is removed don't count, and leave nothing.
func TestAbortWhileChunksAreWritten(t *testing.T) {
	f := newFixture(t, nil)
	f.store.limits.PreferredBatchBytes = 1000
	f.reopen(nil)
	for round := range 8 {
		r, chunks := f.restoring(1, randomContents(f.rng, 2000), 30)
		begun := make(chan struct{}, len(chunks))
		var wg sync.WaitGroup
		for half := range 2 {
			wg.Go(func() {
				for i := half; i < len(chunks); i += 2 {
					begun <- struct{}{}
					if err := writeChunk(f.ctx, f.ndb, r.root, &chunks[i], i); err != nil {
						if !errors.Is(err, db.ErrNoMultipart) {
							t.Errorf("chunk of a root that is gone: %v", err)
						}
						return
					}
				}
			})
		}
		for range 4 + round {
			<-begun
		}
		if round%2 == 0 {
			must(t, f.ndb.AbortRoot(f.ctx, r.root))
		} else {
			must(t, f.ndb.AbortMultipart(f.ctx))
		}
		wg.Wait()
		checkExact(f.ctx, t, f.ndb, newModel())
		if mp, err := f.ndb.Multipart(f.ctx); err != nil || mp != nil && len(mp.Roots) > 0 {
			t.Fatalf("multipart insert is %v (%v)", mp, err)
		}
	}
}

func TestChunksAtTheSameTime(t *testing.T) {
	f := newFixture(t, nil)
	f.store.limits.PreferredBatchBytes = 1000
	f.reopen(nil)
	r, chunks := f.restoring(1, randomContents(f.rng, 2000), 30)
	var wg sync.WaitGroup
	for range 2 { // each chunk twice
		for half := range 2 {
			wg.Go(func() {
				for i := half; i < len(chunks); i += 2 {
					if err := writeChunk(context.Background(), f.ndb, r.root, &chunks[i], i); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	must(t, f.ndb.CompleteRoot(f.ctx, r.root))
	restored(r.tree, chunks, f.addressOf(r))
	f.finalize(r)
	m := newModel()
	m.finalize([]*mroot{r})
	check(f.ctx, t, f.rng, f.ndb, m)
	checkExact(f.ctx, t, f.ndb, m)
}
