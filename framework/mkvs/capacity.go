package mkvs

import (
	"math"

	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// held is how much of stored nodes is in memory, about.
type held struct{ nodes, bytes int }

func (h *held) add(other held) {
	h.nodes += other.nodes
	h.bytes += other.bytes
}

// nodeOverhead is what a node takes beside its label, or its key and value: the pointer to it, itself, and what
// its pieces of memory are longer than what lies in them.
const nodeOverhead = 200

// weigh tells what a node takes, without its parts.
func weigh(n node.Node) held {
	switch n := n.(type) {
	case *node.LeafNode:
		return held{1, nodeOverhead + len(n.Key) + len(n.Value)}
	case *node.InternalNode:
		return held{1, nodeOverhead + len(n.Label)}
	default:
		return held{}
	}
}

// weighWhole is weigh with the leaves that come and go with the record of a node that is clean.
func weighWhole(n node.Node) held {
	h := weigh(n)
	if inner, ok := n.(*node.InternalNode); ok {
		for _, part := range [...]*node.Pointer{inner.LeafNode, inner.Left, inner.Right} {
			if part != nil && part.Embedded {
				h.add(weigh(part.Node))
			}
		}
	}
	return h
}

// share is a part of a bound, of which 0 means none.
func share(bound, divisor int) int {
	if bound <= 0 {
		return math.MaxInt
	}
	return bound / divisor
}

// trim gives up nodes that can be read again when there is more in memory than the tree's capacity. It
// keeps those nearest to the root, up to half of it, so that it is long until the next time.
func (t *Tree) trim() {
	if t.cached.nodes <= share(t.capacity, 1) && t.cached.bytes <= share(t.capacityBytes, 1) || t.ndb == nil || t.root == nil {
		return
	}
	mostNodes, mostBytes := share(t.capacity, 2), share(t.capacityBytes, 2)
	var kept held
	// Pointers are replaced, and not emptied: one may share its memory with the node that it pointed to, or
	// with other pointers, and would keep alive everything that is below.
	level := []**node.Pointer{&t.root}
	for i := 0; i < len(level); i++ { // by levels, the root's first
		ptr := *level[i]
		n, isInternal := ptr.Node.(*node.InternalNode)
		if ptr.Clean {
			more := kept
			if more.add(weighWhole(ptr.Node)); more.nodes > mostNodes || more.bytes > mostBytes {
				*level[i] = &node.Pointer{Clean: true, Hash: ptr.Hash, Address: ptr.Address}
				continue
			}
			kept = more
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
