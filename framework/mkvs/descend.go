package mkvs

import (
	"context"
	"math/bits"

	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// step is a node on the way to a key.
type step struct {
	ptr *node.Pointer
	// depth is the number of bits of the node's position, start where its label begins.
	depth, start node.Depth
	// end is where an internal node ends, for a leaf the length of its key.
	end node.Depth
	// common is how many bits the key and the node's path (for a leaf, its key) share.
	common node.Depth
}

// descend goes from the root towards key and returns the nodes on the way, all in memory, up to where
// it can't go on: a leaf, an internal node at whose end the key ends or whose label the key leaves, or
// one without the child that the key goes to. The steps are valid until the next call.
func (t *Tree) descend(ctx context.Context, key node.Key) ([]step, error) {
	steps := t.steps[:0]
	ptr, depth, start := t.root, node.Depth(0), node.Depth(0)
	for ptr != nil {
		if ptr.Node == nil {
			if err := t.loadPath(ctx, ptr, depth, key); err != nil {
				return nil, err
			}
		}
		s := step{ptr: ptr, depth: depth, start: start}
		var next *node.Pointer
		switch n := ptr.Node.(type) {
		case *node.LeafNode:
			s.end = n.Key.BitLength()
			s.common = n.Key.CommonPrefixLenFrom(start, s.end, key, key.BitLength())
		case *node.InternalNode:
			s.end = start + n.LabelBitLength
			s.common = start + matchLabel(key, start, n.Label, n.LabelBitLength)
			if s.common == s.end && key.BitLength() > s.end {
				next, depth, start = childOf(n, key.GetBit(s.end)), s.end+1, s.end
			}
		}
		steps = append(steps, s)
		ptr = next
	}
	t.steps = steps[:0]
	return steps, nil
}

// childOf returns a node's right or left child.
func childOf(n *node.InternalNode, right bool) *node.Pointer {
	if right {
		return n.Right
	}
	return n.Left
}

// setChild sets a node's right or left child.
func setChild(n *node.InternalNode, right bool, ptr *node.Pointer) {
	if right {
		n.Right = ptr
	} else {
		n.Left = ptr
	}
}

// setAt puts ptr where the node of steps[i] stands; the steps are descend's for key.
func (t *Tree) setAt(steps []step, i int, key node.Key, ptr *node.Pointer) {
	if i == 0 {
		t.root = ptr
		return
	}
	setChild(steps[i-1].ptr.Node.(*node.InternalNode), key.GetBit(steps[i-1].end), ptr)
}

// touch makes ready to change a node, whose position is the first depth bits of path: it is not clean
// any more, and its entry, where it has one, goes with the next commit.
func (t *Tree) touch(ptr *node.Pointer, path node.Key, depth node.Depth) {
	if !ptr.Clean {
		return
	}
	if !ptr.Embedded && t.ndb != nil {
		t.removed = append(t.removed, removal{ptr.Address, node.NewPosition(path, depth)})
	}
	ptr.Clean, ptr.Embedded = false, false
	t.cached--
}

// touchAll touches the nodes of descend's steps for key.
func (t *Tree) touchAll(steps []step, key node.Key) {
	for i := range steps {
		t.touch(steps[i].ptr, key, steps[i].depth)
	}
}

// matchLabel says how many of the n bits of label equal those of key from bit at on.
func matchLabel(key node.Key, at node.Depth, label node.Key, n node.Depth) node.Depth {
	n = min(n, key.BitLength()-at)
	first, shift := int(at>>3), at&7
	for i := range n.ToBytes() {
		b := key[first+i] << shift
		if shift != 0 && first+i+1 < len(key) {
			b |= key[first+i+1] >> (8 - shift)
		}
		if x := b ^ label[i]; x != 0 {
			return min(n, node.Depth(i*8+bits.LeadingZeros8(x)))
		}
	}
	return n
}
