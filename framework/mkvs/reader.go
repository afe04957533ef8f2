package mkvs

import (
	"bytes"
	"context"
	"fmt"
	"iter"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// maxSkip is how many entries a subtreeReader passes over before it begins a new walk instead.
const maxSkip = 256

// subtreeReader reads stored nodes that are asked for in pre-order, with a walk: what a tree's changes
// left of a stored root is, in pre-order, part of what a walk through that root yields.
type subtreeReader struct {
	ndb    db.NodeDB
	root   node.Root
	verify bool

	next func() (db.Entry, error, bool)
	stop func()
	// ahead is an entry that was yielded and not used yet; it is valid until the next step.
	ahead    db.Entry
	hasAhead bool
	position []byte
}

// close ends the walk.
func (r *subtreeReader) close() {
	if r.stop != nil {
		r.stop()
	}
	r.next, r.stop, r.hasAhead = nil, nil, false
}

// read returns the node that ptr points to, whose position is the first depth bits of path. target, where
// it isn't nil, is a key below that position: a walk that has to begin begins on the way to it.
func (r *subtreeReader) read(ctx context.Context, ptr *node.Pointer, path node.Key, depth node.Depth, target node.Key) (node.Node, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if r.ndb == nil {
		return nil, fmt.Errorf("%w: node %s, and the tree has no database", db.ErrNodeNotFound, ptr.Hash)
	}
	r.position = node.AppendPosition(r.position[:0], path, depth)
	record, err := r.find(ctx, target)
	if err != nil {
		return nil, fmt.Errorf("mkvs: iterate over root %s: %w", r.root, err)
	}
	if r.ahead.Address != ptr.Address {
		return nil, corrupted(ptr, path, depth, "the database gave an entry of version "+r.ahead.Address.String())
	}
	n, _, err := decodeRecord(ptr, bytes.Clone(record), path, depth, r.verify)
	return n, err
}

// find returns the record at r.position, valid until the next step.
func (r *subtreeReader) find(ctx context.Context, target node.Key) ([]byte, error) {
	if r.next != nil {
		record, err := r.forward(maxSkip)
		if record != nil || err != nil {
			return record, err
		}
	}
	from := node.Position(r.position)
	if target != nil {
		from = node.NewPosition(target, target.BitLength())
	}
	r.begin(ctx, bytes.Clone(from))
	record, err := r.forward(-1)
	if record == nil && err == nil && target != nil {
		// The walk began behind the node, which is on the way to target but not above its position.
		r.begin(ctx, bytes.Clone(r.position))
		record, err = r.forward(-1)
	}
	if record == nil && err == nil {
		return nil, fmt.Errorf("%w: position %s", db.ErrNodeNotFound, node.Position(r.position))
	}
	return record, err
}

func (r *subtreeReader) begin(ctx context.Context, from node.Position) {
	r.close()
	r.next, r.stop = iter.Pull2(r.ndb.Walk(ctx, r.root, from))
}

// forward goes on to r.position, over at most limit other entries (-1: any number), and returns the record
// there, nil where the walk does not hold it, or not within limit.
func (r *subtreeReader) forward(limit int) ([]byte, error) {
	for passed := 0; limit < 0 || passed <= limit; passed++ {
		if !r.hasAhead {
			entry, err, ok := r.next()
			if err != nil {
				return nil, err
			}
			if !ok {
				return nil, nil
			}
			r.ahead, r.hasAhead = entry, true
		}
		switch c := bytes.Compare(r.ahead.Position, r.position); {
		case c > 0:
			return nil, nil // it may be asked for later
		case c == 0:
			r.hasAhead = false
			return r.ahead.Record, nil
		}
		r.hasAhead = false
	}
	return nil, nil
}
