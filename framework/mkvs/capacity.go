package mkvs

import "github.com/ckpt-project/ckpt/framework/mkvs/node"

// trim gives up nodes that can be read again when there are more in memory than the tree's capacity. It
// keeps those nearest to the root, up to half of it, so that it is long until the next time.
func (t *Tree) trim() {
	if t.capacity <= 0 || t.cached <= t.capacity || t.ndb == nil || t.root == nil {
		return
	}
	kept := 0
	// Pointers are replaced, and not emptied: one may share its memory with the node that it pointed to, or
	// with other pointers, and would keep alive everything that is below.
	level := []**node.Pointer{&t.root}
	for i := 0; i < len(level); i++ { // by levels, the root's first
		ptr := *level[i]
		n, isInternal := ptr.Node.(*node.InternalNode)
		if ptr.Clean {
			if kept += 1 + leavesWithin(n); kept > t.capacity/2 {
				kept -= 1 + leavesWithin(n)
				*level[i] = &node.Pointer{Clean: true, Hash: ptr.Hash, Address: ptr.Address}
				continue
			}
		}
		if !isInternal {
			continue
		}
		for _, child := range [2]**node.Pointer{&n.Left, &n.Right} {
			if c := *child; c != nil && c.Node != nil && !(c.Clean && c.Embedded) {
				level = append(level, child)
			}
		}
	}
	t.cached = kept
}

// leavesWithin is how many leaves come and go with the record of a node that is clean.
func leavesWithin(n *node.InternalNode) int {
	if n == nil {
		return 0
	}
	count := 0
	for _, part := range []*node.Pointer{n.LeafNode, n.Left, n.Right} {
		if part != nil && part.Embedded {
			count++
		}
	}
	return count
}
