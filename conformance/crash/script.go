package crash

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/ckpt-project/ckpt/conformance/reference"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// script chooses what is done next, at random and so that it has to succeed.
type script struct {
	rng *rand.Rand
	m   *model
	// pinned are the versions that this process has pinned.
	pinned []uint64
	// serial makes every root another one.
	serial int
}

// chance is true once in n times.
func (s *script) chance(n int) bool { return s.rng.IntN(n) == 0 }

// next returns operations that can be done at once.
func (s *script) next() []op {
	for {
		ops := s.some()
		if len(ops) == 0 {
			continue
		}
		return s.besideReader(ops)
	}
}

// besideReader sometimes adds a reader.
func (s *script) besideReader(ops []op) []op {
	if s.m.any && s.chance(4) {
		ops = append(ops, op{Kind: readRoot, Root: pick(s.rng, s.m.final[s.m.latest]).name})
	}
	return ops
}

// during returns operations of an activity, or nothing where it can't be done now.
func (s *script) during(a activity) []op {
	switch a {
	case committing:
		return s.commits()
	case finalizing:
		return s.finalize()
	case pruning:
		return s.prune()
	case collecting:
		return []op{{Kind: collectGarbage}}
	case compacting:
		return []op{{Kind: compactFiles}}
	default:
		return s.restore()
	}
}

// towards returns operations that lead to where one of an activity can be done that can't be done now.
func (s *script) towards(a activity) []op {
	if a == pruning && slices.Contains(s.pinned, s.m.earliest) {
		s.pinned = nil
		return []op{{Kind: unpinAll}}
	}
	if s.m.insert != nil && s.chance(2) { // it is in the way of prunes, and perhaps of the next version
		if s.chance(20) { // not all are waited for
			return []op{{Kind: abortInsert}}
		}
		if ops := s.restore(); len(ops) > 0 {
			return ops
		}
	}
	if ops := s.finalize(); len(ops) > 0 {
		return ops
	}
	return s.commits()
}

// some may find that what it chose can't be done now, and then returns nothing.
func (s *script) some() []op {
	switch n := s.rng.IntN(100); {
	case n < 28:
		return s.commits()
	case n < 48:
		return s.finalize()
	case n < 60:
		return s.prune()
	case n < 64:
		return []op{{Kind: collectGarbage}}
	case n < 67:
		return []op{{Kind: compactFiles}}
	case n < 80:
		return s.besides()
	default:
		return s.restore()
	}
}

// besides returns an operation of no activity, or nothing.
func (s *script) besides() []op {
	switch n := s.rng.IntN(13); {
	case n < 3:
		return []op{{Kind: syncFiles}}
	case n < 6:
		return s.pin()
	case n < 9:
		s.pinned = nil
		return []op{{Kind: unpinAll}}
	default:
		version := s.m.latest + 1
		return []op{{
			Kind: abandonBatch, Old: emptyRoot(node.RootTypeState, version), Version: version,
			Content: s.change(nil, 40), Sync: s.chance(2),
		}}
	}
}

func pick[T any](rng *rand.Rand, from []T) T { return from[rng.IntN(len(from))] }

// sorted returns a map's roots in an order that does not change from one run to the next.
func sorted(roots map[node.Root]*root) []*root {
	return slices.SortedFunc(maps.Values(roots), func(a, b *root) int { return strings.Compare(a.name.String(), b.name.String()) })
}

func (s *script) commits() (ops []op) {
	n := 1
	if s.chance(3) {
		n += 1 + s.rng.IntN(2)
	}
	for range n {
		ops = append(ops, s.commit())
	}
	return ops
}

func (s *script) commit() op {
	if again := sorted(s.m.candidates); len(again) > 0 && s.chance(12) {
		return *pick(s.rng, again).made
	}
	var bases []*root
	for _, r := range sorted(s.m.all()) {
		if r.name.Type == node.RootTypeState && (r.name.Version > s.m.latest || s.m.any && r.name.Version == s.m.latest) {
			bases = append(bases, r)
		}
	}
	o := op{Kind: commitRoot}
	var old reference.Content
	switch {
	case s.chance(6):
		o.Version = s.m.latest + 1 + uint64(s.rng.IntN(2))
		o.Old = emptyRoot(node.RootTypeIO, o.Version)
	case len(bases) == 0 || s.chance(15):
		o.Version = s.m.latest + 1
		o.Old = emptyRoot(node.RootTypeState, o.Version-uint64(s.rng.IntN(2)))
	default:
		base := pick(s.rng, bases)
		o.Old, old, o.Version = base.name, base.content, base.name.Version+1
	}
	o.Content = s.change(old, 1+s.rng.IntN(40))
	for _, e := range old.Log(o.Content) {
		o.Changes = append(o.Changes, change{string(e.Key), string(e.Value), e.Value == nil})
	}
	o.Root = s.rootOf(o.Old.Type, o.Version, o.Content)
	return o
}

func (s *script) rootOf(t node.RootType, version uint64, c reference.Content) node.Root {
	return node.Root{Namespace: namespace, Version: version, Type: t, Hash: reference.Build(c).RootHash()}
}

// change returns a copy of a content with up to so many pairs changed, and one that no other has.
func (s *script) change(c reference.Content, n int) reference.Content {
	c = c.With()
	keys := c.Keys()
	for range n {
		if len(keys) > 0 && s.chance(3) {
			delete(c, pick(s.rng, keys))
			continue
		}
		c[s.key()] = s.value()
	}
	if s.chance(6) { // as much as fills an engine's buffers after a while
		for i := range 8 {
			c[fmt.Sprintf("bulk %d", i)] = strings.Repeat(string(rune('a'+s.rng.IntN(26))), 50_000)
		}
	} else {
		maps.DeleteFunc(c, func(k, _ string) bool { return strings.HasPrefix(k, "bulk") })
	}
	s.serial++
	c["serial"] = fmt.Sprint(s.serial)
	return c
}

// key returns one of not too many keys, some of them prefixes of others.
func (s *script) key() string {
	switch s.rng.IntN(4) {
	case 0:
		return strings.Repeat("k", s.rng.IntN(12))
	case 1:
		return string([]byte{byte(s.rng.Uint32()), byte(s.rng.Uint32())})
	default:
		return fmt.Sprintf("key %d", s.rng.IntN(120))
	}
}

// value returns a value: small, or too large to be embedded, or as large as a block.
func (s *script) value() string {
	switch s.rng.IntN(16) {
	case 0:
		return ""
	case 1:
		return strings.Repeat("m", 450+s.rng.IntN(300))
	case 2:
		return strings.Repeat("l", 3000+s.rng.IntN(5000))
	default:
		return fmt.Sprint(s.rng.Uint64())
	}
}

func (s *script) finalize() []op {
	version := s.m.latest + 1
	if ins := s.m.insert; ins != nil {
		var roots []node.Root
		complete := len(ins.roots) > 0
		for _, r := range ins.roots {
			complete = complete && r.complete
			roots = append(roots, r.name)
		}
		switch {
		case complete && (!s.m.any || ins.version == version || s.chance(2)):
			return []op{{Kind: finalizeRoots, Roots: roots}}
		case !s.m.any || ins.version == version:
			return nil
		}
	}
	var states, ios []*root
	for _, r := range sorted(s.m.candidates) {
		switch {
		case r.name.Version != version && s.m.any:
		case r.name.Type == node.RootTypeIO:
			ios = append(ios, r)
		case r.made.Old.IsEmpty() || s.m.any && r.made.Old.Version == s.m.latest:
			states = append(states, r)
		}
	}
	if len(states) == 0 {
		return nil
	}
	roots := []node.Root{pick(s.rng, states).name}
	ios = slices.DeleteFunc(ios, func(r *root) bool { return r.name.Version != roots[0].Version })
	if len(ios) > 0 {
		roots = append(roots, pick(s.rng, ios).name)
	}
	return []op{{Kind: finalizeRoots, Roots: roots}}
}

func (s *script) prune() []op {
	if !s.m.any || s.m.insert != nil || s.m.earliest == s.m.latest || slices.Contains(s.pinned, s.m.earliest) {
		return nil
	}
	if s.chance(2) {
		return []op{{Kind: pruneVersion, Version: s.m.earliest}}
	}
	below := s.m.earliest + 1 + uint64(s.rng.IntN(int(s.m.latest-s.m.earliest)))
	if len(s.pinned) > 0 {
		below = min(below, slices.Min(s.pinned))
	}
	return []op{{Kind: pruneBefore, Version: below}}
}

func (s *script) pin() []op {
	if !s.m.any {
		return nil
	}
	version := pick(s.rng, slices.Sorted(maps.Keys(s.m.final)))
	s.pinned = append(s.pinned, version)
	return []op{{Kind: pinVersion, Version: version}}
}

// restore goes on with a restore, or begins one.
func (s *script) restore() (ops []op) {
	ins := s.m.insert
	switch {
	case ins == nil:
		if s.chance(2) {
			return nil
		}
		return []op{{Kind: startInsert, Version: s.m.latest + 1 + uint64(s.rng.IntN(3))}}
	case s.chance(25):
		return []op{{Kind: abortInsert}}
	case len(ins.roots) == 0:
		return []op{s.addRoot(node.RootTypeState)}
	case len(ins.roots) == 1 && ins.roots[0].name.Type == node.RootTypeState && s.chance(10):
		return []op{s.addRoot(node.RootTypeIO)}
	}
	r := pick(s.rng, ins.roots)
	switch {
	case s.chance(20):
		return []op{{Kind: abortRoot, Root: r.name}}
	case uint64(len(r.done)) == r.chunks:
		if r.complete {
			return nil
		}
		return []op{{Kind: completeRoot, Root: r.name}}
	}
	sync := s.chance(3)
	for range 1 + s.rng.IntN(4) {
		index := s.rng.Uint64N(r.chunks)
		if r.done[index] && !s.chance(10) || slices.ContainsFunc(ops, func(o op) bool { return o.Index == index }) {
			continue
		}
		ops = append(ops, op{Kind: writeChunk, Root: r.name, Content: r.content, Pieces: r.pieces, Index: index, Sync: sync})
	}
	return ops
}

func (s *script) addRoot(t node.RootType) op {
	o := op{Kind: addInsertRoot, Content: s.change(nil, 60), Pieces: 1 + s.rng.IntN(12)}
	o.Root = s.rootOf(t, s.m.insert.version, o.Content)
	o.Index = uint64(len(cut(reference.Build(o.Content), o.Pieces)))
	return o
}
