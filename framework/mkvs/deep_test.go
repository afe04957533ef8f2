package mkvs_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/ckpt-project/ckpt/backends/memory"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/proof"
)

// nested is a tree of keys that are prefixes of one key, each by step bytes longer than the one before: as
// deep as trees get, with a node at every byte, where step is 1.
type nested struct {
	key  node.Key
	step int
}

func newNested(step int) nested {
	n := nested{make(node.Key, node.MaxKeyBytes), step}
	for i := range n.key {
		n.key[i] = byte(i * 7)
	}
	return n
}

// lengths are the keys' lengths, ascending.
func (n nested) lengths() (ls []int) {
	for l := 0; l <= len(n.key); l += n.step {
		ls = append(ls, l)
	}
	return ls
}

func (n nested) value(length int) []byte { return n.key[length:min(length+2, len(n.key))] }

// root computes the root hash from the deepest leaf up.
func (n nested) root() hash.Hash {
	ls := n.lengths()
	l := ls[len(ls)-1]
	below := node.LeafHash(n.key[:l], n.value(l))
	for i := len(ls) - 2; i >= 0; i-- {
		l := ls[i]
		label := n.key[max(l-n.step, 0):l]
		left, right := below, hash.EmptyHash
		if n.key.GetBit(node.Depth(l * 8)) {
			left, right = right, left
		}
		below = node.InternalHash(label, node.Depth(len(label)*8), node.LeafHash(n.key[:l], n.value(l)), left, right)
	}
	return below
}

// Nested prefixes are inserted, hashed, committed, read, proved and removed like any other keys.
func TestDeep(t *testing.T) {
	real, err := openDB(t.Context(), memory.New(), db.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer real.Close(context.WithoutCancel(t.Context()))
	for name, c := range map[string]struct {
		ndb  db.NodeDB
		keys nested
	}{
		"in memory": {nil, newNested(1)},
		// What is written and removed has positions of up to 9 kB each.
		"checked against the contract": {newStrictDB(), newNested(7)},
		"in a database":                {real, newNested(3)},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			tree := mkvs.New(c.ndb, node.RootTypeState)
			for _, l := range c.keys.lengths() {
				if err := tree.Insert(ctx, c.keys.key[:l], c.keys.value(l)); err != nil {
					t.Fatal(err)
				}
			}
			_, root := commit(t, tree, 1)
			if want := c.keys.root(); root.Hash != want {
				t.Fatalf("root %s, want %s", root.Hash, want)
			}
			if c.ndb != nil {
				tree = mkvs.NewWithRoot(c.ndb, root)
			}
			it := tree.NewIterator(ctx)
			defer it.Close()
			it.Rewind()
			for _, l := range c.keys.lengths() {
				if !bytes.Equal(it.Key(), c.keys.key[:l]) || !bytes.Equal(it.Value(), c.keys.value(l)) {
					t.Fatalf("key of %d bytes, want %d: %v", len(it.Key()), l, it.Err())
				}
				it.Next()
			}
			if it.Valid() || it.Err() != nil {
				t.Fatalf("behind the last key: %d bytes, %v", len(it.Key()), it.Err())
			}
			ls := c.keys.lengths()
			last := ls[len(ls)-1]
			p, err := tree.Prove(ctx, 0, c.keys.key[:last])
			if err != nil {
				t.Fatal(err)
			}
			part, err := mkvs.NewFromProof(ctx, root.Hash, root.Type, p)
			if err != nil {
				t.Fatal(err)
			}
			for _, tree := range []*mkvs.Tree{tree, part} {
				if value, err := tree.Get(ctx, c.keys.key[:last]); err != nil || !bytes.Equal(value, c.keys.value(last)) {
					t.Fatalf("got %x, %v", value, err)
				}
			}
			for _, l := range ls {
				if value, err := tree.RemoveExisting(ctx, c.keys.key[:l]); err != nil || !bytes.Equal(value, c.keys.value(l)) {
					t.Fatalf("removed %x of %d bytes: %v", value, l, err)
				}
			}
			if _, root := commit(t, tree, 2); !root.IsEmpty() {
				t.Errorf("root %s after everything was removed", root.Hash)
			}
		})
	}
}

// A proof leads down through a node at every bit, 65,528 of them, and what it holds can be read, changed
// and removed.
func TestDeepest(t *testing.T) {
	ctx := t.Context()
	key := node.Key(bytes.Repeat([]byte{0xff}, node.MaxKeyBytes))
	other := hash.Sum([]byte("left out"))
	rootOf := func(value string) hash.Hash {
		h := node.LeafHash(key, []byte(value))
		for end := int(node.MaxDepth) - 1; end >= 0; end-- {
			h = node.InternalHash(node.Key{0x80}, node.Depth(min(end, 1)), hash.EmptyHash, other, h)
		}
		return h
	}
	p := &proof.Proof{UntrustedRoot: rootOf("1")}
	for end := range node.MaxDepth {
		label := node.Key{0x80}[:min(end, 1)]
		p.Entries = append(p.Entries,
			append(node.AppendInternalHead([]byte{1}, label, min(end, 1)), node.PrefixNilNode),
			append([]byte{2}, other[:]...))
	}
	p.Entries = append(p.Entries, node.AppendLeaf([]byte{1}, key, []byte("1")))
	tree, err := mkvs.NewFromProof(ctx, rootOf("1"), node.RootTypeState, p)
	if err != nil {
		t.Fatal(err)
	}
	if value, err := tree.Get(ctx, key); err != nil || string(value) != "1" {
		t.Fatalf("got %q, %v", value, err)
	}
	insert(t, tree, string(key), "2")
	if _, root := commit(t, tree, 1); root.Hash != rootOf("2") {
		t.Errorf("root %s, want %s", root.Hash, rootOf("2"))
	}
	if again, err := tree.Prove(ctx, 0, key); err != nil || again.UntrustedRoot != rootOf("2") || len(again.Entries) != len(p.Entries) {
		t.Errorf("proved again: %v", err)
	}
	if err := tree.Remove(ctx, key); !errors.Is(err, db.ErrNodeNotFound) {
		t.Errorf("removed a leaf whose sibling is not known: %v", err)
	}
	it := tree.NewIterator(ctx)
	defer it.Close()
	if it.Seek(key); string(it.Value()) != "2" {
		t.Errorf("sought %q, %v", it.Value(), it.Err())
	}
}
