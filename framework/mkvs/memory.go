package mkvs

import "math/bits"

// memory holds keys and values one behind the other, in pieces. It is given up as a whole.
type memory struct {
	pieces [][]byte
	used   int
	// spare are pieces that hold nothing.
	spare [][]byte
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
		m.pieces = append(m.pieces, m.newPiece(n))
		last++
	}
	p := &m.pieces[last]
	at := location(last)<<32 | location(len(*p))
	*p = append(append(*p, key...), value...)
	m.used += n
	return at
}

// newPiece returns an empty piece with room for n bytes.
func (m *memory) newPiece(n int) []byte {
	if spare := len(m.spare) - 1; spare >= 0 && n <= memoryPiece {
		p := m.spare[spare]
		m.spare = m.spare[:spare]
		return p
	}
	size := min(memoryPiece, firstPiece<<min(len(m.pieces), bits.Len(memoryPiece/firstPiece)))
	return make([]byte, 0, max(size, n))
}

// reset forgets everything, for new keys and values to lie where the old ones did.
func (m *memory) reset() {
	for _, p := range m.pieces {
		if cap(p) == memoryPiece {
			m.spare = append(m.spare, p[:0])
		}
	}
	clear(m.pieces)
	m.pieces, m.used = m.pieces[:0], 0
}

// bytes returns the n bytes at a place. They stay as they are.
func (m *memory) bytes(at location, n int) []byte {
	p, i := m.pieces[at>>32], int(uint32(at))
	return p[i : i+n : i+n]
}
