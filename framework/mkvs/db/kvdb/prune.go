package kvdb

import (
	"context"
	"fmt"

	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
)

// collectEvery is the number of pruned versions whose garbage lists are applied together: applying 25
// to 64 at once costs a fifth of applying each by itself.
const collectEvery = 32

// Prune removes the earliest version.
func (d *DB) Prune(ctx context.Context, version uint64) error {
	if err := d.beginWrite(ctx); err != nil {
		return err
	}
	defer d.end()
	if err := d.take(ctx, d.turn); err != nil {
		return err
	}
	err := d.prune(ctx, version)
	give(d.turn)
	if err != nil {
		return err
	}
	// The version has gone, whatever comes of this: what fails is done with the next versions.
	if err := d.collect(ctx, collectEvery); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		d.log.Warn("the space of pruned versions stays taken until later", "version", version, "error", err)
	}
	return nil
}

// prune advances the earliest version, with the turn.
func (d *DB) prune(ctx context.Context, version uint64) error {
	s, err := d.mayPrune(version)
	if err != nil {
		return err
	}
	defer func() {
		d.mu.Lock()
		d.beingPruned = nil
		d.mu.Unlock()
	}()
	next, err := d.nextVersion(ctx, version)
	if err != nil {
		return err
	}
	s.earliest = next
	var b kv.Batch
	b.Put(stateKey, s.encode())
	if err := d.apply(ctx, &b, true); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.state = s
	delete(d.versions, version)
	return nil
}

// mayPrune refuses versions that can't be pruned, and keeps others from pinning one that can.
func (d *DB) mayPrune(version uint64) (state, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.state
	switch {
	case !s.any:
		return s, fmt.Errorf("%w: version %d", db.ErrVersionNotFound, version)
	case version < s.earliest:
		return s, pruned(version, s.earliest)
	case version == s.latest:
		return s, fmt.Errorf("%w: version %d", db.ErrCannotPruneLatestVersion, version)
	case version != s.earliest:
		return s, fmt.Errorf("%w: version %d, the earliest is %d", db.ErrNotEarliest, version, s.earliest)
	case d.insert != nil:
		return s, fmt.Errorf("%w: of version %d", db.ErrMultipartInProgress, d.insert.version)
	}
	for p := range d.pins {
		if p.version == version {
			return s, fmt.Errorf("%w: version %d by %q", db.ErrVersionPinned, version, p.owner)
		}
	}
	d.beingPruned = &version
	return s, nil
}

// nextVersion is the first finalized version after one that is not the latest.
func (d *DB) nextVersion(ctx context.Context, version uint64) (next uint64, err error) {
	s, err := d.snapshot(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, storeError(s.Close())) }()
	c := s.Cursor()
	defer func() { err = errors.Join(err, storeError(c.Close())) }()
	if !c.Seek(versionKey(version+1)) || !isVersionKey(c.Key()) {
		if err := c.Err(); err != nil {
			return 0, storeError(err)
		}
		return 0, damaged(version, "list of versions")
	}
	next = versionOfKey(c.Key())
	if _, err := decodeVersion(c.Key(), c.Value(), next); err != nil {
		return 0, err
	}
	return next, nil
}
