package kvdb

import (
	"bytes"
	"context"
	"fmt"

	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// checkRecordsFrame is the number of bytes of records that are looked at under one snapshot; a record may
// exceed it.
const checkRecordsFrame = 4 << 20

// records looks at every record of the store by itself.
func (c *check) records(ctx context.Context) error {
	block := orderedBlocks{c: c}
	err := c.eachRecord(ctx, []byte{0}, nil, func(s kv.Snapshot, key, value []byte) error {
		c.report.Records++
		c.report.Bytes += uint64(len(key) + len(value))
		c.did(len(key) + len(value))
		return c.notes(versionIn(key), c.record(s, key, value, &block))
	})
	c.recordsRead = true
	return err
}

// eachRecord calls f with the records from one key up to, not including, another (nil: to the end), without
// those that the engine can't read. What it is given is valid until it returns.
func (c *check) eachRecord(ctx context.Context, from, to []byte, f func(s kv.Snapshot, key, value []byte) error) error {
	for from != nil {
		if err := c.d.carryOn(ctx); err != nil {
			return err
		}
		next, err := c.someRecords(ctx, from, to, f)
		if err != nil {
			return err
		}
		from = next
	}
	return nil
}

func (c *check) someRecords(ctx context.Context, from, to []byte, f func(s kv.Snapshot, key, value []byte) error) (next []byte, err error) {
	s, err := c.d.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, storeError(s.Close())) }()
	cur := s.Cursor()
	defer func() { err = errors.Join(err, storeError(cur.Close())) }()
	size := 0
	last := bytes.Clone(from)
	for ok := cur.Seek(from); ok; ok = cur.Next() {
		key := cur.Key()
		last = append(last[:0], key...)
		if to != nil && bytes.Compare(key, to) >= 0 {
			return nil, nil
		}
		if size >= checkRecordsFrame {
			return bytes.Clone(key), nil
		}
		value := cur.Value()
		if err := f(s, key, value); err != nil {
			return nil, err
		}
		size += len(key) + len(value)
	}
	err = storeError(cur.Err())
	if !isEngineDamage(err) {
		return nil, err
	}
	until, behindErr := behind(s, last)
	if behindErr != nil {
		return nil, behindErr
	}
	c.cantReadOn(last, until, err)
	return until, nil
}

// record looks at one record. Its error is damage, or a failure to look.
func (c *check) record(s kv.Snapshot, key, value []byte, block *orderedBlocks) error {
	k, typ, ok := kindOfKey(key)
	if !ok {
		return damaged(db.UnknownVersion, fmt.Sprintf("key %.64x, which is none of ours,", key))
	}
	if !k.form.fits(key) {
		return damaged(versionIn(key), fmt.Sprintf("key %.64x (%s)", key, k.name))
	}
	a, rest, _ := addressOfKey(key)
	switch k.kind {
	case kindStamp:
		_, err := checkStamp(value, c.d.info.Namespace)
		return err
	case kindState:
		_, err := decodeState(value)
		return err
	case kindMultipart:
		_, err := decodeInsert(value)
		return err
	case kindVersion:
		version := versionOfKey(key)
		_, err := decodeVersion(key, value, version)
		return err
	case kindCandidate:
		_, err := decodeCandidate(key, value, a.Version)
		return err
	case kindBlock:
		return block.check(s, typ, a, key, value)
	case kindDead:
		return deadRecord(s, a, key, value)
	case kindGarbage:
		f, ok := unseal(key, value)
		if !ok || !eachDead(&f, a.Version, func(node.Address, node.Position) {}) {
			return damaged(a.Version, k.name)
		}
		return nil
	case kindWriteLog:
		f, ok := unseal(key, value)
		r := logReader{fields: f}
		for ok && len(r.b) > 0 {
			_, _, ok = r.next()
		}
		if !ok {
			return damaged(a.Version, k.name)
		}
		return nil
	case kindInsertRoot:
		_, _, err := decodeInsertRoot(key, value, typ, a)
		return err
	case kindInsertTag:
		if _, ok := unseal(key, value); !ok {
			return damaged(a.Version, k.name)
		}
		return nil
	case kindMark:
		_, err := decodeMark(key, value, a.Version)
		return err
	case kindSpine:
		f, ok := unseal(key, value)
		if !ok {
			return &db.CorruptedError{Version: a.Version, Position: bytes.Clone(rest), Reason: "restored node's checksum is wrong"}
		}
		_, err := parse(f.b, a, node.Position(rest))
		return err
	default: // it is in the table, and nobody has said how to look at it
		return damaged(a.Version, fmt.Sprintf("key %.64x (%s)", key, k.name))
	}
}

// deadRecord looks at the dead slots of a block.
func deadRecord(s kv.Snapshot, a node.Address, key, value []byte) error {
	f, ok := unseal(key, value)
	generation := f.byte()
	if !ok || f.bad {
		return damaged(a.Version, "count of dead entries")
	}
	blockKey := bytes.Clone(key)
	blockKey[0] = key[0] - kindDead + kindBlock
	block, err := getOrNil(s, blockKey)
	if err != nil {
		return err
	}
	if block == nil {
		return damaged(a.Version, "count of dead entries of a block that is not there")
	}
	b, reason := openBlock(blockKey, block)
	if reason == "" && (b.generation != generation || len(f.b) != (b.n+7)/8) {
		return damaged(a.Version, "count of dead entries of another block")
	}
	return nil
}

// orderedBlocks looks at blocks in the order of their keys.
type orderedBlocks struct {
	c       *check
	typ     node.RootType
	address node.Address
	// last is the position of the last entry seen.
	last node.Position
	// stray says that the address belongs to nothing.
	stray bool
	slots []byte
}

// check looks at a block: that it is whole, its entries are nodes, and they come after those of the blocks
// before it.
func (o *orderedBlocks) check(s kv.Snapshot, typ node.RootType, a node.Address, key, value []byte) (err error) {
	if typ != o.typ || a != o.address {
		o.typ, o.address, o.last = typ, a, o.last[:0]
		if o.stray, err = o.c.isStray(s, typ, a); err != nil {
			return err
		}
	}
	fails := func(reason string) error {
		return &db.CorruptedError{Version: a.Version, Position: bytes.Clone(key[prefixSize:]), Reason: reason}
	}
	b, reason := openBlock(key, value)
	if reason != "" {
		return fails(reason)
	}
	p := make(node.Position, 0, len(b.last)+8)
	for i := range b.n {
		suffix, record, ok := b.entry(i)
		if !ok {
			return fails("block's entries are damaged")
		}
		p = append(append(p[:0], b.shared...), suffix...)
		if !validPosition(p) || o.last.Compare(p) >= 0 && len(o.last) > 0 || p.Compare(b.last) > 0 {
			return fails("block's entries are not in order")
		}
		o.last = append(o.last[:0], p...)
		if _, err := parse(record, a, p); err != nil {
			return err
		}
	}
	if !o.stray {
		return nil
	}
	stored, deadKey, err := deadBitmap(s, key)
	if err != nil {
		return err
	}
	o.slots = o.c.d.deadSlots(&b, deadKey, stored, o.slots)
	for i := range b.n {
		if !isDead(o.slots, i) {
			o.c.report.Unreachable++
		}
	}
	return nil
}

// isStray says whether the nodes of an address belong to nothing that counts, may count, or is about to
// be removed. Those that a state's earliest version may reach are counted elsewhere.
func (c *check) isStray(s kv.Snapshot, typ node.RootType, a node.Address) (bool, error) {
	switch now := c.state; {
	case !now.any, a.Version > now.latest:
		return false, nil // a candidate's, or one's in the making
	case typ == node.RootTypeState && a.Version <= now.earliest:
		return false, nil
	case typ != node.RootTypeState && a.Version < now.earliest && a.Version >= now.applied:
		return false, nil // it goes with its version
	}
	if _, is := c.unowned[owner{typ, a}]; is {
		return false, nil
	}
	v, err := c.d.readVersion(s, a.Version)
	if errors.Is(err, db.ErrCorrupted) {
		return false, nil // whose they are can't be told
	}
	if err != nil || v == nil {
		return err == nil, err
	}
	r := v.root(typ)
	return r == nil || !r.owns(a.Candidate), nil
}
