package reference

import (
	"bytes"
	"slices"

	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// Node is a node of a tree: a leaf, or an internal node with at least two of own leaf, left and right. A
// nil Node is the empty tree.
type Node struct {
	Leaf       bool
	Key, Value []byte // of the leaf, or of the own leaf where HasOwn
	HasOwn     bool
	Label      node.Key
	LabelBits  node.Depth
	Kids       [2]*Node
	Parent     *Node

	Position node.Position
	Depth    node.Depth // the position's bits
	End      node.Depth // of an internal node's path
	Some     node.Key   // a key at or below the node
	Hash     hash.Hash

	// What is stored: where, and whether as a part of the parent's record.
	Address  node.Address
	Embedded bool
}

// Build makes the tree of a content. Nothing in it is stored yet.
func Build(c Content) *Node { return buildBelow(c, c.Keys(), nil, 0) }

// buildBelow makes the tree of the content's keys (sorted) below a parent that ends at a depth.
func buildBelow(c Content, keys []string, parent *Node, parentEnd node.Depth) *Node {
	if len(keys) == 0 {
		return nil
	}
	first, last := node.Key(keys[0]), node.Key(keys[len(keys)-1])
	n := &Node{Parent: parent, Some: first, Depth: parentEnd}
	if parent != nil {
		n.Depth++
	}
	n.Position = node.NewPosition(last, n.Depth)
	if len(keys) == 1 {
		n.Leaf, n.Key, n.Value = true, first, []byte(c[keys[0]])
		n.Hash = node.LeafHash(n.Key, n.Value)
		return n
	}
	n.End = first.CommonPrefixLen(first.BitLength(), last, last.BitLength())
	n.Label, n.LabelBits = last.Slice(parentEnd, n.End), n.End-parentEnd
	own := hash.EmptyHash
	if first.BitLength() == n.End {
		n.HasOwn, n.Key, n.Value = true, first, []byte(c[keys[0]])
		own = node.LeafHash(n.Key, n.Value)
		keys = keys[1:]
	}
	right := slices.IndexFunc(keys, func(k string) bool { return node.Key(k).GetBit(n.End) })
	if right < 0 {
		right = len(keys)
	}
	n.Kids = [2]*Node{buildBelow(c, keys[:right], n, n.End), buildBelow(c, keys[right:], n, n.End)}
	n.Hash = node.InternalHash(n.Label, n.LabelBits, own, n.Kids[0].RootHash(), n.Kids[1].RootHash())
	return n
}

// RootHash is the hash of the tree, that of the empty one where n is nil.
func (n *Node) RootHash() hash.Hash {
	if n == nil {
		return hash.EmptyHash
	}
	return n.Hash
}

// RootAddress is where the tree's root node is, the zero address where n is nil.
func (n *Node) RootAddress() node.Address {
	if n == nil {
		return node.Address{}
	}
	return n.Address
}

// All calls f for each node in pre-order.
func (n *Node) All(f func(*Node)) {
	if n == nil {
		return
	}
	f(n)
	n.Kids[0].All(f)
	n.Kids[1].All(f)
}

// List returns all nodes in pre-order.
func (n *Node) List() (nodes []*Node) {
	n.All(func(n *Node) { nodes = append(nodes, n) })
	return nodes
}

// Stored returns the nodes that are entries of their own, in pre-order.
func (n *Node) Stored() (nodes []*Node) {
	n.All(func(n *Node) {
		if !n.Embedded {
			nodes = append(nodes, n)
		}
	})
	return nodes
}

// ByPosition returns all nodes by their positions.
func (n *Node) ByPosition() map[string]*Node {
	m := make(map[string]*Node)
	n.All(func(n *Node) { m[string(n.Position)] = n })
	return m
}

// Encoding is the node's compact encoding.
func (n *Node) Encoding() []byte {
	if n.Leaf {
		return node.AppendLeaf(nil, n.Key, n.Value)
	}
	b := node.AppendInternalHead(nil, n.Label, n.LabelBits)
	if n.HasOwn {
		return node.AppendLeaf(b, n.Key, n.Value)
	}
	return append(b, node.PrefixNilNode)
}

// Small says whether a node is a leaf that may be embedded.
func (n *Node) Small(embedBytes int) bool {
	return n.Leaf && node.LeafOverhead+len(n.Key)+len(n.Value) <= embedBytes
}

// Record is what is stored of a node that is not embedded.
func (n *Node) Record() []byte {
	return n.RecordWith(n.Address, func(kid *Node) node.Child {
		if kid.Embedded {
			return kid.ChildWithin()
		}
		return kid.ChildAt(kid.Address)
	})
}

// ChildWithin is the node, a leaf, as a child that is a part of its parent's record.
func (n *Node) ChildWithin() node.Child { return node.Child{Present: true, Embedded: n.Encoding()} }

// ChildAt is the node as a child that is stored at an address.
func (n *Node) ChildAt(a node.Address) node.Child {
	return node.Child{Present: true, Hash: n.Hash, Address: a}
}

// RecordWith is the node's record at an address, with the children as told.
func (n *Node) RecordWith(self node.Address, child func(kid *Node) node.Child) []byte {
	if n.Leaf {
		return node.AppendLeafRecord(nil, n.Encoding())
	}
	var children [2]node.Child
	for side, kid := range n.Kids {
		if kid != nil {
			children[side] = child(kid)
		}
	}
	return node.AppendInternalRecord(nil, n.Encoding(), self, &children)
}

// Entry is the node as a walk yields it.
func (n *Node) Entry() db.Entry {
	return db.Entry{Address: n.Address, Position: n.Position, Record: n.Record()}
}

// Entries are all that is stored of the tree, in pre-order.
func (n *Node) Entries() (entries []db.Entry) {
	for _, n := range n.Stored() {
		entries = append(entries, n.Entry())
	}
	return entries
}

// From returns the stored nodes that a walk from a position on yields: those on the way to it, and then
// those at it or after it.
func (n *Node) From(from node.Position) (nodes []*Node) {
	bits, depth, _ := from.Bits()
	for _, n := range n.Stored() {
		p, d, _ := n.Position.Bits()
		onTheWay := d <= depth && p.CommonPrefixLen(d, bits, depth) == d
		if onTheWay || n.Position.Compare(from) >= 0 {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// Path returns the stored nodes on the way from n to a key: those whose labels agree with it and, where there
// is one, the node after them that does not, which a path may end with or leave out.
func (n *Node) Path(key node.Key) (agree []*Node, off *Node) {
	for from := n; n != nil && !n.Embedded; {
		agrees := key.BitLength() >= n.End && key.CommonPrefixLen(n.End, n.Some, n.End) == n.End
		if n.Leaf {
			agrees = bytes.Equal(n.Key, key)
		}
		switch {
		case !agrees && n != from:
			return agree, n
		case !agrees: // the first is returned in any case
			return append(agree, n), nil
		}
		agree = append(agree, n)
		if n.Leaf || key.BitLength() == n.End {
			break
		}
		side := node.Left
		if key.GetBit(n.End) {
			side = node.Right
		}
		n = n.Kids[side]
	}
	return agree, nil
}

// SameEntry says whether two entries are the same in everything.
func SameEntry(a, b db.Entry) bool {
	return a.Address == b.Address && bytes.Equal(a.Position, b.Position) && bytes.Equal(a.Record, b.Record)
}
