package proof

import (
	"fmt"

	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// Builder makes a proof of the nodes that it is given. It belongs to one goroutine.
type Builder struct {
	root    hash.Hash
	version uint16
	nodes   map[hash.Hash]node.Node
}

// NewBuilder returns a builder of proofs for the tree with the given root hash, in the given version.
func NewBuilder(root hash.Hash, version uint16) *Builder {
	return &Builder{root: root, version: version, nodes: make(map[hash.Hash]node.Node)}
}

// Root is the root hash that the proof is for.
func (b *Builder) Root() hash.Hash { return b.root }

// Version is the version of the proof's encoding.
func (b *Builder) Version() uint16 { return b.version }

// Include makes a node part of the proof. Its hash and those of its children have to be up to date; a
// leaf's that was never computed is. The node is not to be changed before Build. To be of use, all nodes
// above it have to be included, too.
func (b *Builder) Include(n node.Node) {
	if n.GetHash() == (hash.Hash{}) {
		n.UpdateHash()
	}
	b.nodes[n.GetHash()] = n
}

// Build returns the proof. Nodes that others above don't lead to are not in it; without the root node it
// proves nothing.
func (b *Builder) Build() (*Proof, error) {
	if b.version > LatestVersion {
		return nil, fmt.Errorf("%w: %d", ErrUnsupportedVersion, b.version)
	}
	p := &Proof{V: b.version, UntrustedRoot: b.root}
	stack := []hash.Hash{b.root}
	for len(stack) > 0 {
		h := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		n, included := b.nodes[h]
		if !included {
			p.Entries = append(p.Entries, leftOutEntry(h))
			continue
		}
		entry := []byte{entryFull}
		inner, isInternal := n.(*node.InternalNode)
		switch {
		case b.version == Version1:
			entry = n.AppendCompactV1(entry)
		case isInternal && inner.LeafNode != nil && inner.LeafNode.Node == nil:
			return nil, fmt.Errorf("%w: node %s", ErrOwnLeafUnknown, h)
		default:
			entry = n.AppendCompactV0(entry)
		}
		p.Entries = append(p.Entries, entry)
		if isInternal {
			stack = append(stack, partHash(inner.Right), partHash(inner.Left))
			if b.version == Version1 {
				stack = append(stack, partHash(inner.LeafNode))
			}
		}
	}
	return p, nil
}

// leftOutEntry is the entry of what only its hash stands for.
func leftOutEntry(h hash.Hash) []byte {
	if h == hash.EmptyHash {
		return nil
	}
	return append([]byte{entryHash}, h[:]...)
}

// partHash returns the hash of a node's part, computing that of a leaf where it isn't known yet.
func partHash(ptr *node.Pointer) hash.Hash {
	h := ptr.GetHash()
	if h == (hash.Hash{}) && ptr.Node != nil {
		if ptr.Node.GetHash() == h {
			ptr.Node.UpdateHash()
		}
		ptr.Hash = ptr.Node.GetHash()
		return ptr.Hash
	}
	return h
}
