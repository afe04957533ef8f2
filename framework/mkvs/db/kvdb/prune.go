package kvdb

import (
	"context"
	"fmt"

	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
)

// Prune removes the earliest version.
func (d *DB) Prune(ctx context.Context, version uint64) error {
	_, err := d.pruneWith(ctx, func(s state) (uint64, error) {
		switch {
		case !s.any:
			return 0, fmt.Errorf("%w: version %d", db.ErrVersionNotFound, version)
		case version < s.earliest:
			return 0, pruned(version, s.earliest)
		case version == s.latest:
			return 0, fmt.Errorf("%w: version %d", db.ErrCannotPruneLatestVersion, version)
		case version != s.earliest:
			return 0, fmt.Errorf("%w: version %d, the earliest is %d", db.ErrNotEarliest, version, s.earliest)
		}
		return version + 1, nil
	})
	return err
}

// PruneBefore removes all versions below one.
func (d *DB) PruneBefore(ctx context.Context, version uint64) (removed uint64, err error) {
	return d.pruneWith(ctx, func(s state) (uint64, error) {
		switch {
		case s.any && version > s.latest:
			return 0, fmt.Errorf("%w: all below version %d, the latest is %d", db.ErrCannotPruneLatestVersion, version, s.latest)
		case !s.any && version > 0:
			return 0, fmt.Errorf("%w: version %d", db.ErrVersionNotFound, version)
		}
		return version, nil
	})
}

// pruneWith removes the versions below the one that below returns, and then sees to their space.
func (d *DB) pruneWith(ctx context.Context, below func(state) (uint64, error)) (removed uint64, err error) {
	if err := d.beginWrite(ctx); err != nil {
		return 0, err
	}
	defer d.end()
	if err := d.take(ctx, d.turn); err != nil {
		return 0, err
	}
	removed, err = d.prune(ctx, below)
	give(d.turn)
	if err == nil && removed > 0 {
		d.afterPrune(ctx)
	}
	return removed, err
}

// prune advances the earliest version, with the turn.
func (d *DB) prune(ctx context.Context, below func(state) (uint64, error)) (removed uint64, err error) {
	s, bound, err := d.mayPrune(below)
	if err != nil || bound == 0 {
		return 0, err
	}
	defer func() {
		d.mu.Lock()
		d.goingBelow = nil
		d.mu.Unlock()
	}()
	removed, next, err := d.countVersions(ctx, s.earliest, bound)
	if err != nil {
		return 0, err
	}
	from := s.earliest
	s.earliest = next
	var b kv.Batch
	b.Put(stateKey, s.encode())
	if err := d.apply(ctx, &b, true); err != nil {
		return 0, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.state = s
	d.forgetVersions(from, next)
	return removed, nil
}

// forgetVersions drops what is kept in memory of the versions from one up to, not including, another. The caller
// holds mu.
func (d *DB) forgetVersions(from, next uint64) {
	if next-from <= uint64(len(d.versions)) { // most often it is one of thousands
		for version := from; version < next; version++ {
			delete(d.versions, version)
		}
		return
	}
	for version := range d.versions {
		if version < next {
			delete(d.versions, version)
		}
	}
}

// mayPrune refuses what can't be pruned, and keeps others from pinning what can. It returns the version
// below which all go, 0 where there are none.
func (d *DB) mayPrune(below func(state) (uint64, error)) (s state, bound uint64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s = d.state
	if bound, err = below(s); err != nil {
		return s, 0, err
	}
	if !s.any || bound <= s.earliest {
		return s, 0, nil
	}
	if d.insert != nil {
		return s, 0, fmt.Errorf("%w: of version %d", db.ErrMultipartInProgress, d.insert.version)
	}
	var first *pin
	for p := range d.pins {
		if p.version < bound && (first == nil || p.version < first.version) {
			first = p
		}
	}
	if first != nil {
		return s, 0, fmt.Errorf("%w: version %d by %q", db.ErrVersionPinned, first.version, first.owner)
	}
	d.goingBelow = &bound
	return s, bound, nil
}

// countVersions counts the finalized versions from one that is there up to, not including, another, and
// returns the first that is not below that one. Whether their records are whole doesn't matter.
func (d *DB) countVersions(ctx context.Context, from, to uint64) (n, next uint64, err error) {
	s, err := d.snapshot(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, storeError(s.Close())) }()
	c := s.Cursor()
	defer func() { err = errors.Join(err, storeError(c.Close())) }()
	for ok := c.Seek(versionKey(from)); ok && isVersionKey(c.Key()); ok = c.Next() {
		if next = versionOfKey(c.Key()); next >= to {
			return max(n, 1), next, nil
		}
		if n++; n%1024 == 0 {
			if err := d.carryOn(ctx); err != nil {
				return 0, 0, err
			}
		}
	}
	if err := c.Err(); err != nil {
		return 0, 0, storeError(err)
	}
	return 0, 0, damaged(to, "list of versions")
}
