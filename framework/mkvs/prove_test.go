package mkvs_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/ckpt-project/ckpt/framework/mkvs"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/proof"
)

// drawTree draws a tree with changes that are not committed, and what it holds.
func drawTree(t *rapid.T) (*mkvs.Tree, model) {
	ndb := newStrictDB()
	ndb.info.EmbedBytes = rapid.SampledFrom([]int{0, 12, 500}).Draw(t, "embed")
	h := newHistory(context.Background(), ndb, 12, mkvs.WithCapacity(10))
	for range rapid.IntRange(0, 40).Draw(t, "operations") {
		h.step(t)
	}
	return h.tree, h.now
}

// A proof of keys shows what the tree holds for each of them, and for others never anything wrong.
func TestProveKeys(t *testing.T) {
	ctx := context.Background()
	rapid.Check(t, func(t *rapid.T) {
		tree, now := drawTree(t)
		version := rapid.Uint16Range(0, proof.LatestVersion).Draw(t, "version")
		keys := rapid.SliceOfN(rapid.Custom(drawKey), 0, 4).Draw(t, "keys")
		p, err := tree.Prove(ctx, version, keys...)
		if err != nil {
			t.Fatal(err)
		}
		if p.UntrustedRoot != now.root() || p.V != version {
			t.Fatalf("proof of version %d for %s", p.V, p.UntrustedRoot)
		}
		part, err := mkvs.NewFromProof(ctx, now.root(), node.RootTypeState, p)
		if err != nil {
			t.Fatal(err)
		}
		get := func(key []byte) error {
			value, err := part.Get(ctx, key)
			want, there := now[string(key)]
			if err == nil && ((value != nil) != there || !bytes.Equal(value, want)) {
				t.Fatalf("the proof shows %x of %x, want %x", value, key, want)
			}
			return err
		}
		for _, key := range keys {
			if err := get(key); err != nil {
				t.Fatalf("the proof does not show %x: %v", key, err)
			}
		}
		for key := range now {
			if err := get([]byte(key)); err != nil && !errors.Is(err, db.ErrNodeNotFound) {
				t.Fatal(err)
			}
		}
		// What the proof holds can be changed, for the root that it leads to.
		for _, key := range keys {
			if err := part.Insert(ctx, key, []byte("new")); err != nil {
				t.Fatal(err)
			}
			now[string(key)] = []byte("new")
		}
		if _, root, err := part.Commit(ctx, testNamespace, 1); err != nil || root != now.root() {
			t.Fatalf("root %s, %v, want %s", root, err, now.root())
		}
	})
}

// A proof made by an iterator shows the keys from the first sought to the last come to, and their order.
func TestProveRange(t *testing.T) {
	ctx := context.Background()
	rapid.Check(t, func(t *rapid.T) {
		tree, now := drawTree(t)
		version := rapid.Uint16Range(0, proof.LatestVersion).Draw(t, "version")
		from, steps := drawKey(t), rapid.IntRange(0, 10).Draw(t, "steps")
		b, err := tree.NewProofBuilder(ctx, version)
		if err != nil {
			t.Fatal(err)
		}
		run := func(it mkvs.Iterator) (got []string) {
			defer it.Close()
			it.Seek(from)
			for i := 0; i < steps && it.Valid(); i++ {
				got = append(got, string(it.Key()), string(it.Value()))
				it.Next()
			}
			if it.Err() != nil {
				t.Fatal(it.Err())
			}
			return got
		}
		want := run(tree.NewIterator(ctx, mkvs.WithProof(b)))
		p, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		part, err := mkvs.NewFromProof(ctx, now.root(), node.RootTypeState, p)
		if err != nil {
			t.Fatal(err)
		}
		got := run(part.NewIterator(ctx))
		if len(got) != len(want) {
			t.Fatalf("the proof shows %x, want %x", got, want)
		}
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("the proof shows %x, want %x", got, want)
			}
		}
	})
}

func TestProveAfterChange(t *testing.T) {
	tree := mkvs.New(nil, node.RootTypeState)
	insert(t, tree, "a", "1")
	b, err := tree.NewProofBuilder(t.Context(), proof.Version0)
	if err != nil {
		t.Fatal(err)
	}
	insert(t, tree, "b", "2")
	it := tree.NewIterator(t.Context(), mkvs.WithProof(b))
	defer it.Close()
	if it.Rewind(); !errors.Is(it.Err(), proof.ErrRootMismatch) {
		t.Errorf("iterated for the proof of an older tree: %v", it.Err())
	}
	if _, err := tree.Prove(t.Context(), 9, []byte("a")); !errors.Is(err, proof.ErrUnsupportedVersion) {
		t.Errorf("proof of version 9: %v", err)
	}
	p, err := tree.Prove(t.Context(), 0, []byte("a"))
	if err != nil {
		t.Fatal(err)
	}
	wrong := p.UntrustedRoot
	wrong[3] ^= 4
	if _, err := mkvs.NewFromProof(t.Context(), wrong, node.RootTypeState, p); !errors.Is(err, proof.ErrRootMismatch) {
		t.Errorf("a proof for another root was taken: %v", err)
	}
}

// In version 1 an own leaf can be left out, and then can't be read, changed or passed over.
func TestOwnLeafLeftOut(t *testing.T) {
	tree := mkvs.New(nil, node.RootTypeState)
	insert(t, tree, "a", "1", "ab", "2")
	p, err := tree.Prove(t.Context(), proof.Version1, []byte("ab"))
	if err != nil {
		t.Fatal(err)
	}
	part, err := mkvs.NewFromProof(t.Context(), p.UntrustedRoot, node.RootTypeState, p)
	if err != nil {
		t.Fatal(err)
	}
	_, get := part.Get(t.Context(), []byte("a"))
	_, prove := part.Prove(t.Context(), proof.Version1, []byte("a"))
	it := part.NewIterator(t.Context())
	defer it.Close()
	it.Rewind()
	for name, err := range map[string]error{
		"Get": get, "Prove": prove, "Iterator": it.Err(),
		"Insert":           part.Insert(t.Context(), []byte("a"), nil),
		"Remove":           part.Remove(t.Context(), []byte("a")),
		"Remove the other": part.Remove(t.Context(), []byte("ab")),
	} {
		if !errors.Is(err, db.ErrNodeNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := part.Prove(t.Context(), proof.Version0, []byte("ab")); !errors.Is(err, proof.ErrOwnLeafUnknown) {
		t.Errorf("proved in version 0: %v", err)
	}
	if value, err := part.Get(t.Context(), []byte("ab")); err != nil || string(value) != "2" {
		t.Errorf("got %q, %v", value, err)
	}
}
