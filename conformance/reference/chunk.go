package reference

import (
	"context"
	"slices"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// Chunk is a part of a tree as a restore writes it: nodes in pre-order, from the root on.
type Chunk struct {
	Nodes []*Node
	// Whole are the nodes below which nothing was left out.
	Whole map[*Node]bool
}

// NewChunk makes a chunk of nodes.
func NewChunk(nodes []*Node) Chunk {
	c := Chunk{Nodes: nodes, Whole: make(map[*Node]bool)}
	in := make(map[*Node]bool)
	for _, n := range nodes {
		in[n] = true
	}
	for _, n := range slices.Backward(nodes) { // children before parents
		whole := true
		for _, kid := range n.Kids {
			whole = whole && (kid == nil || in[kid] && c.Whole[kid])
		}
		c.Whole[n] = whole
	}
	return c
}

// Cut cuts a tree's pre-order walk into chunks, each with the nodes above its first one again. end is
// given all nodes and where a chunk starts, and returns where it ends. The empty tree has one chunk.
func Cut(top *Node, end func(nodes []*Node, start int) int) (chunks []Chunk) {
	nodes := top.List()
	if len(nodes) == 0 {
		return []Chunk{{}}
	}
	for start := 0; start < len(nodes); {
		to := min(max(end(nodes, start), start+1), len(nodes))
		var part []*Node
		for n := nodes[start].Parent; n != nil; n = n.Parent {
			part = append(part, n)
		}
		slices.Reverse(part)
		chunks = append(chunks, NewChunk(append(part, nodes[start:to]...)))
		start = to
	}
	return chunks
}

// Embeds says whether a node is a leaf in its parent's record, which only whole nodes have.
func (c *Chunk) Embeds(n *Node, embedBytes int) bool {
	return n.Parent != nil && n.Small(embedBytes) && c.Whole[n.Parent]
}

// Put gives a writer the chunk's entries.
func (c *Chunk) Put(ctx context.Context, w db.ChunkWriter, embedBytes int) error {
	for _, n := range c.Nodes {
		if c.Embeds(n, embedBytes) {
			continue
		}
		record := n.RecordWith(w.Address(), func(kid *Node) node.Child {
			if c.Embeds(kid, embedBytes) {
				return kid.ChildWithin()
			}
			return kid.ChildAt(w.Address())
		})
		if err := w.Put(ctx, n.Position, record, c.Whole[n]); err != nil {
			return err
		}
	}
	return nil
}
