package mkvs

import (
	"bytes"
	"context"

	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// Insert sets a key to a value; nil is the empty value. It copies both. A key or value beyond the
// namespace's limits is refused with db.ErrLimitExceeded.
func (t *Tree) Insert(ctx context.Context, key, value []byte) error {
	if err := t.checkEntry(key, value); err != nil {
		return err
	}
	if err := t.begin(ctx); err != nil {
		return err
	}
	steps, err := t.descend(ctx, key)
	if err != nil {
		return err
	}
	old, err := leafAt(steps, key)
	if err != nil {
		return err
	}
	key = append(node.Key{}, key...)
	value = append([]byte{}, value...)
	t.noteChange(key, value, old != nil)
	switch {
	case old == nil:
		t.insertNew(steps, key, value)
	case !bytes.Equal(old.Value, value):
		t.replace(steps, key, value)
	default:
		return nil // nothing to write anew
	}
	t.generation++
	return nil
}

func newLeaf(key node.Key, value []byte) *node.Pointer {
	return &node.Pointer{Node: &node.LeafNode{Key: key, Value: value}}
}

// replace sets the value of a key that the steps lead to.
func (t *Tree) replace(steps []step, key node.Key, value []byte) {
	t.touchAll(steps, key)
	last := steps[len(steps)-1].ptr
	if n, ok := last.Node.(*node.InternalNode); ok {
		n.LeafNode = newLeaf(key, value)
		return
	}
	last.Node = &node.LeafNode{Key: key, Value: value}
}

// insertNew inserts a key that is not in the tree; the steps lead to where it belongs.
func (t *Tree) insertNew(steps []step, key node.Key, value []byte) {
	t.touchAll(steps, key)
	leaf := newLeaf(key, value)
	if len(steps) == 0 {
		t.root = leaf
		return
	}
	last := &steps[len(steps)-1]
	if n, ok := last.ptr.Node.(*node.InternalNode); ok && last.common == last.end {
		hang(n, last.end, key, leaf)
		return
	}
	// The key leaves the node's path (or, for a leaf, its key) at common bits: there a node comes between.
	between := &node.InternalNode{
		Label:          key.Slice(last.start, last.common),
		LabelBitLength: last.common - last.start,
	}
	switch n := last.ptr.Node.(type) {
	case *node.LeafNode:
		hang(between, last.common, n.Key, last.ptr)
	case *node.InternalNode:
		cut := last.common - last.start
		setChild(between, n.Label.GetBit(cut), last.ptr)
		n.Label, n.LabelBitLength = n.Label.Slice(cut, n.LabelBitLength), n.LabelBitLength-cut
	}
	hang(between, last.common, key, leaf)
	t.setAt(steps, len(steps)-1, key, &node.Pointer{Node: between})
}

// hang makes a leaf the own leaf or a child of n, which ends at end.
func hang(n *node.InternalNode, end node.Depth, key node.Key, leaf *node.Pointer) {
	if key.BitLength() == end {
		n.LeafNode = leaf
		return
	}
	setChild(n, key.GetBit(end), leaf)
}
