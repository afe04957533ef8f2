package conformance

import (
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// chunk is a part of a tree, as a restore writes it: nodes in pre-order, from the root on.
type chunk struct {
	nodes []*tnode
	// whole are the nodes below which nothing was left out.
	whole map[*tnode]bool
}

// cut cuts a tree into about so many chunks: pieces of the pre-order walk that end at leaves, each with
// the nodes above its first one again.
func cut(top *tnode, pieces int) (chunks []chunk) {
	nodes := top.list()
	size := (len(nodes) + pieces - 1) / max(pieces, 1)
	for start := 0; start < len(nodes); {
		end := min(start+max(size, 1), len(nodes))
		for !nodes[end-1].leaf {
			end++
		}
		var above []*tnode
		for n := nodes[start].parent; n != nil; n = n.parent {
			above = append([]*tnode{n}, above...)
		}
		chunks = append(chunks, newChunk(append(above, nodes[start:end]...)))
		start = end
	}
	if len(nodes) == 0 {
		chunks = append(chunks, chunk{}) // the empty tree's one chunk
	}
	return chunks
}

func newChunk(nodes []*tnode) chunk {
	c := chunk{nodes: nodes, whole: map[*tnode]bool{}}
	in := map[*tnode]bool{}
	for _, n := range nodes {
		in[n] = true
	}
	for i := len(nodes) - 1; i >= 0; i-- { // children before parents
		n := nodes[i]
		whole := true
		for _, kid := range n.kids {
			whole = whole && (kid == nil || in[kid] && c.whole[kid])
		}
		c.whole[n] = whole
	}
	return c
}

// put gives a writer the chunk's entries.
func (c chunk) put(e *env, w db.ChunkWriter, embedBytes int) error {
	for _, n := range c.nodes {
		if c.embeds(n, embedBytes) {
			continue
		}
		record := n.recordWith(w.Address(), func(kid *tnode) node.Child {
			if c.embeds(kid, embedBytes) {
				return node.Child{Present: true, Embedded: kid.encoding()}
			}
			return node.Child{Present: true, Hash: kid.hash, Address: w.Address()}
		})
		if err := w.Put(e.ctx, n.position, record, c.whole[n]); err != nil {
			return err
		}
	}
	return nil
}

// embeds says whether a node is a leaf in its parent's record, which only whole nodes have.
func (c chunk) embeds(n *tnode, embedBytes int) bool {
	return n.parent != nil && n.small(embedBytes) && c.whole[n.parent]
}

// write writes and commits a chunk.
func (c chunk) write(e *env, ndb db.NodeDB, root node.Root, index uint64) error {
	w, err := ndb.NewChunk(e.ctx, root, index)
	if err != nil {
		return err
	}
	if err := c.put(e, w, ndb.Info().EmbedBytes); err != nil {
		return err
	}
	return w.Commit(e.ctx, index%2 == 0)
}

// source is a tree to be restored: made elsewhere, as it were.
type source struct {
	root   node.Root
	c      content
	top    *tnode
	chunks []chunk
}

// newSource makes a tree of a version and cuts it.
func newSource(t node.RootType, version uint64, c content, pieces int) *source {
	top := build(c)
	root := node.Root{Namespace: namespace, Version: version, Type: t, Hash: hashOf(top)}
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
		e.check(c.write(e, ndb, s.root, uint64(i)))
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
