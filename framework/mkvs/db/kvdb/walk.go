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

// walkFrame is the number of bytes that a walk reads ahead under one snapshot; a record may exceed it.
const walkFrame = 1 << 20

// Walk yields a root's entries in pre-order. It reads a frame, closes its snapshot, and then yields
// what it read: whoever takes the entries may write to the database or take as long as they like.
func (d *DB) Walk(ctx context.Context, root node.Root, from node.Position) iter.Seq2[db.Entry, error] {
	return func(yield func(db.Entry, error) bool) {
		w := &walk{typ: root.Type, path: make(node.Key, node.MaxKeyBytes+1)}
		if err := w.startFrom(from); err != nil {
			yield(db.Entry{}, err)
			return
		}
		for first := true; first || len(w.stack) > 0; first = false {
			w.frame = w.frame[:0]
			w.arena.reset()
			err := d.read(ctx, root, func(s kv.Snapshot, r *rootRecord) error {
				if first && !r.isEmpty() {
					w.stack = append(w.stack, pending{address: r.address})
				}
				return w.fill(ctx, s)
			})
			for _, e := range w.frame { // what was read before an error counts
				if !yield(e, nil) {
					return
				}
			}
			if err != nil {
				yield(db.Entry{}, err)
				return
			}
		}
	}
}

// walk is where a walk stands.
type walk struct {
	typ node.RootType
	// from and fromBits are the position that the walk starts from.
	from     node.Position
	fromPath node.Key
	fromBits node.Depth

	// stack holds the nodes to visit, the next one on top. path holds the bits of the way to the last
	// node visited: those of a pending node are its first bits, but for the last one.
	stack    []pending
	path     node.Key
	position node.Position

	finders finders
	outline node.Outline // of the node that is visited

	frame []db.Entry
	arena arena
}

// pending is a node that is still to be visited.
type pending struct {
	address node.Address
	// depth is the number of bits of its position, of which last is the last.
	depth node.Depth
	last  bool
}

func (w *walk) startFrom(from node.Position) error {
	if len(from) == 0 {
		from = node.RootPosition()
	}
	path, bits, err := from.Bits()
	if err != nil {
		return fmt.Errorf("%w: %w", db.ErrMalformed, err)
	}
	w.from, w.fromPath, w.fromBits = bytes.Clone(from), path, bits
	return nil
}

// fill reads a frame.
func (w *walk) fill(ctx context.Context, s kv.Snapshot) (err error) {
	w.finders = newFinders(s, w.typ)
	defer func() { err = errors.Join(err, w.finders.close()) }()
	for size := 0; len(w.stack) > 0 && size < walkFrame; {
		if len(w.frame)&0xff == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		n, err := w.visit()
		if err != nil {
			return err
		}
		size += n
	}
	return nil
}

// visit visits the next node: it adds it to the frame, and its children to the stack. It returns what
// the node takes, in bytes.
func (w *walk) visit() (int, error) {
	n := w.stack[len(w.stack)-1]
	if n.depth > 0 {
		w.path.SetBit(n.depth-1, n.last)
	}
	w.position = node.AppendPosition(w.position[:0], w.path, n.depth)
	f, err := w.finders.at(n.address)
	if err != nil {
		return 0, err
	}
	record, err := f.find(w.position)
	if err != nil {
		return 0, err
	}
	if record == nil {
		return 0, f.corrupted(w.position, "node is missing")
	}
	if err := w.outline.Parse(record, n.address); err != nil {
		return 0, malformed(err, n.address, w.position)
	}
	w.stack = w.stack[:len(w.stack)-1]
	if !w.outline.Leaf {
		if err := w.push(&w.outline, n); err != nil {
			return 0, err
		}
	}
	b := w.arena.grow(len(w.position) + len(record))
	b = w.arena.keep(append(append(b, w.position...), record...))
	k := len(w.position)
	w.frame = append(w.frame, db.Entry{Address: n.address, Position: node.Position(b[:k:k]), Record: b[k:]})
	return len(b) + 64, nil
}

// push adds the children of a node to the stack, as far as the walk goes there.
func (w *walk) push(o *node.Outline, n pending) error {
	end, err := endOf(o.LabelBitLength, n.depth, n.address, w.position)
	if err != nil {
		return err
	}
	start := end - o.LabelBitLength
	if n.depth > 0 && o.Label.GetBit(0) != n.last {
		return &db.CorruptedError{Version: n.address.Version, Position: bytes.Clone(w.position), Reason: "node's label does not fit its position"}
	}
	w.path.CopyBits(start, o.Label, o.LabelBitLength)
	for side := node.Right; side >= node.Left; side-- {
		if !o.Stored[side] {
			continue
		}
		if end == node.MaxDepth {
			return &db.CorruptedError{Version: n.address.Version, Position: bytes.Clone(w.position), Reason: "node's children lie too deep"}
		}
		p := pending{address: o.Addresses[side], depth: end + 1, last: side == node.Right}
		if w.wanted(end, p.last) {
			w.stack = append(w.stack, p)
		}
	}
	return nil
}

// wanted says whether a child, whose position is the first end bits of path and last, is on the way to
// where the walk starts, or behind it.
func (w *walk) wanted(end node.Depth, last bool) bool {
	if w.fromBits == 0 {
		return true
	}
	common := w.path.CommonPrefixLen(end, w.fromPath, w.fromBits)
	switch {
	case common == w.fromBits: // below the start
		return true
	case common < end: // beside it
		return w.path.GetBit(common)
	default: // the parent is on the way
		return last || !w.fromPath.GetBit(end)
	}
}
