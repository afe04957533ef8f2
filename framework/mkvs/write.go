package mkvs

import (
	"context"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// writer puts the nodes of a tree that are not clean into a batch, as one run in pre-order.
type writer struct {
	batch      db.Batch
	self       node.Address
	embedBytes int

	// written are the pointers to what was written; Address and Embedded are set in them, Clean is not
	// before the batch is committed.
	written []*node.Pointer

	path     node.Key
	position []byte
	encoding []byte
	record   []byte
	embedded [2][]byte
}

// writeTree writes what is not clean from root on, which is not.
func (w *writer) writeTree(ctx context.Context, root *node.Pointer) error {
	type pending struct {
		ptr   *node.Pointer
		depth node.Depth
	}
	w.path = make(node.Key, node.MaxKeyBytes)
	stack := []pending{{root, 0}}
	for len(stack) > 0 {
		p := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		w.done(p.ptr, false)
		switch n := p.ptr.Node.(type) {
		case *node.LeafNode:
			w.position = node.AppendPosition(w.position[:0], n.Key, p.depth)
			w.encoding = n.AppendCompactV0(w.encoding[:0])
			w.record = node.AppendLeafRecord(w.record[:0], w.encoding)
		case *node.InternalNode:
			start := labelStart(p.depth)
			end := start + n.LabelBitLength
			w.path.CopyBits(start, n.Label, n.LabelBitLength)
			w.position = node.AppendPosition(w.position[:0], w.path, p.depth)
			w.encoding = n.AppendCompactV0(w.encoding[:0])
			if n.LeafNode != nil && !n.LeafNode.Clean {
				w.done(n.LeafNode, true)
			}
			children := [2]node.Child{w.child(n.Left, node.Left), w.child(n.Right, node.Right)}
			w.record = node.AppendInternalRecord(w.record[:0], w.encoding, w.self, &children)
			for _, child := range []*node.Pointer{n.Right, n.Left} {
				switch {
				case child == nil || child.Clean:
				case child.Embedded:
					w.done(child, true)
				default:
					stack = append(stack, pending{child, end + 1})
				}
			}
		}
		if err := w.batch.Put(ctx, w.position, w.record); err != nil {
			return err
		}
	}
	return nil
}

// child says how a child stands in its parent's record. Whether a leaf is embedded is settled here, when
// it is written: one that is clean stays as it is.
func (w *writer) child(ptr *node.Pointer, side int) node.Child {
	if ptr == nil {
		return node.Child{}
	}
	leaf, isLeaf := ptr.Node.(*node.LeafNode)
	if !ptr.Clean {
		ptr.Embedded = isLeaf && leaf.Size() <= w.embedBytes
		ptr.Address = w.self
	}
	if ptr.Embedded {
		w.embedded[side] = leaf.AppendCompactV0(w.embedded[side][:0])
		return node.Child{Present: true, Embedded: w.embedded[side]}
	}
	return node.Child{Present: true, Hash: partHash(ptr), Address: ptr.Address}
}

// done notes that what ptr points to is written, in its parent's record or as an entry.
func (w *writer) done(ptr *node.Pointer, embedded bool) {
	ptr.Address, ptr.Embedded = w.self, embedded
	w.written = append(w.written, ptr)
}

// dirtyPointers returns the pointers to all nodes that are not clean.
func (t *Tree) dirtyPointers() []*node.Pointer {
	if t.root == nil || t.root.Clean {
		return nil
	}
	found := []*node.Pointer{t.root}
	for i := 0; i < len(found); i++ {
		n, ok := found[i].Node.(*node.InternalNode)
		if !ok {
			continue
		}
		for _, part := range []*node.Pointer{n.LeafNode, n.Left, n.Right} {
			if part != nil && !part.Clean {
				found = append(found, part)
			}
		}
	}
	return found
}
