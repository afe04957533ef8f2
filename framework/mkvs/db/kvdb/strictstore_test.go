package kvdb_test

import (
	"bytes"
	"context"

	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
)

// What a cursor of these snapshots returned is overwritten when it moves, and what Get returned when the
// snapshot is closed; both must be closed, and in order; nothing may be applied while one is open (some
// stores can't grow then, and the caller would wait for itself).

func (s *lastingStore) Snapshot(ctx context.Context) (kv.Snapshot, error) {
	if s.crashed {
		return nil, errCrashed
	}
	if do := s.beforeSnapshot; do != nil {
		s.beforeSnapshot = nil
		do()
	}
	inner, err := s.Store.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	s.mostOpen.Store(max(s.mostOpen.Load(), s.open.Add(1)))
	return &strictSnapshot{Snapshot: inner, store: s}, nil
}

type strictSnapshot struct {
	kv.Snapshot
	store   *lastingStore
	given   [][]byte
	cursors int
	closed  bool
}

func (s *strictSnapshot) Get(key []byte) ([]byte, error) {
	if s.closed {
		panic("get from a snapshot that is closed")
	}
	v, err := s.Snapshot.Get(key)
	if err != nil {
		return nil, err
	}
	v = append([]byte{}, v...)
	s.given = append(s.given, v)
	return v, nil
}

func (s *strictSnapshot) Cursor() kv.Cursor {
	s.cursors++
	return &strictCursor{Cursor: s.Snapshot.Cursor(), s: s}
}

func (s *strictSnapshot) Close() error {
	if s.cursors != 0 {
		panic("a snapshot is closed before its cursors are")
	}
	if !s.closed {
		s.closed = true
		s.store.open.Add(-1)
		scramble(s.given...)
	}
	return s.Snapshot.Close()
}

type strictCursor struct {
	kv.Cursor
	s          *strictSnapshot
	key, value []byte
	closed     bool
}

func scramble(bs ...[]byte) {
	for _, b := range bs {
		copy(b, bytes.Repeat([]byte{0xdd}, len(b)))
	}
}

func (c *strictCursor) moved(ok bool) bool {
	if c.closed {
		panic("a cursor is moved that is closed")
	}
	scramble(c.key, c.value)
	c.key, c.value = nil, nil
	if ok {
		c.key, c.value = bytes.Clone(c.Cursor.Key()), append([]byte{}, c.Cursor.Value()...)
	}
	return ok
}

func (c *strictCursor) Seek(key []byte) bool { return c.moved(c.Cursor.Seek(bytes.Clone(key))) }
func (c *strictCursor) Next() bool           { return c.moved(c.Cursor.Next()) }

func (c *strictCursor) Key() []byte {
	if c.key == nil {
		panic("the key of a cursor that stands nowhere")
	}
	return c.key
}

func (c *strictCursor) Value() []byte {
	if c.key == nil {
		panic("the value of a cursor that stands nowhere")
	}
	return c.value
}

func (c *strictCursor) Close() error {
	if !c.closed {
		c.closed = true
		c.s.cursors--
		scramble(c.key, c.value)
	}
	return c.Cursor.Close()
}
