package conformance

import (
	"github.com/ckpt-project/ckpt/conformance/reference"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// empty is the empty tree of a version and type.
func empty(t node.RootType, version uint64) *tree {
	return &tree{root: emptyRootOf(t, version), content: content{}}
}

// commit makes a tree of a version by changing an old one, and commits it.
func (e *env) commit(ndb db.NodeDB, old *tree, version uint64, c content) *tree {
	e.Helper()
	w := e.begin(ndb, old, version, c)
	e.check(w.putAll(e))
	e.check(w.batch.Commit(e.ctx, w.new.root, w.rootAddress()))
	return w.new
}

// writer is a tree on its way into a batch.
type writer struct {
	batch    db.Batch
	old, new *tree
	// put are the nodes to put, in pre-order; remove those that go.
	put, remove []*reference.Node
}

// begin begins a batch and finds out what has to go into it.
func (e *env) begin(ndb db.NodeDB, old *tree, version uint64, c content) *writer {
	e.Helper()
	batch, err := ndb.NewBatch(e.ctx, old.root, version)
	e.check(err)
	w := &writer{batch: batch, old: old, new: &tree{content: c, top: reference.Build(c)}}
	w.new.root = node.Root{Namespace: namespace, Version: version, Type: old.root.Type, Hash: w.new.top.RootHash()}
	w.put, w.remove = reference.Settle(w.new.top, old.top, batch.Address(), ndb.Info().EmbedBytes)
	return w
}

// putAll puts all there is to put as one run, then what goes, and the write log.
func (w *writer) putAll(e *env) error {
	for _, n := range w.put {
		if err := w.batch.Put(e.ctx, n.Position, n.Record()); err != nil {
			return err
		}
	}
	if err := w.batch.EndRun(e.ctx); err != nil {
		return err
	}
	return w.putRest(e)
}

// putRest puts what is no entry.
func (w *writer) putRest(e *env) error {
	for _, o := range w.remove {
		if err := w.batch.Remove(e.ctx, o.Address, o.Position); err != nil {
			return err
		}
	}
	return w.batch.PutWriteLog(e.ctx, w.old.content.Log(w.new.content))
}

func (w *writer) rootAddress() node.Address {
	if w.new.top == nil {
		return w.batch.Address()
	}
	return w.new.top.Address
}

// finalize finalizes trees of one version.
func (e *env) finalize(ndb db.NodeDB, trees ...*tree) {
	e.Helper()
	roots := make([]node.Root, len(trees))
	for i, t := range trees {
		roots[i] = t.root
	}
	e.check(ndb.Finalize(e.ctx, roots))
}

// version commits a stateType, and finalizes it.
func (e *env) version(ndb db.NodeDB, old *tree, version uint64, c content) *tree {
	e.Helper()
	t := e.commit(ndb, old, version, c)
	e.finalize(ndb, t)
	return t
}

// readable fails the case where a tree does not come back as it was written.
func (e *env) readable(ndb db.NodeDB, t *tree) {
	e.Helper()
	e.has(ndb, t.root, true)
	address, err := ndb.RootAddress(e.ctx, t.root)
	e.check(err)
	if t.top != nil && address != t.top.Address || t.top == nil && address != (node.Address{}) {
		e.Errorf("%s is at %s, and was written to another address", t.root, address)
	}
	entries, err := e.walked(ndb, t.root, nil)
	if err != nil {
		e.Errorf("walk of %s: %v", t.root, err)
	}
	e.same(t.root, entries, t.top.Entries())
}

// same fails the case where entries are not those that should have come.
func (e *env) same(root node.Root, got, want []db.Entry) {
	e.Helper()
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			e.Errorf("%s: %d entries, want %d", root, len(got), len(want))
			return
		case i >= len(want):
			e.Errorf("%s: %d entries, want %d; the first too many is at position %s", root, len(got), len(want), got[i].Position)
			return
		case !reference.SameEntry(got[i], want[i]):
			e.Errorf("%s: entry %d is %s %s %.40x, want %s %s %.40x", root, i,
				got[i].Address, got[i].Position, got[i].Record, want[i].Address, want[i].Position, want[i].Record)
			return
		}
	}
}

// adopt takes the tree of a content as the database has stored it, after a restore: where its nodes are
// is the database's choice, and which of them, and with which hashes, is not.
func (e *env) adopt(ndb db.NodeDB, root node.Root, c content) *tree {
	e.Helper()
	t := &tree{root: root, content: c, top: reference.Build(c)}
	nodes := t.top.ByPosition()
	if t.top.RootHash() != root.Hash {
		e.Fatalf("the content has hash %s, not %s", t.top.RootHash(), root.Hash)
	}
	t.top.All(func(n *reference.Node) { n.Embedded = true })
	entries, err := e.walked(ndb, root, nil)
	e.check(err)
	for _, entry := range entries {
		n := nodes[string(entry.Position)]
		if n == nil || !n.Embedded {
			e.Fatalf("%s: an entry at position %s, where no node is, or twice", root, entry.Position)
		}
		n.Address, n.Embedded = entry.Address, false
	}
	t.top.All(func(n *reference.Node) {
		if n.Embedded && (n.Parent == nil || !n.Small(ndb.Info().EmbedBytes)) {
			e.Fatalf("%s: no entry at position %s", root, n.Position)
		}
	})
	e.readable(ndb, t)
	return t
}
