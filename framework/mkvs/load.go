package mkvs

import (
	"context"
	"fmt"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// loader reads nodes of a root.
type loader struct {
	ndb    db.NodeDB // nil where there is none
	base   node.Root
	verify bool
	// loaded is what was read.
	loaded held
}

// loader returns a loader of the tree's nodes.
func (t *Tree) loader() loader { return loader{ndb: t.ndb, base: t.base, verify: t.verifyReads} }

// loadPath loads the node that ptr points to, whose position is the first depth bits of key, and what
// comes along: the nodes below it on the way to key.
func (l *loader) loadPath(ctx context.Context, ptr *node.Pointer, depth node.Depth, key node.Key) error {
	if l.ndb == nil {
		return notInMemory(ptr, key, depth)
	}
	entries, err := l.ndb.GetPath(ctx, l.base, ptr.Address, depth, key)
	if err != nil {
		return fmt.Errorf("mkvs: load path: %w", err)
	}
	for p := ptr; p != nil && len(entries) > 0; entries = entries[1:] {
		if entries[0].Address != p.Address {
			return corrupted(p, key, depth, "the database gave an entry of version "+entries[0].Address.String())
		}
		if err := l.attach(p, entries[0].Record, key, depth); err != nil {
			return err
		}
		p, depth = nextOnPath(p, key, depth)
	}
	if ptr.Node != nil {
		return nil
	}
	return l.loadNode(ctx, ptr, key, depth)
}

// nextOnPath returns where the way to key goes on below the node of ptr, whose position is the first
// depth bits of key, if that is a node that is not in memory.
func nextOnPath(ptr *node.Pointer, key node.Key, depth node.Depth) (*node.Pointer, node.Depth) {
	next, depth := onPath(ptr, key, depth)
	if next == nil || next.Node != nil {
		return nil, 0
	}
	return next, depth
}

// onPath returns where the way to key goes on below the node of ptr, whose position is the first depth bits
// of key, nil where it ends.
func onPath(ptr *node.Pointer, key node.Key, depth node.Depth) (*node.Pointer, node.Depth) {
	n, ok := ptr.Node.(*node.InternalNode)
	if !ok {
		return nil, 0
	}
	start := labelStart(depth)
	end := start + n.LabelBitLength
	if matchLabel(key, start, n.Label, n.LabelBitLength) < n.LabelBitLength || key.BitLength() <= end {
		return nil, 0
	}
	return childOf(n, key.GetBit(end)), end + 1
}

// loadNode loads the node that ptr points to, whose position is the first depth bits of path.
func (l *loader) loadNode(ctx context.Context, ptr *node.Pointer, path node.Key, depth node.Depth) error {
	if l.ndb == nil {
		return notInMemory(ptr, path, depth)
	}
	record, err := l.ndb.GetNode(ctx, l.base, ptr.Address, node.NewPosition(path, depth))
	if err != nil {
		return fmt.Errorf("mkvs: load node: %w", err)
	}
	return l.attach(ptr, record, path, depth)
}

func notInMemory(ptr *node.Pointer, path node.Key, depth node.Depth) error {
	return fmt.Errorf("%w: node %s at position %s, and the tree has no database", db.ErrNodeNotFound, ptr.Hash, node.NewPosition(path, depth))
}

// attach makes the node of a record the one that ptr points to.
func (l *loader) attach(ptr *node.Pointer, record []byte, path node.Key, depth node.Depth) error {
	n, nodes, err := decodeRecord(ptr, record, path, depth, l.verify)
	if err != nil {
		return err
	}
	ptr.Node = n
	l.loaded.add(held{nodes, nodes*nodeOverhead + len(record)})
	return nil
}

// decodeRecord makes a node of the record of what ptr points to, whose position is the first depth bits
// of path, and says how many nodes there are in it. It checks that the node can stand there, so that
// damage can't lead anyone astray. The node lies in the record.
func decodeRecord(ptr *node.Pointer, record []byte, path node.Key, depth node.Depth, verify bool) (node.Node, int, error) {
	r, err := node.ParseRecord(record, ptr.Address)
	if err != nil {
		return nil, 0, corrupted(ptr, path, depth, err.Error())
	}
	if verify {
		if h := r.ComputeHash(); h != ptr.Hash {
			return nil, 0, corrupted(ptr, path, depth, fmt.Sprintf("the node's hash is %s, and its parent says %s", h, ptr.Hash))
		}
	}
	if r.Leaf {
		if !sharesBits(r.Key, path, depth) {
			return nil, 0, corrupted(ptr, path, depth, "the leaf's key does not lead there")
		}
		return &node.LeafNode{Hash: ptr.Hash, Key: r.Key, Value: r.Value}, 1, nil
	}

	start := labelStart(depth)
	end := start + r.LabelBitLength
	if depth > 0 && (r.LabelBitLength == 0 || r.Label.GetBit(0) != path.GetBit(start)) || int(start)+int(r.LabelBitLength) >= int(node.MaxDepth) {
		return nil, 0, corrupted(ptr, path, depth, fmt.Sprintf("a label of %d bits can't stand there", r.LabelBitLength))
	}
	through := func(key node.Key) bool { // says whether the way to key goes through the whole node
		return key.BitLength() >= end && sharesBits(key, path, depth) &&
			matchLabel(key, start, r.Label, r.LabelBitLength) == r.LabelBitLength
	}
	n := &node.InternalNode{Hash: ptr.Hash, Label: r.Label, LabelBitLength: r.LabelBitLength}
	parts := newParts(&r)
	if r.OwnLeaf != nil {
		if r.OwnKey.BitLength() != end || !through(r.OwnKey) {
			return nil, 0, corrupted(ptr, path, depth, "the own leaf's key does not end there")
		}
		n.LeafNode = parts.within(r.OwnKey, r.OwnValue)
	}
	for side := range r.Children {
		c := &r.Children[side]
		switch {
		case !c.Present:
		case c.Embedded == nil:
			setChild(n, side == node.Right, parts.reference(c))
		default:
			leaf, _, err := node.ParseCompactV0(c.Embedded)
			if err != nil || !through(leaf.Key) || leaf.Key.BitLength() == end || leaf.Key.GetBit(end) != (side == node.Right) {
				return nil, 0, corrupted(ptr, path, depth, "the embedded leaf's key does not lead there")
			}
			setChild(n, side == node.Right, parts.within(leaf.Key, leaf.Value))
		}
	}
	return n, 1 + len(parts.leaves), nil
}

// parts makes the parts of a node that is read, all in two pieces of memory: they come and go together.
type parts struct {
	pointers []node.Pointer
	leaves   []node.LeafNode
}

// newParts has room for the parts of r.
func newParts(r *node.Record) *parts {
	pointers, leaves := 0, 0
	if r.OwnLeaf != nil {
		pointers++
		leaves++
	}
	for side := range r.Children {
		if c := &r.Children[side]; c.Present {
			pointers++
			if c.Embedded != nil {
				leaves++
			}
		}
	}
	return &parts{make([]node.Pointer, 0, pointers), make([]node.LeafNode, 0, leaves)}
}

// reference points to a child that has an entry of its own.
func (p *parts) reference(c *node.Child) *node.Pointer {
	p.pointers = append(p.pointers, node.Pointer{Clean: true, Hash: c.Hash, Address: c.Address})
	return &p.pointers[len(p.pointers)-1]
}

// within points to a leaf that is stored within its parent's record, embedded or as its own. Its hash is
// computed when it is needed: most leaves that are read are never hashed.
func (p *parts) within(key node.Key, value []byte) *node.Pointer {
	p.leaves = append(p.leaves, node.LeafNode{Key: key, Value: value})
	p.pointers = append(p.pointers, node.Pointer{Clean: true, Embedded: true, Node: &p.leaves[len(p.leaves)-1]})
	return &p.pointers[len(p.pointers)-1]
}

// labelStart is where the label of a node begins whose position has depth bits: at its parent's end.
func labelStart(depth node.Depth) node.Depth {
	if depth == 0 {
		return 0
	}
	return depth - 1
}

// sharesBits says whether key begins with the first n bits of path.
func sharesBits(key, path node.Key, n node.Depth) bool {
	return key.BitLength() >= n && key.CommonPrefixLen(n, path, n) == n
}

func corrupted(ptr *node.Pointer, path node.Key, depth node.Depth, reason string) error {
	return &db.CorruptedError{Version: ptr.Address.Version, Position: node.NewPosition(path, depth), Reason: reason}
}
