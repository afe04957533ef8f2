package bbolt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv/storedir"
)

const (
	fileName = "nodes.bolt"
	// format is the version of what this package writes, above the engine's own.
	format = 1
)

// store is a kv.Store in a bbolt file.
type store struct {
	dir      *storedir.Dir
	path     string
	readOnly bool
	params   parameters

	// writing is full while a batch is applied or the file compacted. It is a channel, and no mutex, so
	// that waiting for it can end with a context.
	writing chan struct{}

	mu      sync.Mutex
	current *file // changes when the file is compacted
	closed  bool
	// broken is set where the engine can't be trusted any more; every method then returns it.
	broken error
}

// OpenStore opens the store in cfg.Dir; of the config, it looks at Dir, ReadOnly, LockWait and
// Settings. It is for those who build on the store alone; New makes a whole database of it.
func OpenStore(ctx context.Context, cfg *db.Config) (kv.Store, error) {
	params, err := parseSettings(cfg.Settings)
	if err != nil {
		return nil, err
	}
	s := &store{
		path:     filepath.Join(cfg.Dir, fileName),
		readOnly: cfg.ReadOnly,
		params:   params,
		writing:  make(chan struct{}, 1),
	}
	s.dir, err = storedir.Open(ctx, storedir.Options{
		Path: cfg.Dir, Kind: Name, Format: format, ReadOnly: cfg.ReadOnly, LockWait: cfg.LockWait, Engine: fileName,
		Open: func(ctx context.Context) error {
			f, err := openFile(s.path, params, s.readOnly)
			if errors.Is(err, fs.ErrNotExist) && !s.readOnly {
				if err := createFile(ctx, s.path); err != nil {
					return err
				}
				f, err = openFile(s.path, params, false)
			}
			s.current = f
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
		KeyBytes:            maxKeyBytes,
		ValueBytes:          maxValueBytes,
		PreferredBatchBytes: preferredBatchBytes,
		Durable:             true,
		StableValues:        true,
		Integrity:           true,
		Amplification:       amplification,
	}
}

// acquire returns the present file, to be released.
func (s *store) acquire(ctx context.Context) (*file, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, kv.ErrClosed
	case s.broken != nil:
		return nil, s.broken
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	s.current.refs++
	return s.current, nil
}

func (s *store) release(f *file) error {
	s.mu.Lock()
	f.refs--
	last := f.retired && f.refs == 0
	s.mu.Unlock()
	if last {
		return f.db.Close()
	}
	return nil
}

// lockWriting waits until nothing else writes.
func (s *store) lockWriting(ctx context.Context) error {
	select {
	case s.writing <- struct{}{}:
		return nil
	default:
	}
	select {
	case s.writing <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *store) unlockWriting() { <-s.writing }

func (s *store) Snapshot(ctx context.Context) (kv.Snapshot, error) {
	f, err := s.acquire(ctx)
	if err != nil {
		return nil, err
	}
	snap, err := newSnapshot(s, f)
	if err != nil {
		return nil, errors.Join(err, s.release(f))
	}
	return snap, nil
}

// Sync makes safe what a process that was killed had written and not synced; what this one applied is.
func (s *store) Sync(ctx context.Context) (err error) {
	f, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.release(f)) }()
	if s.readOnly {
		return nil
	}
	if err := f.db.Sync(); err != nil {
		return fmt.Errorf("bbolt: %w", err)
	}
	return nil
}

// Size counts whole pages.
func (s *store) Size(ctx context.Context) (size kv.Size, err error) {
	f, err := s.acquire(ctx)
	if err != nil {
		return size, err
	}
	defer func() { err = errors.Join(err, s.release(f)) }()
	info, err := f.f.Stat()
	if err != nil {
		return size, fmt.Errorf("bbolt: %w", err)
	}
	live, err := f.liveBytes()
	return kv.Size{Live: live, File: info.Size()}, err
}

// Close closes the file and gives up the directory. The engine waits for snapshots that are still open.
func (s *store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return kv.ErrClosed
	}
	s.closed = true
	f, broken := s.current, s.broken
	s.mu.Unlock()

	s.writing <- struct{}{} // a batch that is being applied comes to its end
	defer s.unlockWriting()
	var err error
	if broken != nil {
		// The engine may have kept its locks where it panicked, and would wait for them for ever. So the file
		// is taken from it; its mapping stays until the process ends.
		err = errors.Join(storedir.Unlock(f.f), f.f.Close())
	} else {
		if !s.readOnly {
			err = f.db.Sync()
		}
		err = errors.Join(err, f.db.Close())
	}
	if err = errors.Join(err, s.dir.Close()); err != nil {
		return fmt.Errorf("bbolt: %w", err)
	}
	return nil
}

// fileSize is the file's length, 0 where it can't be told.
func fileSize(f *os.File) int64 {
	info, err := f.Stat()
	if err != nil {
		return 0
	}
	return info.Size()
}
