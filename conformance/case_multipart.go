package conformance

import (
	"bytes"
	"slices"
	"sync"

	"github.com/ckpt-project/ckpt/conformance/reference"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

func startMultipart(e *env) {
	ndb := e.open()
	e.noMultipart(ndb)
	e.twoVersions(ndb)
	for _, v := range []uint64{0, 1, 2} {
		e.is("start of a version that is not above the latest", ndb.StartMultipart(e.ctx, v), db.ErrInvalidMultipartVersion)
	}
	e.noMultipart(ndb)
	e.check(ndb.StartMultipart(e.ctx, 7))
	e.check(ndb.StartMultipart(e.ctx, 7))
	e.is("start of another version", ndb.StartMultipart(e.ctx, 8), db.ErrMultipartInProgress)
	if m := e.multipart(ndb, 7); len(m.Roots) != 0 {
		e.Errorf("an insert that has just begun has roots: %+v", m)
	}
	if ndb.Info().Capabilities.Durable {
		ndb = e.reopen(ndb)
		e.multipart(ndb, 7)
	}
	e.check(ndb.AbortMultipart(e.ctx))
	e.noMultipart(ndb)
	e.check(ndb.StartMultipart(e.ctx, 8))
}

func multipartRoots(e *env) {
	ndb := e.open()
	r := newRandom(40)
	s := newSource(stateType, 5, r.content(40), 3)
	root, chunks := s.root, uint64(len(s.chunks))
	e.is("a root where nothing is open", ndb.AddMultipartRoot(e.ctx, root, chunks, nil), db.ErrNoMultipart)
	_, err := ndb.NewChunk(e.ctx, root, 0)
	e.is("a chunk where nothing is open", err, db.ErrNoMultipart)
	e.is("completing where nothing is open", ndb.CompleteRoot(e.ctx, root), db.ErrNoMultipart)
	e.check(ndb.StartMultipart(e.ctx, 5))
	_, err = ndb.NewChunk(e.ctx, root, 0)
	e.is("a chunk of a root that is not told of", err, db.ErrNoMultipart)
	e.is("completing a root that is not told of", ndb.CompleteRoot(e.ctx, root), db.ErrNoMultipart)

	tag := bytes.Repeat([]byte("any bytes\x00\xff"), 5000)
	e.check(ndb.AddMultipartRoot(e.ctx, root, chunks, tag))
	e.check(ndb.AddMultipartRoot(e.ctx, root, chunks, tag))
	e.is("another number of chunks", ndb.AddMultipartRoot(e.ctx, root, chunks+1, tag), db.ErrMultipartInProgress)
	e.is("another tag", ndb.AddMultipartRoot(e.ctx, root, chunks, []byte("another")), db.ErrMultipartInProgress)
	other := root
	other.Version = 6
	e.refused("a root of another version", ndb.AddMultipartRoot(e.ctx, other, 1, nil))
	e.check(ndb.AddMultipartRoot(e.ctx, emptyRootOf(ioType, 5), 1, nil))

	m := e.multipart(ndb, 5)
	if len(m.Roots) != 2 || m.Roots[0].Root != root || m.Roots[1].Root != emptyRootOf(ioType, 5) {
		e.Fatalf("the insert's roots are %+v", m.Roots)
	}
	if got := m.Roots[0]; got.Chunks != chunks || !bytes.Equal(got.Tag, tag) || len(got.Done) != 0 || got.Complete {
		e.Errorf("the root is told of as %d chunks, a tag of %d bytes, %d done, complete %t",
			got.Chunks, len(got.Tag), len(got.Done), got.Complete)
	}
	_, err = ndb.NewChunk(e.ctx, root, chunks)
	e.refused("a chunk beyond the last", err)

	s.writeAll(e, ndb)
	e.check(e.write(reference.Chunk{}, ndb, emptyRootOf(ioType, 5), 0))
	e.check(ndb.CompleteRoot(e.ctx, root))
	e.check(ndb.CompleteRoot(e.ctx, emptyRootOf(ioType, 5)))
	e.check(ndb.Finalize(e.ctx, []node.Root{root, emptyRootOf(ioType, 5)}))
	e.adopt(ndb, root, s.c)
	e.readable(ndb, empty(ioType, 5))
	e.noMultipart(ndb)
}

// someContents are contents of all shapes.
func someContents() map[string]content {
	r := newRandom(41)
	prefixes := content{}
	for i := range 150 {
		prefixes[string(bytes.Repeat([]byte{0xa5}, i))] = r.value()
	}
	return map[string]content{
		"nothing":           {},
		"one pair":          {"only": "one"},
		"one large pair":    {"only": string(make([]byte, 10_000))},
		"two pairs":         {"a": "1", "b": "2"},
		"an own leaf alone": {"": "own", "\x80": "right"},
		"prefixes":          prefixes,
		"many pairs":        r.content(400),
	}
}

func chunksInAnyOrder(e *env) {
	r := newRandom(42)
	for name, c := range someContents() {
		for _, pieces := range []int{1, 2, 7, 1000} {
			ndb := newEnv(e.trial, e.h).open() // a fresh database each
			s := newSource(stateType, 9, c, pieces)
			s.begin(e, ndb)
			order := r.Perm(len(s.chunks))
			order = append(order, order[:len(order)/3]...) // some twice
			for _, i := range order {
				if err := e.write(s.chunks[i], ndb, s.root, uint64(i)); err != nil {
					e.Fatalf("%s in %d chunks: chunk %d: %v", name, len(s.chunks), i, err)
				}
			}
			s.finish(e, ndb)
			e.versions(ndb, 9, 9)
			e.check(ndb.Close(e.ctx))
			if e.Failed() {
				e.Fatalf("%s in %d chunks", name, len(s.chunks))
			}
		}
	}
}

func chunksAtOnce(e *env) {
	ndb := e.open()
	s := newSource(stateType, 9, newRandom(43).content(600), 40)
	s.begin(e, ndb)
	var open []db.ChunkWriter // at the same time in any case, whoever is faster below
	for _, i := range []int{3, 0, 3, 7} {
		w, err := ndb.NewChunk(e.ctx, s.root, uint64(i))
		e.check(err)
		open = append(open, w)
		e.check(s.chunks[i].Put(e.ctx, w, ndb.Info().EmbedBytes))
	}
	for _, w := range open {
		e.check(w.Commit(e.ctx, false))
	}
	e.done(ndb, 9, 0, 3, 7)
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			e.guarded(func() {
				for i := range s.chunks {
					if i%4 == w || i%7 == w { // some are written by two at once
						if err := e.write(s.chunks[i], ndb, s.root, uint64(i)); err != nil {
							e.Errorf("chunk %d: %v", i, err)
							return
						}
					}
				}
			})
		})
	}
	writers.Wait()
	if !e.Failed() {
		s.finish(e, ndb)
	}
}

func malformedChunks(e *env) {
	ndb := e.open()
	s := newSource(stateType, 9, newRandom(44).content(100), 1)
	s.begin(e, ndb)
	top := s.top
	for what, put := range map[string]func(w db.ChunkWriter) error{
		"a position that is none": func(w db.ChunkWriter) error {
			return w.Put(e.ctx, node.Position{255}, []byte("?"), true)
		},
		"a record that is none": func(w db.ChunkWriter) error {
			return w.Put(e.ctx, node.RootPosition(), []byte("?"), true)
		},
		"positions that descend": func(w db.ChunkWriter) error {
			record := top.RecordWith(w.Address(), func(kid *reference.Node) node.Child {
				return node.Child{Present: true, Hash: kid.Hash, Address: w.Address()}
			})
			for _, p := range []node.Position{top.Kids[1].Position, top.Position} {
				if err := w.Put(e.ctx, p, record, false); err != nil {
					return err
				}
			}
			return nil
		},
	} {
		w, err := ndb.NewChunk(e.ctx, s.root, 0)
		e.check(err)
		if err = put(w); err == nil {
			err = w.Commit(e.ctx, true)
		}
		e.is(what, err, db.ErrMalformed)
		e.check(w.Abort(e.ctx))
	}
	_, err := ndb.NewChunk(e.ctx, unknownRootOf(stateType, 9), 0)
	e.is("a chunk of a root that nobody told of", err, db.ErrNoMultipart)
	if m := e.multipart(ndb, 9); len(m.Roots[0].Done) != 0 {
		e.Errorf("chunks that were refused have marks: %d", m.Roots[0].Done)
	}
	s.writeAll(e, ndb)
	s.finish(e, ndb)
}

// done fails the case where the marks of the insert's only root are not these.
func (e *env) done(ndb db.NodeDB, version uint64, want ...uint64) {
	e.Helper()
	if m := e.multipart(ndb, version); len(m.Roots) != 1 || !slices.Equal(m.Roots[0].Done, want) {
		e.Errorf("the insert is %+v, want marks %d", m.Roots, want)
	}
}

func chunkMarks(e *env) {
	ndb := e.open()
	s := newSource(stateType, 9, newRandom(45).content(200), 6)
	s.begin(e, ndb)
	e.done(ndb, 9)
	e.check(e.write(s.chunks[4], ndb, s.root, 4))
	e.done(ndb, 9, 4)
	e.check(e.write(s.chunks[1], ndb, s.root, 1))
	e.done(ndb, 9, 1, 4)
	e.check(e.write(s.chunks[4], ndb, s.root, 4))
	e.done(ndb, 9, 1, 4)

	w, err := ndb.NewChunk(e.ctx, s.root, 2) // one that is not committed
	e.check(err)
	e.check(s.chunks[2].Put(e.ctx, w, ndb.Info().EmbedBytes))
	e.done(ndb, 9, 1, 4)
	e.check(w.Abort(e.ctx))
	e.check(w.Abort(e.ctx))
	e.refused("Commit after Abort", w.Commit(e.ctx, true))
	e.done(ndb, 9, 1, 4)
	e.check(ndb.Sync(e.ctx))
	e.is("CompleteRoot", ndb.CompleteRoot(e.ctx, s.root), db.ErrNotComplete)
	s.writeAll(e, ndb)
	s.finish(e, ndb)
}

func chunkMarksSurvive(e *env) {
	marksSurvive(e, e.reopen)
}

func chunkMarksSurviveKill(e *env) {
	marksSurvive(e, e.killed)
}

// marksSurvive opens the database again between and within the chunks of a restore.
func marksSurvive(e *env, again func(db.NodeDB) db.NodeDB) {
	ndb := e.open()
	_, second := e.twoVersions(ndb)
	s := newSource(stateType, 9, newRandom(46).content(200), 6)
	s.begin(e, ndb)
	var done []uint64
	for i := range s.chunks {
		w, err := ndb.NewChunk(e.ctx, s.root, uint64(i))
		e.check(err)
		e.check(s.chunks[i].Put(e.ctx, w, ndb.Info().EmbedBytes))
		ndb = again(ndb) // what wasn't committed is gone
		e.done(ndb, 9, done...)
		e.check(e.write(s.chunks[i], ndb, s.root, uint64(i)))
		done = append(done, uint64(i))
		ndb = again(ndb)
		e.done(ndb, 9, done...)
	}
	if tag := e.multipart(ndb, 9).Roots[0].Tag; string(tag) != "tag of "+s.root.String() {
		e.Errorf("the tag has become %q", tag)
	}
	e.check(ndb.CompleteRoot(e.ctx, s.root))
	ndb = again(ndb)
	if !e.multipart(ndb, 9).Roots[0].Complete {
		e.Errorf("the root is not complete any more")
	}
	t := s.finish(e, ndb)
	ndb = again(ndb)
	e.readable(ndb, t)
	e.readable(ndb, second)
	e.noMultipart(ndb)
}

func incompleteRoot(e *env) {
	ndb := e.open()
	s := newSource(stateType, 9, newRandom(47).content(200), 5)
	incomplete := func(what string) {
		e.Helper()
		e.is(what, ndb.CompleteRoot(e.ctx, s.root), db.ErrNotComplete)
		e.is(what+", Finalize", ndb.Finalize(e.ctx, []node.Root{s.root}), db.ErrNotComplete)
		if e.multipart(ndb, 9).Roots[0].Complete {
			e.Errorf("%s: it is said to be complete", what)
		}
		e.has(ndb, s.root, false)
	}
	s.begin(e, ndb)
	incomplete("no chunk")
	for i := range s.chunks[1:] {
		e.check(e.write(s.chunks[i+1], ndb, s.root, uint64(i+1)))
	}
	incomplete("one chunk missing")
	for _, c := range []reference.Chunk{
		{Nodes: s.top.List()[:1]}, // nothing but the root, and nothing of it whole
		{},
	} {
		e.check(ndb.AbortRoot(e.ctx, s.root))
		s.add(e, ndb)
		for i := range s.chunks {
			if i != 2 {
				e.check(e.write(s.chunks[i], ndb, s.root, uint64(i)))
			}
		}
		if c.Nodes != nil {
			c = reference.NewChunk(c.Nodes)
		}
		if err := e.write(c, ndb, s.root, 2); err != nil {
			e.is("a chunk of nothing", err, db.ErrMalformed)
			continue // refused at once: as well
		}
		incomplete("a chunk that proves nothing")
	}
	// A whole node that is missing in between, although each chunk has its mark.
	e.check(ndb.AbortRoot(e.ctx, s.root))
	s.add(e, ndb)
	for i, c := range s.chunks {
		if i == 3 {
			c = withoutLastWhole(c)
		}
		e.check(e.write(c, ndb, s.root, uint64(i)))
	}
	incomplete("a node missing")

	e.check(ndb.AbortRoot(e.ctx, s.root))
	s.add(e, ndb)
	s.writeAll(e, ndb)
	s.finish(e, ndb)
}

// withoutLastWhole leaves out the last subtree of a chunk that is whole while its parent is not.
func withoutLastWhole(c reference.Chunk) reference.Chunk {
	for i := len(c.Nodes) - 1; i > 0; i-- {
		if n := c.Nodes[i]; c.Whole[n] && !c.Whole[n.Parent] {
			return reference.NewChunk(c.Nodes[:i])
		}
	}
	return c
}

func overlappingChunks(e *env) {
	ndb := e.open()
	s := newSource(stateType, 9, newRandom(48).content(200), 4)
	s.begin(e, ndb)
	s.writeAll(e, ndb)
	// A piece that another chunk has, too, in the place of the last.
	last := uint64(len(s.chunks) - 1)
	e.check(ndb.AbortRoot(e.ctx, s.root))
	s.add(e, ndb)
	for i, c := range s.chunks {
		if uint64(i) == last {
			nodes := s.top.List()
			first := slices.Index(nodes, s.chunks[2].Nodes[len(s.chunks[2].Nodes)-1])
			var above []*reference.Node
			for n := nodes[first].Parent; n != nil; n = n.Parent {
				above = append([]*reference.Node{n}, above...)
			}
			c = reference.NewChunk(append(above, nodes[first:]...))
		}
		e.check(e.write(c, ndb, s.root, uint64(i)))
	}
	e.is("CompleteRoot", ndb.CompleteRoot(e.ctx, s.root), db.ErrChunksOverlap)
	e.is("Finalize", ndb.Finalize(e.ctx, []node.Root{s.root}), db.ErrNotComplete)
	e.check(ndb.AbortRoot(e.ctx, s.root))
	s.add(e, ndb)
	s.writeAll(e, ndb)
	s.finish(e, ndb)
}

func nothingBeforeFinalize(e *env) {
	ndb := e.open()
	_, second := e.twoVersions(ndb)
	s := newSource(stateType, 3, newRandom(49).content(200), 4)
	unseen := func() {
		e.Helper()
		e.has(ndb, s.root, false)
		e.roots(ndb, 3)
		e.versions(ndb, 1, 2)
		_, err := ndb.RootAddress(e.ctx, s.root)
		e.is("RootAddress", err, db.ErrRootNotFound)
		_, err = e.walked(ndb, s.root, nil)
		e.is("Walk", err, db.ErrRootNotFound)
	}
	s.begin(e, ndb)
	s.writeAll(e, ndb)
	unseen()
	e.is("Finalize before CompleteRoot", ndb.Finalize(e.ctx, []node.Root{s.root}), db.ErrNotComplete)
	e.check(ndb.CompleteRoot(e.ctx, s.root))
	e.check(ndb.CompleteRoot(e.ctx, s.root))
	unseen()
	if !e.multipart(ndb, 3).Roots[0].Complete {
		e.Errorf("the root is not said to be complete")
	}
	e.readable(ndb, second)
	s.finish(e, ndb)
	e.versions(ndb, 1, 3)
	e.noMultipart(ndb)
	e.readable(ndb, second)
}

func twoRootsRestored(e *env) {
	ndb := e.open()
	r := newRandom(50)
	s, x := newSource(stateType, 6, r.content(150), 5), newSource(ioType, 6, r.content(60), 3)
	s.begin(e, ndb)
	x.add(e, ndb)
	for i := range max(len(s.chunks), len(x.chunks)) {
		if i < len(x.chunks) {
			e.check(e.write(x.chunks[i], ndb, x.root, uint64(i)))
		}
		if i < len(s.chunks) {
			e.check(e.write(s.chunks[i], ndb, s.root, uint64(i)))
		}
	}
	e.check(ndb.CompleteRoot(e.ctx, s.root))
	e.is("finalize with one root complete", ndb.Finalize(e.ctx, []node.Root{s.root, x.root}), db.ErrNotComplete)
	e.check(ndb.CompleteRoot(e.ctx, x.root))
	e.check(ndb.Finalize(e.ctx, []node.Root{s.root, x.root}))
	e.check(ndb.Finalize(e.ctx, []node.Root{s.root, x.root}))
	e.roots(ndb, 6, s.root, x.root)
	e.adopt(ndb, s.root, s.c)
	e.adopt(ndb, x.root, x.c)
	e.noMultipart(ndb)
}

// versionsOnTop goes on above a restored version, whose nodes lie where the database wants them.
func versionsOnTop(e *env) {
	r := newRandom(51)
	for i, pieces := range []int{1, 5, 60} {
		ndb := newEnv(e.trial, e.h).open()
		if i > 0 {
			e.twoVersions(ndb)
		}
		t := e.restore(ndb, newSource(stateType, 10, r.content(200), pieces))
		for v := uint64(11); v < 25; v++ {
			t = e.version(ndb, t, v, r.change(t.content, 25))
			e.readable(ndb, t)
			if v%3 == 0 {
				for earliest := e.earliest(ndb); earliest < v-2; earliest = e.earliest(ndb) {
					e.check(ndb.Prune(e.ctx, earliest))
				}
				e.readable(ndb, t)
			}
		}
		e.check(ndb.Close(e.ctx))
	}
}

func (e *env) earliest(ndb db.NodeDB) uint64 {
	e.Helper()
	v, _, err := ndb.GetEarliestVersion(e.ctx)
	e.check(err)
	return v
}

func abortRoot(e *env) {
	ndb := e.open()
	r := newRandom(52)
	s, x := newSource(stateType, 6, r.content(150), 5), newSource(ioType, 6, r.content(60), 3)
	e.check(ndb.AbortRoot(e.ctx, s.root)) // nothing is open
	s.begin(e, ndb)
	e.check(ndb.AbortRoot(e.ctx, x.root)) // nothing of this root is
	x.add(e, ndb)
	s.writeAll(e, ndb)
	x.writeAll(e, ndb)
	e.check(ndb.CompleteRoot(e.ctx, x.root))
	late, err := ndb.NewChunk(e.ctx, s.root, 0) // is committed when the root has gone, and come again
	e.check(err)
	e.check(s.chunks[0].Put(e.ctx, late, ndb.Info().EmbedBytes))
	e.check(ndb.AbortRoot(e.ctx, s.root))
	if m := e.multipart(ndb, 6); len(m.Roots) != 1 || m.Roots[0].Root != x.root || !m.Roots[0].Complete {
		e.Errorf("after an abort of one root the insert is %+v", m)
	}
	e.refused("finalize of a root that was aborted", ndb.Finalize(e.ctx, []node.Root{s.root, x.root}))

	// Another root of the type in its place, and then that is aborted for the first one.
	other := newSource(stateType, 6, r.content(100), 4)
	other.add(e, ndb)
	e.check(e.write(other.chunks[1], ndb, other.root, 1))
	e.check(ndb.AbortRoot(e.ctx, other.root))
	s.add(e, ndb)
	e.is("a chunk that was begun before an abort", late.Commit(e.ctx, true), db.ErrNoMultipart)
	e.check(late.Abort(e.ctx))
	if m := e.multipart(ndb, 6); len(m.Roots) != 2 || len(m.Roots[1].Done) != 0 {
		e.Errorf("a root that was aborted and told of again is %+v", m)
	}
	s.writeAll(e, ndb)
	e.check(ndb.CompleteRoot(e.ctx, s.root))
	e.check(ndb.Finalize(e.ctx, []node.Root{s.root, x.root}))
	e.adopt(ndb, s.root, s.c)
	e.adopt(ndb, x.root, x.c)
}

func abortMultipart(e *env) {
	ndb := e.open()
	_, second := e.twoVersions(ndb)
	e.check(ndb.AbortMultipart(e.ctx)) // nothing is open
	s := newSource(stateType, 6, newRandom(53).content(150), 5)
	for round := range 3 {
		s.begin(e, ndb)
		for i, c := range s.chunks[:2+round] {
			e.check(e.write(c, ndb, s.root, uint64(i)))
		}
		w, err := ndb.NewChunk(e.ctx, s.root, 4)
		e.check(err)
		e.check(ndb.AbortMultipart(e.ctx))
		err = s.chunks[4].Put(e.ctx, w, ndb.Info().EmbedBytes)
		if err == nil {
			err = w.Commit(e.ctx, true)
		}
		e.is("a chunk of an insert that was aborted", err, db.ErrNoMultipart)
		e.check(w.Abort(e.ctx))
		e.noMultipart(ndb)
		e.has(ndb, s.root, false)
		e.is("CompleteRoot", ndb.CompleteRoot(e.ctx, s.root), db.ErrNoMultipart)
	}
	e.readable(ndb, second)
	third := e.version(ndb, second, 3, second.content.With("life", "goes on"))
	e.check(ndb.Prune(e.ctx, 1))
	e.readable(ndb, third)
	e.restore(ndb, s)
}
