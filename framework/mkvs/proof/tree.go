package proof

import (
	"iter"

	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// Kind says what is known of a node.
type Kind uint8

// The kinds of nodes.
const (
	// KindLeaf is a leaf that is included.
	KindLeaf Kind = iota + 1
	// KindInternal is an internal node that is included.
	KindInternal
	// KindHash is a node that was left out: only its hash is known.
	KindHash
)

// Own is the side of an own leaf that has a node of its own (version 1).
const Own = 2

// None is the index of an absent node.
const None int32 = -1

// Node is a node of a decoded proof.
type Node struct {
	Kind Kind
	// Side is what the node is to its parent: node.Left, node.Right, or Own. The root's is node.Left.
	Side uint8
	// Whole says that nothing at or below the node was left out.
	Whole bool
	// HasOwnLeaf says that an own leaf is in the node's encoding (version 0).
	HasOwnLeaf bool
	// unhashed counts what the decoder has to wait for before it can hash the node: parts, and its end.
	unhashed uint8
	// Depth is the number of bits of the node's position: 0 for the root, one more than the depth at
	// which the parent ends for a child, that depth itself for an own leaf.
	Depth node.Depth
	// Children are the indices of the left and the right child, None where one is absent.
	Children [2]int32
	// OwnLeaf is the index of the own leaf's node in a proof of version 1, None otherwise.
	OwnLeaf int32
	// Hash is the node's hash, computed unless the node was left out.
	Hash hash.Hash
	// parent is the parent's index, None for the root.
	parent int32
	// Encoding is the node's compact encoding as the entry held it, nil where it was left out. It lies in the
	// entry.
	Encoding []byte
}

// Compact is the node's encoding taken apart, which lies in it. It costs some nanoseconds each time, and saves
// most of the memory that a node would take. Of a node that was left out it is nothing.
func (n *Node) Compact() (c node.Compact) {
	n.parse(&c)
	return c
}

// parse takes the encoding apart, which the decoder has found to be one.
func (n *Node) parse(c *node.Compact) {
	if _, err := c.ParseV0(n.Encoding); err != nil {
		*c = node.Compact{}
	}
}

// Tree is a decoded proof: the part of a tree that it holds.
type Tree struct {
	// Nodes are the nodes in pre-order, the root first; none where the tree is empty.
	Nodes []Node
}

// Root is the hash of the tree's root.
func (t *Tree) Root() hash.Hash {
	if len(t.Nodes) == 0 {
		return hash.EmptyHash
	}
	return t.Nodes[0].Hash
}

// Positions yields the index and position of every node in pre-order, except for own leaves with nodes
// of their own (version 1), which have none. A position is valid until the next step.
func (t *Tree) Positions() iter.Seq2[int, node.Position] {
	return func(yield func(int, node.Position) bool) {
		path := make(node.Key, node.MaxKeyBytes+1)
		var position []byte
		var c node.Compact
		for i := range t.Nodes {
			n := &t.Nodes[i]
			switch from := n.labelStart(); {
			case n.Side == Own:
				continue
			case n.Kind == KindInternal:
				n.parse(&c)
				path.CopyBits(from, c.Label, c.LabelBitLength)
			case n.Depth > 0:
				path.SetBit(from, n.Side == node.Right)
			}
			position = node.AppendPosition(position[:0], path, n.Depth)
			if !yield(i, position) {
				return
			}
		}
	}
}

// labelStart is the depth at which the node's label begins: where its parent ends.
func (n *Node) labelStart() node.Depth {
	if n.Depth == 0 {
		return 0
	}
	return n.Depth - 1
}
