package kvdb

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"iter"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/writelog"
)

// A write log is stored as the keys that were set or removed, sorted: the values that keys were set to
// are the tree's, and need not be stored twice. For each change, a part of it holds
//
//	uvarint(bytes shared with the key before) ‖ uvarint(length of the rest × 2, + 1 where removed) ‖ rest
//
// The first key of a part shares nothing.

// logPart is the size at which a part of a write log is stored, in bytes; a longer key stands alone.
const logPart = 64 << 10

// logWriter gathers the part of a write log that is not stored yet.
type logWriter struct {
	buf   []byte
	last  []byte // the key added last
	any   bool
	parts uint32
}

// add adds a change, whose key must come after the last one's.
func (w *logWriter) add(key node.Key, removed bool) error {
	if len(key) > node.MaxKeyBytes {
		return fmt.Errorf("%w: key of %d bytes in a write log", db.ErrLimitExceeded, len(key))
	}
	if w.any && bytes.Compare(w.last, key) >= 0 {
		return fmt.Errorf("%w: write log is not sorted", db.ErrMalformed)
	}
	shared := 0
	if len(w.buf) > 0 {
		shared = sharedBytes(w.last, key)
	}
	rest := uint64(len(key)-shared) << 1
	if removed {
		rest |= 1
	}
	w.buf = binary.AppendUvarint(w.buf, uint64(shared))
	w.buf = binary.AppendUvarint(w.buf, rest)
	w.buf = append(w.buf, key[shared:]...)
	w.any, w.last = true, append(w.last[:0], key...)
	return nil
}

// seal returns the value of the present part, and begins the next one.
func (w *logWriter) seal(key []byte) []byte {
	out := seal(key, w.buf)
	w.buf = nil
	w.parts++
	return out
}

// logReader reads a part of a write log.
type logReader struct {
	fields
	key node.Key
}

// next reads the next change. The key is valid until the one after.
func (r *logReader) next() (key node.Key, removed, ok bool) {
	shared, rest := r.uvarint(), r.uvarint()
	tail := r.bytes(rest >> 1)
	if r.bad || shared > uint64(len(r.key)) || shared+uint64(len(tail)) > node.MaxKeyBytes {
		r.bad = true
		return nil, false, false
	}
	r.key = append(r.key[:shared], tail...)
	return r.key, rest&1 != 0, true
}

// logFrame is the number of bytes of changes that are read ahead under one snapshot; a value may exceed
// it.
const logFrame = 1 << 20

// GetWriteLog yields the changes from one root to the next. Like Walk, it holds no snapshot while it
// yields.
func (d *DB) GetWriteLog(ctx context.Context, start, end node.Root) iter.Seq2[writelog.LogEntry, error] {
	return func(yield func(writelog.LogEntry, error) bool) {
		w := &logWalk{start: start, end: end}
		for !w.done {
			err := d.read(ctx, end, func(s kv.Snapshot, r *rootRecord) error { return w.fill(ctx, d, s, r) })
			for _, e := range w.frame { // what was read before an error counts
				if !yield(e, nil) {
					return
				}
			}
			if err != nil {
				yield(writelog.LogEntry{}, err)
				return
			}
		}
	}
}

// logWalk is where the reading of a write log stands.
type logWalk struct {
	start, end node.Root
	// part is the number of the part that reader is in; opened says that it was read.
	part   uint32
	opened bool
	reader logReader
	frame  []writelog.LogEntry
	done   bool
}

// fill reads a frame. What it keeps are copies: the snapshot is closed afterwards.
func (w *logWalk) fill(ctx context.Context, d *DB, s kv.Snapshot, r *rootRecord) error {
	w.frame = nil
	if _, err := d.lookupIn(s, w.start); err != nil {
		return err
	}
	start, end := &w.start, &w.end
	follows := end.Follows(start) && start.Hash == r.parent && (start.IsEmpty() || start.Version != end.Version)
	if !follows || !r.hasLog {
		return fmt.Errorf("%w: from %s to %s", db.ErrWriteLogNotFound, start, end)
	}
	values := newSortedReader(s, r)
	for size := 0; size < logFrame; {
		if err := ctx.Err(); err != nil {
			return values.close(err)
		}
		if !w.opened {
			if w.done = w.part == r.logParts; w.done {
				break
			}
			if err := w.open(s, r); err != nil {
				return values.close(err)
			}
		}
		if len(w.reader.b) == 0 {
			w.part, w.opened = w.part+1, false
			continue
		}
		key, removed, ok := w.reader.next()
		if !ok {
			return values.close(damaged(end.Version, "write log"))
		}
		e := writelog.LogEntry{Key: bytes.Clone(key)}
		if e.Key == nil {
			e.Key = []byte{}
		}
		if !removed {
			value, found, err := values.get(key)
			if err == nil && !found {
				err = damaged(end.Version, fmt.Sprintf("write log (or the tree, which lacks its key %.64x)", []byte(key)))
			}
			if err != nil {
				return values.close(err)
			}
			e.Value = value
		}
		w.frame = append(w.frame, e)
		size += len(e.Key) + len(e.Value) + 64
	}
	return values.close(nil)
}

// open reads the next part.
func (w *logWalk) open(s kv.Snapshot, r *rootRecord) error {
	key := partKey(kindWriteLog, r.typ, node.Address{Version: w.end.Version, Candidate: r.candidate}, w.part)
	value, err := getOrNil(s, key)
	if err != nil {
		return err
	}
	f, ok := unseal(key, bytes.Clone(value))
	if value == nil || !ok || len(f.b) == 0 {
		return damaged(w.end.Version, "write log")
	}
	w.reader, w.opened = logReader{fields: f}, true
	return nil
}
