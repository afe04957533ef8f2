package memory

import (
	"github.com/tidwall/btree"

	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
)

// snapshot is a copy of the tree that shares all its nodes with the store's until they change there.
type snapshot struct{ tree *btree.BTreeG[pair] }

func (s *snapshot) Get(key []byte) ([]byte, error) {
	if s.tree == nil {
		return nil, kv.ErrClosed
	}
	p, ok := s.tree.Get(pair{key: key})
	if !ok {
		return nil, kv.ErrNotFound
	}
	return p.value, nil
}

func (s *snapshot) Cursor() kv.Cursor {
	if s.tree == nil {
		return &cursor{err: kv.ErrClosed}
	}
	return &cursor{iter: s.tree.Iter(), open: true}
}

// Close forgets the tree, so that what the store has changed since can be collected.
func (s *snapshot) Close() error {
	s.tree = nil
	return nil
}

// cursor stands on a pair where valid is set.
type cursor struct {
	iter  btree.IterG[pair]
	valid bool
	open  bool
	err   error
}

func (c *cursor) Seek(key []byte) bool {
	c.valid = c.open && c.iter.Seek(pair{key: key})
	return c.valid
}

func (c *cursor) Next() bool {
	c.valid = c.valid && c.iter.Next()
	return c.valid
}

func (c *cursor) Key() []byte   { return c.iter.Item().key }
func (c *cursor) Value() []byte { return c.iter.Item().value }
func (c *cursor) Err() error    { return c.err }

func (c *cursor) Close() error {
	if c.open {
		c.iter.Release()
	}
	*c = cursor{err: kv.ErrClosed}
	return nil
}
