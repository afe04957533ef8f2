package bbolt

import (
	"context"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
)

// checkEvery is how many operations are done between two looks at the context.
const checkEvery = 1024

// Apply is one transaction, with an fsync whether sync is set or not: without it, the engine's file
// could be damaged by a loss of power, not just lose batches.
func (s *store) Apply(ctx context.Context, batch *kv.Batch, _ bool) (err error) {
	f, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.release(f)) }()
	if s.readOnly {
		return kv.ErrReadOnly
	}
	if err := checkLimits(batch); err != nil {
		return err
	}
	if err := s.lockWriting(ctx); err != nil {
		return err
	}
	defer s.unlockWriting()
	// A compaction may have put another file in this one's place while we waited.
	now, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.release(now)) }()
	panicked := true
	defer func() {
		if panicked {
			s.setBroken(err)
		}
	}()
	defer guard(&err)()
	err = s.commit(ctx, now, batch.Ops())
	panicked = false
	return err
}

func checkLimits(batch *kv.Batch) error {
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

func (s *store) commit(ctx context.Context, f *file, ops []kv.Op) error {
	f.db.AllocSize = int(min(max(fileSize(f.f)/8, minGrowBytes), maxGrowBytes))
	tx, err := f.db.Begin(true)
	if err != nil {
		return fmt.Errorf("bbolt: %w", err)
	}
	if err := s.fill(ctx, tx, ops); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	id := tx.ID()
	if err := tx.Commit(); err != nil {
		return s.failed(f, id, fmt.Errorf("bbolt: %w", withCause(err)))
	}
	return nil
}

func (s *store) fill(ctx context.Context, tx *bolt.Tx, ops []kv.Op) error {
	bucket := tx.Bucket(bucketName)
	if bucket == nil {
		return fmt.Errorf("%w: bbolt: no bucket %q", db.ErrCorrupted, bucketName)
	}
	bucket.FillPercent = s.params.fill
	for i, op := range ops {
		if i%checkEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		var err error
		if op.Delete {
			err = bucket.Delete(op.Key)
		} else {
			err = bucket.Put(op.Key, op.Value)
		}
		if err != nil {
			return fmt.Errorf("bbolt: %w", err)
		}
	}
	return ctx.Err()
}

// failed finds out what a commit that failed has left. Where its last step failed, the fsync of the page
// that makes it count, the batch can be seen and may or may not be on the disk. Then nothing is
// answered any more: what the store holds is known again when it is opened anew.
func (s *store) failed(f *file, id int, cause error) error {
	tx, err := f.db.Begin(false)
	if err != nil {
		s.setBroken(cause)
		return cause
	}
	seen := tx.ID()
	if err := tx.Rollback(); err != nil || seen >= id {
		s.setBroken(cause)
	}
	return cause
}

func (s *store) setBroken(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken == nil {
		s.broken = fmt.Errorf("bbolt: the store has to be opened anew after: %w", cause)
	}
}
