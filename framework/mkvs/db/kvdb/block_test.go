package kvdb

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

var blockAt = node.Address{Version: 7, Candidate: 1}

func randomPosition(rng *rand.Rand, bits int) node.Position {
	path := make(node.Key, bits/8+1)
	for i := range path {
		path[i] = byte(rng.Uint32())
	}
	return node.NewPosition(path, node.Depth(bits))
}

// randomEntries returns entries in pre-order; deep ones share much of their positions.
func randomEntries(rng *rand.Rand, n int) []entry {
	prefix := make(node.Key, 200)
	seen := make(map[string]bool)
	var out []entry
	deep := rng.IntN(2) == 0
	for range n {
		p := randomPosition(rng, rng.IntN(60))
		if deep {
			path := append(bytes.Clone(prefix), byte(rng.Uint32()), byte(rng.Uint32()))
			p = node.NewPosition(path, node.Depth(1600+rng.IntN(16)))
		}
		if seen[string(p)] {
			continue
		}
		seen[string(p)] = true
		out = append(out, entry{p, bytes.Repeat([]byte{byte(rng.Uint32())}, 1+rng.IntN(200))})
	}
	slices.SortFunc(out, func(a, b entry) int { return a.position.Compare(b.position) })
	return out
}

// packed makes blocks of entries.
func packed(t *testing.T, entries []entry) (keys, values [][]byte) {
	var p packer
	emit := func() {
		key := nodeKey(kindBlock, node.RootTypeState, blockAt, p.entries[len(p.entries)-1].position)
		value := appendBlock(nil, key, p.entries, p.shared, 3)
		if room := blockRoom(p.entries); len(key)+len(value) > room {
			t.Fatalf("block takes %d bytes, said to take at most %d", len(key)+len(value), room)
		}
		if len(p.entries) > 1 && len(value) > blockTarget {
			t.Fatalf("block of %d entries has %d bytes", len(p.entries), len(value))
		}
		keys, values = append(keys, key), append(values, value)
		p.reset()
	}
	for _, e := range entries {
		if !p.fits(e) {
			emit()
		}
		p.add(e)
	}
	emit()
	return keys, values
}

func TestBlocksHoldWhatIsPacked(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	for range 200 {
		entries := randomEntries(rng, 1+rng.IntN(300))
		if rng.IntN(4) == 0 { // too large for 16 bits
			i := rng.IntN(len(entries))
			entries[i].record = make([]byte, maxNarrowSize+rng.IntN(10))
		}
		keys, values := packed(t, entries)
		i := 0
		for j := range keys {
			b, reason := openBlock(keys[j], values[j])
			if reason != "" || b.generation != 3 {
				t.Fatalf("block does not open: %q, generation %d", reason, b.generation)
			}
			for slot := range b.n {
				e := entries[i]
				i++
				got, found, damaged := b.find(e.position)
				if got != slot || !found || damaged || !b.is(slot, e.position) {
					t.Fatalf("entry %s is at %d (%v, %v), want %d", e.position, got, found, damaged, slot)
				}
				if _, record, _ := b.entry(slot); !bytes.Equal(record, e.record) {
					t.Fatalf("entry %s has another record", e.position)
				}
				other := randomPosition(rng, rng.IntN(60))
				if _, found, _ := b.find(other); found && !slices.ContainsFunc(entries, func(e entry) bool { return bytes.Equal(e.position, other) }) {
					t.Fatalf("found %s, which was not packed", other)
				}
			}
		}
		if i != len(entries) {
			t.Fatalf("%d entries in the blocks, want %d", i, len(entries))
		}
	}
}

func TestDamagedBlocksAreSeen(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	keys, values := packed(t, randomEntries(rng, 20))
	for j := range keys {
		for i := range values[j] {
			bad := bytes.Clone(values[j])
			bad[i] ^= byte(1 + rng.IntN(255))
			if _, reason := openBlock(keys[j], bad); reason == "" {
				t.Fatalf("byte %d changed, and the block opens", i)
			}
			if _, reason := openBlock(keys[j], values[j][:i]); reason == "" {
				t.Fatalf("cut at byte %d, and the block opens", i)
			}
		}
		for i := range keys[j] {
			bad := bytes.Clone(keys[j])
			bad[i] ^= 1
			if _, reason := openBlock(bad, values[j]); reason == "" {
				t.Fatalf("byte %d of the key changed, and the block opens", i)
			}
		}
	}
}

// What a wrong program could have written has a right checksum.
func TestSealedNonsenseDoesNoHarm(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	keys, values := packed(t, randomEntries(rng, 60))
	for range 20000 {
		j := rng.IntN(len(keys))
		bad := bytes.Clone(values[j][:len(values[j])-crcSize])
		if rng.IntN(4) == 0 {
			bad = bad[:rng.IntN(len(bad))]
		}
		for range 1 + rng.IntN(3) {
			if len(bad) > 0 {
				bad[min(rng.IntN(len(bad)), rng.IntN(200))] = byte(rng.Uint32())
			}
		}
		bad = binary.LittleEndian.AppendUint32(bad, checksum(keys[j], bad))
		b, reason := openBlock(keys[j], bad)
		if reason != "" {
			continue
		}
		b.find(randomPosition(rng, 30)) // must not panic
		for i := range min(b.n, 1000) {
			b.entry(i)
		}
	}
}

func TestReaches(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	for range 20000 {
		a, b := randomPosition(rng, rng.IntN(20)), randomPosition(rng, rng.IntN(20))
		if rng.IntN(2) == 0 { // often related
			bits, n, _ := b.Bits()
			a = node.NewPosition(bits, node.Depth(rng.IntN(int(n)+1)))
		}
		aBits, an, _ := a.Bits()
		bBits, bn, _ := b.Bits()
		want := an <= bn && aBits.CommonPrefixLen(an, bBits, bn) == an
		if got := reaches(a, b); got != want {
			t.Fatalf("reaches(%s, %s) = %v", a, b, got)
		}
	}
}

func TestValidPosition(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 6))
	check := func(p node.Position) {
		if _, _, err := p.Bits(); (err == nil) != validPosition(p) {
			t.Fatalf("position %x: valid is %v, Bits says %v", []byte(p), validPosition(p), err)
		}
	}
	check(nil)
	for range 20000 {
		p := randomPosition(rng, rng.IntN(40))
		check(p)
		p[rng.IntN(len(p))] = byte(rng.Uint32())
		check(p)
	}
	path := make(node.Key, node.MaxKeyBytes+1)
	check(node.NewPosition(path, node.MaxDepth))
	check(node.NewPosition(path, node.MaxDepth+1))
	check(make(node.Position, node.MaxPositionBytes+1))
}

func TestSuccessor(t *testing.T) {
	for _, c := range []struct{ prefix, want string }{
		{"a", "b"}, {"a\xff", "b"}, {"a\x00", "a\x01"}, {"\xff\xff", ""}, {"", ""},
	} {
		if got := successor([]byte(c.prefix)); string(got) != c.want {
			t.Errorf("successor(%q) = %q, want %q", c.prefix, got, c.want)
		}
	}
}

func TestGarbageLists(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	for range 200 {
		w := garbageWriter{version: 1000}
		var want []dead
		for range rng.IntN(200) {
			d := dead{node.Address{Version: uint64(990 + rng.IntN(10)), Candidate: uint16(rng.IntN(3))}, randomPosition(rng, rng.IntN(50))}
			w.add(d.address, d.position)
			want = append(want, d)
		}
		slices.SortFunc(want, compareDead)
		key := partKey(kindGarbage, node.RootTypeState, blockAt, 0)
		value := w.encode(key)
		var list deadList
		list.reset()
		err := list.add(key, value, 1000)
		list.sort()
		var got []dead
		for i := range list.entries {
			a, p := list.at(i)
			got = append(got, dead{a, p})
			if n := list.upTo(i, a, p); n <= i || n < len(list.entries) && compareDead(dead{a, p}, want[n]) == 0 {
				t.Fatalf("entry %d's like end at %d", i, n)
			}
		}
		if err != nil || !slices.EqualFunc(got, want, func(a, b dead) bool { return compareDead(a, b) == 0 }) {
			t.Fatalf("garbage list came back as %v (%v), want %v", got, err, want)
		}
		for i := range value {
			bad := bytes.Clone(value)
			bad[i]++
			if err := list.add(key, bad, 1000); err == nil || len(list.entries) != len(want) {
				t.Fatalf("byte %d changed, and the list is read", i)
			}
		}
	}
}
