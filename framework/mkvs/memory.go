package mkvs

import "math/bits"

// memory holds keys and values one behind the other, in pieces. It is given up as a whole.
type memory struct {
	pieces [][]byte
	used   int
}

// location is where something lies in memory: the piece's number in the upper half, and in the lower the
// place in the piece.
type location uint64

const (
	// memoryPiece is the length of pieces, in bytes. The first ones are shorter: most trees have few
	// changes. What is longer has a piece for itself.
	memoryPiece = 1 << 20
	firstPiece  = 1 << 12
)

// add keeps copies of key and value, one behind the other.
func (m *memory) add(key, value []byte) location {
	n := len(key) + len(value)
	last := len(m.pieces) - 1
	if last < 0 || cap(m.pieces[last])-len(m.pieces[last]) < n {
		size := min(memoryPiece, firstPiece<<min(last+1, bits.Len(memoryPiece/firstPiece)))
		m.pieces = append(m.pieces, make([]byte, 0, max(size, n)))
		last++
	}
	p := &m.pieces[last]
	at := location(last)<<32 | location(len(*p))
	*p = append(append(*p, key...), value...)
	m.used += n
	return at
}

// bytes returns the n bytes at a place. They stay as they are.
func (m *memory) bytes(at location, n int) []byte {
	p, i := m.pieces[at>>32], int(uint32(at))
	return p[i : i+n : i+n]
}
