package kvdb

import (
	"bytes"
	"fmt"
	"slices"
	"sort"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// runs gathers a batch's runs of entries until they are packed into blocks. Runs come in any order;
// blocks of one candidate must not interleave, or a seek finds the wrong one. So small runs are held
// back as long as memory allows, and are joined into blocks only where nothing lies between them.
type runs struct {
	arena arena
	bytes int
	// entries hold all runs' entries, ends where each run that has ended does.
	entries []entry
	ends    []int
	// packed are the spans of what was packed before.
	packed []span
	packer packer
}

// span is a run's first and last position.
type span struct{ first, last node.Position }

// smallRun is the size below which a run is held back.
const smallRun = 4 * blockTarget

func (r *runs) start() int {
	if len(r.ends) == 0 {
		return 0
	}
	return r.ends[len(r.ends)-1]
}

// put adds an entry to the present run.
func (r *runs) put(position node.Position, record []byte) error {
	if n := len(r.entries); n > r.start() && r.entries[n-1].position.Compare(position) >= 0 {
		return fmt.Errorf("%w: position %s does not come after %s", db.ErrMalformed, position, r.entries[n-1].position)
	}
	b := r.arena.grow(len(position) + len(record))
	b = r.arena.keep(append(append(b, position...), record...))
	n := len(position)
	r.entries = append(r.entries, entry{node.Position(b[:n:n]), b[n:]})
	r.bytes += len(b)
	return nil
}

// end ends the present run.
func (r *runs) end() {
	if len(r.entries) > r.start() {
		r.ends = append(r.ends, len(r.entries))
	}
}

// pack packs what is large, or everything where that isn't much of what is held, and gives blocks to
// emit, which must not keep them. The run that has not ended goes on.
func (r *runs) pack(emit func(entries []entry, shared int) error) error {
	open := r.entries[r.start():]
	var small, large [][]entry
	held, from := 0, 0
	for _, to := range r.ends {
		run := r.entries[from:to]
		from = to
		if size := sizeOf(run); size >= smallRun {
			large = append(large, run)
		} else {
			small = append(small, run)
			held += size
		}
	}
	if held > r.bytes/2 {
		large = append(large, small...)
		small = nil
	}
	if len(open) > 0 && sizeOf(open) >= smallRun {
		large = append(large, open)
		open = nil
	}
	if err := r.packAll(large, false, emit); err != nil {
		return err
	}
	if len(small) == 0 && len(open) == 0 {
		r.clear()
		return nil
	}
	// What is kept moves to fresh memory, so that the rest can be used again.
	kept := runs{packed: r.packed}
	for _, run := range small {
		for _, e := range run {
			if err := kept.put(e.position, e.record); err != nil {
				return err
			}
		}
		kept.end()
	}
	for _, e := range open {
		if err := kept.put(e.position, e.record); err != nil {
			return err
		}
	}
	r.arena.reset()
	*r = runs{arena: kept.arena, bytes: kept.bytes, entries: kept.entries, ends: kept.ends, packed: r.packed, packer: r.packer}
	return nil
}

// clear forgets all entries, and keeps their memory for others.
func (r *runs) clear() {
	r.arena.reset()
	clear(r.entries)
	r.entries, r.ends, r.bytes = r.entries[:0], r.ends[:0], 0
}

// packRest packs everything.
func (r *runs) packRest(emit func(entries []entry, shared int) error) error {
	r.end()
	all := make([][]entry, 0, len(r.ends))
	from := 0
	for _, to := range r.ends {
		all = append(all, r.entries[from:to])
		from = to
	}
	if err := r.packAll(all, true, emit); err != nil {
		return err
	}
	r.clear()
	return nil
}

// reset forgets everything, what was packed too.
func (r *runs) reset() {
	r.clear()
	clear(r.packed)
	r.packed = r.packed[:0]
	r.packer.reset()
}

func sizeOf(run []entry) (size int) {
	for i := range run {
		size += len(run[i].position) + len(run[i].record)
	}
	return size
}

// packAll packs whole runs, in the order of their positions. Only the last ones may be joined: before,
// another run can still come between two.
func (r *runs) packAll(all [][]entry, join bool, emit func(entries []entry, shared int) error) error {
	slices.SortFunc(all, func(a, b []entry) int { return a[0].position.Compare(b[0].position) })
	spans := make([]span, 0, len(all))
	flush := func() error {
		if len(r.packer.entries) == 0 {
			return nil
		}
		err := emit(r.packer.entries, r.packer.shared)
		r.packer.reset()
		return err
	}
	for i, run := range all {
		s := span{run[0].position, run[len(run)-1].position}
		if i > 0 {
			before := spans[i-1]
			if before.last.Compare(s.first) >= 0 {
				return fmt.Errorf("%w: runs overlap at position %s", db.ErrMalformed, s.first)
			}
			if !join || r.between(before.last, s.first) {
				if err := flush(); err != nil {
					return err
				}
			}
		}
		if r.between(s.first, s.last) {
			return fmt.Errorf("%w: runs overlap at position %s", db.ErrMalformed, s.first)
		}
		for _, e := range run {
			if !r.packer.fits(e) {
				if err := flush(); err != nil {
					return err
				}
			}
			r.packer.add(e)
		}
		spans = append(spans, s)
	}
	if err := flush(); err != nil {
		return err
	}
	for _, s := range spans {
		r.packed = append(r.packed, span{bytes.Clone(s.first), bytes.Clone(s.last)})
	}
	slices.SortFunc(r.packed, func(a, b span) int { return a.first.Compare(b.first) })
	return nil
}

// between says whether something that was packed before touches the positions from first to last.
func (r *runs) between(first, last node.Position) bool {
	i := sort.Search(len(r.packed), func(i int) bool { return r.packed[i].last.Compare(first) >= 0 })
	return i < len(r.packed) && r.packed[i].first.Compare(last) <= 0
}
