package leveldb

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/opt"

	"github.com/ckpt-project/ckpt/backends/internal/storedir"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
)

const (
	dirName = "nodes.leveldb"
	// format is the version of what this package writes, above the engine's own.
	format = 1
)

// store is a kv.Store in a goleveldb database.
type store struct {
	dir      *storedir.Dir
	path     string
	readOnly bool
	files    *files

	closed atomic.Bool
	// compacting counts the goroutines that wait for the engine's compactions.
	compacting sync.WaitGroup

	// writing is held while a batch is applied; the rest belongs to it.
	writing sync.Mutex
	batch   leveldb.Batch
	// unclean is set where a batch failed and may still be in the journal.
	unclean bool
}

// OpenStore opens the store in cfg.Dir; of the config, it looks at Dir, ReadOnly, LockWait and
// Settings. It is for those who build on the store alone; New makes a whole database of it.
func OpenStore(ctx context.Context, cfg *db.Config) (kv.Store, error) {
	o, err := parseSettings(cfg.Settings, cfg.ReadOnly)
	if err != nil {
		return nil, err
	}
	s := &store{path: filepath.Join(cfg.Dir, dirName), readOnly: cfg.ReadOnly}
	s.dir, err = storedir.Open(ctx, storedir.Options{
		Path: cfg.Dir, Kind: Name, Format: format, ReadOnly: cfg.ReadOnly, LockWait: cfg.LockWait,
		Open: func(context.Context) (err error) {
			s.files, err = openFiles(s.path, o)
			return err
		},
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (s *store) Limits() kv.Limits {
	return kv.Limits{
		BatchBytes:          maxBatchBytes,
		KeyBytes:            maxKeyBytes,
		ValueBytes:          maxValueBytes,
		PreferredBatchBytes: preferredBatchBytes,
		Durable:             true,
	}
}

func (s *store) usable(ctx context.Context) error {
	if s.closed.Load() {
		return kv.ErrClosed
	}
	return ctx.Err()
}

// Apply writes one record of the journal, with an fsync whether sync is set or not. Without it, a loss
// of power could leave a hole in the journal with later records behind it, so that not the last batches
// are lost but one between others.
func (s *store) Apply(ctx context.Context, batch *kv.Batch, _ bool) (err error) {
	if err := s.usable(ctx); err != nil {
		return err
	}
	if s.readOnly {
		return kv.ErrReadOnly
	}
	if err := checkLimits(batch); err != nil {
		return err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.clean(); err != nil {
		return err
	}
	s.fill(batch)
	defer s.batch.Reset()
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.write(); err != nil {
		s.unclean = true
		return errors.Join(err, s.clean())
	}
	return nil
}

func checkLimits(batch *kv.Batch) error {
	if n := batch.Bytes(); n > maxBatchBytes {
		return fmt.Errorf("%w: a batch of %d bytes, more than %d", kv.ErrLimitExceeded, n, maxBatchBytes)
	}
	for _, op := range batch.Ops() {
		switch {
		case len(op.Key) == 0:
			return fmt.Errorf("%w: a key of no bytes", kv.ErrLimitExceeded)
		case len(op.Key) > maxKeyBytes:
			return fmt.Errorf("%w: a key of %d bytes, more than %d", kv.ErrLimitExceeded, len(op.Key), maxKeyBytes)
		case len(op.Value) > maxValueBytes:
			return fmt.Errorf("%w: a value of %d bytes, more than %d", kv.ErrLimitExceeded, len(op.Value), maxValueBytes)
		}
	}
	return nil
}

func (s *store) fill(batch *kv.Batch) {
	s.batch.Reset()
	for _, op := range batch.Ops() {
		if op.Delete {
			s.batch.Delete(op.Key)
		} else {
			s.batch.Put(op.Key, op.Value)
		}
	}
}

func (s *store) write() (err error) {
	defer guard(&err)()
	return convert(s.files.db.Write(&s.batch, &opt.WriteOptions{Sync: true}))
}

// clean gets rid of what a failed batch may have left in the journal, where the next one would come
// after it and both be found at the next open: opening one of the engine's transactions writes the
// memory's content as a table and begins a new journal.
func (s *store) clean() (err error) {
	if !s.unclean {
		return nil
	}
	defer guard(&err)()
	tr, err := s.files.db.OpenTransaction()
	if err != nil {
		return fmt.Errorf("after a batch that failed: %w", convert(err))
	}
	tr.Discard()
	s.unclean = false
	return nil
}

func (s *store) Snapshot(ctx context.Context) (_ kv.Snapshot, err error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	defer guard(&err)()
	snap, err := s.files.db.GetSnapshot()
	if err != nil {
		return nil, convert(err)
	}
	return &snapshot{snap: snap}, nil
}

// Sync has nothing left to do: batches are safe when they are applied, and what was found at the open
// was written anew and synced by it.
func (s *store) Sync(ctx context.Context) error { return s.usable(ctx) }

// Size takes what lies in tables and journals as live, with what was overwritten and is not merged away
// yet.
func (s *store) Size(ctx context.Context) (kv.Size, error) {
	if err := s.usable(ctx); err != nil {
		return kv.Size{}, err
	}
	var stats leveldb.DBStats
	if err := s.files.db.Stats(&stats); err != nil {
		return kv.Size{}, convert(err)
	}
	file, err := storedir.Bytes(s.path, "*")
	if err != nil {
		return kv.Size{}, fmt.Errorf("leveldb: %w", err)
	}
	journals, err := storedir.Bytes(s.path, "*.log")
	if err != nil {
		return kv.Size{}, fmt.Errorf("leveldb: %w", err)
	}
	return kv.Size{Live: stats.LevelSizes.Sum() + journals, File: file}, nil
}

// Close ends what the engine does in the background and gives up the directory.
func (s *store) Close() error {
	if s.closed.Swap(true) {
		return kv.ErrClosed
	}
	s.writing.Lock() // a batch that is being applied comes to its end
	defer s.writing.Unlock()
	var err error
	if !s.readOnly {
		err = s.clean()
	}
	err = errors.Join(err, s.files.close())
	s.compacting.Wait()
	return errors.Join(err, s.dir.Close())
}
