package kvdb

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// garbagePart is the size of what is gathered of a garbage list before it is stored, in bytes.
const garbagePart = 1 << 20

// garbageWriter gathers the part of a garbage list that is not stored yet. A part is sorted and delta
// coded: for each address uvarint(list's version − its version) ‖ uvarint(candidate) ‖ uvarint(count),
// then for each position uvarint(bytes shared with the one before) ‖ uvarint(length of the rest) ‖ rest.
type garbageWriter struct {
	version uint64
	list    deadList
	parts   uint32
}

// reset empties it, whatever it was for.
func (g *garbageWriter) reset() {
	g.list.reset()
	g.version, g.parts = 0, 0
}

func (g *garbageWriter) add(a node.Address, p node.Position) { g.list.append(a, p) }

// bytes is what was gathered, about.
func (g *garbageWriter) bytes() int { return 2 * g.list.bytes() }

// encode returns the value of the present part, and begins the next one.
func (g *garbageWriter) encode(key []byte) []byte {
	g.list.sort()
	out := make([]byte, 0, len(g.list.positions)+64)
	for i, n := 0, 0; i < len(g.list.entries); i = n {
		address := g.list.entries[i].address
		for n = i; n < len(g.list.entries) && g.list.entries[n].address == address; {
			n++
		}
		a := g.list.addresses[address]
		out = binary.AppendUvarint(out, g.version-a.Version)
		out = binary.AppendUvarint(out, uint64(a.Candidate))
		out = binary.AppendUvarint(out, uint64(n-i))
		var before node.Position
		for j := i; j < n; j++ {
			p := g.list.position(&g.list.entries[j])
			shared := sharedBytes(before, p)
			out = binary.AppendUvarint(out, uint64(shared))
			out = binary.AppendUvarint(out, uint64(len(p)-shared))
			out = append(out, p[shared:]...)
			before = p
		}
	}
	g.list.reset()
	g.parts++
	return seal(key, out)
}

// deadList is what garbage lists name, in little memory: a version of a thousand changes names ten
// thousand entries.
type deadList struct {
	entries []deadEntry
	// positions holds le16(length) ‖ position for each entry.
	positions []byte
	addresses []node.Address
	index     map[node.Address]uint32
}

// deadEntry is a dead entry: the first bytes of its position, where all of it lies in the list's
// positions, and which of the list's addresses is its.
type deadEntry struct {
	prefix  uint64
	at      uint32
	address uint32
}

func (l *deadList) reset() {
	l.entries, l.positions, l.addresses = l.entries[:0], l.positions[:0], l.addresses[:0]
	clear(l.index)
}

// bytes is what the list takes.
func (l *deadList) bytes() int { return 16*len(l.entries) + len(l.positions) + 32*len(l.addresses) }

func (l *deadList) position(e *deadEntry) node.Position {
	n := int(binary.LittleEndian.Uint16(l.positions[e.at:]))
	from := int(e.at) + 2
	return node.Position(l.positions[from : from+n : from+n])
}

// at returns an entry.
func (l *deadList) at(i int) (node.Address, node.Position) {
	e := &l.entries[i]
	return l.addresses[e.address], l.position(e)
}

// upTo returns the index of the first entry, from i on, that is not of an address or lies behind a
// position.
func (l *deadList) upTo(i int, a node.Address, last node.Position) int {
	for ; i < len(l.entries); i++ {
		if at, p := l.at(i); at != a || p.Compare(last) > 0 {
			break
		}
	}
	return i
}

// sort sorts by the keys that entries are stored under. Nothing is added afterwards, before reset.
func (l *deadList) sort() {
	order := make([]uint32, len(l.addresses))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(i, j uint32) int {
		a, b := l.addresses[i], l.addresses[j]
		return cmp.Or(cmp.Compare(a.Version, b.Version), cmp.Compare(a.Candidate, b.Candidate))
	})
	rank, sorted := make([]uint32, len(order)), make([]node.Address, len(order))
	for r, i := range order {
		rank[i], sorted[r] = uint32(r), l.addresses[i]
	}
	l.addresses = sorted
	for i := range l.entries {
		l.entries[i].address = rank[l.entries[i].address]
	}
	slices.SortFunc(l.entries, func(a, b deadEntry) int {
		switch {
		case a.address != b.address:
			return cmp.Compare(a.address, b.address)
		case a.prefix != b.prefix:
			return cmp.Compare(a.prefix, b.prefix)
		default:
			return l.position(&a).Compare(l.position(&b))
		}
	})
}

// append adds an entry.
func (l *deadList) append(a node.Address, p node.Position) {
	i, known := l.index[a]
	if !known {
		if l.index == nil {
			l.index = make(map[node.Address]uint32)
		}
		i = uint32(len(l.addresses))
		l.index[a], l.addresses = i, append(l.addresses, a)
	}
	var first [8]byte
	copy(first[:], p)
	l.entries = append(l.entries, deadEntry{binary.BigEndian.Uint64(first[:]), uint32(len(l.positions)), i})
	l.positions = binary.LittleEndian.AppendUint16(l.positions, uint16(len(p)))
	l.positions = append(l.positions, p...)
}

// add adds what a part of a garbage list of a version names; nothing where it is damaged.
func (l *deadList) add(key, value []byte, version uint64) error {
	entries, positions := len(l.entries), len(l.positions)
	f, ok := unseal(key, value)
	if ok {
		ok = eachDead(&f, version, l.append)
	}
	if !ok {
		l.entries, l.positions = l.entries[:entries], l.positions[:positions]
		return damaged(version, "garbage list")
	}
	return nil
}

// eachDead calls f with what a part of a garbage list of a version names, and says whether the list is
// whole. The position is valid until the next.
func eachDead(list *fields, version uint64, f func(node.Address, node.Position)) bool {
	var p node.Position
	for len(list.b) > 0 {
		delta, candidate, n := list.uvarint(), list.uint16(), list.uvarint()
		if list.bad || delta > version {
			return false
		}
		a := node.Address{Version: version - delta, Candidate: candidate}
		p = p[:0]
		for range n {
			shared := list.uvarint()
			rest := list.bytes(list.uvarint())
			if list.bad || shared > uint64(len(p)) {
				return false
			}
			if p = append(p[:shared], rest...); !validPosition(p) {
				return false
			}
			f(a, p)
		}
	}
	return !list.bad
}
