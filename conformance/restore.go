package conformance

import (
	"github.com/ckpt-project/ckpt/conformance/reference"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// cut cuts a tree into about so many chunks that end at leaves.
func cut(top *reference.Node, pieces int) []reference.Chunk {
	return reference.Cut(top, func(nodes []*reference.Node, start int) int {
		end := min(start+max((len(nodes)+pieces-1)/max(pieces, 1), 1), len(nodes))
		for !nodes[end-1].Leaf {
			end++
		}
		return end
	})
}

// write writes and commits a chunk.
func (e *env) write(c reference.Chunk, ndb db.NodeDB, root node.Root, index uint64) error {
	w, err := ndb.NewChunk(e.ctx, root, index)
	if err != nil {
		return err
	}
	if err := c.Put(e.ctx, w, ndb.Info().EmbedBytes); err != nil {
		return err
	}
	return w.Commit(e.ctx, index%2 == 0)
}

// source is a tree to be restored: made elsewhere, as it were.
type source struct {
	root   node.Root
	c      content
	top    *reference.Node
	chunks []reference.Chunk
}

// newSource makes a tree of a version and cuts it.
func newSource(t node.RootType, version uint64, c content, pieces int) *source {
	top := reference.Build(c)
	root := node.Root{Namespace: namespace, Version: version, Type: t, Hash: top.RootHash()}
	return &source{root: root, c: c, top: top, chunks: cut(top, pieces)}
}

// add tells the database of the source's root.
func (s *source) add(e *env, ndb db.NodeDB) {
	e.Helper()
	e.check(ndb.AddMultipartRoot(e.ctx, s.root, uint64(len(s.chunks)), []byte("tag of "+s.root.String())))
}

// begin opens the insert of the source's version, and tells of its root.
func (s *source) begin(e *env, ndb db.NodeDB) {
	e.Helper()
	e.check(ndb.StartMultipart(e.ctx, s.root.Version))
	s.add(e, ndb)
}

// writeAll writes all chunks.
func (s *source) writeAll(e *env, ndb db.NodeDB) {
	e.Helper()
	for i, c := range s.chunks {
		e.check(e.write(c, ndb, s.root, uint64(i)))
	}
}

// restore restores a source and finalizes it.
func (e *env) restore(ndb db.NodeDB, s *source) *tree {
	e.Helper()
	s.begin(e, ndb)
	s.writeAll(e, ndb)
	return s.finish(e, ndb)
}

// finish completes and finalizes what was written, and reads it back.
func (s *source) finish(e *env, ndb db.NodeDB) *tree {
	e.Helper()
	e.check(ndb.CompleteRoot(e.ctx, s.root))
	e.check(ndb.Finalize(e.ctx, []node.Root{s.root}))
	return e.adopt(ndb, s.root, s.c)
}

// multipart fails the case where no insert of a version is open; otherwise it returns it.
func (e *env) multipart(ndb db.NodeDB, version uint64) *db.Multipart {
	e.Helper()
	m, err := ndb.Multipart(e.ctx)
	e.check(err)
	if m == nil || m.Version != version {
		e.Fatalf("the open multipart insert is %+v, want one of version %d", m, version)
	}
	return m
}

// noMultipart fails the case where an insert is open.
func (e *env) noMultipart(ndb db.NodeDB) {
	e.Helper()
	m, err := ndb.Multipart(e.ctx)
	e.check(err)
	if m != nil {
		e.Errorf("a multipart insert is open: %+v", m)
	}
}
