package conformance

import (
	"fmt"
	"strings"

	"github.com/ckpt-project/ckpt/conformance/reference"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// tryBatch begins and ends a batch.
func (e *env) tryBatch(ndb db.NodeDB, old node.Root, version uint64) error {
	batch, err := ndb.NewBatch(e.ctx, old, version)
	if err != nil {
		return err
	}
	if a := batch.Address(); a.Version != version {
		e.Errorf("the batch of version %d has address %s", version, a)
	}
	return batch.Abort(e.ctx)
}

func batchBeginnings(e *env) {
	ndb := e.open()
	first, second := e.twoVersions(ndb)
	third := e.commit(ndb, second, 3, second.content.With("third", "a candidate"))
	invalid := emptyRootOf(node.RootTypeInvalid, 2)
	for _, c := range []struct {
		what    string
		old     node.Root
		version uint64
		want    error
	}{
		{"the latest", second.root, 3, nil},
		{"a candidate", third.root, 4, nil},
		{"nothing, of the version before", emptyRootOf(stateType, 2), 3, nil},
		{"nothing, of the same version", emptyRootOf(stateType, 3), 3, nil},
		{"nothing, for IO", emptyRootOf(ioType, 3), 3, nil},
		{"one of two versions before", first.root, 3, db.ErrRootMustFollowOld},
		{"one of the same version", third.root, 3, db.ErrRootMustFollowOld},
		{"one of a later version", third.root, 2, db.ErrAlreadyFinalized},
		{"one that is not there", unknownRootOf(stateType, 2), 3, db.ErrRootMustFollowOld},
		{"one that is finalized, in a finalized version", first.root, 2, db.ErrAlreadyFinalized},
		{"nothing, in a finalized version", emptyRootOf(stateType, 1), 1, db.ErrAlreadyFinalized},
		{"nothing, of two versions before", emptyRootOf(stateType, 1), 3, db.ErrRootMustFollowOld},
	} {
		err := e.tryBatch(ndb, c.old, c.version)
		if c.want == nil && err != nil {
			e.Errorf("a batch that begins with %s: %v", c.what, err)
		} else if c.want != nil {
			e.is("a batch that begins with "+c.what, err, c.want)
		}
	}
	e.refused("a batch of no type", e.tryBatch(ndb, invalid, 3))

	// Two of one version, at the same time.
	a, b := e.begin(ndb, second, 3, newRandom(71).content(40)), e.begin(ndb, second, 3, newRandom(72).content(40))
	if a.batch.Address() == b.batch.Address() {
		e.Errorf("two batches have the address %s", a.batch.Address())
	}
	for i := range max(len(a.put), len(b.put)) {
		for _, w := range []*writer{a, b} {
			if i < len(w.put) {
				e.check(w.batch.Put(e.ctx, w.put[i].Position, w.put[i].Record()))
			}
		}
	}
	for _, w := range []*writer{b, a} {
		e.check(w.batch.EndRun(e.ctx))
		e.check(w.putRest(e))
		e.check(w.batch.Commit(e.ctx, w.new.root, w.rootAddress()))
	}
	for _, t := range []*tree{second, third, a.new, b.new} {
		e.readable(ndb, t)
	}
}

func batchVersions(e *env) {
	ndb := e.open()
	for _, v := range []uint64{0, 1, 5, 1 << 40} { // any in an empty database
		before := v
		if v > 0 {
			before--
		}
		e.check(e.tryBatch(ndb, emptyRootOf(stateType, before), v))
		e.check(e.tryBatch(ndb, emptyRootOf(ioType, v), v))
	}
	a := e.version(ndb, empty(stateType, 6), 7, content{"a": "1"})
	b := e.commit(ndb, a, 8, content{"b": "1"})
	c := e.commit(ndb, b, 9, content{"c": "1"}) // above the next, from a candidate
	d := e.commit(ndb, c, 10, content{"d": "1"})
	x := e.commit(ndb, empty(ioType, 20), 20, content{"x": "1"})
	y := e.commit(ndb, empty(stateType, 20), 20, content{"y": "1"})
	for _, t := range []*tree{b, c, d, x, y} {
		e.readable(ndb, t)
		e.roots(ndb, t.root.Version, rootsOf(t, x, y)...)
	}
	e.finalize(ndb, b)
	e.finalize(ndb, c)
	e.readable(ndb, d)
	e.readable(ndb, x)
}

// rootsOf are those of t's version among t and others, sorted.
func rootsOf(t *tree, others ...*tree) (roots []node.Root) {
	byType := map[node.RootType]node.Root{t.root.Type: t.root}
	for _, o := range others {
		if o.root.Version == t.root.Version {
			byType[o.root.Type] = o.root
		}
	}
	for typ := stateType; typ <= node.RootTypeMax; typ++ {
		if root, ok := byType[typ]; ok {
			roots = append(roots, root)
		}
	}
	return roots
}

// severalRuns puts subtrees as soon as a tree would have hashed them: children before parents, each a run
// of its own.
func severalRuns(e *env) {
	ndb := e.open()
	r := newRandom(8)
	t := empty(stateType, 0)
	for v := uint64(1); v < 6; v++ {
		w := e.begin(ndb, t, v, r.change(t.content, 150))
		put := map[*reference.Node]bool{}
		for _, n := range w.put {
			put[n] = true
		}
		var subtree func(n *reference.Node)
		subtree = func(n *reference.Node) { // what is left of it, in one run
			if n == nil || !put[n] {
				return
			}
			delete(put, n)
			e.check(w.batch.Put(e.ctx, n.Position, n.Record()))
			subtree(n.Kids[0])
			subtree(n.Kids[1])
		}
		var visit func(n *reference.Node)
		visit = func(n *reference.Node) {
			if n == nil || n.Address != w.batch.Address() {
				return
			}
			visit(n.Kids[0])
			visit(n.Kids[1])
			if put[n] && r.IntN(4) == 0 && runIsClosed(n, put) {
				subtree(n)
				e.check(w.batch.EndRun(e.ctx))
			}
		}
		visit(w.new.top)
		// The rest, each node a run: their spans overlap nothing.
		for _, n := range w.put {
			if put[n] {
				e.check(w.batch.Put(e.ctx, n.Position, n.Record()))
				e.check(w.batch.EndRun(e.ctx))
			}
		}
		e.check(w.putRest(e))
		e.check(w.batch.Commit(e.ctx, w.new.root, w.rootAddress()))
		e.finalize(ndb, w.new)
		t = w.new
		e.readable(ndb, t)
	}
}

// runIsClosed says whether a subtree can be one run: no part of it went as a run before.
func runIsClosed(top *reference.Node, put map[*reference.Node]bool) bool {
	closed := true
	top.All(func(n *reference.Node) {
		if n.Address == top.Address && !n.Embedded && !put[n] {
			closed = false
		}
	})
	return closed
}

func largeRecords(e *env) {
	ndb := e.open()
	c := content{"small": "1"}
	for i, size := range []int{511, 512, 513, 4000, 65_536, 1 << 20, 1<<20 + 1, 5 << 20} {
		c[fmt.Sprintf("key %d", i)] = strings.Repeat(string(rune('a'+i)), size)
	}
	c["key"] = strings.Repeat("own leaf", 300_000)
	first := e.version(ndb, empty(stateType, 0), 1, c)
	e.readable(ndb, first)
	for _, key := range first.content.Keys() {
		e.pathTo(ndb, first, first.top, node.Key(key))
	}
	second := e.version(ndb, first, 2, c.With("key", "smaller"))
	e.readable(ndb, second)
	e.check(ndb.Prune(e.ctx, 1))
	e.readable(ndb, second)
}

// The order of a batch's calls is checked where it is cheap: at the call or at Commit.
func malformedEntries(e *env) {
	ndb := e.open()
	first := e.version(ndb, empty(stateType, 0), 1, content{"a": "1", "b": "2"})
	w := e.begin(ndb, first, 2, newRandom(9).content(50))
	for what, put := range map[string]func(db.Batch) error{
		"a position of no bytes": func(b db.Batch) error { return b.Put(e.ctx, nil, w.new.top.Record()) },
		"a position that is none": func(b db.Batch) error {
			return b.Put(e.ctx, node.Position{255}, w.new.top.Record())
		},
		"a record of no bytes":         func(b db.Batch) error { return b.Put(e.ctx, node.RootPosition(), nil) },
		"a record that is none":        func(b db.Batch) error { return b.Put(e.ctx, node.RootPosition(), []byte("?")) },
		"a record with bytes too many": func(b db.Batch) error { return b.Put(e.ctx, node.RootPosition(), append(w.new.top.Record(), 0)) },
		"positions that descend": func(b db.Batch) error {
			last, first := w.put[len(w.put)-1], w.put[0]
			if err := b.Put(e.ctx, last.Position, last.Record()); err != nil {
				e.Errorf("the first entry: %v", err)
			}
			return b.Put(e.ctx, first.Position, first.Record())
		},
		"an entry twice": func(b db.Batch) error {
			if err := b.Put(e.ctx, w.put[0].Position, w.put[0].Record()); err != nil {
				e.Errorf("the first entry: %v", err)
			}
			return b.Put(e.ctx, w.put[0].Position, w.put[0].Record())
		},
	} {
		batch, err := ndb.NewBatch(e.ctx, first.root, 2)
		e.check(err)
		if err = put(batch); err == nil {
			// A process on the other side of a wire may answer later.
			err = batch.Commit(e.ctx, w.new.root, batch.Address())
		}
		e.is(what, err, db.ErrMalformed)
		e.check(batch.Abort(e.ctx))
	}
	batch, err := ndb.NewBatch(e.ctx, first.root, 2)
	e.check(err)
	e.is("a root whose node was not put", batch.Commit(e.ctx, w.new.root, batch.Address()), db.ErrMalformed)
	e.check(batch.Abort(e.ctx))
	e.roots(ndb, 2)
	e.check(w.putAll(e))
	e.check(w.batch.Commit(e.ctx, w.new.root, w.rootAddress()))
	e.readable(ndb, w.new)
}

func beyondLimits(e *env) {
	e.cfg.MaxKeyBytes, e.cfg.MaxValueBytes = 20, 1000
	ndb := e.open()
	if info := ndb.Info(); info.MaxKeyBytes != 20 || info.MaxValueBytes != 1000 {
		e.Errorf("Info has limits %d and %d, want 20 and 1000", info.MaxKeyBytes, info.MaxValueBytes)
	}
	fits := content{strings.Repeat("k", 20): strings.Repeat("v", 1000), strings.Repeat("k", 19): "own leaf"}
	t := e.version(ndb, empty(stateType, 0), 1, fits)
	e.readable(ndb, t)
	for what, c := range map[string]content{
		"a key":                  {strings.Repeat("k", 21): "v", "l": "v"},
		"a key, in the root":     {strings.Repeat("k", 21): "v"},
		"a value":                {"k": strings.Repeat("v", 1001), "l": "v"},
		"an own leaf's value":    {"k": strings.Repeat("v", 1001), "kk": "v"},
		"an own leaf's long key": {strings.Repeat("k", 21): "v", strings.Repeat("k", 22): "v"},
	} {
		w := e.begin(ndb, t, 2, c)
		err := w.putAll(e)
		if err == nil {
			err = w.batch.Commit(e.ctx, w.new.root, w.rootAddress())
		}
		e.is(what+" beyond the limit", err, db.ErrLimitExceeded)
		e.check(w.batch.Abort(e.ctx))
	}
	e.roots(ndb, 2)
}

// removedEntries lets leaves move: an edge is split or joined, one becomes a node's own or ceases to be.
// What was removed goes when its version is pruned, and nothing else does.
func removedEntries(e *env) {
	ndb := e.open()
	large := strings.Repeat("large", 200)
	t := e.version(ndb, empty(stateType, 0), 1, content{"stem": large})
	for i, c := range []content{
		{"stem": large, "stem and more": large},
		{"stem": large, "stem and more": large, "st": large},
		{"stem and more": large, "st": large},
		{"stem and more": large},
		{"stem and more": large, "stem": "small", "other": large},
		{"stem": "small", "other": large},
		{"stem": large, "other": large},
		{},
		{"stem": large},
		{"stem": large},
	} {
		v := uint64(i + 2)
		t = e.version(ndb, t, v, c)
		e.check(ndb.Prune(e.ctx, v-1))
		e.readable(ndb, t)
		e.check(ndb.CollectGarbage(e.ctx, nil))
		e.sound(ndb, fmt.Sprintf("version %d alone", v)) // what was removed has gone
	}

	next := t.root.Version + 1
	for what, remove := range map[string]func(b db.Batch) error{
		"a position that is none":     func(b db.Batch) error { return b.Remove(e.ctx, t.top.Address, node.Position{255}) },
		"an entry of the batch's own": func(b db.Batch) error { return b.Remove(e.ctx, b.Address(), t.top.Position) },
		"an entry of a later version": func(b db.Batch) error {
			return b.Remove(e.ctx, node.Address{Version: next + 1}, t.top.Position)
		},
	} {
		w := e.begin(ndb, t, next, t.content)
		err := remove(w.batch)
		if err == nil { // a process on the other side of a wire may answer later
			err = w.batch.Commit(e.ctx, w.new.root, w.rootAddress())
		}
		e.is("a removal of "+what, err, db.ErrMalformed)
		e.check(w.batch.Abort(e.ctx))
	}
	e.readable(ndb, t)
}

func nothingBeforeCommit(e *env) {
	ndb := e.open()
	_, second := e.twoVersions(ndb)
	w := e.begin(ndb, second, 3, newRandom(10).content(300))
	unseen := func() {
		e.Helper()
		e.has(ndb, w.new.root, false)
		e.roots(ndb, 3)
		_, err := ndb.RootAddress(e.ctx, w.new.root)
		e.is("RootAddress", err, db.ErrRootNotFound)
		_, err = e.walked(ndb, w.new.root, nil)
		e.is("Walk", err, db.ErrRootNotFound)
	}
	unseen()
	e.check(w.putAll(e))
	unseen()
	e.refused("Finalize", ndb.Finalize(e.ctx, []node.Root{w.new.root}))
	e.check(w.batch.Commit(e.ctx, w.new.root, w.rootAddress()))
	e.readable(ndb, w.new)
	e.roots(ndb, 3, w.new.root)
	e.versions(ndb, 1, 2)
}

func sameRootAgain(e *env) {
	ndb := e.open()
	first, second := e.twoVersions(ndb)
	third := e.commit(ndb, second, 3, second.content.With("third", "version"))
	for range 2 { // as a candidate
		w := e.begin(ndb, second, 3, third.content)
		e.check(w.putAll(e))
		e.check(w.batch.Commit(e.ctx, w.new.root, w.rootAddress()))
		e.roots(ndb, 3, third.root)
		e.readable(ndb, third) // at its first address
	}
	// An empty root, twice.
	for range 2 {
		w := e.begin(ndb, second, 3, content{})
		e.check(w.putAll(e))
		e.check(w.batch.Commit(e.ctx, w.new.root, node.Address{}))
		e.readable(ndb, w.new)
	}
	e.finalize(ndb, third)
	e.readable(ndb, first)
	e.readable(ndb, third)
}

func rootsThatDontFollow(e *env) {
	ndb := e.open()
	_, second := e.twoVersions(ndb)
	w := e.begin(ndb, second, 3, second.content.With("a", "b"))
	e.check(w.putAll(e))
	for _, change := range []func(*node.Root){
		func(r *node.Root) { r.Version = 2 },
		func(r *node.Root) { r.Version = 4 },
		func(r *node.Root) { r.Type = ioType },
	} {
		root := w.new.root
		change(&root)
		w := e.begin(ndb, second, 3, w.new.content)
		e.check(w.putAll(e))
		e.is(fmt.Sprintf("commit as %s", root), w.batch.Commit(e.ctx, root, w.rootAddress()), db.ErrRootMustFollowOld)
		e.check(w.batch.Abort(e.ctx))
	}
	absent, err := ndb.NewBatch(e.ctx, second.root, 3)
	e.check(err)
	other := unknownRootOf(stateType, 3)
	e.is("commit of a root whose node was not put", absent.Commit(e.ctx, other, absent.Address()), db.ErrMalformed)
	e.check(absent.Abort(e.ctx))
	e.has(ndb, other, false)
	e.check(w.batch.Commit(e.ctx, w.new.root, w.rootAddress()))
	e.readable(ndb, w.new)
}

func committedAndReopened(e *env) {
	ndb := e.open()
	_, second := e.twoVersions(ndb)
	third := e.commit(ndb, second, 3, second.content.With("a", "candidate"))
	other := e.commit(ndb, second, 3, second.content.With("another", "candidate"))
	fourth := e.commit(ndb, third, 4, third.content.With("its", "descendant"))
	ndb = e.reopen(ndb)
	for _, t := range []*tree{second, third, other, fourth} {
		e.readable(ndb, t)
	}
	more := e.commit(ndb, second, 3, second.content.With("a third", "candidate")) // under an address of its own
	for _, t := range []*tree{third, other, more} {
		e.readable(ndb, t)
	}
	e.finalize(ndb, third)
	e.finalize(ndb, fourth)
	e.readable(ndb, fourth)
}

func committedAndKilled(e *env) {
	ndb := e.open()
	t := empty(stateType, 0)
	r := newRandom(11)
	for v := uint64(1); v < 6; v++ {
		t = e.commit(ndb, t, v, r.change(t.content, 60))
		unfinished := e.begin(ndb, t, v+1, r.content(60))
		e.check(unfinished.putAll(e))
		ndb = e.killed(ndb)
		e.readable(ndb, t)
		e.has(ndb, unfinished.new.root, false)
		e.finalize(ndb, t)
		ndb = e.killed(ndb)
		e.readable(ndb, t)
		e.versions(ndb, 1, v)
	}
}

func abortedBatch(e *env) {
	ndb := e.open()
	_, second := e.twoVersions(ndb)
	for i := range 5 {
		w := e.begin(ndb, second, 3, newRandom(uint64(12+i)).content(200))
		if i > 0 {
			e.check(w.putAll(e))
		}
		e.check(w.batch.Abort(e.ctx))
		e.check(w.batch.Abort(e.ctx))
		e.roots(ndb, 3)
		e.refused("Commit after Abort", w.batch.Commit(e.ctx, w.new.root, w.rootAddress()))
		e.has(ndb, w.new.root, false)
	}
	w := e.begin(ndb, second, 3, second.content.With("a", "b"))
	e.check(w.putAll(e))
	e.check(w.batch.Commit(e.ctx, w.new.root, w.rootAddress()))
	e.check(w.batch.Abort(e.ctx)) // does nothing
	e.readable(ndb, w.new)
	e.finalize(ndb, w.new)
	e.readable(ndb, second)
}

func leftBatch(e *env) {
	ndb := e.open()
	_, second := e.twoVersions(ndb)
	w := e.begin(ndb, second, 3, newRandom(13).content(300))
	e.check(w.putAll(e))
	ndb = e.reopen(ndb)
	e.roots(ndb, 3)
	e.has(ndb, w.new.root, false)
	third := e.version(ndb, second, 3, newRandom(14).content(300))
	e.readable(ndb, third)
	e.readable(ndb, second)
}
