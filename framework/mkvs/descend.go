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
			l := t.loader()
			err := l.loadPath(ctx, ptr, depth, key)
			if t.cached.add(l.loaded); err != nil {
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

// pathToChild returns the bits of the position of a child of a node that key goes through and that ends at
// end.
func pathToChild(key node.Key, end node.Depth, right bool) node.Key {
	path := make(node.Key, (end + 1).ToBytes())
	copy(path, key)
	path.SetBit(end, right)
	return path
}
