package kvdb_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// tchunk is a chunk of the tests' tree: a run of it in pre-order, and the nodes above its first one.
type tchunk struct {
	nodes []*tnode
	whole map[*tnode]bool
}

// cut cuts a tree into chunks at random places.
func cut(rng *rand.Rand, tree *tnode, pieces int) (chunks []tchunk) {
	var nodes []*tnode
	tree.all(func(n *tnode) { nodes = append(nodes, n) })
	if len(nodes) == 0 {
		return []tchunk{{}}
	}
	parents := make(map[*tnode]*tnode)
	tree.all(func(n *tnode) {
		for _, k := range n.kids {
			if k != nil {
				parents[k] = n
			}
		}
	})
	for at := 0; at < len(nodes); {
		to := at + 1 + rng.IntN(2*len(nodes)/pieces+1)
		to = min(to, len(nodes))
		var c tchunk
		for n := parents[nodes[at]]; n != nil; n = parents[n] {
			c.nodes = append(c.nodes, n)
		}
		slices.Reverse(c.nodes)
		c.nodes = append(c.nodes, nodes[at:to]...)
		c.whole = make(map[*tnode]bool)
		in := make(map[*tnode]bool)
		for _, n := range c.nodes {
			in[n] = true
		}
		for _, n := range slices.Backward(c.nodes) {
			c.whole[n] = true
			for _, k := range n.kids {
				if k != nil && !(in[k] && c.whole[k]) {
					c.whole[n] = false
				}
			}
		}
		chunks = append(chunks, c)
		at = to
	}
	return chunks
}

// write restores one chunk.
func (c *tchunk) write(ctx context.Context, ndb db.NodeDB, root node.Root, index int) error {
	w, err := ndb.NewChunk(ctx, root, uint64(index))
	if err != nil {
		return err
	}
	if err := c.put(ctx, w); err != nil {
		return errors.Join(err, w.Abort(ctx))
	}
	if err := w.Commit(ctx, index%3 == 0); err != nil {
		return errors.Join(err, w.Abort(ctx))
	}
	return nil
}

// put puts a chunk's nodes. Whole nodes embed their small leaves.
func (c *tchunk) put(ctx context.Context, w db.ChunkWriter) error {
	embedded := make(map[*tnode]bool)
	for _, n := range c.nodes {
		for _, k := range n.kids {
			if k != nil && c.whole[n] && k.leaf != nil && k.encodedSize() <= db.DefaultEmbedBytes {
				embedded[k] = true
			}
		}
	}
	for _, n := range c.nodes {
		if embedded[n] {
			continue
		}
		record := n.recordWith(w.Address(), func(k *tnode) (bool, node.Address) { return embedded[k], w.Address() })
		if err := w.Put(ctx, n.position, record, c.whole[n]); err != nil {
			return err
		}
	}
	return nil
}

// restored notes in a tree where a restore from chunks has put what.
func restored(tree *tnode, chunks []tchunk, a node.Address) {
	spine := node.Address{Version: a.Version, Candidate: a.Candidate | 0x8000}
	tree.all(func(n *tnode) { n.address, n.embedded = spine, false })
	for _, c := range chunks {
		for _, n := range c.nodes {
			if !c.whole[n] {
				continue
			}
			n.address = a
			for _, k := range n.kids {
				if k != nil {
					k.embedded = k.leaf != nil && k.encodedSize() <= db.DefaultEmbedBytes
				}
			}
		}
	}
}
