package mkvs

import (
	"bytes"
	"context"
	"fmt"
	"hash/maphash"
	"slices"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/writelog"
)

// changes is what was done to keys since a tree's base: each key once, with what was last done to it. A
// change touches no node until it is applied, together with all others that came since the last time.
//
// There can be millions. So keys and values lie one behind the other in large pieces of memory, and what
// leads to them holds no pointers for the garbage collector to follow.
type changes struct {
	memory memory
	list   changeList
	// slots find a change by its key: a table with open addressing, whose size is a power of two. A slot
	// holds the upper half of the key's hash, and in its lower half the change's number plus one; 0 is
	// free.
	slots []uint64
	seed  maphash.Seed
	// pending are the numbers of the changes that are not applied.
	pending []uint32
	// dead is how much of memory nothing leads to any more.
	dead int
}

// change is what was last done to a key.
type change struct {
	at          location // of the key; the value follows it
	valueLength uint32
	keyLength   uint16
	flags       uint8
	// existed says that the key is in the base. It is found out while others look at the flags.
	existed bool
}

// changeList holds changes in pieces, so that it grows without copies of it being left behind.
type changeList struct {
	pieces [][]change
}

// changesPiece is the length of pieces; the first one grows until it is as long.
const changesPiece = 1 << 12

func (l *changeList) len() int {
	if len(l.pieces) == 0 {
		return 0
	}
	last := len(l.pieces) - 1
	return last*changesPiece + len(l.pieces[last])
}

func (l *changeList) at(i uint32) *change { return &l.pieces[i/changesPiece][i%changesPiece] }

func (l *changeList) add(c change) {
	last := len(l.pieces) - 1
	switch {
	case last < 0:
		l.pieces, last = append(l.pieces, nil), 0
	case len(l.pieces[last]) == changesPiece:
		l.pieces = append(l.pieces, make([]change, 0, changesPiece))
		last++
	}
	l.pieces[last] = append(l.pieces[last], c)
}

func (l *changeList) removeLast() {
	last := len(l.pieces) - 1
	if l.pieces[last] = l.pieces[last][:len(l.pieces[last])-1]; len(l.pieces[last]) == 0 {
		l.pieces = l.pieces[:last]
	}
}

// reset empties the list.
func (l *changeList) reset() {
	if len(l.pieces) > 0 {
		clear(l.pieces[1:])
		l.pieces = append(l.pieces[:0], l.pieces[0][:0])
	}
}

const (
	changeRemoved = 1 << iota // the key is removed, otherwise it is set to the value
	changePending             // this is not applied
	changeSettled             // something was applied to the key: existed stays as it is
)

const (
	// maxChanges is how many keys the slots can tell apart.
	maxChanges = 1<<32 - 2
	// leastSlots is the size that the table begins with.
	leastSlots = 64
)

func newChanges() changes { return changes{seed: maphash.MakeSeed()} }

// key returns the key of change i.
func (c *changes) key(i uint32) node.Key {
	ch := c.list.at(i)
	return c.memory.bytes(ch.at, int(ch.keyLength))
}

// value returns what change i sets its key to, nil where it removes it.
func (c *changes) value(i uint32) []byte {
	ch := c.list.at(i)
	if ch.flags&changeRemoved != 0 {
		return nil
	}
	return c.memory.bytes(ch.at+location(ch.keyLength), int(ch.valueLength))
}

// find returns the number of a key's change.
func (c *changes) find(key []byte) (i uint32, found bool) {
	if c.list.len() == 0 {
		return 0, false
	}
	i, _, found = c.probe(maphash.Bytes(c.seed, key)>>32, key)
	return i, found
}

// probe returns the number of a key's change, given the upper half of the key's hash, or the slot where it
// belongs.
func (c *changes) probe(hash uint64, key []byte) (i uint32, slot int, found bool) {
	mask := len(c.slots) - 1
	for slot = int(hash) & mask; ; slot = (slot + 1) & mask {
		s := c.slots[slot]
		if s == 0 {
			return 0, slot, false
		}
		if i = uint32(s) - 1; s>>32 == hash && bytes.Equal(c.key(i), key) {
			return i, slot, true
		}
	}
}

// set makes a change, of which it keeps copies: a value, or nil where the key is removed.
func (c *changes) set(key, value []byte) error {
	if c.list.len() >= maxChanges {
		return fmt.Errorf("%w: %d changes that are not committed", db.ErrLimitExceeded, c.list.len())
	}
	if c.list.len()*4 >= len(c.slots)*3 {
		c.grow()
	}
	hash := maphash.Bytes(c.seed, key) >> 32
	i, slot, found := c.probe(hash, key)
	switch {
	case !found:
		i = uint32(c.list.len())
		c.slots[slot] = hash<<32 | uint64(i+1)
		c.list.add(change{at: c.memory.add(key, value), keyLength: uint16(len(key))})
	case value == nil:
		c.dead += int(c.list.at(i).valueLength)
	default:
		c.dead += len(key) + int(c.list.at(i).valueLength)
		c.list.at(i).at = c.memory.add(key, value)
	}
	ch := c.list.at(i)
	ch.valueLength = uint32(len(value))
	if ch.flags &^= changeRemoved; value == nil {
		ch.flags |= changeRemoved
	}
	if ch.flags&changePending == 0 {
		ch.flags |= changePending
		if len(c.pending) == cap(c.pending) { // append would grow it by less, and leave more behind
			c.pending = slices.Grow(c.pending, max(leastSlots, len(c.pending)))
		}
		c.pending = append(c.pending, i)
	}
	return nil
}

// reset forgets all changes, of which none was ever looked for, and whose keys and values nobody has any more.
func (c *changes) reset() {
	c.memory.reset()
	c.list.reset()
	c.pending = c.pending[:0]
}

// append makes a change that sets a key like which there is none, and which is never looked for.
func (c *changes) append(key, value []byte) {
	c.pending = append(c.pending, uint32(c.list.len()))
	c.list.add(change{at: c.memory.add(key, value), keyLength: uint16(len(key)), valueLength: uint32(len(value))})
}

// prepend is append for a key that comes before the pending ones.
func (c *changes) prepend(key, value []byte) {
	c.append(key, value)
	last := len(c.pending) - 1
	n := c.pending[last]
	copy(c.pending[1:], c.pending[:last])
	c.pending[0] = n
}

// grow doubles the table.
func (c *changes) grow() {
	slots := make([]uint64, max(leastSlots, 2*len(c.slots)))
	mask := len(slots) - 1
	for _, s := range c.slots {
		if s == 0 {
			continue
		}
		at := int(s>>32) & mask
		for slots[at] != 0 {
			at = (at + 1) & mask
		}
		slots[at] = s
	}
	c.slots = slots
}

// compact leaves behind what nothing leads to, where that is much. What was handed out of the old memory
// stays as it is.
func (c *changes) compact() {
	if c.dead <= max(memoryPiece, c.memory.used/2) {
		return
	}
	var fresh memory
	for i := range uint32(c.list.len()) {
		c.list.at(i).at = fresh.add(c.key(i), c.value(i))
	}
	c.memory, c.dead = fresh, 0
}

// forget takes back the only pending change, of which the one before it, where there was one, was applied.
func (c *changes) forget(before change, there bool) {
	i := c.pending[0]
	c.pending = c.pending[:0]
	if there {
		*c.list.at(i) = before
		return
	}
	key := c.key(i)
	_, slot, _ := c.probe(maphash.Bytes(c.seed, key)>>32, key)
	c.slots[slot] = 0 // it came last: nobody's way to another leads over it
	c.list.removeLast()
}

// applied notes that what was pending is applied.
func (c *changes) applied() {
	for _, i := range c.pending {
		ch := c.list.at(i)
		ch.flags = ch.flags&^changePending | changeSettled
	}
	c.pending = c.pending[:0]
}

// noteExisted notes that the key of change i was there when it was applied.
func (c *changes) noteExisted(i uint32) {
	if ch := c.list.at(i); ch.flags&changeSettled == 0 {
		ch.existed = true
	}
}

// writeLog returns the changes of a run, which are all there are. A key that was neither there before nor
// is there now is left out.
func (c *changes) writeLog(all run) writelog.WriteLog {
	log := make(writelog.WriteLog, 0, all.len())
	for i := range all.len() {
		if entry, is := c.logEntry(all, i); is {
			log = append(log, entry)
		}
	}
	return slices.Clip(log)
}

// logEntry is change i of a run as the write log has it, if that does.
func (c *changes) logEntry(r run, i int) (writelog.LogEntry, bool) {
	n := r.refs[i].change
	value := c.value(n)
	return writelog.LogEntry{Key: c.key(n), Value: value}, value != nil || c.list.at(n).existed
}

// logWriter puts a run's write log into a batch, part by part.
type logWriter struct {
	rest run
	part writelog.WriteLog
}

// done says that all is put.
func (w *logWriter) done() bool { return w.rest.len() == 0 }

// put puts the next part.
func (w *logWriter) put(ctx context.Context, batch db.Batch) error {
	w.part = w.part[:0]
	i := 0
	for size := 0; i < w.rest.len() && size < writeLogPart; i++ {
		if entry, is := w.rest.c.logEntry(w.rest, i); is {
			w.part = append(w.part, entry)
			size += len(entry.Key) + len(entry.Value) + logEntryOverhead
		}
	}
	w.rest = w.rest.from(i)
	if len(w.part) == 0 {
		return nil
	}
	return batch.PutWriteLog(ctx, w.part)
}
