package proof

import (
	"context"
	"fmt"

	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// Verifier checks proofs as a whole. The zero value has the default limits. Any number of goroutines can
// use one.
type Verifier struct {
	// Limits bounds what is accepted.
	Limits Limits
}

// contextEvery is how many entries are decoded between two looks at the context.
const contextEvery = 1024

// VerifyProof checks that p is a well-formed proof for the tree with the given root hash, which the
// caller trusts, and returns the part of the tree that it holds: nil where the tree is empty, otherwise
// pointers of which those to nodes that were left out have no node. The nodes lie in the proof's entries.
//
// The error is ErrMalformed, ErrLimitExceeded, ErrUnsupportedVersion, or ErrRootMismatch where the proof
// is one for another tree.
func (v *Verifier) VerifyProof(ctx context.Context, root hash.Hash, p *Proof) (*node.Pointer, error) {
	if p.UntrustedRoot != root {
		return nil, fmt.Errorf("%w: it says that it is for %s, want %s", ErrRootMismatch, p.UntrustedRoot, root)
	}
	d := NewDecoder(p.V, v.Limits)
	for i, entry := range p.Entries {
		if i%contextEvery == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err := d.Add(entry); err != nil {
			return nil, err
		}
	}
	tree, err := d.Finish()
	if err != nil {
		return nil, err
	}
	if got := tree.Root(); got != root {
		return nil, fmt.Errorf("%w: it is for %s, want %s", ErrRootMismatch, got, root)
	}
	return tree.pointers(), nil
}

// pointers returns the tree as nodes that point to each other; nil where it is empty.
func (t *Tree) pointers() *node.Pointer {
	if len(t.Nodes) == 0 {
		return nil
	}
	ptrs := make([]*node.Pointer, len(t.Nodes))
	at := func(i int32) *node.Pointer {
		if i == None {
			return nil
		}
		return ptrs[i]
	}
	for i := len(t.Nodes) - 1; i >= 0; i-- { // children come after their parents
		n := &t.Nodes[i]
		c := n.Compact()
		ptrs[i] = &node.Pointer{Clean: true, Hash: n.Hash}
		switch n.Kind {
		case KindLeaf:
			ptrs[i].Node = &node.LeafNode{Hash: n.Hash, Key: c.Key, Value: c.Value}
		case KindInternal:
			ptrs[i].Node = &node.InternalNode{
				Hash:           n.Hash,
				Label:          c.Label,
				LabelBitLength: c.LabelBitLength,
				LeafNode:       ownPointer(&c, at(n.OwnLeaf)),
				Left:           at(n.Children[node.Left]),
				Right:          at(n.Children[node.Right]),
			}
		}
	}
	return ptrs[0]
}

// ownPointer points to a node's own leaf, which is in the node's encoding, or has a node of its own.
func ownPointer(c *node.Compact, separate *node.Pointer) *node.Pointer {
	if c.OwnLeaf == nil {
		return separate
	}
	leaf := &node.LeafNode{Key: c.OwnKey, Value: c.OwnValue}
	leaf.UpdateHash()
	return &node.Pointer{Clean: true, Embedded: true, Hash: leaf.Hash, Node: leaf}
}
