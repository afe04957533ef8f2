package mkvs

import (
	"context"
	"fmt"

	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/proof"
)

// Prove returns a proof, in the given version of the encoding, of what the tree holds for each of keys: a
// value, or that the key is not there. It is a proof for the tree as it is now, changes included; its
// UntrustedRoot is the hash that Commit would return.
func (t *Tree) Prove(ctx context.Context, version uint16, keys ...[]byte) (*proof.Proof, error) {
	b, err := t.NewProofBuilder(ctx, version)
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		if len(key) > node.MaxKeyBytes {
			continue // no tree holds it, and nothing needs to be shown
		}
		steps, err := t.descend(ctx, key)
		if err != nil {
			return nil, err
		}
		for _, s := range steps {
			b.Include(s.ptr.Node)
		}
		leaf, err := leafAt(steps, key)
		if err != nil {
			return nil, err
		}
		if leaf != nil {
			b.Include(leaf)
		}
	}
	return b.Build()
}

// NewProofBuilder returns a builder of proofs for the tree as it is now, changes included. It is of use
// with iterators (WithProof) until the tree is changed again.
func (t *Tree) NewProofBuilder(ctx context.Context, version uint16) (*proof.Builder, error) {
	root, err := t.newRoot(ctx, t.base.Namespace, t.base.Version)
	if err != nil {
		return nil, err
	}
	return proof.NewBuilder(root.Hash, version), nil
}

// NewFromProof verifies a proof for the tree with the given root hash, which the caller trusts, and
// returns a tree in memory that holds what the proof does. Where an operation comes to a node that was left
// out, the error is db.ErrNodeNotFound. So a proof of entries can be looked at, iterated over, and even
// changed, for the root hash that the changes lead to.
func NewFromProof(ctx context.Context, root hash.Hash, rootType node.RootType, p *proof.Proof, opts ...Option) (*Tree, error) {
	var v proof.Verifier
	ptr, err := v.VerifyProof(ctx, root, p)
	if err != nil {
		return nil, err
	}
	t := newTree(nil, node.Root{Type: rootType, Hash: root}, opts)
	t.root, t.resolved, t.eager = ptr, true, true
	return t, nil
}

// WithProof makes a tree's iterator include in b, which is the tree's NewProofBuilder's, all nodes that it
// comes by: the proof then shows that between the first key sought and the last key come to, there is
// what the iterator gave, and no more. An overlay's iterator includes what it comes by in the tree below,
// without the overlay's changes.
func WithProof(b *proof.Builder) IteratorOption {
	return func(o *iteratorOptions) { o.proof = b }
}

// include makes a node part of the proof, where one is wanted.
func (it *treeIterator) include(n node.Node) error {
	b := it.options.proof
	if b == nil {
		return nil
	}
	if it.tree.generation != it.proofOf {
		if partHash(it.tree.root) != b.Root() {
			return fmt.Errorf("%w: the tree was changed after the proof was begun", proof.ErrRootMismatch)
		}
		it.proofOf = it.tree.generation
	}
	b.Include(n)
	return nil
}
