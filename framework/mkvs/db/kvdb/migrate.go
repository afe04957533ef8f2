package kvdb

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// The formats that there were before this one:
//
//	1  Write logs held values beside keys, under keys of kind 50: for each change uvarint(length of key) ‖
//	   key ‖ uvarint(length of value + 1) ‖ value, or 0 where the key was removed.

// kindWriteLog1 is the kind of write logs in format 1.
const kindWriteLog1 byte = 0x50

// checkFormat refuses a store that is not a database of this namespace and format. Where it is one of an
// older format and that was asked for, it is migrated.
func (d *DB) checkFormat(ctx context.Context) error {
	version, empty, err := d.stamp(ctx)
	switch {
	case err != nil, empty, version == formatVersion:
		return err
	case !d.migrating:
		return fmt.Errorf("%w: it has %d, an older one, and this program reads %d: bring it there with 'ckpt-host db migrate'",
			db.ErrFormatVersion, version, formatVersion)
	case d.info.Capabilities.ReadOnly:
		return fmt.Errorf("%w: a database of format %d can't be migrated while it is open for reading only", db.ErrReadOnly, version)
	}
	d.log.Info("migrating the database", "from", version, "to", formatVersion)
	if err := d.migrateWriteLogs(ctx); err != nil {
		return fmt.Errorf("kvdb: migrating from format %d to %d: %w", version, formatVersion, err)
	}
	// The stamp goes last: until it is there, the next open goes on with the migration.
	var b kv.Batch
	b.Put(stampKey, encodeStamp(d.info.Namespace))
	return d.apply(ctx, &b, true)
}

// stamp reads what the store says of itself.
func (d *DB) stamp(ctx context.Context) (version uint64, empty bool, err error) {
	s, err := d.snapshot(ctx)
	if err != nil {
		return 0, false, err
	}
	defer func() { err = errors.Join(err, storeError(s.Close())) }()
	c := s.Cursor()
	defer func() { err = errors.Join(err, storeError(c.Close())) }()
	if !c.Seek(stampKey) {
		return 0, true, storeError(c.Err())
	}
	if !bytes.Equal(c.Key(), stampKey) {
		return 0, false, fmt.Errorf("%w: it begins with key %.32x", db.ErrForeign, c.Key())
	}
	version, err = checkStamp(c.Value(), d.info.Namespace)
	return version, false, err
}

// migrateWriteLogs writes the logs of format 1 as they are now, part by part: each goes in the write that
// puts the new one, so that it can be broken off anywhere.
func (d *DB) migrateWriteLogs(ctx context.Context) error {
	p := &part{limits: &d.limits}
	from, to := []byte{kindWriteLog1}, successor([]byte{kindWriteLog1 | 0x0f})
	for from != nil {
		if err := d.carryOn(ctx); err != nil {
			return err
		}
		next, err := d.gatherWriteLogs(ctx, p, from, to)
		if err != nil {
			return err
		}
		if p.batch.Len() > 0 {
			if err := d.write(ctx, p, false, nil); err != nil {
				return err
			}
		}
		from = next
	}
	return nil
}

// gatherWriteLogs adds the migration of the parts from one key to another to a part, and returns the key
// to go on from.
func (d *DB) gatherWriteLogs(ctx context.Context, p *part, from, to []byte) (next []byte, err error) {
	s, err := d.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, storeError(s.Close())) }()
	c := s.Cursor()
	defer func() { err = errors.Join(err, storeError(c.Close())) }()
	for ok := c.Seek(from); ok && bytes.Compare(c.Key(), to) < 0; ok = c.Next() {
		if p.full(2, 2*len(c.Key())+len(c.Value())) {
			return bytes.Clone(c.Key()), nil
		}
		old := p.arena.copy(c.Key())
		key := p.arena.copy(c.Key())
		key[0] = key[0] - kindWriteLog1 + kindWriteLog
		if value, err := migrateWriteLog(old, key, c.Value()); err != nil {
			// Nobody gets what it said back, and nothing else depends on it: reading it stays an error.
			d.log.Warn("a write log is damaged, and is left out", "key", old)
		} else {
			p.batch.Put(key, value)
		}
		p.batch.Delete(old)
	}
	return nil, storeError(c.Err())
}

// migrateWriteLog makes the value that a part of a write log of format 1 has now.
func migrateWriteLog(old, key, value []byte) ([]byte, error) {
	f, ok := unseal(old, value)
	w := logWriter{}
	for ok && len(f.b) > 0 {
		k := node.Key(f.bytes(f.uvarint()))
		n := f.uvarint()
		if n > 0 {
			f.bytes(n - 1)
		}
		if f.bad {
			break
		}
		if err := w.add(k, n == 0); err != nil {
			return nil, err
		}
	}
	if !ok || f.bad || len(w.buf) == 0 {
		return nil, damaged(versionOfKey(key), "write log")
	}
	return w.seal(key), nil
}
