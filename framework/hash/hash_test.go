package hash_test

import (
	"crypto/sha512"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/ckpt-project/ckpt/framework/hash"
)

const emptyHex = "c672b8d1ef56ed28ab87c3622c5114069bdd3ad7b8f9737498d0c01ecef0967a"

func TestEmpty(t *testing.T) {
	h := hash.Sum([]byte("x"))
	if h.IsEmpty() {
		t.Error("a hash of something is empty")
	}
	h.Empty()
	if !h.IsEmpty() || h.Hex() != emptyHex || h.String() != emptyHex || h != hash.EmptyHash || h != hash.NewFromBytes() {
		t.Errorf("the hash of nothing is %s", h)
	}
	if new(hash.Hash).IsEmpty() {
		t.Error("the zero value is empty")
	}
}

// However the bytes are cut, the hash is that of all of them.
func TestFromBytes(t *testing.T) {
	want := hash.Hash(sha512.Sum512_256([]byte("abcdef")))
	for _, parts := range [][][]byte{
		{[]byte("abcdef")}, {[]byte("abc"), []byte("def")}, {nil, []byte("a"), {}, []byte("bcdef")},
	} {
		if got := hash.NewFromBytes(parts...); got != want {
			t.Errorf("%q: %s, want %s", parts, got, want)
		}
	}
	if got := hash.Sum([]byte("abcdef")); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestEqual(t *testing.T) {
	a, b, c := hash.Sum([]byte("a")), hash.Sum([]byte("a")), hash.Sum([]byte("c"))
	var none *hash.Hash
	for _, x := range []struct {
		a, b *hash.Hash
		want bool
	}{{&a, &b, true}, {&a, &c, false}, {&a, none, false}, {none, &a, false}, {none, none, false}} {
		if got := x.a.Equal(x.b); got != x.want {
			t.Errorf("%v equals %v: %v", x.a, x.b, got)
		}
	}
}

func TestForms(t *testing.T) {
	h := hash.Sum([]byte("something"))
	b, err := h.MarshalBinary()
	if err != nil || len(b) != hash.Size {
		t.Fatalf("%x, %v", b, err)
	}
	var back hash.Hash
	if err := back.UnmarshalBinary(b); err != nil || back != h {
		t.Errorf("from bytes: %s, %v", back, err)
	}
	back = hash.Hash{}
	if err := back.UnmarshalHex(strings.ToUpper(h.Hex())); err != nil || back != h {
		t.Errorf("from text: %s, %v", back, err)
	}
	text, err := json.Marshal(h)
	if err != nil || string(text) != `"`+h.Hex()+`"` {
		t.Errorf("JSON %s, %v", text, err)
	}
	back = hash.Hash{}
	if err := json.Unmarshal(text, &back); err != nil || back != h {
		t.Errorf("from JSON: %s, %v", back, err)
	}
}

// What is malformed is refused, and leaves the hash as it was.
func TestMalformed(t *testing.T) {
	before := hash.Sum([]byte("before"))
	h := before
	for _, n := range []int{0, 1, 31, 33, 64} {
		if err := h.UnmarshalBinary(make([]byte, n)); !errors.Is(err, hash.ErrMalformed) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	for _, text := range []string{"", "c6", emptyHex[:63], emptyHex + "0", emptyHex[:63] + "g", "0x" + emptyHex[:62]} {
		if err := h.UnmarshalText([]byte(text)); !errors.Is(err, hash.ErrMalformed) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if h != before {
		t.Errorf("the hash became %s", h)
	}
}
