package kvdb

import (
	"bytes"
	"slices"

	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// Blocks lose entries one by one, here and there. If each were written again by itself, when half of it is
// dead, most would be half full for most of their life, and in an engine with pages, a block that is half
// full takes a page all the same. So a block that has become small is looked at together with its neighbours
// of the same address: where some of them have a block's worth of free bytes between them, they are packed
// into one block less.
const (
	// windowBlocks is how many neighbours are packed together at most. With more, space is used better, and
	// more is written for each block that is saved.
	windowBlocks = 3
	// windowFree is how many bytes a block must have free to be looked at together with others.
	windowFree = blockTarget / windowBlocks
	// aloneLive is the part of a block, one over this, that is alive when it is written again by itself.
	aloneLive = 4
)

// window is neighbouring blocks of one address, of which the first has become small. It has room for one
// more.
type window struct {
	blocks [windowBlocks]worn
	n      int
	// The others are kept for their memory.
	live      []entry
	positions []byte
	ends      []int
	packer    packer
}

// worn is a block of a window.
type worn struct {
	key   []byte
	block block
	// slots is the bitmap of its dead entries. stored says whether there is one stored, changed whether that
	// is another.
	slots           []byte
	stored, changed bool
	// live is what the live entries take as a block, and all what all take.
	live, all int
	memory    []byte
	kept      bool // key and block lie in memory
}

func (w *worn) free() int { return max(0, blockTarget-w.live) }

// keep copies what lies in the store's memory, which is valid only until the cursor moves.
func (w *worn) keep() {
	if w.kept {
		return
	}
	n := len(w.key)
	w.memory = append(append(w.memory[:0], w.key...), w.block.value...)
	w.key, w.kept = w.memory[:n:n], true
	w.block.moveTo(w.key, w.memory[n:])
}

// wants says whether the window has use for the next block.
func (w *window) wants() bool { return w.n > 0 }

// prefix is what the keys of its blocks begin with.
func (w *window) prefix() []byte { return w.blocks[0].key[:prefixSize] }

// cost is at most what is written for the window and one more block, in operations and bytes.
func (w *window) cost(key, value []byte) (ops, size int) {
	const each = 3 // a block and its bitmap go, another comes
	ops, size = each, each*len(key)+max(len(value), blockTarget)
	for i := range w.n {
		ops, size = ops+each, size+each*len(w.blocks[i].key)+blockTarget
	}
	return ops, size
}

// shrink looks at a block with some more dead entries, those of the list from one index up to another. What
// becomes of it is gathered now, or when its neighbours are known.
func (c *collection) shrink(key, value, deadKey, stored []byte, from, to int) {
	at := c.window.n
	w := &c.window.blocks[at]
	if reason := c.open(w, key, value, deadKey, stored, from, to); reason != "" {
		c.d.log.Warn("a block is damaged: its space stays taken", "key", key, "reason", reason)
		c.settle()
		return
	}
	switch {
	case w.live == 0: // those on its sides are neighbours now
		c.drop(w)
		return
	case w.live > blockTarget: // an entry by itself
		c.settle()
		c.mark(at)
		return
	}
	c.window.n++
	for c.window.n > 0 {
		free := 0
		for i := range c.window.n {
			free += c.window.blocks[i].free()
		}
		if free >= blockTarget && c.repack() {
			c.window.n = 0
		} else if c.window.blocks[0].free() < windowFree || c.window.n == windowBlocks {
			c.mark(0)
			c.window.n--
			rotate(c.window.blocks[:c.window.n+1])
		} else {
			c.window.blocks[c.window.n-1].keep()
			return
		}
	}
}

// rotate moves the first to the end.
func rotate(blocks []worn) {
	first := blocks[0]
	copy(blocks, blocks[1:])
	blocks[len(blocks)-1] = first
}

// open takes a block apart, and says what is wrong, or nothing.
func (c *collection) open(w *worn, key, value, deadKey, stored []byte, from, to int) (reason string) {
	if w.block, reason = openBlock(key, value); reason != "" {
		return reason
	}
	b := &w.block
	w.key, w.kept = key, false
	w.slots = c.d.deadSlots(b, deadKey, stored, w.slots)
	w.stored, w.changed = stored != nil, false
	for ; from < to; from++ {
		_, p := c.list.at(from)
		slot, found, bad := b.find(p)
		if bad {
			return "entries"
		}
		if found && !isDead(w.slots, slot) { // neither holds where this is done again
			w.slots[slot/8] |= 1 << (slot % 8)
			w.changed = true
		}
	}
	live, size := 0, 0
	w.all = 0
	for i := range b.n {
		suffix, record, ok := b.entry(i)
		if !ok {
			return "entries"
		}
		w.all += len(suffix) + len(record)
		if !isDead(w.slots, i) {
			live++
			size += len(suffix) + len(record)
		}
	}
	if w.live = 0; live > 0 {
		w.live = blockSize(live, size, 0)
	}
	return ""
}

// settle gathers what becomes of the blocks in the window, which get no further neighbours.
func (c *collection) settle() {
	for i := range c.window.n {
		c.mark(i)
	}
	c.window.n = 0
}

// mark gathers what becomes of a block by itself: it is written again without its dead entries, or these
// are kept count of.
func (c *collection) mark(at int) {
	w := &c.window.blocks[at]
	if w.live*aloneLive <= w.all {
		alone := c.window.blocks[at : at+1]
		c.replace(alone, c.liveEntries(alone), nil)
		return
	}
	if !w.changed {
		return
	}
	out := &c.part
	key := deadKeyOf(out.arena.copy(w.key))
	v := append(out.arena.grow(1+len(w.slots)+crcSize), w.block.generation)
	out.batch.Put(key, out.arena.keep(seal(key, append(v, w.slots...))))
}

// drop gathers the end of a block that has no live entry.
func (c *collection) drop(w *worn) {
	c.part.batch.Delete(c.part.arena.copy(w.key))
	if w.stored {
		c.part.batch.Delete(deadKeyOf(c.part.arena.copy(w.key)))
	}
}

// deadKeyOf makes the key of a block that of its bitmap.
func deadKeyOf(key []byte) []byte {
	key[0] += kindDead - kindBlock
	return key
}

// repack gathers the blocks of the window as fewer ones, and says whether that can be done.
func (c *collection) repack() bool {
	w := &c.window
	live := c.liveEntries(w.blocks[:w.n])
	w.ends = w.ends[:0]
	w.packer.reset()
	for i, e := range live {
		if !w.packer.fits(e) {
			w.ends = append(w.ends, i)
			w.packer.reset()
		}
		w.packer.add(e)
	}
	if len(w.ends)+1 >= w.n {
		return false
	}
	c.replace(w.blocks[:w.n], live, w.ends)
	return true
}

// liveEntries returns the live entries of neighbouring blocks, until it is called again.
func (c *collection) liveEntries(blocks []worn) []entry {
	w := &c.window
	w.live, w.positions = w.live[:0], w.positions[:0]
	for i := range blocks {
		b := &blocks[i].block
		for n := range b.n {
			if isDead(blocks[i].slots, n) {
				continue
			}
			suffix, record, _ := b.entry(n)
			from := len(w.positions)
			w.positions = append(append(w.positions, b.shared...), suffix...)
			to := len(w.positions)
			w.live = append(w.live, entry{node.Position(w.positions[from:to:to]), record})
		}
	}
	return w.live
}

// replace gathers the end of neighbouring blocks, and blocks of all their live entries instead: all but the
// last of these end before the entries whose indices ends has.
func (c *collection) replace(blocks []worn, live []entry, ends []int) {
	generation := blocks[0].block.generation
	for i := range blocks[1:] {
		generation = max(generation, blocks[1+i].block.generation)
	}
	generation++ // no bitmap is of such a block: those there are go with theirs
	out := &c.part
	old := 0
	for from, i := 0, 0; from < len(live); i++ {
		to := len(live)
		if i < len(ends) {
			to = ends[i]
		}
		entries := live[from:to]
		first, last := entries[0].position, entries[len(entries)-1].position
		key := out.arena.keep(append(append(out.arena.grow(prefixSize+len(last)), blocks[0].key[:prefixSize]...), last...))
		for old < len(blocks) && bytes.Compare(blocks[old].key, key) < 0 {
			c.drop(&blocks[old])
			old++
		}
		if old < len(blocks) && bytes.Equal(blocks[old].key, key) {
			if blocks[old].stored {
				out.batch.Delete(deadKeyOf(out.arena.copy(key)))
			}
			old++
		}
		value := appendBlock(out.arena.grow(blockRoom(entries)), key, entries, sharedBytes(first, last), generation)
		out.batch.Put(key, out.arena.keep(value))
		from = to
	}
	for ; old < len(blocks); old++ {
		c.drop(&blocks[old])
	}
	clear(live)
}

func isDead(slots []byte, i int) bool { return slots[i/8]&(1<<(i%8)) != 0 }

// deadSlots returns a copy, in memory that may be given, of the stored bitmap of a block's dead slots; an
// empty one where there is none for this generation of the block.
func (d *DB) deadSlots(b *block, key, stored, memory []byte) []byte {
	n := (b.n + 7) / 8
	slots := slices.Grow(memory[:0], n)[:n]
	clear(slots)
	if stored == nil {
		return slots
	}
	f, ok := unseal(key, stored)
	if generation := f.byte(); !ok || generation != b.generation || len(f.b) != n {
		d.log.Warn("a count of dead entries is damaged: their space stays taken", "key", key)
		return slots
	}
	copy(slots, f.b)
	return slots
}
