package node

import (
	"bytes"
	"encoding/hex"
	"errors"
)

// ErrMalformedPosition is returned for bytes that are not a position.
var ErrMalformedPosition = errors.New("mkvs/node: malformed position")

// MaxPositionBytes is the length of the longest position.
const MaxPositionBytes = (int(MaxDepth)+1)/7 + 1

// PositionBytes returns the length of a position of n bits.
func PositionBytes(n Depth) int { return int(n)/7 + 1 }

// Position is where a node stands in the tree, whatever the tree holds elsewhere: the bits of the path
// from the root down to the parent's end (all labels joined, the parent's included), then the child's
// bit. The root's has no bits. It does not depend on how the path is cut into edges.
//
// A Position holds those bits in an encoding that sorts in pre-order and delimits itself: each group
// of seven bits is one byte, the rank of that bit string (of length 0 to 7) in pre-order among all 255
// such strings; a group of fewer than seven bits, perhaps of none, ends the position. So a position of
// n bits has ⌊n/7⌋+1 bytes, and sorts right before everything below it.
type Position []byte

// rootPosition is the position of the root: the rank of the string of no bits.
var rootPosition = Position{0}

// RootPosition returns the position of the root.
func RootPosition() Position { return bytes.Clone(rootPosition) }

// rankOf[n][v] is the rank of the n-bit string v; groupOf is its inverse.
var (
	rankOf  [8][128]byte
	groupOf [255]struct{ n, v uint8 }
)

func init() {
	for n := range 8 {
		for v := range 1 << n {
			rank := 0
			for i := 1; i <= n; i++ { // one step down, past the sibling's subtree where the bit is 1
				rank++
				if v>>(n-i)&1 == 1 {
					rank += 1<<(8-i) - 1
				}
			}
			rankOf[n][v] = byte(rank)
			groupOf[rank] = struct{ n, v uint8 }{uint8(n), uint8(v)}
		}
	}
}

// AppendPosition appends the position whose bits are the first n of path.
func AppendPosition(dst []byte, path Key, n Depth) []byte {
	for i := 0; ; i += 7 {
		take := min(7, int(n)-i)
		var v uint
		if take > 0 {
			w := uint(path[i>>3]) << 8
			if i>>3+1 < len(path) {
				w |= uint(path[i>>3+1])
			}
			v = w >> (16 - uint(i&7) - uint(take)) & (1<<take - 1)
		}
		dst = append(dst, rankOf[take][v])
		if take < 7 {
			return dst
		}
	}
}

// NewPosition returns the position whose bits are the first n of path.
func NewPosition(path Key, n Depth) Position {
	return AppendPosition(make([]byte, 0, PositionBytes(n)), path, n)
}

// Bits returns the position's bits, left-aligned, and their number. It refuses what AppendPosition
// does not make.
func (p Position) Bits() (Key, Depth, error) {
	if len(p) == 0 || len(p) > MaxPositionBytes {
		return nil, 0, ErrMalformedPosition
	}
	path := make(Key, len(p)*7/8+1)
	n := 0
	for i, c := range p {
		if c == 255 {
			return nil, 0, ErrMalformedPosition
		}
		g := groupOf[c]
		if last := i == len(p)-1; (g.n == 7) == last {
			return nil, 0, ErrMalformedPosition
		}
		for b := int(g.n) - 1; b >= 0; b-- {
			if g.v>>b&1 == 1 {
				path[n>>3] |= 0x80 >> (n & 7)
			}
			n++
		}
	}
	if n > int(MaxDepth) {
		return nil, 0, ErrMalformedPosition
	}
	return path[:Depth(n).ToBytes()], Depth(n), nil
}

// IsRoot says whether p is the root's position.
func (p Position) IsRoot() bool { return bytes.Equal(p, rootPosition) }

// Compare compares in pre-order: a node comes before everything below it, left before right.
func (p Position) Compare(other Position) int { return bytes.Compare(p, other) }

// String returns the position's encoding in hexadecimal digits.
func (p Position) String() string { return hex.EncodeToString(p) }
