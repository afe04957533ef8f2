package bbolt

import (
	"context"
	"errors"
	"fmt"
	"os"

	bolt "go.etcd.io/bbolt"

	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv/storedir"
)

// Compact copies what is live into a new file, which then takes the old one's place. Batches wait
// meanwhile. Snapshots don't: those that are open keep the old file, which takes space until the last
// of them is closed. The copy needs as much room as the live data. When it is interrupted, the old file
// stays, and what was copied is removed at the latest when the store is opened next.
func (s *store) Compact(ctx context.Context, progress func(done, total int64)) (err error) {
	if s.readOnly {
		return errors.Join(s.usable(ctx), kv.ErrReadOnly)
	}
	if err := s.lockWriting(ctx); err != nil {
		return err
	}
	defer s.unlockWriting()
	old, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.release(old)) }()

	temp := storedir.TempName(s.path)
	if err := s.copyTo(ctx, old, temp, progress); err != nil {
		return errors.Join(err, removeIfThere(temp))
	}
	fresh, err := openFile(temp, s.params, false)
	if err != nil {
		return errors.Join(err, removeIfThere(temp))
	}
	if err := storedir.Rename(temp, s.path); err != nil {
		// The rename may have been done, and only not be safe yet: whichever of the two files is found
		// after a crash has everything, as long as nothing is written to either.
		err = fmt.Errorf("bbolt: %w", errors.Join(err, fresh.db.Close()))
		s.setBroken(err)
		return err
	}
	s.mu.Lock()
	s.current, old.retired = fresh, true
	s.mu.Unlock()
	return nil
}

func (s *store) usable(ctx context.Context) error {
	f, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	return s.release(f)
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("bbolt: %w", err)
	}
	return nil
}

// copyTo writes all pairs of a file into a new one, which is safe from a loss of power when it returns.
func (s *store) copyTo(ctx context.Context, from *file, path string, progress func(done, total int64)) (err error) {
	total, err := from.liveBytes()
	if err != nil {
		return err
	}
	src, err := newSnapshot(s, from)
	if err != nil {
		return err
	}
	// The snapshot's own release is that of a reference it was not given.
	defer func() { err = errors.Join(err, src.tx.Rollback()) }()
	to, err := createTemp(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.db.Close()) }()
	defer guard(&err)()

	cursor, done := src.bucket.Cursor(), int64(0)
	key, value := cursor.First()
	for key != nil {
		err := to.db.Update(func(tx *bolt.Tx) error {
			bucket := tx.Bucket(bucketName)
			bucket.FillPercent = 1 // keys come in order, and pages are not split again before they change
			for batch := 0; key != nil && batch < preferredBatchBytes; key, value = cursor.Next() {
				if err := errors.Join(src.inFile(key), src.inFile(value)); err != nil {
					return err
				}
				if err := bucket.Put(key, notNil(value)); err != nil {
					return err
				}
				batch += len(key) + len(value)
				done += int64(len(key) + len(value))
			}
			return ctx.Err()
		})
		if err != nil {
			return fmt.Errorf("bbolt: %w", err)
		}
		if progress != nil {
			progress(min(done, total), total)
		}
	}
	if progress != nil {
		progress(total, total)
	}
	return ctx.Err()
}
