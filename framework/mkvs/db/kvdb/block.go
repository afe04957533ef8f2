package kvdb

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"sort"

	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// A block is a run of entries in pre-order under one key, which ends with the last one's position as it
// was when the block was first written.
//
//	flags (1) ‖ generation (1) ‖ le16(shared) ‖ count ‖ slot for each entry ‖ entries ‖ crc (4)
//	entry: uvarint(length) ‖ position without its first shared bytes ‖ record
//
// The first shared bytes of every position are those of the key's. A slot is the offset of an entry in
// the value. Count and slots have 16 bits, or 32 where flags say wide. The generation changes when the
// block is written again: slots of another generation are not this one's.
const (
	// blockTarget is the length of value that blocks are filled to; a larger entry stands alone.
	blockTarget = 4000

	blockWide     = 1
	blockHead     = 4
	crcSize       = 4
	slotSize      = 2
	wideSlotSize  = 4
	maxNarrowSize = 1 << 16
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum covers a value's bytes and the key it is stored under.
func checksum(key, value []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
}

// entry is a node to be stored.
type entry struct {
	position node.Position
	record   []byte
}

// packer gathers entries, in pre-order, up to a block's worth.
type packer struct {
	entries []entry
	shared  int
	bytes   int // of records and positions
}

// blockSize is at least the length of the value of a block: it takes the longest lengths.
func blockSize(n, size, shared int) int {
	return blockHead + slotSize + crcSize + n*(slotSize+2) + size - n*shared
}

// fits says whether e can be added without the block growing beyond its target.
func (p *packer) fits(e entry) bool {
	if len(p.entries) == 0 {
		return true
	}
	size := p.bytes + len(e.position) + len(e.record)
	// What is shared can only shrink, so this is refused first without looking at positions.
	if blockSize(len(p.entries)+1, size, p.shared) > blockTarget {
		return false
	}
	shared := sharedBytes(p.entries[0].position[:p.shared], e.position)
	return blockSize(len(p.entries)+1, size, shared) <= blockTarget
}

func (p *packer) add(e entry) {
	if len(p.entries) == 0 {
		p.shared = len(e.position)
	} else {
		p.shared = sharedBytes(p.entries[0].position[:p.shared], e.position)
	}
	p.entries = append(p.entries, e)
	p.bytes += len(e.position) + len(e.record)
}

func (p *packer) reset() { p.entries, p.bytes = p.entries[:0], 0 }

// sharedBytes is the number of leading bytes that a and b share.
func sharedBytes(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// appendBlock appends the value of a block of entries, which must not be none, under a key.
func appendBlock(dst, key []byte, entries []entry, shared int, generation byte) []byte {
	size := 0
	for i := range entries {
		size += 3 + len(entries[i].position) - shared + len(entries[i].record)
	}
	start, wide := len(dst), false
	if blockHead+slotSize+crcSize+len(entries)*slotSize+size >= maxNarrowSize {
		wide = true
	}
	flags := byte(0)
	if wide {
		flags = blockWide
	}
	dst = append(dst, flags, generation)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(shared))
	var table int
	if wide {
		dst = binary.LittleEndian.AppendUint32(dst, uint32(len(entries)))
		table = len(dst)
		dst = append(dst, make([]byte, wideSlotSize*len(entries))...)
	} else {
		dst = binary.LittleEndian.AppendUint16(dst, uint16(len(entries)))
		table = len(dst)
		for range entries {
			dst = append(dst, 0, 0)
		}
	}
	for i := range entries {
		if at := len(dst) - start; wide {
			binary.LittleEndian.PutUint32(dst[table+i*wideSlotSize:], uint32(at))
		} else {
			binary.LittleEndian.PutUint16(dst[table+i*slotSize:], uint16(at))
		}
		suffix := entries[i].position[shared:]
		dst = binary.AppendUvarint(dst, uint64(len(suffix)))
		dst = append(dst, suffix...)
		dst = append(dst, entries[i].record...)
	}
	return binary.LittleEndian.AppendUint32(dst, checksum(key, dst[start:]))
}

// block is a block taken apart. Its slices lie in the key and the value.
type block struct {
	value      []byte
	shared     []byte        // what all positions begin with
	last       node.Position // the key's
	table      []byte
	n          int
	wide       bool
	generation byte
}

// openBlock checks a block and takes it apart. It says what is wrong, or nothing.
func openBlock(key, value []byte) (b block, reason string) {
	_, last, ok := addressOfKey(key)
	if !ok || len(value) < blockHead+slotSize+crcSize {
		return b, "block cut short"
	}
	body := value[:len(value)-crcSize]
	if checksum(key, body) != binary.LittleEndian.Uint32(value[len(body):]) {
		return b, "block's checksum is wrong"
	}
	shared := int(binary.LittleEndian.Uint16(body[2:]))
	if body[0]&^blockWide != 0 || shared > len(last) {
		return b, "block's head is wrong"
	}
	b = block{value: body, shared: last[:shared], last: last, wide: body[0]&blockWide != 0, generation: body[1]}
	rest, slot := body[blockHead:], slotSize
	if b.wide {
		if slot = wideSlotSize; len(rest) < slot {
			return b, "block cut short"
		}
		b.n = int(binary.LittleEndian.Uint32(rest))
	} else {
		b.n = int(binary.LittleEndian.Uint16(rest))
	}
	rest = rest[slot:]
	if b.n < 1 || b.n > len(rest)/slot {
		return b, "block's slot table is wrong"
	}
	b.table = rest[:b.n*slot]
	return b, ""
}

// moveTo has the block lie in copies of its key and of what its value has before the checksum.
func (b *block) moveTo(key, value []byte) {
	head := blockHead + slotSize
	if b.wide {
		head = blockHead + wideSlotSize
	}
	b.table = value[head : head+len(b.table)]
	b.value, b.last = value, node.Position(key[prefixSize:])
	b.shared = b.last[:len(b.shared)]
}

func (b *block) offset(i int) int {
	if i == b.n {
		return len(b.value)
	}
	if b.wide {
		return int(binary.LittleEndian.Uint32(b.table[i*wideSlotSize:]))
	}
	return int(binary.LittleEndian.Uint16(b.table[i*slotSize:]))
}

// entry returns the end of entry i's position, past what is shared, and its record; ok is false where
// the block is damaged.
func (b *block) entry(i int) (suffix, record []byte, ok bool) {
	from, to := b.offset(i), b.offset(i+1)
	if from < blockHead || from >= to || to > len(b.value) {
		return nil, nil, false
	}
	e := b.value[from:to:to]
	n, k := binary.Uvarint(e)
	if k <= 0 || n > uint64(len(e)-k) {
		return nil, nil, false
	}
	end := k + int(n)
	return e[k:end:end], e[end:], true
}

// find returns the slot of a position, and whether it is there. damaged says that it can't be told.
func (b *block) find(p node.Position) (slot int, found, damaged bool) {
	if len(p) < len(b.shared) || !bytes.Equal(p[:len(b.shared)], b.shared) {
		return 0, false, false
	}
	want := p[len(b.shared):]
	slot = sort.Search(b.n, func(i int) bool {
		suffix, _, ok := b.entry(i)
		damaged = damaged || !ok
		return bytes.Compare(suffix, want) >= 0
	})
	if damaged || slot == b.n {
		return slot, false, damaged
	}
	suffix, _, ok := b.entry(slot)
	return slot, ok && bytes.Equal(suffix, want), !ok
}

// is says whether slot i is there and holds position p.
func (b *block) is(i int, p node.Position) bool {
	if i >= b.n || len(p) < len(b.shared) {
		return false
	}
	suffix, _, ok := b.entry(i)
	return ok && bytes.Equal(suffix, p[len(b.shared):]) && bytes.Equal(b.shared, p[:len(b.shared)])
}
