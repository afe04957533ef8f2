package kvdb

import (
	"bytes"
	"context"
	"fmt"
	"iter"

	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// read looks a root up and calls f with it and a snapshot that shows what belongs to it. The root is
// looked at before the snapshot is taken, for it may just be coming, and after, for it may have gone.
func (d *DB) read(ctx context.Context, root node.Root, f func(s kv.Snapshot, r *rootRecord) error) (err error) {
	if err := d.begin(ctx); err != nil {
		return err
	}
	defer d.end()
	before, err := d.lookup(ctx, root)
	if err != nil {
		return err
	}
	s, err := d.snapshot(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, storeError(s.Close())) }()
	after, err := d.lookupIn(s, root)
	if err != nil {
		return err
	}
	if before.candidate != after.candidate {
		return fmt.Errorf("%w: %s was replaced", db.ErrRootNotFound, root)
	}
	return f(s, after)
}

// finder finds the entries of one address in a snapshot. It goes forward cheaply.
type finder struct {
	typ     node.RootType
	address node.Address
	cursor  kv.Cursor
	key     []byte
	block   block
	open    bool // block is the one that the cursor stands at
	next    int  // the slot after the one found last
	used    uint64
}

func newFinder(s kv.Snapshot, t node.RootType, a node.Address) *finder {
	return &finder{typ: t, address: a, cursor: s.Cursor()}
}

func (f *finder) close() error { return storeError(f.cursor.Close()) }

// corrupted is the error for damage found while looking for a position.
func (f *finder) corrupted(p node.Position, reason string) error {
	return &db.CorruptedError{Version: f.address.Version, Position: bytes.Clone(p), Reason: reason}
}

// find returns the record at a position, nil where there is none. It is valid until the next find.
func (f *finder) find(p node.Position) ([]byte, error) {
	if f.open && f.block.is(f.next, p) {
		_, record, _ := f.block.entry(f.next)
		f.next++
		return record, nil
	}
	if !f.open || f.block.last.Compare(p) < 0 || !f.reachesBack(p) {
		if err := f.seek(p); err != nil || !f.open {
			return nil, err
		}
	}
	slot, found, damaged := f.block.find(p)
	if damaged {
		return nil, f.corrupted(p, "block's entries are damaged")
	}
	if !found {
		return nil, nil
	}
	_, record, _ := f.block.entry(slot)
	f.next = slot + 1
	return record, nil
}

// reachesBack says whether a position that is not above the block's last lies within the block, and not
// in one before.
func (f *finder) reachesBack(p node.Position) bool {
	suffix, _, ok := f.block.entry(0)
	if !ok || len(p) < len(f.block.shared) || !bytes.Equal(p[:len(f.block.shared)], f.block.shared) {
		return false
	}
	return bytes.Compare(suffix, p[len(f.block.shared):]) <= 0
}

// seek opens the block that holds a position if any does: the first whose key is not below it.
func (f *finder) seek(p node.Position) error {
	f.key = append(appendPrefix(f.key[:0], kindBlock, f.typ, f.address), p...)
	var ok bool
	if f.open && f.block.last.Compare(p) < 0 {
		// Most often it is the very next.
		ok = f.cursor.Next()
		if ok && bytes.Compare(f.cursor.Key(), f.key) < 0 {
			ok = f.cursor.Seek(f.key)
		}
	} else {
		ok = f.cursor.Seek(f.key)
	}
	f.open = false
	if !ok {
		return storeError(f.cursor.Err())
	}
	key := f.cursor.Key()
	if !bytes.HasPrefix(key, f.key[:prefixSize]) {
		return nil
	}
	var reason string
	if f.block, reason = openBlock(key, f.cursor.Value()); reason != "" {
		return f.corrupted(p, reason)
	}
	f.open, f.next = true, 0
	return nil
}

// findOnce returns a copy of the record of a node, nil where there is none.
func findOnce(s kv.Snapshot, t node.RootType, a node.Address, p node.Position) (record []byte, err error) {
	f := newFinder(s, t, a)
	defer func() { err = errors.Join(err, f.close()) }()
	record, err = f.find(p)
	return bytes.Clone(record), err
}

// maxFinders is the number of addresses that a reader stands at at once.
const maxFinders = 64

// finders are the finders of a reader: one for each address that it comes to.
type finders struct {
	s     kv.Snapshot
	typ   node.RootType
	open  map[node.Address]*finder
	last  *finder
	clock uint64
}

func newFinders(s kv.Snapshot, t node.RootType) finders {
	return finders{s: s, typ: t, open: make(map[node.Address]*finder)}
}

// at returns the finder of an address. The least recently used gives way to a new one.
func (fs *finders) at(a node.Address) (*finder, error) {
	if fs.last != nil && fs.last.address == a {
		return fs.last, nil
	}
	f := fs.open[a]
	if f == nil {
		if len(fs.open) >= maxFinders {
			var oldest *finder
			for _, f := range fs.open {
				if oldest == nil || f.used < oldest.used {
					oldest = f
				}
			}
			delete(fs.open, oldest.address)
			if err := oldest.close(); err != nil {
				return nil, err
			}
		}
		f = newFinder(fs.s, fs.typ, a)
		fs.open[a] = f
	}
	fs.clock++
	f.used, fs.last = fs.clock, f
	return f, nil
}

// drop closes a finder: the next one of its address is new.
func (fs *finders) drop(f *finder) error {
	delete(fs.open, f.address)
	if fs.last == f {
		fs.last = nil
	}
	return f.close()
}

func (fs *finders) close() (err error) {
	for _, f := range fs.open {
		err = errors.Join(err, f.close())
	}
	return err
}

// readable refuses addresses that a root can't have nodes at.
func (d *DB) readable(root *node.Root, a node.Address) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return a.Version <= root.Version && !(d.insert != nil && d.insert.owns(root.Type, a))
}

// GetNode returns the record at an address and position.
func (d *DB) GetNode(ctx context.Context, root node.Root, address node.Address, position node.Position) (record []byte, err error) {
	err = d.read(ctx, root, func(s kv.Snapshot, r *rootRecord) error {
		if !validPosition(position) {
			return fmt.Errorf("%w: %x is no position", db.ErrMalformed, []byte(position))
		}
		if !r.isEmpty() && d.readable(&root, address) {
			var err error
			if record, err = findOnce(s, root.Type, address, position); err != nil {
				return err
			}
		}
		if record == nil {
			return fmt.Errorf("%w: %s at %s", db.ErrNodeNotFound, position, address)
		}
		return nil
	})
	return record, err
}

// parse takes a stored record apart.
func parse(record []byte, a node.Address, p node.Position) (node.Record, error) {
	r, err := node.ParseRecord(record, a)
	if err != nil {
		return r, malformed(err, a, p)
	}
	return r, nil
}

// malformed is the error for what is stored in the place of a record and is none.
func malformed(err error, a node.Address, p node.Position) error {
	return &db.CorruptedError{Version: a.Version, Position: bytes.Clone(p), Reason: err.Error()}
}

// GetPath returns the entries on the way to key.
func (d *DB) GetPath(ctx context.Context, root node.Root, address node.Address, depth node.Depth, key node.Key) ([]db.Entry, error) {
	return db.Collect(d.GetPaths(ctx, root, []db.PathStart{{Address: address, Depth: depth, Key: key}}))
}

// pathsFrame is the number of bytes that GetPaths reads ahead under one snapshot; the last path may exceed it.
const pathsFrame = 1 << 20

// GetPaths yields the entries on the ways to several keys. As Walk does, it reads a frame, closes its snapshot, and
// then yields what it read.
func (d *DB) GetPaths(ctx context.Context, root node.Root, starts []db.PathStart) iter.Seq2[db.Entry, error] {
	return func(yield func(db.Entry, error) bool) {
		ps := paths{ctx: ctx}
		left := starts
		for first := true; first || len(left) > 0; first = false {
			clear(ps.entries) // what was yielded is not ours any more
			ps.entries, ps.bytes = ps.entries[:0], 0
			err := d.read(ctx, root, func(s kv.Snapshot, r *rootRecord) (err error) {
				ps.finders = newFinders(s, root.Type)
				defer func() { err = errors.Join(err, ps.finders.close()) }()
				for ; len(left) > 0 && ps.bytes < pathsFrame; left = left[1:] {
					start := &left[0]
					if len(start.Key) > node.MaxKeyBytes || start.Depth > start.Key.BitLength() {
						return fmt.Errorf("%w: depth %d of a key of %d bytes", db.ErrMalformed, start.Depth, len(start.Key))
					}
					if r.isEmpty() || !d.readable(&root, start.Address) {
						return fmt.Errorf("%w: depth %d at %s", db.ErrNodeNotFound, start.Depth, start.Address)
					}
					if err := ps.follow(start); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				yield(db.Entry{}, err)
				return
			}
			for _, e := range ps.entries {
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}

// paths goes from nodes towards keys, and gathers the nodes that it comes to. Keys ascend: it stays where the
// last one has led, so that each node is read once.
type paths struct {
	ctx     context.Context
	finders finders
	entries []db.Entry
	bytes   int // of entries
	start   *db.PathStart
	// way holds the nodes on the way to start's key.
	way      []pathNode
	position node.Position
}

// pathNode is a node on a path: its position has depth bits, and its label ends at end.
type pathNode struct {
	record     node.Record
	depth, end node.Depth
}

// follow goes towards a key: the last node is a leaf, or one whose label leads elsewhere, or where the key's
// way ends.
func (ps *paths) follow(start *db.PathStart) error {
	ps.turn(start)
	for {
		if err := ps.ctx.Err(); err != nil {
			return err
		}
		a, depth := start.Address, start.Depth
		if n := len(ps.way); n > 0 {
			child := ps.way[n-1].next(start.Key)
			if child == nil {
				return nil
			}
			a, depth = child.Address, ps.way[n-1].end+1
		}
		if err := ps.read(a, depth); err != nil {
			return err
		}
	}
}

// turn goes back to where the way to another key leaves the present one.
func (ps *paths) turn(start *db.PathStart) {
	shared := node.Depth(0)
	if last := ps.start; last != nil && last.Address == start.Address && last.Depth == start.Depth {
		shared = last.Key.CommonPrefixLen(last.Key.BitLength(), start.Key, start.Key.BitLength())
	} else {
		ps.way = ps.way[:0]
	}
	for n := len(ps.way); n > 0 && ps.way[n-1].depth > shared; n-- {
		ps.way = ps.way[:n-1]
	}
	ps.start = start
}

// read reads the next node of the way, whose position is the first depth bits of the key.
func (ps *paths) read(a node.Address, depth node.Depth) error {
	ps.position = node.AppendPosition(ps.position[:0], ps.start.Key, depth)
	p := ps.position
	f, err := ps.finders.at(a)
	if err != nil {
		return err
	}
	record, err := f.find(p)
	if err != nil {
		return err
	}
	if record == nil {
		if len(ps.way) == 0 {
			return fmt.Errorf("%w: %s at %s", db.ErrNodeNotFound, p, a)
		}
		return f.corrupted(p, "node is missing")
	}
	both := make([]byte, len(p)+len(record)) // they come and go together
	n := copy(both, p)
	copy(both[n:], record)
	record = both[n:]
	ps.entries = append(ps.entries, db.Entry{Address: a, Position: node.Position(both[:n:n]), Record: record})
	ps.bytes += len(both)
	next := pathNode{depth: depth}
	if next.record, err = parse(record, a, p); err != nil {
		return err
	}
	if !next.record.Leaf {
		if next.end, err = endOf(next.record.LabelBitLength, depth, a, p); err != nil {
			return err
		}
	}
	ps.way = append(ps.way, next)
	return nil
}

// next returns the child that the way to key goes on to, nil where it does not: the label is compared with the
// key before anything below it is asked for.
func (n *pathNode) next(key node.Key) *node.Child {
	if n.record.Leaf || n.end >= key.BitLength() || !runsThrough(key, n.end-n.record.LabelBitLength, &n.record) {
		return nil
	}
	child := &n.record.Children[sideOf(key, n.end)]
	if !child.Present || child.Embedded != nil {
		return nil
	}
	return child
}

// endOf is the depth at which the label of an internal node ends, which has label bits, and its position depth.
func endOf(label, depth node.Depth, a node.Address, p node.Position) (node.Depth, error) {
	start := 0
	if depth > 0 {
		start = int(depth) - 1
	}
	end := start + int(label)
	if end > int(node.MaxDepth) || depth > 0 && (label == 0 || end < int(depth)) {
		return 0, &db.CorruptedError{Version: a.Version, Position: bytes.Clone(p), Reason: "node's label does not fit its position"}
	}
	return node.Depth(end), nil
}

// runsThrough says whether the bits of key from start on begin with the label. The key must be long
// enough.
func runsThrough(key node.Key, start node.Depth, r *node.Record) bool {
	for i := range r.LabelBitLength {
		if key.GetBit(start+i) != r.Label.GetBit(i) {
			return false
		}
	}
	return true
}

func sideOf(key node.Key, depth node.Depth) int {
	if key.GetBit(depth) {
		return node.Right
	}
	return node.Left
}
