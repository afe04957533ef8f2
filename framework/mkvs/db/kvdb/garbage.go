package kvdb

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// garbagePart is the size of what is gathered of a garbage list before it is stored, in bytes.
const garbagePart = 1 << 20

// dead names an entry that is not reached any more.
type dead struct {
	address  node.Address
	position node.Position
}

// compareDead sorts by the keys that entries are stored under.
func compareDead(a, b dead) int {
	return cmp.Or(
		cmp.Compare(a.address.Version, b.address.Version),
		cmp.Compare(a.address.Candidate, b.address.Candidate),
		a.position.Compare(b.position),
	)
}

// garbageWriter gathers the part of a garbage list that is not stored yet. A part is sorted and delta
// coded: for each address uvarint(list's version − its version) ‖ uvarint(candidate) ‖ uvarint(count),
// then for each position uvarint(bytes shared with the one before) ‖ uvarint(length of the rest) ‖ rest.
type garbageWriter struct {
	version uint64
	list    []dead
	arena   arena
	bytes   int
	parts   uint32
}

func (g *garbageWriter) add(a node.Address, p node.Position) {
	g.list = append(g.list, dead{a, g.arena.copy(p)})
	g.bytes += 32 + len(p)
}

// encode returns the value of the present part, and begins the next one.
func (g *garbageWriter) encode(key []byte) []byte {
	slices.SortFunc(g.list, compareDead)
	var out []byte
	for i := 0; i < len(g.list); {
		a, n := g.list[i].address, i
		for n < len(g.list) && g.list[n].address == a {
			n++
		}
		out = binary.AppendUvarint(out, g.version-a.Version)
		out = binary.AppendUvarint(out, uint64(a.Candidate))
		out = binary.AppendUvarint(out, uint64(n-i))
		var before node.Position
		for ; i < n; i++ {
			p := g.list[i].position
			shared := sharedBytes(before, p)
			out = binary.AppendUvarint(out, uint64(shared))
			out = binary.AppendUvarint(out, uint64(len(p)-shared))
			out = append(out, p[shared:]...)
			before = p
		}
	}
	g.list, g.bytes = g.list[:0], 0
	g.arena.reset()
	g.parts++
	return seal(key, out)
}

// appendDead appends what a part of a garbage list of a version names; nothing where it is damaged.
func appendDead(list []dead, key, value []byte, version uint64) ([]dead, error) {
	given := list
	f, ok := unseal(key, value)
	if !ok {
		return given, damaged(version, "garbage list")
	}
	for !f.bad && len(f.b) > 0 {
		delta, candidate, n := f.uvarint(), f.uint16(), f.uvarint()
		if f.bad || delta > version {
			return given, damaged(version, "garbage list")
		}
		a := node.Address{Version: version - delta, Candidate: candidate}
		var before node.Position
		for range n {
			shared := f.uvarint()
			rest := f.bytes(f.uvarint())
			if f.bad || shared > uint64(len(before)) || shared+uint64(len(rest)) > uint64(node.MaxPositionBytes) {
				return given, damaged(version, "garbage list")
			}
			p := append(bytes.Clone(before[:shared]), rest...)
			list, before = append(list, dead{a, p}), p
		}
	}
	if f.bad {
		return given, damaged(version, "garbage list")
	}
	return list, nil
}
