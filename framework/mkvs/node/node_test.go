package node_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The bytes of the format, written out.
func TestLeaf(t *testing.T) {
	n := &node.LeafNode{Key: node.Key("ab"), Value: []byte("xyz")}
	n.UpdateHash()
	want := hash.Sum(unhex(t, "00 02000000 6162 03000000 78797a"))
	if n.Hash != want || n.GetHash() != want || node.LeafHash(n.Key, n.Value) != want {
		t.Errorf("hash %s, want %s", n.Hash, want)
	}
	encoding := unhex(t, "00 0200 6162 03000000 78797a")
	for name, got := range map[string][]byte{
		"V0": n.AppendCompactV0(nil), "V1": n.AppendCompactV1(nil), "full": n.AppendFull(nil),
		"AppendLeaf": node.AppendLeaf(nil, n.Key, n.Value),
	} {
		if !bytes.Equal(got, encoding) {
			t.Errorf("%s: %x, want %x", name, got, encoding)
		}
	}
	if n.Size() != len(encoding) {
		t.Errorf("size %d, want %d", n.Size(), len(encoding))
	}
	if got := node.EncodedLeafHash(encoding); got != want {
		t.Errorf("hash of the encoding %s, want %s", got, want)
	}
}

// A value beyond the buffer on the stack hashes like any other.
func TestLargeLeafHash(t *testing.T) {
	for _, n := range []int{0, 400, 490, 501, 502, 503, 504, 600, 100_000} {
		key, value := []byte("k"), bytes.Repeat([]byte("v"), n)
		plain := []byte{0, 1, 0, 0, 0, 'k', byte(n), byte(n >> 8), byte(n >> 16), 0}
		if got, want := node.LeafHash(key, value), hash.Sum(append(plain, value...)); got != want {
			t.Errorf("%d bytes: %s, want %s", n, got, want)
		}
	}
}

func TestInternal(t *testing.T) {
	left, right := hash.Sum([]byte("left")), hash.Sum([]byte("right"))
	own := &node.LeafNode{Key: node.Key("a"), Value: nil}
	own.UpdateHash()
	n := &node.InternalNode{
		Label: node.Key{0x61, 0x80}, LabelBitLength: 9,
		LeafNode: &node.Pointer{Hash: own.Hash, Node: own},
		Left:     &node.Pointer{Hash: left}, Right: &node.Pointer{Hash: right},
	}
	n.UpdateHash()
	head := unhex(t, "01 0900 6180")
	cat := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	if want := hash.Sum(cat(head, own.Hash[:], left[:], right[:])); n.Hash != want || n.GetHash() != want {
		t.Errorf("hash %s, want %s", n.Hash, want)
	}
	leaf := unhex(t, "00 0100 61 00000000")
	for name, c := range map[string]struct{ got, want []byte }{
		"V0":   {n.AppendCompactV0(nil), cat(head, leaf)},
		"V1":   {n.AppendCompactV1(nil), cat(head, []byte{2})},
		"full": {n.AppendFull(nil), cat(head, leaf, left[:], right[:])},
	} {
		if !bytes.Equal(c.got, c.want) {
			t.Errorf("%s: %x, want %x", name, c.got, c.want)
		}
	}
	n.LeafNode, n.Left = nil, nil
	n.UpdateHash()
	empty := hash.EmptyHash
	if want := hash.Sum(cat(head, empty[:], empty[:], right[:])); n.Hash != want {
		t.Errorf("hash without two parts %s, want %s", n.Hash, want)
	}
	if got, want := n.AppendFull(nil), cat(head, []byte{2}, empty[:], right[:]); !bytes.Equal(got, want) {
		t.Errorf("full without two parts: %x, want %x", got, want)
	}
	var none *node.Pointer
	if none.GetHash() != hash.EmptyHash {
		t.Error("a nil pointer's hash is not that of nothing")
	}
	long := node.Key(bytes.Repeat([]byte{0xff}, 8000))
	if got, want := node.InternalHash(long, 64000, empty, left, right), hash.Sum(cat(unhex(t, "01 00fa"), long, empty[:], left[:], right[:])); got != want {
		t.Errorf("hash with a long label %s, want %s", got, want)
	}
}

func TestParseCompact(t *testing.T) {
	rest := []byte("rest")
	c, more, err := node.ParseCompactV0(append(unhex(t, "00 0200 6162 03000000 78797a"), rest...))
	if err != nil || !c.Leaf || string(c.Key) != "ab" || string(c.Value) != "xyz" || !bytes.Equal(more, rest) {
		t.Errorf("leaf: %+v, %q, %v", c, more, err)
	}
	c, more, err = node.ParseCompactV0(append(unhex(t, "01 0900 6180 00 0100 61 00000000"), rest...))
	if err != nil || c.Leaf || c.LabelBitLength != 9 || !c.Label.Equal(node.Key{0x61, 0x80}) ||
		!bytes.Equal(c.OwnLeaf, unhex(t, "00 0100 61 00000000")) || string(c.OwnKey) != "a" || c.OwnValue == nil || len(c.OwnValue) != 0 || !bytes.Equal(more, rest) {
		t.Errorf("internal node: %+v, %q, %v", c, more, err)
	}
	c, more, err = node.ParseCompactV0(unhex(t, "01 0000 02"))
	if err != nil || c.Leaf || c.LabelBitLength != 0 || c.OwnLeaf != nil || len(more) != 0 {
		t.Errorf("internal node without label and leaf: %+v, %q, %v", c, more, err)
	}
	for name, b := range map[string]string{
		"nothing":                   "",
		"unknown kind":              "03",
		"nil":                       "02",
		"leaf without length":       "00 02",
		"leaf's key cut short":      "00 0200 61",
		"leaf without value length": "00 0100 61 000000",
		"leaf's value cut short":    "00 0100 61 02000000 78",
		"leaf's value far too long": "00 0100 61 ffffffff 78",
		"leaf's key too long":       "00 0020" + strings.Repeat("00", 8192) + "00000000",
		"no label length":           "01 09",
		"label cut short":           "01 0900 61",
		"no own leaf":               "01 0800 61",
		"bit set beyond the label":  "01 0900 6181 02",
		"unknown own leaf":          "01 0800 61 01",
		"own leaf cut short":        "01 0800 61 00 0100 61 0000",
		"label too long":            "01 f9ff" + strings.Repeat("00", 8192) + "02",
	} {
		if _, _, err := node.ParseCompactV0(unhex(t, b)); !errors.Is(err, node.ErrMalformedNode) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever is taken is the one encoding of what it is taken for.
func FuzzParseCompact(f *testing.F) {
	for _, s := range []string{"00 0200 6162 03000000 78797a", "01 0900 6180 00 0100 61 00000000", "01 0000 02", "01 0900 6181 02", ""} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, rest, err := node.ParseCompactV0(b)
		if err != nil {
			if !errors.Is(err, node.ErrMalformedNode) {
				t.Fatal(err)
			}
			return
		}
		var again []byte
		switch {
		case c.Leaf:
			again = node.AppendLeaf(nil, c.Key, c.Value)
		case c.OwnLeaf == nil:
			again = append(node.AppendInternalHead(nil, c.Label, c.LabelBitLength), node.PrefixNilNode)
		default:
			again = node.AppendLeaf(node.AppendInternalHead(nil, c.Label, c.LabelBitLength), c.OwnKey, c.OwnValue)
		}
		if !bytes.Equal(append(again, rest...), b) {
			t.Fatalf("%x is taken for %x", b, again)
		}
	})
}

func TestAddress(t *testing.T) {
	if got := (node.Address{Version: 7, Candidate: 3}).String(); got != "7.3" {
		t.Errorf("text %q", got)
	}
}

func TestRootTypes(t *testing.T) {
	for typ, name := range map[node.RootType]string{node.RootTypeState: "state", node.RootTypeIO: "io"} {
		if got, err := node.ParseRootType(name); err != nil || got != typ || !typ.IsValid() || typ.String() != name {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	for _, typ := range []node.RootType{node.RootTypeInvalid, node.RootTypeMax + 1, 255} {
		if typ.IsValid() || !strings.Contains(typ.String(), "invalid") {
			t.Errorf("%d is %s", typ, typ)
		}
	}
	if _, err := node.ParseRootType("State"); err == nil {
		t.Error("State is a root type")
	}
}

func TestRoot(t *testing.T) {
	a := common.NewTestNamespaceFromSeed([]byte("a"), 0)
	b := common.NewTestNamespaceFromSeed([]byte("b"), 0)
	h := hash.Sum([]byte("root"))
	root := func(ns common.Namespace, version uint64, typ node.RootType) node.Root {
		return node.Root{Namespace: ns, Version: version, Type: typ, Hash: h}
	}
	for _, c := range []struct {
		new, old node.Root
		want     bool
	}{
		{root(a, 5, 1), root(a, 5, 1), true},
		{root(a, 6, 1), root(a, 5, 1), true},
		{root(a, 7, 1), root(a, 5, 1), false},
		{root(a, 4, 1), root(a, 5, 1), false},
		{root(a, 0, 1), root(a, 1<<64-1, 1), false},
		{root(a, 6, 2), root(a, 5, 1), false},
		{root(b, 6, 1), root(a, 5, 1), false},
	} {
		if got := c.new.Follows(&c.old); got != c.want {
			t.Errorf("%s follows %s: %v", c.new, c.old, got)
		}
	}
	r, same, other := root(a, 5, 1), root(a, 5, 1), root(a, 5, 2)
	var none *node.Root
	if !r.Equal(&same) || r.Equal(&other) || r.Equal(none) || none.Equal(&r) || none.Equal(none) {
		t.Error("roots equal what they are not, or not what they are")
	}
	if r.String() != "state:5:"+h.Hex() || r.IsEmpty() {
		t.Errorf("text %s", r)
	}
	text, err := json.Marshal(r)
	if want := `{"ns":"` + a.Hex() + `","version":5,"root_type":1,"hash":"` + h.Hex() + `"}`; err != nil || string(text) != want {
		t.Errorf("JSON %s, want %s", text, want)
	}
	if r.Empty(); !r.IsEmpty() || r.Type != node.RootTypeInvalid || r.Version != 0 {
		t.Errorf("emptied: %+v", r)
	}
}
