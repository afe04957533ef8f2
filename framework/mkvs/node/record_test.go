package node_test

import (
	"bytes"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// drawRecord draws a node, as a record would say it, and where it is stored.
func drawRecord(t *rapid.T) (encoding []byte, children [2]node.Child, self node.Address) {
	self = node.Address{Version: rapid.Uint64().Draw(t, "version"), Candidate: rapid.Uint16().Draw(t, "candidate")}
	leaf := func() []byte {
		return node.AppendLeaf(nil, rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "key"), rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "value"))
	}
	label, n := drawBits(t, "label", 40)
	encoding = node.AppendInternalHead(nil, label, n)
	own := rapid.Bool().Draw(t, "own")
	if own {
		encoding = append(encoding, leaf()...)
	} else {
		encoding = append(encoding, node.PrefixNilNode)
	}
	only := -1
	if own {
		only = rapid.IntRange(-1, 1).Draw(t, "only")
	}
	for side := range children {
		if only == 1-side {
			continue
		}
		c := &children[side]
		c.Present = true
		if rapid.Bool().Draw(t, "embedded") {
			c.Embedded = leaf()
			continue
		}
		c.Hash = hash.Sum(rapid.SliceOf(rapid.Byte()).Draw(t, "hashed"))
		c.Address.Version = rapid.Uint64Range(0, self.Version).Draw(t, "child's version")
		c.Address.Candidate = rapid.Uint16().Draw(t, "child's candidate")
	}
	return encoding, children, self
}

// A record gives back what it was made of, and the node's hash; cut short anywhere, or followed by
// anything, it is refused.
func TestInternalRecord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		encoding, children, self := drawRecord(t)
		record := node.AppendInternalRecord([]byte("before"), encoding, self, &children)[len("before"):]
		r, err := node.ParseRecord(record, self)
		if err != nil {
			t.Fatal(err)
		}
		if r.Leaf || !bytes.Equal(r.Encoding, encoding) {
			t.Fatalf("encoding %x, want %x", r.Encoding, encoding)
		}
		own := hash.EmptyHash
		if r.OwnLeaf != nil {
			own = node.LeafHash(r.OwnKey, r.OwnValue)
		}
		requireOutline(t, record, self, &r)
		var hashes [2]hash.Hash
		for side, want := range children {
			got := r.Children[side]
			if got.Present != want.Present || !bytes.Equal(got.Embedded, want.Embedded) || got.Hash != want.Hash || got.Address != want.Address {
				t.Fatalf("child %d: %+v, want %+v", side, got, want)
			}
			hashes[side] = got.ComputeHash()
			switch {
			case !want.Present && hashes[side] != hash.EmptyHash,
				want.Embedded != nil && hashes[side] != node.EncodedLeafHash(want.Embedded),
				want.Present && want.Embedded == nil && hashes[side] != want.Hash:
				t.Fatalf("child %d has hash %s", side, hashes[side])
			}
		}
		if got, want := r.ComputeHash(), node.InternalHash(r.Label, r.LabelBitLength, own, hashes[0], hashes[1]); got != want {
			t.Fatalf("hash %s, want %s", got, want)
		}
		for n := range record {
			if _, err := node.ParseRecord(record[:n], self); !errors.Is(err, node.ErrMalformedRecord) {
				t.Fatalf("the first %d of %d bytes: %v", n, len(record), err)
			}
		}
		if _, err := node.ParseRecord(append(record, 0), self); !errors.Is(err, node.ErrMalformedRecord) {
			t.Fatalf("with a byte more: %v", err)
		}
	})
}

// requireOutline compares a record's outline with the record taken apart, and follows none that is cut short
// where that can be told.
func requireOutline(t *rapid.T, record []byte, self node.Address, r *node.Record) {
	o := node.Outline{Leaf: true, Stored: [2]bool{true, true}}
	if err := o.Parse(record, self); err != nil {
		t.Fatal(err)
	}
	if o.Leaf != r.Leaf || o.LabelBitLength != r.LabelBitLength || !bytes.Equal(o.Label, r.Label) {
		t.Fatalf("outline %+v of %+v", o, r)
	}
	for side, c := range r.Children {
		if o.Stored[side] != (c.Present && c.Embedded == nil) || o.Addresses[side] != c.Address {
			t.Fatalf("outline's child %d: %t, %v, want %+v", side, o.Stored[side], o.Addresses[side], c)
		}
	}
	for n := range record {
		if err := o.Parse(record[:n], self); !errors.Is(err, node.ErrMalformedRecord) {
			t.Fatalf("outline of the first %d of %d bytes: %v", n, len(record), err)
		}
	}
	if err := o.Parse(append(bytes.Clone(record), 0), self); !errors.Is(err, node.ErrMalformedRecord) {
		t.Fatalf("outline with a byte more: %v", err)
	}
}

func TestLeafRecord(t *testing.T) {
	encoding := node.AppendLeaf(nil, []byte("key"), []byte("value"))
	record := node.AppendLeafRecord(nil, encoding)
	r, err := node.ParseRecord(record, node.Address{})
	if err != nil || !r.Leaf || string(r.Key) != "key" || string(r.Value) != "value" || !bytes.Equal(r.Encoding, encoding) {
		t.Errorf("%+v, %v", r, err)
	}
	if got, want := r.ComputeHash(), node.LeafHash([]byte("key"), []byte("value")); got != want {
		t.Errorf("hash %s, want %s", got, want)
	}
	for n := range record {
		if _, err := node.ParseRecord(record[:n], node.Address{}); !errors.Is(err, node.ErrMalformedRecord) {
			t.Errorf("the first %d bytes: %v", n, err)
		}
	}
	o := node.Outline{Stored: [2]bool{true, true}}
	if err := o.Parse(record, node.Address{}); err != nil || !o.Leaf || o.Stored != [2]bool{} {
		t.Errorf("outline %+v, %v", o, err)
	}
}

func TestRecordMalformed(t *testing.T) {
	self := node.Address{Version: 5}
	leaf := node.AppendLeaf(nil, []byte("k"), nil)
	inner := append(node.AppendInternalHead(nil, node.Key("a"), 8), node.PrefixNilNode)
	h := bytes.Repeat([]byte{7}, hash.Size)
	cat := func(flags byte, parts ...[]byte) []byte { return append([]byte{flags}, bytes.Join(parts, nil)...) }
	embedded := append([]byte{byte(len(leaf))}, leaf...)
	good := cat(3, inner, h, []byte{5}, h, []byte{0})
	if _, err := node.ParseRecord(good, self); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"nothing":                          {},
		"leaf without the leaf's flag":     cat(0, leaf),
		"leaf with another flag":           cat(0x81, leaf),
		"leaf and a byte more":             cat(0x80, leaf, []byte{0}),
		"internal node with a leaf's flag": cat(0x83, inner, h, []byte{0}, h, []byte{0}),
		"unused flag":                      cat(0x43, inner, h, []byte{0}, h, []byte{0}),
		"no child":                         cat(0, inner),
		"one child":                        cat(1, inner, h, []byte{0}),
		"absent child embedded":            cat(1|8, inner, h, []byte{0}),
		"absent child with a candidate":    cat(1|32, inner, h, []byte{0}),
		"embedded child with a candidate":  cat(3|4|16, inner, embedded, h, []byte{0}),
		"embedded child cut short":         cat(3|8, inner, h, []byte{0}, embedded[:5]),
		"embedded child's length":          cat(3|8, inner, h, []byte{0}, []byte{0xff}),
		"embedded child with a byte more":  cat(3|8, inner, h, []byte{0}, []byte{byte(len(leaf) + 1)}, leaf, []byte{0}),
		"embedded child that is no leaf":   cat(3|8, inner, h, []byte{0}, []byte{byte(len(inner))}, inner),
		"child of a later version":         cat(3, inner, h, []byte{6}, h, []byte{0}),
		"child's candidate 0":              cat(3|16, inner, h, []byte{0, 0}, h, []byte{0}),
		"child's candidate too high":       cat(3|16, inner, h, []byte{0, 0x80, 0x80, 4}, h, []byte{0}),
		"child's version in two bytes":     cat(3, inner, h, []byte{0x81, 0}, h, []byte{0}),
		"embedded child's length in two":   cat(3|8, inner, h, []byte{0}, []byte{byte(len(leaf)) | 0x80, 0}, leaf),
		"child's version without an end":   cat(3, inner, h, bytes.Repeat([]byte{0xff}, 11), h, []byte{0}),
	} {
		if _, err := node.ParseRecord(b, self); !errors.Is(err, node.ErrMalformedRecord) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEncodedLeafHashPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no leaf has a hash")
		}
	}()
	node.EncodedLeafHash([]byte{0, 1})
}

// Whatever is taken is the one record of what it is taken for.
func FuzzParseRecord(f *testing.F) {
	self := node.Address{Version: 5, Candidate: 1}
	leaf := node.AppendLeaf(nil, []byte("k"), []byte("value"))
	f.Add(node.AppendLeafRecord(nil, leaf))
	for _, own := range []bool{false, true} {
		encoding := append(node.AppendInternalHead(nil, node.Key{0x60}, 3), node.PrefixNilNode)
		if own {
			encoding = node.AppendLeaf(encoding[:len(encoding)-1], []byte("own"), nil)
		}
		f.Add(node.AppendInternalRecord(nil, encoding, self, &[2]node.Child{
			{Present: true, Embedded: leaf},
			{Present: true, Hash: hash.Sum(leaf), Address: node.Address{Version: 3, Candidate: 7}},
		}))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var o node.Outline
		outlineErr := o.Parse(b, self)
		r, err := node.ParseRecord(b, self)
		if err == nil && outlineErr != nil || outlineErr != nil && !errors.Is(outlineErr, node.ErrMalformedRecord) {
			t.Fatal(err, outlineErr)
		}
		if err != nil {
			if !errors.Is(err, node.ErrMalformedRecord) {
				t.Fatal(err)
			}
			return
		}
		again := node.AppendLeafRecord(nil, r.Encoding)
		if !r.Leaf {
			again = node.AppendInternalRecord(nil, r.Encoding, self, &r.Children)
		}
		if !bytes.Equal(again, b) {
			t.Fatalf("%x is taken for %x", b, again)
		}
		r.ComputeHash()
	})
}
