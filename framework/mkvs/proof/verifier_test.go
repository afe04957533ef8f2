package proof_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/proof"
)

// nodes makes the nodes that code above works with of a reference tree.
func (n *refNode) nodes() *node.Pointer {
	if n == nil {
		return nil
	}
	ptr := &node.Pointer{Clean: true, Hash: n.hash}
	if n.leaf != nil {
		ptr.Node = &node.LeafNode{Hash: n.hash, Key: n.leaf.key, Value: n.leaf.value}
		return ptr
	}
	ptr.Node = &node.InternalNode{
		Hash: n.hash, Label: n.label, LabelBitLength: n.bits,
		LeafNode: n.own.nodes(), Left: n.children[0].nodes(), Right: n.children[1].nodes(),
	}
	return ptr
}

// includeAll includes what of a tree the reference tree says.
func includeAll(b *proof.Builder, ptr *node.Pointer, n *refNode, include func(*refNode) bool) {
	if n == nil || !include(n) {
		return
	}
	b.Include(ptr.Node)
	if inner, ok := ptr.Node.(*node.InternalNode); ok {
		includeAll(b, inner.LeafNode, n.own, include)
		includeAll(b, inner.Left, n.children[0], include)
		includeAll(b, inner.Right, n.children[1], include)
	}
}

func equalTrees(a, b *node.Pointer) bool {
	if a == nil || b == nil {
		return a == b
	}
	if a.Hash != b.Hash {
		return false
	}
	switch n := a.Node.(type) {
	case *node.LeafNode:
		m, ok := b.Node.(*node.LeafNode)
		return ok && bytes.Equal(n.Key, m.Key) && bytes.Equal(n.Value, m.Value)
	case *node.InternalNode:
		m, ok := b.Node.(*node.InternalNode)
		return ok && n.LabelBitLength == m.LabelBitLength && bytes.Equal(n.Label, m.Label) && n.Hash == m.Hash &&
			equalTrees(n.LeafNode, m.LeafNode) && equalTrees(n.Left, m.Left) && equalTrees(n.Right, m.Right)
	default:
		return b.Node == nil
	}
}

// What a builder makes is what the format says, and verifies to the nodes that were included.
func TestBuildAndVerify(t *testing.T) {
	ctx := context.Background()
	rapid.Check(t, func(t *rapid.T) {
		root := refTree(drawPairs(t, 0))
		version := rapid.Uint16Range(0, proof.LatestVersion).Draw(t, "version")
		included := map[*refNode]bool{}
		include := func(n *refNode) bool {
			in, known := included[n]
			if !known {
				in = rapid.IntRange(0, 9).Draw(t, "include") > 0
				included[n] = in
			}
			return in
		}
		b := proof.NewBuilder(root.getHash(), version)
		includeAll(b, root.nodes(), root, include)
		p, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		if want := root.entries(version, include); !slices.EqualFunc(p.Entries, want, bytes.Equal) {
			t.Fatalf("entries %x, want %x", p.Entries, want)
		}
		var v proof.Verifier
		ptr, err := v.VerifyProof(ctx, root.getHash(), p)
		if err != nil {
			t.Fatal(err)
		}
		again := proof.NewBuilder(root.getHash(), version)
		includeAll(again, ptr, root, include) // panics where a node is missing
		q, err := again.Build()
		if err != nil || !slices.EqualFunc(p.Entries, q.Entries, bytes.Equal) {
			t.Fatalf("built again: %x, %v, want %x", q.Entries, err, p.Entries)
		}
	})
}

func TestVerifyWhole(t *testing.T) {
	ctx := context.Background()
	root := refTree([]pair{{[]byte("a"), []byte("1")}, {[]byte("ab"), []byte("2")}, {[]byte("b"), nil}, {nil, []byte("3")}})
	other := hash.Sum([]byte("other"))
	for version := range proof.LatestVersion + 1 {
		p := &proof.Proof{V: version, UntrustedRoot: root.hash, Entries: root.entries(version, all)}
		var v proof.Verifier
		ptr, err := v.VerifyProof(ctx, root.hash, p)
		if err != nil || !equalTrees(ptr, root.nodes()) {
			t.Errorf("version %d: %v, or another tree", version, err)
		}
		if _, err := v.VerifyProof(ctx, other, p); !errors.Is(err, proof.ErrRootMismatch) {
			t.Errorf("version %d: verified for another root: %v", version, err)
		}
		p.UntrustedRoot = other
		if _, err := v.VerifyProof(ctx, other, p); !errors.Is(err, proof.ErrRootMismatch) {
			t.Errorf("version %d: verified for the root that it claims: %v", version, err)
		}
		p.UntrustedRoot = root.hash
		if _, err := (&proof.Verifier{Limits: proof.Limits{Entries: 3}}).VerifyProof(ctx, root.hash, p); !errors.Is(err, proof.ErrLimitExceeded) {
			t.Errorf("version %d: verified beyond the limit: %v", version, err)
		}
		ended, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := v.VerifyProof(ended, root.hash, p); !errors.Is(err, context.Canceled) {
			t.Errorf("version %d: verified after the context ended: %v", version, err)
		}
		p.Entries = p.Entries[:len(p.Entries)-1]
		if _, err := v.VerifyProof(ctx, root.hash, p); !errors.Is(err, proof.ErrMalformed) {
			t.Errorf("version %d: verified with an entry missing: %v", version, err)
		}
	}
	p := &proof.Proof{V: 2, UntrustedRoot: root.hash}
	if _, err := new(proof.Verifier).VerifyProof(ctx, root.hash, p); !errors.Is(err, proof.ErrUnsupportedVersion) {
		t.Errorf("version 2: %v", err)
	}
	if _, err := proof.NewBuilder(root.hash, 2).Build(); !errors.Is(err, proof.ErrUnsupportedVersion) {
		t.Errorf("version 2: %v", err)
	}
}
