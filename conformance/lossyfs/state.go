package lossyfs

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"slices"
)

// inode is a file or directory. What it holds is kept twice, as it is and as it is safe, with what leads
// from the one to the other.
type inode struct {
	id   uint64
	dir  bool
	mode uint32

	data, safe []byte
	writes     []write

	names, safeNames map[string]*inode
	renames          []naming
}

// write is a change of a file since it was synced: of bytes, or of the length where truncate is set.
type write struct {
	offset   int64
	data     []byte
	truncate bool
	size     int64 // the file's length afterwards
}

// naming is a change of a directory since it was synced: names that go, and then names that come.
type naming struct {
	removed string
	added   string
	target  *inode // of added; nil where none is
	move    *move  // where it is one end of one
}

// move is a rename from one directory to another. After a loss it is done or it is not: both have it or neither.
type move struct{ from, to *inode }

func (n *inode) write(offset int64, data []byte) {
	w := write{offset: offset, data: bytes.Clone(data)}
	n.data = w.apply(n.data)
	w.size = int64(len(n.data))
	n.writes = append(n.writes, w)
}

func (n *inode) truncate(size int64) {
	w := write{truncate: true, size: size}
	n.data = w.apply(n.data)
	n.writes = append(n.writes, w)
}

func (w *write) apply(data []byte) []byte {
	if w.truncate {
		return resize(data, w.size)
	}
	end := w.offset + int64(len(w.data))
	if end > int64(len(data)) {
		data = resize(data, end)
	}
	copy(data[w.offset:], w.data)
	return data
}

// resize cuts data, or appends zeros.
func resize(data []byte, size int64) []byte {
	if size <= int64(len(data)) {
		return data[:size]
	}
	old := len(data)
	data = slices.Grow(data, int(size)-old)[:size]
	clear(data[old:])
	return data
}

func (n *inode) name(change naming) {
	change.apply(n.names)
	n.renames = append(n.renames, change)
}

func (c *naming) apply(names map[string]*inode) {
	if c.removed != "" {
		delete(names, c.removed)
	}
	if c.target != nil {
		names[c.added] = c.target
	}
}

// sync makes everything safe.
func (n *inode) sync() {
	if n.dir {
		changes := n.renames
		n.renames = nil
		n.syncNames(changes)
		return
	}
	for i := range n.writes {
		n.safe = n.writes[i].apply(n.safe)
	}
	n.writes = nil
}

// syncNames makes changes of names safe, which are no longer among n's.
func (n *inode) syncNames(changes []naming) {
	for i := range changes {
		changes[i].apply(n.safeNames)
		if m := changes[i].move; m != nil {
			m.from.syncMove(m)
			m.to.syncMove(m)
		}
	}
}

// syncMove makes one end of a move safe, with what happened to that name before, and nothing else.
func (n *inode) syncMove(m *move) {
	at := slices.IndexFunc(n.renames, func(c naming) bool { return c.move == m })
	if at < 0 {
		return // it is
	}
	end := n.renames[at]
	var safe, rest []naming
	for i, c := range n.renames {
		if i <= at && (c.concerns(end.removed) || c.concerns(end.added)) {
			safe = append(safe, c)
		} else {
			rest = append(rest, c)
		}
	}
	n.renames = rest
	n.syncNames(safe)
}

func (c *naming) concerns(name string) bool {
	return name != "" && (c.removed == name || c.added == name)
}

// loss is a way to lose what was not synced.
type loss int

const (
	loseAll loss = iota
	loseNothing
	loseLast
	loseWrites
	losePages
	loseSectors
	losses
)

const (
	pageBytes   = 4096
	sectorBytes = 512
)

// survivor makes the inodes that a loss leaves, each once.
type survivor struct {
	rng  *rand.Rand
	loss loss
	made map[*inode]*inode
	next uint64
	// moves says of each whether it is kept.
	moves map[*move]bool
}

// of returns what is left of an inode.
func (s *survivor) of(n *inode) *inode {
	if m := s.made[n]; m != nil {
		return m
	}
	s.next++
	m := &inode{id: s.next, dir: n.dir, mode: n.mode}
	s.made[n] = m
	if !n.dir {
		m.data = s.content(n)
		m.safe = bytes.Clone(m.data)
		return m
	}
	m.names = map[string]*inode{}
	names := maps.Clone(n.safeNames)
	kept := make([]bool, len(n.renames))
	for _, i := range s.kept(len(n.renames)) {
		kept[i] = true
	}
	for i := range n.renames {
		if m := n.renames[i].move; m != nil { // the directory that was come to first has decided
			if _, decided := s.moves[m]; !decided {
				s.moves[m] = kept[i]
			}
			kept[i] = s.moves[m]
		}
		if kept[i] {
			n.renames[i].apply(names)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) { // the same for the same seed
		m.names[name] = s.of(names[name])
	}
	m.safeNames = maps.Clone(m.names)
	return m
}

// kept chooses, of n changes in a row, those that are kept.
func (s *survivor) kept(n int) (indices []int) {
	upTo := n
	switch s.loss {
	case loseAll:
		upTo = 0
	case loseLast:
		upTo = s.rng.IntN(n + 1)
	}
	for i := range upTo {
		if s.loss <= loseLast || s.rng.IntN(2) == 0 {
			indices = append(indices, i)
		}
	}
	return indices
}

// content chooses what a file holds.
func (s *survivor) content(n *inode) []byte {
	data := bytes.Clone(n.safe)
	if len(n.writes) == 0 {
		return data
	}
	var kept []int
	switch s.loss {
	case losePages, loseSectors:
		unit := int64(pageBytes)
		if s.loss == loseSectors {
			unit = sectorBytes
		}
		for i := range n.writes {
			data = s.pieces(&n.writes[i], unit, data)
		}
	default:
		kept = s.kept(len(n.writes))
		for _, i := range kept {
			data = n.writes[i].apply(data)
		}
	}
	if s.loss == loseLast && len(kept) < len(n.writes) {
		if w := n.writes[len(kept)]; !w.truncate { // the one that the disk was at
			sectors := (int64(len(w.data)) + sectorBytes - 1) / sectorBytes
			w.data = w.data[:min(int64(len(w.data)), s.rng.Int64N(sectors+1)*sectorBytes)]
			if len(w.data) > 0 {
				data = w.apply(data)
			}
		}
	}
	if s.loss > loseLast && s.rng.IntN(2) == 0 { // the length is safe, and the data is not
		if size := n.writes[s.rng.IntN(len(n.writes))].size; size > int64(len(data)) {
			data = resize(data, size)
		}
	}
	return data
}

// pieces applies any part of a write, in units that lie where the disk has them.
func (s *survivor) pieces(w *write, unit int64, data []byte) []byte {
	if w.truncate {
		if s.rng.IntN(2) == 0 {
			data = w.apply(data)
		}
		return data
	}
	for at := int64(0); at < int64(len(w.data)); {
		end := min((w.offset+at)/unit*unit+unit-w.offset, int64(len(w.data)))
		if s.rng.IntN(2) == 0 {
			piece := write{offset: w.offset + at, data: w.data[at:end]}
			data = piece.apply(data)
		}
		at = end
	}
	return data
}
