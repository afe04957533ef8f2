package kvdb_test

import (
	"context"
	"errors"
	"math/rand/v2"

	"github.com/ckpt-project/ckpt/conformance/reference"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// cut cuts a tree into chunks at random places.
func cut(rng *rand.Rand, tree *reference.Node, pieces int) []reference.Chunk {
	return reference.Cut(tree, func(nodes []*reference.Node, start int) int {
		return start + 1 + rng.IntN(2*len(nodes)/pieces+1)
	})
}

// writeChunk restores one chunk.
func writeChunk(ctx context.Context, ndb db.NodeDB, root node.Root, c *reference.Chunk, index int) error {
	w, err := ndb.NewChunk(ctx, root, uint64(index))
	if err != nil {
		return err
	}
	if err := c.Put(ctx, w, db.DefaultEmbedBytes); err != nil {
		return errors.Join(err, w.Abort(ctx))
	}
	if err := w.Commit(ctx, index%3 == 0); err != nil {
		return errors.Join(err, w.Abort(ctx))
	}
	return nil
}

// restored notes in a tree where a restore from chunks has put what.
func restored(tree *reference.Node, chunks []reference.Chunk, a node.Address) {
	spine := node.Address{Version: a.Version, Candidate: a.Candidate | 0x8000}
	tree.All(func(n *reference.Node) { n.Address, n.Embedded = spine, false })
	for _, c := range chunks {
		for _, n := range c.Nodes {
			if !c.Whole[n] {
				continue
			}
			n.Address = a
			for _, k := range n.Kids {
				if k != nil {
					k.Embedded = k.Small(db.DefaultEmbedBytes)
				}
			}
		}
	}
}
