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

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv/storedir"
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
	options  *opt.Options
	readOnly bool

	// mu is held for writing where the engine is opened or closed, and for reading while it is called.
	mu     sync.RWMutex
	closed bool
	files  *files // nil where a repair got stuck
	// unclean is why a batch failed that is still in the journal, in part or as a whole.
	unclean error

	// snapshots counts those that are open, compacting the goroutines that wait for the engine.
	snapshots  atomic.Int64
	compacting sync.WaitGroup

	// batch belongs to Apply, of which only one runs at a time.
	batch leveldb.Batch
}

// OpenStore opens the store in cfg.Dir; of the config, it looks at Dir, ReadOnly, LockWait and
// Settings. It is for those who build on the store alone; New makes a whole database of it.
func OpenStore(ctx context.Context, cfg *db.Config) (kv.Store, error) {
	o, err := parseSettings(cfg.Settings, cfg.ReadOnly)
	if err != nil {
		return nil, err
	}
	s := &store{path: filepath.Join(cfg.Dir, dirName), options: o, readOnly: cfg.ReadOnly}
	s.dir, err = storedir.Open(ctx, storedir.Options{
		Path: cfg.Dir, Kind: Name, Format: format, ReadOnly: cfg.ReadOnly, LockWait: cfg.LockWait, Engine: dirName,
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
		Integrity:           true,
		Amplification:       amplification,
	}
}

// enter is called at the start of each method, and mu.RUnlock at its end where enter returned nil.
func (s *store) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return s.closedOr(err)
	}
	s.mu.RLock()
	switch {
	case s.closed:
		s.mu.RUnlock()
		return kv.ErrClosed
	case s.files == nil:
		err := s.unclean
		s.mu.RUnlock()
		return err
	}
	return nil
}

// closedOr returns err, or ErrClosed from a store that is closed.
func (s *store) closedOr(err error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return kv.ErrClosed
	}
	return err
}

// Apply writes one record of the journal, with an fsync whether sync is set or not. Without it, a loss
// of power could leave a hole in the journal with later records behind it, so that not the last batches
// are lost but one between others.
func (s *store) Apply(ctx context.Context, batch *kv.Batch, _ bool) (err error) {
	if err := s.enterClean(ctx); err != nil {
		return err
	}
	defer s.mu.RUnlock()
	if s.readOnly {
		return kv.ErrReadOnly
	}
	if err := checkLimits(batch); err != nil {
		return err
	}
	s.fill(batch)
	defer s.batch.Reset()
	if err := ctx.Err(); err != nil {
		return err
	}
	s.files.journals.begin()
	err = s.write()
	if err == nil {
		return nil
	}
	switch touched, safe := s.files.journals.outcome(); {
	case safe:
		// What failed is the preparation for the next batch, which will meet it again.
		return nil
	case touched:
		s.unclean = err // only Apply looks at it while files is there
	}
	return err
}

// enterClean is enter for what writes: it repairs the store where that has to be.
func (s *store) enterClean(ctx context.Context) error {
	s.mu.Lock()
	if s.unclean != nil && !s.closed && ctx.Err() == nil {
		if err := s.repair(); err != nil {
			s.mu.Unlock()
			return err
		}
	}
	s.mu.Unlock()
	return s.enter(ctx)
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

func (s *store) Snapshot(ctx context.Context) (_ kv.Snapshot, err error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.mu.RUnlock()
	defer guard(&err)()
	snap, err := s.files.db.GetSnapshot()
	if err != nil {
		return nil, convert(err)
	}
	s.snapshots.Add(1)
	return &snapshot{store: s, snap: snap}, nil
}

// Sync has nothing left to do: batches are safe when they are applied, and what was found at the open
// was written anew and synced by it.
func (s *store) Sync(ctx context.Context) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	s.mu.RUnlock()
	return nil
}

// Size takes what lies in tables and journals as live, with what was overwritten and is not merged away
// yet.
func (s *store) Size(ctx context.Context) (kv.Size, error) {
	if err := s.enter(ctx); err != nil {
		return kv.Size{}, err
	}
	defer s.mu.RUnlock()
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
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return kv.ErrClosed
	}
	s.closed = true
	var err error
	switch {
	case s.files == nil:
	case s.unclean != nil:
		err = s.files.closeCut(s.path)
	default:
		err = s.files.close()
	}
	s.compacting.Wait()
	return errors.Join(err, s.dir.Close())
}
