package leveldb

import (
	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/iterator"

	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
)

type snapshot struct {
	store *store
	snap  *leveldb.Snapshot // nil when it is closed
}

// Get returns a copy.
func (s *snapshot) Get(key []byte) (value []byte, err error) {
	if s.snap == nil {
		return nil, kv.ErrClosed
	}
	defer guard(&err)()
	value, err = s.snap.Get(key, nil)
	if err != nil {
		return nil, convert(err)
	}
	if value == nil {
		value = []byte{}
	}
	return value, nil
}

func (s *snapshot) Cursor() kv.Cursor {
	if s.snap == nil {
		return &cursor{err: kv.ErrClosed}
	}
	return &cursor{iter: s.snap.NewIterator(nil, nil)}
}

func (s *snapshot) Close() error {
	if s.snap != nil {
		s.snap.Release()
		s.snap = nil
		s.store.snapshots.Add(-1)
	}
	return nil
}

// cursor stands on a pair where valid is set.
type cursor struct {
	iter  iterator.Iterator
	valid bool
	err   error
}

func (c *cursor) Seek(key []byte) bool {
	return c.err == nil && c.move(func() bool { return c.iter.Seek(key) })
}

func (c *cursor) Next() bool {
	return c.err == nil && c.valid && c.move(c.iter.Next)
}

func (c *cursor) move(step func() bool) bool {
	c.valid = false
	defer guard(&c.err)()
	if c.valid = step(); !c.valid {
		c.err = convert(c.iter.Error())
	}
	return c.valid
}

func (c *cursor) Key() []byte { return c.iter.Key() }

func (c *cursor) Value() []byte {
	if v := c.iter.Value(); v != nil {
		return v
	}
	return []byte{}
}

func (c *cursor) Err() error { return c.err }

func (c *cursor) Close() error {
	if c.iter != nil {
		c.iter.Release()
	}
	*c = cursor{err: kv.ErrClosed}
	return nil
}
