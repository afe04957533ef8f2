package mkvs

import (
	"context"

	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// Remove removes a key. It is no error if the key is not there.
func (t *Tree) Remove(ctx context.Context, key []byte) error {
	_, err := t.RemoveExisting(ctx, key)
	return err
}

// RemoveExisting removes a key and returns the value that it had, nil if it was not there.
func (t *Tree) RemoveExisting(ctx context.Context, key []byte) ([]byte, error) {
	if err := t.begin(ctx); err != nil {
		return nil, err
	}
	if len(key) > node.MaxKeyBytes {
		return nil, nil
	}
	steps, err := t.descend(ctx, key)
	if err != nil {
		return nil, err
	}
	leaf, err := leafAt(steps, key)
	if leaf == nil {
		return nil, err
	}
	if err := t.unlink(ctx, steps, key); err != nil {
		return nil, err
	}
	t.noteChange(key, nil, true)
	t.generation++
	return leaf.Value, nil
}

// unlink takes out the leaf with key, which the steps lead to. Where that leaves its parent with one
// part, that part takes the parent's place.
func (t *Tree) unlink(ctx context.Context, steps []step, key node.Key) error {
	at := len(steps) - 1 // the node that loses a part
	_, own := steps[at].ptr.Node.(*node.InternalNode)
	if !own {
		at--
	}
	if at < 0 { // the leaf is the root
		t.touchAll(steps, key)
		t.root = nil
		return nil
	}
	parent := steps[at].ptr.Node.(*node.InternalNode)
	end := steps[at].end
	left := *parent // what is left of it
	if own {
		left.LeafNode = nil
	} else {
		setChild(&left, key.GetBit(end), nil)
	}

	rest, child := onlyPart(&left)
	var restPath node.Key
	if child {
		restPath = pathToChild(key, end, rest == left.Right)
		if rest.Node == nil {
			if err := t.loadNode(ctx, rest, restPath, end+1); err != nil {
				return err
			}
		}
	} else if rest != nil {
		if _, err := ownLeaf(&left); err != nil {
			return err
		}
	}

	t.touchAll(steps, key) // nothing can fail from here on
	if rest == nil {
		*parent = left
		return nil
	}
	if child {
		t.touch(rest, restPath, end+1)
		if n, ok := rest.Node.(*node.InternalNode); ok {
			n.Label, n.LabelBitLength = join(parent, n), parent.LabelBitLength+n.LabelBitLength
		}
	} else {
		t.touch(rest, key, end) // an own leaf: it has no entry
	}
	t.setAt(steps, at, key, rest)
	return nil
}

// onlyPart returns the one part of n, nil where it has more, and whether that is a child.
func onlyPart(n *node.InternalNode) (part *node.Pointer, child bool) {
	parts := 0
	if n.LeafNode != nil {
		part = n.LeafNode
		parts++
	}
	for _, c := range []*node.Pointer{n.Left, n.Right} {
		if c != nil {
			part, child = c, true
			parts++
		}
	}
	if parts > 1 {
		return nil, false
	}
	return part, child
}

// pathToChild returns the bits of the position of a child of a node that key goes through and that ends at
// end.
func pathToChild(key node.Key, end node.Depth, right bool) node.Key {
	path := make(node.Key, (end + 1).ToBytes())
	copy(path, key)
	path.SetBit(end, right)
	return path
}

// join is the label of what becomes of parent and child when they become one.
func join(parent, child *node.InternalNode) node.Key {
	label := make(node.Key, (parent.LabelBitLength + child.LabelBitLength).ToBytes())
	label.CopyBits(0, parent.Label, parent.LabelBitLength)
	label.CopyBits(parent.LabelBitLength, child.Label, child.LabelBitLength)
	return label
}
