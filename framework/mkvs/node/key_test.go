package node_test

import (
	"bytes"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// bitString is a string of bits as text, "0110": slow, and plain to see.
type bitString string

func bitsOf(k node.Key, n node.Depth) bitString {
	var b strings.Builder
	for i := range n {
		if k.GetBit(i) {
			b.WriteByte('1')
		} else {
			b.WriteByte('0')
		}
	}
	return bitString(b.String())
}

func drawBits(t *rapid.T, label string, most int) (node.Key, node.Depth) {
	n := node.Depth(rapid.IntRange(0, most).Draw(t, label+" length"))
	k := node.Key(rapid.SliceOfN(rapid.Byte(), n.ToBytes(), n.ToBytes()).Draw(t, label))
	for i := n; int(i) < len(k)*8; i++ {
		k.SetBit(i, false)
	}
	return k, n
}

func TestDepthToBytes(t *testing.T) {
	for d, want := range map[node.Depth]int{0: 0, 1: 1, 7: 1, 8: 1, 9: 2, node.MaxDepth - 1: 8191, node.MaxDepth: 8191, 65535: 8192} {
		if got := d.ToBytes(); got != want {
			t.Errorf("%d bits: %d bytes, want %d", d, got, want)
		}
	}
}

func TestKeyBits(t *testing.T) {
	k := node.Key{0b1010_0000, 0b0000_0001}
	if got := bitsOf(k, k.BitLength()); got != "1010000000000001" {
		t.Errorf("bits %s", got)
	}
	k.SetBit(0, false)
	k.SetBit(8, true)
	k.SetBit(15, true)
	if !k.Equal(node.Key{0b0010_0000, 0b1000_0001}) || k.String() != "2081" {
		t.Errorf("after setting: %s", k)
	}
	if k.Compare(node.Key{0x20}) <= 0 || k.Compare(k) != 0 || k.Compare(node.Key{0x21}) >= 0 {
		t.Error("keys compare otherwise than bytes")
	}
}

func TestSliceAndCopyBits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k, n := drawBits(t, "key", 80)
		from := node.Depth(rapid.IntRange(0, int(n)).Draw(t, "from"))
		to := node.Depth(rapid.IntRange(int(from), int(n)).Draw(t, "to"))
		part := k.Slice(from, to)
		if got, want := bitsOf(part, to-from), bitsOf(k, n)[from:to]; got != want || len(part) != (to-from).ToBytes() {
			t.Fatalf("bits %d to %d of %s: %s, want %s", from, to, bitsOf(k, n), got, want)
		}
		if all := bitsOf(part, node.Depth(len(part)*8)); strings.Contains(string(all[to-from:]), "1") {
			t.Fatalf("unused bits of %s are set", all)
		}
		if got := k.AppendSlice(node.Key{1, 2}, from, to); !bytes.Equal(got, append(node.Key{1, 2}, part...)) {
			t.Fatalf("appended: %x", got)
		}

		// Copied over anything, the bits around stay as they are.
		dst, m := drawBits(t, "destination", 120)
		if to-from > m {
			return
		}
		at := node.Depth(rapid.IntRange(0, int(m-(to-from))).Draw(t, "at"))
		before := bitsOf(dst, m)
		dst.CopyBits(at, part, to-from)
		want := before[:at] + bitsOf(k, n)[from:to] + before[at+to-from:]
		if got := bitsOf(dst, m); got != want {
			t.Fatalf("%s over %s at %d: %s, want %s", bitsOf(part, to-from), before, at, got, want)
		}
	})
}

func TestCommonPrefixLen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, n := drawBits(t, "a", 80)
		b, m := drawBits(t, "b", 80)
		if rapid.Bool().Draw(t, "alike") {
			shared := min(n, m, node.Depth(rapid.IntRange(0, 80).Draw(t, "shared")))
			b.CopyBits(0, a, shared)
		}
		want := node.Depth(0)
		for x, y := bitsOf(a, n), bitsOf(b, m); want < min(n, m) && x[want] == y[want]; {
			want++
		}
		if got := a.CommonPrefixLen(n, b, m); got != want {
			t.Fatalf("%s and %s share %d bits, got %d", bitsOf(a, n), bitsOf(b, m), want, got)
		}
		from := node.Depth(rapid.IntRange(0, int(want)).Draw(t, "known"))
		if got := b.CommonPrefixLenFrom(from, m, a, n); got != want {
			t.Fatalf("%s and %s share %d bits, got %d from %d on", bitsOf(a, n), bitsOf(b, m), want, got, from)
		}
	})
}

// The longest keys are no special case.
func TestLongestKey(t *testing.T) {
	k := node.Key(bytes.Repeat([]byte{0xa5}, node.MaxKeyBytes))
	if k.BitLength() != node.MaxDepth {
		t.Fatalf("%d bits", k.BitLength())
	}
	if got := k.CommonPrefixLen(node.MaxDepth, k, node.MaxDepth); got != node.MaxDepth {
		t.Errorf("a key shares %d bits with itself", got)
	}
	tail := k.Slice(3, node.MaxDepth)
	dst := make(node.Key, node.MaxKeyBytes)
	dst.CopyBits(0, k, 3)
	dst.CopyBits(3, tail, node.MaxDepth-3)
	if !dst.Equal(k) {
		t.Error("taken apart and put together it is another")
	}
	p := node.NewPosition(k, node.MaxDepth)
	if back, n, err := p.Bits(); err != nil || n != node.MaxDepth || !back.Equal(k) || len(p) > node.MaxPositionBytes {
		t.Errorf("position of %d bytes: %d bits, %v", len(p), n, err)
	}
}
