package mkvs

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"slices"
	"sort"

	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// run is some changes, sorted by key.
type run struct {
	c    *changes
	refs []ref
	// shared is how many bits of their keys all share at least.
	shared int
}

// ref is a change in a run.
type ref struct {
	prefix uint64 // the key's bits behind those that all share: most questions end here
	change uint32
}

func (r run) len() int           { return len(r.refs) }
func (r run) key(i int) node.Key { return r.c.key(r.refs[i].change) }
func (r run) value(i int) []byte { return r.c.value(r.refs[i].change) }
func (r run) noteExisted(i int)  { r.c.noteExisted(r.refs[i].change) }
func (r run) first() node.Key    { return r.key(0) }
func (r run) last() node.Key     { return r.key(len(r.refs) - 1) }
func (r run) from(i int) run     { return run{r.c, r.refs[i:], r.shared} }
func (r run) to(i int) run       { return run{r.c, r.refs[:i], r.shared} }
func (r run) removes(i int) bool { return r.c.list.at(r.refs[i].change).flags&changeRemoved != 0 }

// hasRemovals says whether the run removes any key.
func (r run) hasRemovals() bool {
	for i := range r.refs {
		if r.removes(i) {
			return true
		}
	}
	return false
}

// live returns the run without the removals that it begins and ends with.
func (r run) live() run {
	for r.len() > 0 && r.removes(0) {
		r = r.from(1)
	}
	for r.len() > 0 && r.removes(r.len()-1) {
		r = r.to(r.len() - 1)
	}
	return r
}

// bit returns bit i of key n, which must lie within the key.
func (r run) bit(n int, i node.Depth) bool {
	if at := int(i) - r.shared; at >= 0 && at < 64 {
		return r.refs[n].prefix<<at>>63 == 1
	}
	return r.key(n).GetBit(i)
}

// common returns how many bits the first and the last key share, and so all do; they share the first from
// ones.
func (r run) common(from node.Depth) node.Depth {
	first, last := r.refs[0], r.refs[len(r.refs)-1]
	shortest := 8 * min(int(r.c.list.at(first.change).keyLength), int(r.c.list.at(last.change).keyLength))
	if x := first.prefix ^ last.prefix; x != 0 { // where a key ends, its prefix goes on with zeros
		return node.Depth(min(shortest, r.shared+bits.LeadingZeros64(x)))
	}
	key := r.first()
	return key.CommonPrefixLenFrom(from, key.BitLength(), r.last(), r.last().BitLength())
}

// through returns how many keys, from the first on, share its first so many bits.
func (r run) through(bits node.Depth) int {
	first := r.first()
	return sort.Search(r.len(), func(i int) bool {
		key := r.key(i)
		return key.BitLength() < bits || key.CommonPrefixLen(bits, first, bits) < bits
	})
}

// find returns where a key is in the run.
func (r run) find(key node.Key) (int, bool) {
	return sort.Find(r.len(), func(i int) int { return bytes.Compare(key, r.key(i)) })
}

// divide divides a run of keys that share their first end bits: those, none or one, that end there, those
// whose next bit is 0, and the others.
func (r run) divide(end node.Depth) (own, left, right run) {
	n := 0
	if r.len() > 0 && r.first().BitLength() == end {
		n = 1
	}
	own, r = r.to(n), r.from(n)
	at := sort.Search(r.len(), func(i int) bool { return r.bit(i, end) })
	return own, r.to(at), r.from(at)
}

// sorted returns changes, given by their numbers, as a run.
func (c *changes) sorted(numbers []uint32, forks forks) run {
	refs := make([]ref, len(numbers))
	if len(numbers) == 0 {
		return run{c, refs, 0}
	}
	first := c.key(numbers[0])
	shared, inOrder, before := len(first), true, first
	for _, i := range numbers[1:] {
		key := c.key(i)
		shared = sharedBytes(first[:shared], key)
		inOrder = inOrder && bytes.Compare(before, key) < 0
		before = key
	}
	var word [8]byte
	for n, i := range numbers {
		key := c.key(i)[shared:]
		if len(key) >= len(word) {
			refs[n] = ref{binary.BigEndian.Uint64(key), i}
			continue
		}
		clear(word[copy(word[:], key):])
		refs[n] = ref{binary.BigEndian.Uint64(word[:]), i}
	}
	if !inOrder {
		c.sort(refs, forks)
	}
	return run{c, refs, shared * 8}
}

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

// sortFork is the number of changes from which on it pays to sort halves at once.
const sortFork = 1 << 13

// sort sorts refs by their keys.
func (c *changes) sort(refs []ref, forks forks) {
	compare := func(a, b ref) int {
		switch {
		case a.prefix < b.prefix:
			return -1
		case a.prefix > b.prefix:
			return 1
		}
		return bytes.Compare(c.key(a.change), c.key(b.change))
	}
	if len(refs) < sortFork {
		slices.SortFunc(refs, compare)
		return
	}
	at := divideAround(refs, compare)
	forks.both(
		func() { c.sort(refs[:at], forks) },
		func() { c.sort(refs[at:], forks) },
	)
}

// divideAround puts the lesser part of refs before the greater one, and returns where that begins: about
// in the middle, as a sample shows it.
func divideAround(refs []ref, compare func(a, b ref) int) int {
	var sample [63]ref
	for i := range sample {
		sample[i] = refs[i*(len(refs)-1)/(len(sample)-1)]
	}
	slices.SortFunc(sample[:], compare)
	pivot := sample[len(sample)/2]
	i, j := 0, len(refs)-1
	for {
		for compare(refs[i], pivot) < 0 {
			i++
		}
		for compare(refs[j], pivot) > 0 {
			j--
		}
		if i >= j {
			return i
		}
		refs[i], refs[j] = refs[j], refs[i]
		i++
		j--
	}
}
