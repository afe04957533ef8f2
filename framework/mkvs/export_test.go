package mkvs

import "github.com/ckpt-project/ckpt/framework/mkvs/node"

// NodesInMemory counts the stored nodes that a tree keeps in memory.
func NodesInMemory(t *Tree) int {
	count := 0
	stack := []*node.Pointer{t.root}
	for len(stack) > 0 {
		ptr := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if ptr == nil || ptr.Node == nil {
			continue
		}
		if ptr.Clean {
			count++
		}
		if n, ok := ptr.Node.(*node.InternalNode); ok {
			stack = append(stack, n.LeafNode, n.Left, n.Right)
		}
	}
	return count
}
