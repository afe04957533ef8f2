package node_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

func TestPositionRoot(t *testing.T) {
	root := node.RootPosition()
	if !root.IsRoot() || !bytes.Equal(root, node.NewPosition(nil, 0)) || root.String() != "00" {
		t.Errorf("the root's position is %s", root)
	}
	root[0] = 9 // a copy
	if other := node.RootPosition(); !other.IsRoot() || root.IsRoot() {
		t.Errorf("the root's position became %s", other)
	}
}

// Positions sort in pre-order, hold their bits, and no two strings of bits share one.
func TestPositions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, n := drawBits(t, "a", 40)
		b, m := drawBits(t, "b", 40)
		if rapid.Bool().Draw(t, "below") {
			b.CopyBits(0, a, min(n, m))
		}
		p, q := node.NewPosition(a, n), node.NewPosition(b, m)
		if len(p) != int(n)/7+1 {
			t.Fatalf("%d bytes for %d bits", len(p), n)
		}
		back, k, err := p.Bits()
		if err != nil || k != n || bitsOf(back, k) != bitsOf(a, n) {
			t.Fatalf("%s holds %s, %v, want %s", p, bitsOf(back, k), err, bitsOf(a, n))
		}
		// As text, a node comes before what is below it, and 0 before 1: pre-order.
		want := strings.Compare(string(bitsOf(a, n)), string(bitsOf(b, m)))
		if got := p.Compare(q); got != want {
			t.Fatalf("%s and %s compare %d, want %d", bitsOf(a, n), bitsOf(b, m), got, want)
		}
		// A position delimits itself: no other begins with it.
		if want != 0 && (bytes.HasPrefix(p, q) || bytes.HasPrefix(q, p)) {
			t.Fatalf("%s and %s: one begins with the other", p, q)
		}
		prefix := []byte("key before ")
		if got := node.AppendPosition(prefix, a, n); !bytes.Equal(got, append(prefix, p...)) {
			t.Fatalf("appended: %q", got)
		}
	})
}

// Bits beyond the position's in the path that it is made of make no difference.
func TestPositionOfLongerPath(t *testing.T) {
	path := node.Key{0xa5, 0x5a, 0xff}
	for n := range node.Depth(24) {
		if got, want := node.NewPosition(path, n), node.NewPosition(path.Slice(0, n), n); !bytes.Equal(got, want) {
			t.Errorf("%d bits: %s, want %s", n, got, want)
		}
	}
}

// All strings of bytes up to length two: what is taken is what is made.
func TestPositionMalformed(t *testing.T) {
	taken := 0
	for a := range 256 {
		for b := -1; b < 256; b++ {
			p := node.Position{byte(a)}
			if b >= 0 {
				p = append(p, byte(b))
			}
			path, n, err := p.Bits()
			if err != nil {
				if !errors.Is(err, node.ErrMalformedPosition) {
					t.Fatalf("%s: %v", p, err)
				}
				continue
			}
			taken++
			if again := node.NewPosition(path, n); !bytes.Equal(again, p) {
				t.Fatalf("%s is taken for %s", p, again)
			}
		}
	}
	if want := 1<<14 - 1; taken != want { // all strings of 0 to 13 bits
		t.Errorf("%d positions, want %d", taken, want)
	}
	for _, p := range []node.Position{nil, {}, make([]byte, node.MaxPositionBytes+1), {255}} {
		if _, _, err := p.Bits(); !errors.Is(err, node.ErrMalformedPosition) {
			t.Errorf("%.8s…: %v", p, err)
		}
	}
	// One bit below the longest key.
	deepest := node.NewPosition(make(node.Key, node.MaxKeyBytes+1), node.MaxDepth+1)
	if _, _, err := deepest.Bits(); !errors.Is(err, node.ErrMalformedPosition) {
		t.Errorf("below the longest key: %v", err)
	}
}
