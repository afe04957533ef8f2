package mkvs

import (
	"fmt"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// What changes lead to is read for many of them at once: a call to a database in another process costs as much
// as reading some ten nodes.
const (
	// fetchChanges is how many changes' paths are read by one call, at most: enough that a call for each would
	// cost much more, and few enough that what is read by one goroutine is worked on by another meanwhile.
	fetchChanges = 256
	// fetchKeyBytes is how many bytes of keys go with one call, at most, beside one key.
	fetchKeyBytes = 256 << 10
)

// fetches says whether what a run leads to below a node is to be read now, given how many changes lead to
// that node's parent: the runs above are too long, and below it has been done.
func (a *applier) fetches(n, whole int) bool {
	return a.paths && n > 1 && n <= fetchChanges && whole > fetchChanges
}

// fetch reads what a run leads to from ptr on, whose position is the first depth bits of the run's keys, and
// what is not in memory.
func (a *applier) fetch(ptr *node.Pointer, depth node.Depth, r run) error {
	f := &fetcher{a: a}
	if err := f.gather(ptr, depth, r); err != nil {
		return err
	}
	return f.flush()
}

// fetcher reads paths for an applier.
type fetcher struct {
	a *applier
	// starts are where what is to be read next begins, and pointers what leads there.
	starts   []db.PathStart
	pointers []*node.Pointer
	keyBytes int
}

// gather adds the paths that a run's keys take below ptr, as far as they are not in memory.
func (f *fetcher) gather(ptr *node.Pointer, depth node.Depth, r run) error {
	if r.len() == 0 || ptr == nil {
		return nil
	}
	if ptr.Node == nil {
		return f.add(ptr, depth, r)
	}
	n, ok := ptr.Node.(*node.InternalNode)
	if !ok {
		return nil
	}
	start := labelStart(depth)
	for r.len() > 0 {
		common := min(
			matchLabel(r.first(), start, n.Label, n.LabelBitLength),
			matchLabel(r.last(), start, n.Label, n.LabelBitLength),
		)
		_, left, right := r.divide(start + common)
		if common == n.LabelBitLength {
			if err := f.gather(n.Left, start+common+1, left); err != nil {
				return err
			}
			return f.gather(n.Right, start+common+1, right)
		}
		if r = left; n.Label.GetBit(common) { // the others leave the node's way here
			r = right
		}
	}
	return nil
}

// add adds the paths of a run's keys from a node on that is not in memory.
func (f *fetcher) add(ptr *node.Pointer, depth node.Depth, r run) error {
	read := ptr
	if f.a.drops() { // what is read to be changed is not kept
		copied := *ptr
		read = &copied
		if f.a.fetched == nil {
			f.a.fetched = make(map[*node.Pointer]*node.Pointer)
		}
		f.a.fetched[ptr] = read
	}
	for i := range r.len() {
		key := r.key(i)
		if len(f.starts) > 0 && f.keyBytes+len(key) > fetchKeyBytes {
			if err := f.flush(); err != nil {
				return err
			}
		}
		f.starts = append(f.starts, db.PathStart{Address: ptr.Address, Depth: depth, Key: key})
		f.pointers = append(f.pointers, read)
		f.keyBytes += len(key)
	}
	return nil
}

// flush reads the paths that were added, and attaches what is read to the nodes above. What the database has
// left out is read when it is come to.
func (f *fetcher) flush() error {
	if len(f.starts) == 0 {
		return nil
	}
	l := &f.a.loader
	entries, err := db.Collect(db.GetPaths(f.a.ctx, l.ndb, l.base, f.starts))
	if err != nil {
		return fmt.Errorf("mkvs: load paths: %w", err)
	}
	for i := range f.starts {
		p, depth, key := f.pointers[i], f.starts[i].Depth, f.starts[i].Key
		for p != nil {
			// The first path of a call may begin with what the call before has read.
			there := (p.Node == nil || i == 0) && len(entries) > 0 && isEntryOf(&entries[0], p, key, depth)
			if p.Node == nil {
				if !there {
					break
				}
				if err := l.attach(p, entries[0].Record, key, depth); err != nil {
					return err
				}
			}
			if there {
				entries = entries[1:]
			}
			p, depth = onPath(p, key, depth)
		}
	}
	if len(entries) > 0 {
		e := &entries[0]
		return &db.CorruptedError{
			Version: e.Address.Version, Position: e.Position,
			Reason: "the database gave an entry that no path leads to",
		}
	}
	f.starts, f.pointers, f.keyBytes = f.starts[:0], f.pointers[:0], 0
	return nil
}

// isEntryOf says whether an entry is the node that ptr points to, whose position is the first depth bits of
// key.
func isEntryOf(e *db.Entry, ptr *node.Pointer, key node.Key, depth node.Depth) bool {
	var room [64]byte
	return e.Address == ptr.Address && e.Position.Compare(node.AppendPosition(room[:0], key, depth)) == 0
}
