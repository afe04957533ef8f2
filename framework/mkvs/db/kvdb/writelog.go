package kvdb

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"iter"

	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/writelog"
)

// logPart is the size at which a part of a write log is stored, in bytes; a larger change stands alone.
const logPart = 64 << 10

// logWriter gathers the part of a write log that is not stored yet: for each change
// uvarint(length of key) ‖ key ‖ uvarint(length of value + 1) ‖ value, or 0 where the key was removed.
type logWriter struct {
	buf   []byte
	last  []byte
	any   bool
	parts uint32
}

// add adds a change, whose key must come after the last one's.
func (w *logWriter) add(e *writelog.LogEntry) error {
	if len(e.Key) > node.MaxKeyBytes {
		return fmt.Errorf("%w: key of %d bytes in a write log", db.ErrLimitExceeded, len(e.Key))
	}
	if w.any && bytes.Compare(w.last, e.Key) >= 0 {
		return fmt.Errorf("%w: write log is not sorted", db.ErrMalformed)
	}
	w.any, w.last = true, append(w.last[:0], e.Key...)
	w.buf = binary.AppendUvarint(w.buf, uint64(len(e.Key)))
	w.buf = append(w.buf, e.Key...)
	if e.Type() == writelog.LogDelete {
		w.buf = append(w.buf, 0)
		return nil
	}
	w.buf = binary.AppendUvarint(w.buf, uint64(len(e.Value))+1)
	w.buf = append(w.buf, e.Value...)
	return nil
}

// seal returns the value of the present part, and begins the next one.
func (w *logWriter) seal(key []byte) []byte {
	out := seal(key, w.buf)
	w.buf = nil
	w.parts++
	return out
}

// GetWriteLog yields the changes from one root to the next.
func (d *DB) GetWriteLog(ctx context.Context, start, end node.Root) iter.Seq2[writelog.LogEntry, error] {
	return func(yield func(writelog.LogEntry, error) bool) {
		fail := func(err error) { yield(writelog.LogEntry{}, err) }
		for i := uint32(0); ; i++ {
			part, parts, err := d.logPart(ctx, &start, &end, i)
			if err != nil {
				fail(err)
				return
			}
			for len(part.b) > 0 {
				var e writelog.LogEntry
				e.Key = part.bytes(part.uvarint())
				if n := part.uvarint(); n > 0 {
					e.Value = part.bytes(n - 1)
				}
				if part.bad {
					fail(damaged(end.Version, "write log"))
					return
				}
				if !yield(e, nil) {
					return
				}
			}
			if i+1 >= parts {
				return
			}
		}
	}
}

// logPart returns a copy of one part of a write log, and the number of parts.
func (d *DB) logPart(ctx context.Context, start, end *node.Root, i uint32) (f fields, parts uint32, err error) {
	err = d.read(ctx, *end, func(s kv.Snapshot, r *rootRecord) error {
		if _, err := d.lookup(ctx, *start); err != nil {
			return err
		}
		follows := end.Follows(start) && start.Hash == r.parent && (start.IsEmpty() || start.Version != end.Version)
		if !follows || !r.hasLog {
			return fmt.Errorf("%w: from %s to %s", db.ErrWriteLogNotFound, start, end)
		}
		if parts = r.logParts; parts == 0 {
			return nil
		}
		key := partKey(kindWriteLog, r.typ, node.Address{Version: end.Version, Candidate: r.candidate}, i)
		value, err := s.Get(key)
		if errors.Is(err, kv.ErrNotFound) {
			return damaged(end.Version, "write log")
		}
		if err != nil {
			return storeError(err)
		}
		var ok bool
		if f, ok = unseal(key, bytes.Clone(value)); !ok {
			return damaged(end.Version, "write log")
		}
		return nil
	})
	return f, parts, err
}
