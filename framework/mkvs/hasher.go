package mkvs

import (
	"sync"

	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// hashChanges is how many changes lead, at most, to a subtree whose new nodes are hashed together: enough that
// there are several for each lane, and few enough that the nodes are still in the processor's cache.
const hashChanges = 64

// hasher computes the hashes of new nodes, those of the same height together.
type hasher struct {
	batch node.HashBatch
	// levels hold what has no hash yet: first leaves, then what these are parts of, and so on.
	levels [][]*node.Pointer
}

var spareHashers = sync.Pool{New: func() any { return new(hasher) }}

// hashBelow computes the hashes of the nodes that ptr leads to, its own too, as far as they have none.
func hashBelow(ptr *node.Pointer) {
	if ptr == nil || ptr.Clean || ptr.Hash != (hash.Hash{}) {
		return
	}
	h := spareHashers.Get().(*hasher)
	h.gather(ptr)
	h.sum()
	spareHashers.Put(h)
}

// gather notes what has no hash from ptr on, and returns its height: 0 where that is nothing. It recurses, at
// most node.MaxDepth levels deep.
func (h *hasher) gather(ptr *node.Pointer) (height int) {
	if ptr == nil || ptr.Hash != (hash.Hash{}) { // most are, and what they point to is not looked at
		return 0
	}
	switch n := ptr.Node.(type) {
	case *node.LeafNode:
		if n.Hash != (hash.Hash{}) {
			ptr.Hash = n.Hash
			return 0
		}
	case *node.InternalNode:
		height = max(h.gather(n.LeafNode), h.gather(n.Left), h.gather(n.Right))
	default:
		return 0
	}
	if height == len(h.levels) {
		h.levels = append(h.levels, nil)
	}
	h.levels[height] = append(h.levels[height], ptr)
	return height + 1
}

// sum computes the hashes of what was gathered, and forgets it.
func (h *hasher) sum() {
	for i, level := range h.levels {
		if len(level) == 0 {
			break
		}
		for _, ptr := range level {
			switch n := ptr.Node.(type) {
			case *node.LeafNode:
				h.batch.AddLeaf(&ptr.Hash, n.Key, n.Value)
			case *node.InternalNode:
				h.batch.AddInternal(&ptr.Hash, n.Label, n.LabelBitLength, hashOf(n.LeafNode), hashOf(n.Left), hashOf(n.Right))
			}
		}
		h.batch.Sum()
		for _, ptr := range level {
			switch n := ptr.Node.(type) {
			case *node.LeafNode:
				n.Hash = ptr.Hash
			case *node.InternalNode:
				n.Hash = ptr.Hash
			}
		}
		clear(level)
		h.levels[i] = level[:0]
	}
}

// hashOf is the hash of a part of a node, which is known.
func hashOf(ptr *node.Pointer) *hash.Hash {
	if ptr == nil {
		return &hash.EmptyHash
	}
	return &ptr.Hash
}
