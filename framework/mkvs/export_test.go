package mkvs

import "github.com/ckpt-project/ckpt/framework/mkvs/node"

// NodesInMemory counts the stored nodes that a tree keeps in memory.
func NodesInMemory(t *Tree) int { return t.nodesInMemory().nodes }

// BytesInMemory is what these take.
func BytesInMemory(t *Tree) int { return t.nodesInMemory().bytes }

// WithRunChanges sets how many changes those of a run are made by, and, with a small capacity, from how many
// on a commit is written in runs.
func WithRunChanges(n int) Option {
	return func(t *Tree) { t.runChanges = n }
}

// ChangesInMemory is how many bytes of keys and values a tree holds for changes that are not committed.
func ChangesInMemory(t *Tree) int { return t.changes.memory.used }

// SetCapacity is WithCapacity of a tree that there is.
func SetCapacity(t *Tree, nodes int) { t.capacity = nodes }

// EachInMemory calls f with the pointers to all nodes in memory.
func EachInMemory(t *Tree, f func(*node.Pointer)) {
	var each func(ptr *node.Pointer)
	each = func(ptr *node.Pointer) {
		if ptr == nil || ptr.Node == nil {
			return
		}
		f(ptr)
		if n, ok := ptr.Node.(*node.InternalNode); ok {
			each(n.LeafNode)
			each(n.Left)
			each(n.Right)
		}
	}
	each(t.root)
}

// SetBuilderChanges sets how many entries a builder makes nodes of at once.
func SetBuilderChanges(b *Builder, n int) { b.most = n }

// CountedInMemory is what a tree takes the stored nodes in memory for, in bytes, whereas BytesInMemory counts them.
func CountedInMemory(t *Tree) int { return t.cached.bytes }

// Base is the root that the tree was last committed as.
func (t *Tree) Base() node.Root { return t.base }
