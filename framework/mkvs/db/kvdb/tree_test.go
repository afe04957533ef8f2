package kvdb_test

import (
	"bytes"
	"maps"
	"slices"

	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// The tests' own tree: built from sorted keys at once, it shares with an older tree what is the same,
// and knows what is stored where. It shares no code with the real one.

type pair struct{ key, value []byte }

// tnode is a node of the tests' tree, and where it is stored.
type tnode struct {
	position node.Position
	leaf     *pair
	label    node.Key
	bits     node.Depth
	own      *pair
	kids     [2]*tnode
	hash     hash.Hash
	address  node.Address
	embedded bool
}

type contents map[string]string

func (c contents) sorted() []pair {
	pairs := make([]pair, 0, len(c))
	for _, k := range slices.Sorted(maps.Keys(c)) {
		pairs = append(pairs, pair{[]byte(k), []byte(c[k])})
	}
	return pairs
}

// build makes the tree of contents; nil for none.
func build(c contents) *tnode {
	pairs := c.sorted()
	if len(pairs) == 0 {
		return nil
	}
	return buildBelow(pairs, 0, true)
}

func buildBelow(pairs []pair, parentEnd node.Depth, root bool) *tnode {
	first, last := node.Key(pairs[0].key), node.Key(pairs[len(pairs)-1].key)
	depth := parentEnd + 1
	if root {
		depth = 0
	}
	n := &tnode{position: node.NewPosition(first, min(depth, first.BitLength()))}
	if depth > first.BitLength() {
		panic("the key ends above its node")
	}
	if len(pairs) == 1 {
		n.leaf, n.hash = &pairs[0], node.LeafHash(pairs[0].key, pairs[0].value)
		return n
	}
	end := first.CommonPrefixLen(first.BitLength(), last, last.BitLength())
	n.label, n.bits = first.Slice(parentEnd, end), end-parentEnd
	own := hash.EmptyHash
	if first.BitLength() == end {
		n.own, pairs = &pairs[0], pairs[1:]
		own = node.LeafHash(n.own.key, n.own.value)
	}
	split := slices.IndexFunc(pairs, func(p pair) bool { return node.Key(p.key).GetBit(end) })
	if split < 0 {
		split = len(pairs)
	}
	hashes := [2]hash.Hash{hash.EmptyHash, hash.EmptyHash}
	for side, half := range [2][]pair{pairs[:split], pairs[split:]} {
		if len(half) > 0 {
			n.kids[side] = buildBelow(half, end, false)
			hashes[side] = n.kids[side].hash
		}
	}
	n.hash = node.InternalHash(n.label, n.bits, own, hashes[0], hashes[1])
	return n
}

func (n *tnode) encodedSize() int { return node.LeafOverhead + len(n.leaf.key) + len(n.leaf.value) }

// settle stores what an older tree does not have at an address, and takes the rest from there.
func settle(n *tnode, old map[string]*tnode, a node.Address) *tnode {
	if n == nil {
		return nil
	}
	if o := old[string(n.position)]; o != nil && o.hash == n.hash {
		return o
	}
	for side := range n.kids {
		n.kids[side] = settle(n.kids[side], old, a)
	}
	n.address = a
	n.embedded = n.leaf != nil && !n.position.IsRoot() && n.encodedSize() <= db.DefaultEmbedBytes
	return n
}

// all calls f with all nodes in pre-order, embedded ones included.
func (n *tnode) all(f func(n *tnode)) {
	if n == nil {
		return
	}
	f(n)
	n.kids[0].all(f)
	n.kids[1].all(f)
}

// byPosition indexes all nodes.
func (n *tnode) byPosition() map[string]*tnode {
	m := make(map[string]*tnode)
	n.all(func(n *tnode) { m[string(n.position)] = n })
	return m
}

// stored returns the nodes that are entries, in pre-order.
func (n *tnode) stored() (out []*tnode) {
	n.all(func(n *tnode) {
		if !n.embedded {
			out = append(out, n)
		}
	})
	return out
}

func (n *tnode) encoding() []byte {
	if n.leaf != nil {
		return node.AppendLeaf(nil, n.leaf.key, n.leaf.value)
	}
	b := node.AppendInternalHead(nil, n.label, n.bits)
	if n.own == nil {
		return append(b, node.PrefixNilNode)
	}
	return node.AppendLeaf(b, n.own.key, n.own.value)
}

// record is what is stored of the node at its address.
func (n *tnode) record() []byte {
	return n.recordWith(n.address, func(k *tnode) (bool, node.Address) { return k.embedded, k.address })
}

func (n *tnode) recordWith(self node.Address, child func(k *tnode) (bool, node.Address)) []byte {
	if n.leaf != nil {
		return node.AppendLeafRecord(nil, n.encoding())
	}
	var children [2]node.Child
	for side, k := range n.kids {
		if k == nil {
			continue
		}
		c := &children[side]
		c.Present = true
		if embedded, a := child(k); embedded {
			c.Embedded = k.encoding()
		} else {
			c.Hash, c.Address = k.hash, a
		}
	}
	return node.AppendInternalRecord(nil, n.encoding(), self, &children)
}

func (n *tnode) entry() db.Entry {
	return db.Entry{Address: n.address, Position: n.position, Record: n.record()}
}

func sameEntry(a, b db.Entry) bool {
	return a.Address == b.Address && bytes.Equal(a.Position, b.Position) && bytes.Equal(a.Record, b.Record)
}

func rootHash(n *tnode) hash.Hash {
	if n == nil {
		return hash.EmptyHash
	}
	return n.hash
}
