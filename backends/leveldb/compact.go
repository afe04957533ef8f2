package leveldb

import (
	"context"
	"fmt"
	"time"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/util"

	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv/storedir"
)

// progressEvery is how often Compact tells how far it is.
const progressEvery = 100 * time.Millisecond

// Compact merges all tables, so that nothing is kept of what was overwritten or deleted. The engine
// can't be told to stop: where the context ends, Compact returns and the merging goes on by itself,
// until it is done or the store is closed.
func (s *store) Compact(ctx context.Context, progress func(done, total int64)) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	files := s.files
	s.mu.RUnlock()
	if s.readOnly {
		return kv.ErrReadOnly
	}
	size, err := s.Size(ctx)
	if err != nil {
		return err
	}
	written := files.written()
	tell := func(done int64) {
		if progress != nil {
			progress(min(done, size.Live), size.Live)
		}
	}
	tell(0)
	finished, err := s.startCompaction(ctx)
	if err != nil {
		return err
	}
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		select {
		case err := <-finished:
			if err != nil {
				return err
			}
			tell(size.Live)
			return s.awaitRemoval(ctx)
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			tell(files.written() - written)
		}
	}
}

// awaitRemoval waits until the tables that were merged are removed, which the engine does a moment later
// and says to nobody. It doesn't wait long: iterators that are open keep tables.
func (s *store) awaitRemoval(ctx context.Context) error {
	const often, long = 5 * time.Millisecond, time.Second
	tick := time.NewTicker(often)
	defer tick.Stop()
	for range int(long / often) {
		if gone, err := s.onlyLiveTables(ctx); gone || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (s *store) onlyLiveTables(ctx context.Context) (bool, error) {
	if err := s.enter(ctx); err != nil {
		return false, err
	}
	defer s.mu.RUnlock()
	var stats leveldb.DBStats
	if err := s.files.db.Stats(&stats); err != nil {
		return false, convert(err)
	}
	bytes, err := storedir.Bytes(s.path, "*.ldb")
	if err != nil {
		return false, fmt.Errorf("leveldb: %w", err)
	}
	return bytes <= stats.LevelSizes.Sum(), nil
}

// startCompaction begins a compaction that Close waits for, and so not after Close.
func (s *store) startCompaction(ctx context.Context) (<-chan error, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.mu.RUnlock()
	files, finished := s.files, make(chan error, 1)
	s.compacting.Go(func() { finished <- files.compact() })
	return finished, nil
}

func (f *files) compact() (err error) {
	defer guard(&err)()
	return convert(f.db.CompactRange(util.Range{}))
}

// written is what the engine has written since it was opened, in bytes.
func (f *files) written() int64 {
	var stats leveldb.DBStats
	if f.db.Stats(&stats) != nil {
		return 0
	}
	return int64(stats.IOWrite)
}
