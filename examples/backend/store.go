package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/tidwall/btree"

	"github.com/ckpt-project/ckpt/framework/common/durable"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv/storedir"
)

type pair struct{ key, value []byte }

func less(a, b pair) bool { return bytes.Compare(a.key, b.key) < 0 }

// store keeps everything in a sorted tree in memory, and each batch in a journal (journal.go) first. The
// tree's copies share what they have in common, which makes a copy a snapshot.
type store struct {
	dir      *storedir.Dir
	readOnly bool
	path     string // of the journal

	mu    sync.Mutex
	file  *os.File // the journal; nil when the store is closed
	end   int64    // where the next batch goes
	torn  bool     // there may be something behind end
	tree  *btree.BTreeG[pair]
	bytes int64 // of all keys and values
}

// openStore opens the store in cfg.Dir: KV50 to KV52 are storedir's.
func openStore(ctx context.Context, cfg *db.Config) (kv.Store, error) {
	if s := string(bytes.TrimSpace(cfg.Settings)); s != "" && s != "{}" && s != "null" {
		return nil, fmt.Errorf("%w: journal has none", db.ErrBadSettings)
	}
	s := &store{
		readOnly: cfg.ReadOnly,
		path:     filepath.Join(cfg.Dir, "journal"),
		tree:     btree.NewBTreeGOptions(less, btree.Options{NoLocks: true}),
	}
	var err error
	s.dir, err = storedir.Open(ctx, storedir.Options{
		Path: cfg.Dir, Kind: "journal", Format: 1, ReadOnly: cfg.ReadOnly, LockWait: cfg.LockWait,
		Open: func(context.Context) error { return s.load() },
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (s *store) load() (err error) {
	if s.readOnly {
		s.file, err = os.Open(s.path)
	} else {
		if _, err := os.Stat(s.path); errors.Is(err, fs.ErrNotExist) {
			if err := storedir.WriteFile(s.path, nil); err != nil {
				return err
			}
		}
		s.file, err = os.OpenFile(s.path, os.O_RDWR, 0)
	}
	if err != nil {
		return err
	}
	if s.end, err = replay(s.file, s.change); err != nil {
		return errors.Join(err, s.file.Close())
	}
	s.torn = true
	return nil
}

// cut removes what a batch that failed has left behind the journal's end.
func (s *store) cut() error {
	if !s.torn {
		return nil
	}
	if err := s.file.Truncate(s.end); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	s.torn = false
	return nil
}

// change makes changes in memory. It keeps the operations' bytes.
func (s *store) change(ops []kv.Op) {
	for _, op := range ops {
		var old pair
		if op.Delete {
			old, _ = s.tree.Delete(pair{key: op.Key})
		} else {
			if op.Value == nil {
				op.Value = []byte{}
			}
			old, _ = s.tree.Set(pair{op.Key, op.Value})
			s.bytes += int64(len(op.Key) + len(op.Value))
		}
		s.bytes -= int64(len(old.key) + len(old.value))
	}
}

// lock begins a method: the store is open and the context is not done, or there is an error.
func (s *store) lock(ctx context.Context) error {
	s.mu.Lock()
	err := ctx.Err()
	if s.file == nil {
		err = kv.ErrClosed
	}
	if err != nil {
		s.mu.Unlock()
	}
	return err
}

// Limits has no bounds: what fits in memory is taken.
func (s *store) Limits() kv.Limits {
	return kv.Limits{PreferredBatchBytes: 8 << 20, Durable: true, StableValues: true}
}

// Apply writes the batch to the journal, and then makes its changes. It syncs whether asked to or not: so
// no batch but the last can be there in part after a loss of power, and one that is means damage.
func (s *store) Apply(ctx context.Context, batch *kv.Batch, _ bool) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if s.readOnly {
		return kv.ErrReadOnly
	}
	written := appendBatch(nil, batch.Ops())
	ops, ok := parseOps(written[headBytes:]) // the same, in memory that is ours: KV3
	if !ok {
		return fmt.Errorf("%w: an empty key", kv.ErrLimitExceeded)
	}
	if err := s.cut(); err != nil {
		return err
	}
	_, err := s.file.WriteAt(written, s.end)
	if err == nil {
		err = s.file.Sync()
	}
	if err != nil {
		s.torn = true
		return errors.Join(fmt.Errorf("journal: %w", err), s.cut())
	}
	s.end += int64(len(written))
	s.change(ops)
	return nil
}

func (s *store) Snapshot(ctx context.Context) (kv.Snapshot, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	return &snapshot{s.tree.Copy()}, nil
}

func (s *store) Sync(ctx context.Context) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	return nil // Apply does
}

func (s *store) Size(ctx context.Context) (kv.Size, error) {
	if err := s.lock(ctx); err != nil {
		return kv.Size{}, err
	}
	defer s.mu.Unlock()
	return kv.Size{Live: s.bytes, File: s.end}, nil
}

// Compact writes a new journal that holds what is there now, and puts it in the old one's place.
func (s *store) Compact(ctx context.Context, progress func(done, total int64)) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if s.readOnly {
		return kv.ErrReadOnly
	}
	temp := storedir.TempName(s.path)
	f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	var end, done int64
	var batch []kv.Op
	var size int64
	write := func() error {
		written := appendBatch(nil, batch)
		if _, err := f.WriteAt(written, end); err != nil {
			return err
		}
		end, done = end+int64(len(written)), done+size
		batch, size = batch[:0], 0
		if progress != nil {
			progress(done, s.bytes)
		}
		return ctx.Err()
	}
	s.tree.Scan(func(p pair) bool {
		batch = append(batch, kv.Op{Key: p.key, Value: p.value})
		if size += int64(len(p.key) + len(p.value)); size >= 8<<20 {
			err = write()
		}
		return err == nil
	})
	if err == nil {
		err = write()
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(temp, s.path)
	}
	if err != nil {
		return errors.Join(err, f.Close(), os.Remove(temp))
	}
	old := s.file
	s.file, s.end, s.torn = f, end, false
	return errors.Join(old.Close(), durable.SyncDir(filepath.Dir(s.path)))
}

func (s *store) Close() error {
	if err := s.lock(context.Background()); err != nil {
		return err
	}
	defer s.mu.Unlock()
	err := errors.Join(s.file.Close(), s.dir.Close())
	s.file, s.tree = nil, nil
	return err
}

type snapshot struct{ tree *btree.BTreeG[pair] }

func (s *snapshot) Get(key []byte) ([]byte, error) {
	p, ok := s.tree.Get(pair{key: key})
	if !ok {
		return nil, kv.ErrNotFound
	}
	return p.value, nil
}

func (s *snapshot) Cursor() kv.Cursor { return &cursor{iter: s.tree.Iter()} }
func (s *snapshot) Close() error      { return nil }

type cursor struct {
	iter  btree.IterG[pair]
	stand bool
}

func (c *cursor) Seek(key []byte) bool {
	c.stand = c.iter.Seek(pair{key: key})
	return c.stand
}

func (c *cursor) Next() bool {
	c.stand = c.stand && c.iter.Next()
	return c.stand
}

func (c *cursor) Key() []byte   { return c.iter.Item().key }
func (c *cursor) Value() []byte { return c.iter.Item().value }
func (c *cursor) Err() error    { return nil }

func (c *cursor) Close() error {
	c.iter.Release()
	return nil
}
