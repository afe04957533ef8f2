package bbolt

import (
	"bytes"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
)

// snapshot is a transaction for reading.
type snapshot struct {
	store  *store
	file   *file
	tx     *bolt.Tx
	bucket *bolt.Bucket
}

func newSnapshot(s *store, f *file) (*snapshot, error) {
	tx, err := f.db.Begin(false)
	if err != nil {
		return nil, fmt.Errorf("bbolt: %w", err)
	}
	snap := &snapshot{store: s, file: f, tx: tx}
	if err := snap.findBucket(); err != nil {
		return nil, errors.Join(err, tx.Rollback())
	}
	return snap, nil
}

func (s *snapshot) findBucket() (err error) {
	defer guard(&err)()
	if s.bucket = s.tx.Bucket(bucketName); s.bucket == nil {
		return fmt.Errorf("%w: bbolt: no bucket %q", db.ErrCorrupted, bucketName)
	}
	return nil
}

func (s *snapshot) Get(key []byte) (value []byte, err error) {
	if s.tx == nil {
		return nil, kv.ErrClosed
	}
	defer guard(&err)()
	k, v := s.bucket.Cursor().Seek(key)
	if k == nil || !bytes.Equal(k, key) {
		return nil, kv.ErrNotFound
	}
	return notNil(v), nil
}

func (s *snapshot) Cursor() kv.Cursor {
	if s.tx == nil {
		return &cursor{err: kv.ErrClosed}
	}
	return &cursor{c: s.bucket.Cursor()}
}

func (s *snapshot) Close() (err error) {
	if s.tx == nil {
		return nil
	}
	tx := s.tx
	s.tx, s.bucket = nil, nil
	if err = tx.Rollback(); err != nil {
		err = fmt.Errorf("bbolt: %w", err)
	}
	return errors.Join(err, s.store.release(s.file))
}

// cursor stands on a pair where key is not nil.
type cursor struct {
	c          *bolt.Cursor
	key, value []byte
	err        error
}

func (c *cursor) Seek(key []byte) bool {
	if c.err != nil {
		return false
	}
	c.move(func() ([]byte, []byte) { return c.c.Seek(key) })
	return c.key != nil
}

func (c *cursor) Next() bool {
	if c.err != nil || c.key == nil {
		return false
	}
	c.move(c.c.Next)
	return c.key != nil
}

func (c *cursor) move(step func() (key, value []byte)) {
	c.key, c.value = nil, nil
	defer guard(&c.err)()
	c.key, c.value = step()
}

func (c *cursor) Key() []byte   { return c.key }
func (c *cursor) Value() []byte { return notNil(c.value) }
func (c *cursor) Err() error    { return c.err }

func (c *cursor) Close() error {
	*c = cursor{err: kv.ErrClosed}
	return nil
}

func notNil(value []byte) []byte {
	if value == nil {
		return []byte{}
	}
	return value
}
