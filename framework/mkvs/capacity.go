package mkvs

import "github.com/ckpt-project/ckpt/framework/mkvs/node"

// trim gives up nodes that can be read again when there are more in memory than the tree's capacity. It
// keeps those nearest to the root, up to half of it.
func (t *Tree) trim() {
	if t.capacity <= 0 || t.cached <= t.capacity || t.ndb == nil || t.root == nil {
		return
	}
	kept := 0
	level := []*node.Pointer{t.root}
	for i := 0; i < len(level); i++ { // by levels, the root's first
		ptr := level[i]
		if ptr.Clean && !ptr.Embedded {
			if kept >= t.capacity/2 {
				ptr.Node = nil
				continue
			}
			kept++
		}
		n, ok := ptr.Node.(*node.InternalNode)
		if !ok {
			continue
		}
		if n.LeafNode != nil && n.LeafNode.Clean {
			kept++
		}
		for _, child := range []*node.Pointer{n.Left, n.Right} {
			switch {
			case child == nil || child.Node == nil:
			case child.Clean && child.Embedded:
				kept++
			default:
				level = append(level, child)
			}
		}
	}
	t.cached = kept
}
