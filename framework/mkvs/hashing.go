package mkvs

import (
	"context"

	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// contextEvery is how many nodes are worked on between two looks at the context.
const contextEvery = 1024

// updateHashes computes the hashes of all nodes that are not clean, children first, and returns the
// root's.
func (t *Tree) updateHashes(ctx context.Context) (hash.Hash, error) {
	type frame struct {
		ptr  *node.Pointer
		next int // the child to look at
	}
	if !isDirtyInternal(t.root) {
		return partHash(t.root), nil
	}
	stack := []frame{{ptr: t.root}}
	for done := 0; len(stack) > 0; {
		f := &stack[len(stack)-1]
		n := f.ptr.Node.(*node.InternalNode)
		if f.next < 2 {
			child := childOf(n, f.next == node.Right)
			f.next++
			if isDirtyInternal(child) {
				stack = append(stack, frame{ptr: child})
			}
			continue
		}
		n.Hash = node.InternalHash(n.Label, n.LabelBitLength, partHash(n.LeafNode), partHash(n.Left), partHash(n.Right))
		f.ptr.Hash = n.Hash
		stack = stack[:len(stack)-1]
		if done++; done%contextEvery == 0 && ctx.Err() != nil {
			return hash.Hash{}, ctx.Err()
		}
	}
	return t.root.Hash, nil
}

func isDirtyInternal(ptr *node.Pointer) bool {
	if ptr == nil || ptr.Clean {
		return false
	}
	_, ok := ptr.Node.(*node.InternalNode)
	return ok
}

// partHash returns the hash of a part of a node, nil for an absent one. It computes that of a leaf where
// it isn't known yet; an internal node's has to be up to date.
func partHash(ptr *node.Pointer) hash.Hash {
	if ptr == nil {
		return hash.EmptyHash
	}
	if leaf, ok := ptr.Node.(*node.LeafNode); ok {
		if leaf.Hash == (hash.Hash{}) {
			leaf.UpdateHash()
		}
		ptr.Hash = leaf.Hash
	}
	return ptr.Hash
}
