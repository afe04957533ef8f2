package bbolt

import (
	"bytes"
	"errors"
	"fmt"
	"unsafe"

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
	// base is where the file is mapped, for as long as the transaction is open, and size how much of the
	// mapping has pages behind it.
	base, size uintptr
}

func newSnapshot(s *store, f *file) (*snapshot, error) {
	tx, err := f.db.Begin(false)
	if err != nil {
		return nil, fmt.Errorf("bbolt: %w", err)
	}
	snap := &snapshot{store: s, file: f, tx: tx}
	if err := snap.prepare(); err != nil {
		return nil, errors.Join(err, tx.Rollback())
	}
	return snap, nil
}

func (s *snapshot) prepare() (err error) {
	defer guard(&err)()
	s.base, s.size = s.file.db.Info().Data, uintptr(s.tx.Size())
	if s.bucket = s.tx.Bucket(bucketName); s.bucket == nil {
		return fmt.Errorf("%w: bbolt: no bucket %q", db.ErrCorrupted, bucketName)
	}
	return nil
}

// inFile refuses bytes that don't lie within the file's pages. The engine believes the lengths that it
// finds in a page, and reading what they lead to would end the process. A bucket that is so small that it
// has no page of its own may have been copied out of the file, and can't be checked.
func (s *snapshot) inFile(b []byte) error {
	if len(b) == 0 || s.bucket.RootPage() == 0 {
		return nil
	}
	at := uintptr(unsafe.Pointer(unsafe.SliceData(b))) - s.base // only compared, never followed
	if at >= s.size || uintptr(len(b)) > s.size-at {
		return fmt.Errorf("%w: bbolt: %d bytes at offset %d of %d", db.ErrCorrupted, len(b), at, s.size)
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
	if err := s.inFile(v); err != nil {
		return nil, err
	}
	return notNil(v), nil
}

func (s *snapshot) Cursor() kv.Cursor {
	if s.tx == nil {
		return &cursor{err: kv.ErrClosed}
	}
	return &cursor{snapshot: s, c: s.bucket.Cursor()}
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
	snapshot   *snapshot
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
	key, value := step()
	if c.err = errors.Join(c.snapshot.inFile(key), c.snapshot.inFile(value)); c.err == nil {
		c.key, c.value = key, value
	}
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
