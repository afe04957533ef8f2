package node

import (
	"bytes"
	"encoding/hex"
	"math/bits"
)

const (
	// MaxKeyBytes is the length of the longest key: depths are 16-bit numbers of bits.
	MaxKeyBytes = 8191
	// MaxDepth is the depth below the longest key.
	MaxDepth Depth = MaxKeyBytes * 8
)

// Depth is a number of bits: a depth in the tree or the length of a label.
type Depth uint16

// ToBytes is the number of bytes that hold so many bits.
func (d Depth) ToBytes() int { return (int(d) + 7) / 8 }

// Key is a key, or a string of bits held left-aligned in bytes (a label, a path).
type Key []byte

// String returns the key in hexadecimal digits.
func (k Key) String() string { return hex.EncodeToString(k) }

// Equal says whether both keys have the same bytes.
func (k Key) Equal(other Key) bool { return bytes.Equal(k, other) }

// Compare compares bytewise, which is the order of the tree.
func (k Key) Compare(other Key) int { return bytes.Compare(k, other) }

// BitLength is the key's length in bits. The key must not be longer than MaxKeyBytes.
func (k Key) BitLength() Depth { return Depth(len(k) * 8) }

// GetBit returns bit i, which must lie within the key.
func (k Key) GetBit(i Depth) bool { return k[i>>3]&(0x80>>(i&7)) != 0 }

// SetBit sets bit i, which must lie within the key.
func (k Key) SetBit(i Depth, bit bool) {
	if m := byte(0x80) >> (i & 7); bit {
		k[i>>3] |= m
	} else {
		k[i>>3] &^= m
	}
}

// CommonPrefixLen is the number of leading bits that the first kLen bits of k and the first otherLen
// bits of other share.
func (k Key) CommonPrefixLen(kLen Depth, other Key, otherLen Depth) Depth {
	return k.CommonPrefixLenFrom(0, kLen, other, otherLen)
}

// CommonPrefixLenFrom is CommonPrefixLen for strings that are known to share their first from bits.
func (k Key) CommonPrefixLenFrom(from, kLen Depth, other Key, otherLen Depth) Depth {
	limit := int(min(kLen, otherLen))
	i := int(from) &^ 7
	for ; i < limit; i += 8 {
		if x := k[i>>3] ^ other[i>>3]; x != 0 {
			return Depth(min(i+bits.LeadingZeros8(x), limit))
		}
	}
	return Depth(limit)
}

// Slice returns a copy of bits [from, to) of k, left-aligned, unused bits zero.
func (k Key) Slice(from, to Depth) Key {
	return k.AppendSlice(make(Key, 0, (to-from).ToBytes()), from, to)
}

// AppendSlice appends bits [from, to) of k to dst, starting on a new byte, unused bits zero.
func (k Key) AppendSlice(dst Key, from, to Depth) Key {
	if from >= to {
		return dst
	}
	n := to - from
	first, shift := int(from>>3), from&7
	for i := range n.ToBytes() {
		b := k[first+i] << shift
		if shift != 0 && first+i+1 < len(k) {
			b |= k[first+i+1] >> (8 - shift)
		}
		dst = append(dst, b)
	}
	if n&7 != 0 {
		dst[len(dst)-1] &= 0xff << (8 - n&7)
	}
	return dst
}

// CopyBits sets bits [at, at+n) of k, which must have room, to the first n bits of src.
func (k Key) CopyBits(at Depth, src Key, n Depth) {
	if at&7 == 0 {
		whole := int(n >> 3)
		copy(k[at>>3:], src[:whole])
		if rest := n & 7; rest != 0 {
			mask := byte(0xff) << (8 - rest)
			i := int(at>>3) + whole
			k[i] = k[i]&^mask | src[whole]&mask
		}
		return
	}
	shift := at & 7
	for i := Depth(0); i < n; i += 8 {
		take := min(n-i, 8)
		b := src[i>>3] & (0xff << (8 - take))
		mask := byte(0xff) << (8 - take)
		j := (at + i) >> 3
		k[j] = k[j]&^(mask>>shift) | b>>shift
		if shift+take > 8 {
			k[j+1] = k[j+1]&^(mask<<(8-shift)) | b<<(8-shift)
		}
	}
}
