package conformance

import (
	"bytes"
	"slices"

	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/writelog"
)

// content is what a tree holds.
type content map[string]string

// with returns a copy with pairs set, key after value.
func (c content) with(keysAndValues ...string) content {
	out := make(content, len(c)+len(keysAndValues)/2)
	for k, v := range c {
		out[k] = v
	}
	for i := 0; i < len(keysAndValues); i += 2 {
		out[keysAndValues[i]] = keysAndValues[i+1]
	}
	return out
}

// without returns a copy without keys.
func (c content) without(keys ...string) content {
	out := c.with()
	for _, k := range keys {
		delete(out, k)
	}
	return out
}

func (c content) keys() []string {
	keys := make([]string, 0, len(c))
	for k := range c {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// log is the write log that leads from one content to another.
func (c content) log(to content) writelog.WriteLog {
	var log writelog.WriteLog
	for k, v := range to {
		if old, had := c[k]; !had || old != v {
			log = append(log, writelog.LogEntry{Key: []byte(k), Value: []byte(v)})
		}
	}
	for k := range c {
		if _, has := to[k]; !has {
			log = append(log, writelog.LogEntry{Key: []byte(k)})
		}
	}
	slices.SortFunc(log, func(a, b writelog.LogEntry) int { return bytes.Compare(a.Key, b.Key) })
	return log
}

// tree is a model of a tree: built of its content by the definition, with none of the framework's own
// trees, so that both can be held against each other.
type tree struct {
	root    node.Root
	content content
	top     *tnode // nil where the tree is empty
}

// tnode is a node of a tree: a leaf, or an internal node with at least two of own leaf, left and right.
type tnode struct {
	leaf       bool
	key, value []byte // of the leaf, or the own leaf where hasOwn
	hasOwn     bool
	label      node.Key
	bits       node.Depth
	kids       [2]*tnode
	parent     *tnode

	position node.Position
	depth    node.Depth // the position's bits
	end      node.Depth // of an internal node's path
	some     node.Key   // a key at or below the node
	hash     hash.Hash

	// What is stored: where, and whether as a part of the parent's record.
	address  node.Address
	embedded bool
}

// build makes the tree of a content. Nothing in it is stored yet.
func build(c content) *tnode {
	return buildBelow(c, c.keys(), nil, 0)
}

// buildBelow makes the tree of the content's keys (sorted) below a parent that ends at a depth.
func buildBelow(c content, keys []string, parent *tnode, parentEnd node.Depth) *tnode {
	if len(keys) == 0 {
		return nil
	}
	first, last := node.Key(keys[0]), node.Key(keys[len(keys)-1])
	n := &tnode{parent: parent, some: first, depth: parentEnd}
	if parent != nil {
		n.depth++
	}
	n.position = node.NewPosition(last, n.depth)
	if len(keys) == 1 {
		n.leaf, n.key, n.value = true, first, []byte(c[keys[0]])
		n.hash = node.LeafHash(n.key, n.value)
		return n
	}
	n.end = first.CommonPrefixLen(first.BitLength(), last, last.BitLength())
	n.label, n.bits = last.Slice(parentEnd, n.end), n.end-parentEnd
	own := hash.EmptyHash
	if first.BitLength() == n.end {
		n.hasOwn, n.key, n.value = true, first, []byte(c[keys[0]])
		own = node.LeafHash(n.key, n.value)
		keys = keys[1:]
	}
	right := slices.IndexFunc(keys, func(k string) bool { return node.Key(k).GetBit(n.end) })
	if right < 0 {
		right = len(keys)
	}
	n.kids = [2]*tnode{buildBelow(c, keys[:right], n, n.end), buildBelow(c, keys[right:], n, n.end)}
	n.hash = node.InternalHash(n.label, n.bits, own, hashOf(n.kids[0]), hashOf(n.kids[1]))
	return n
}

func hashOf(n *tnode) hash.Hash {
	if n == nil {
		return hash.EmptyHash
	}
	return n.hash
}

// all calls f for each node in pre-order.
func (n *tnode) all(f func(*tnode)) {
	if n == nil {
		return
	}
	f(n)
	n.kids[0].all(f)
	n.kids[1].all(f)
}

// list returns all nodes in pre-order.
func (n *tnode) list() (nodes []*tnode) {
	n.all(func(n *tnode) { nodes = append(nodes, n) })
	return nodes
}

// byPosition returns all nodes by their positions.
func (n *tnode) byPosition() map[string]*tnode {
	m := map[string]*tnode{}
	n.all(func(n *tnode) { m[string(n.position)] = n })
	return m
}

// encoding is the node's compact encoding.
func (n *tnode) encoding() []byte {
	if n.leaf {
		return node.AppendLeaf(nil, n.key, n.value)
	}
	b := node.AppendInternalHead(nil, n.label, n.bits)
	if n.hasOwn {
		return node.AppendLeaf(b, n.key, n.value)
	}
	return append(b, node.PrefixNilNode)
}

// small says whether a node is a leaf that may be embedded.
func (n *tnode) small(embedBytes int) bool {
	return n.leaf && node.LeafOverhead+len(n.key)+len(n.value) <= embedBytes
}

// record is what is stored of the node, which is not embedded.
func (n *tnode) record() []byte {
	return n.recordWith(n.address, func(kid *tnode) node.Child {
		if kid.embedded {
			return node.Child{Present: true, Embedded: kid.encoding()}
		}
		return node.Child{Present: true, Hash: kid.hash, Address: kid.address}
	})
}

func (n *tnode) recordWith(self node.Address, child func(kid *tnode) node.Child) []byte {
	if n.leaf {
		return node.AppendLeafRecord(nil, n.encoding())
	}
	var children [2]node.Child
	for side, kid := range n.kids {
		if kid != nil {
			children[side] = child(kid)
		}
	}
	return node.AppendInternalRecord(nil, n.encoding(), self, &children)
}

// entry is the node as a walk yields it.
func (n *tnode) entry() db.Entry {
	return db.Entry{Address: n.address, Position: n.position, Record: n.record()}
}

// entries are all that the tree has stored, in pre-order.
func (t *tree) entries() (entries []db.Entry) {
	t.top.all(func(n *tnode) {
		if !n.embedded {
			entries = append(entries, n.entry())
		}
	})
	return entries
}

func sameEntry(a, b db.Entry) bool {
	return a.Address == b.Address && bytes.Equal(a.Position, b.Position) && bytes.Equal(a.Record, b.Record)
}
