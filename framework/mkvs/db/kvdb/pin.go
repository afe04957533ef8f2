package kvdb

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// pin keeps a version from being pruned. Pins are in memory only: they end with the process.
type pin struct {
	d       *DB
	version uint64
	owner   string
	since   time.Time
	once    sync.Once
}

// Pin keeps a version from being pruned.
func (d *DB) Pin(ctx context.Context, version uint64, owner string) (db.Pin, error) {
	if err := d.begin(ctx); err != nil {
		return nil, err
	}
	defer d.end()
	for {
		p, busy, err := d.tryPin(ctx, version, owner)
		if !busy {
			return p, err
		}
		// It is just being pruned: that ends with the turn.
		if err := d.take(ctx, d.turn); err != nil {
			return nil, err
		}
		give(d.turn)
	}
}

func (d *DB) tryPin(ctx context.Context, version uint64, owner string) (_ db.Pin, busy bool, err error) {
	if err := d.finalized(ctx, version); err != nil {
		return nil, false, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if version < d.state.earliest {
		return nil, false, pruned(version, d.state.earliest)
	}
	if d.goingBelow != nil && version < *d.goingBelow {
		return nil, true, nil
	}
	p := &pin{d: d, version: version, owner: owner, since: time.Now()}
	d.pins[p] = struct{}{}
	return p, false, nil
}

// finalized refuses versions that are not there as finalized ones.
func (d *DB) finalized(ctx context.Context, version uint64) error {
	d.mu.Lock()
	s, candidates := d.state, len(d.candidates[version])
	open := d.insert != nil && d.insert.version == version
	d.mu.Unlock()
	switch {
	case s.any && version < s.earliest:
		return pruned(version, s.earliest)
	case !s.any || version > s.latest:
		if candidates > 0 || open {
			return fmt.Errorf("%w: version %d", db.ErrNotFinalized, version)
		}
		return fmt.Errorf("%w: version %d", db.ErrVersionNotFound, version)
	}
	v, err := d.version(ctx, version)
	if err != nil || v != nil {
		return err
	}
	if err := d.prunedMeanwhile(version); err != nil {
		return err
	}
	return fmt.Errorf("%w: version %d", db.ErrVersionNotFound, version)
}

// Version is the version that is kept.
func (p *pin) Version() uint64 { return p.version }

// Release ends the pin.
func (p *pin) Release(ctx context.Context) error {
	if err := p.d.begin(ctx); err != nil {
		return err
	}
	defer p.d.end()
	p.once.Do(func() {
		p.d.mu.Lock()
		defer p.d.mu.Unlock()
		delete(p.d.pins, p)
	})
	return nil
}

// Pins lists the pins in force.
func (d *DB) Pins(ctx context.Context) ([]db.PinInfo, error) {
	if err := d.begin(ctx); err != nil {
		return nil, err
	}
	defer d.end()
	d.mu.Lock()
	defer d.mu.Unlock()
	infos := make([]db.PinInfo, 0, len(d.pins))
	for p := range d.pins {
		infos = append(infos, db.PinInfo{Version: p.version, Owner: p.owner, Since: p.since})
	}
	slices.SortFunc(infos, func(a, b db.PinInfo) int {
		return cmp.Or(cmp.Compare(a.Version, b.Version), a.Since.Compare(b.Since), cmp.Compare(a.Owner, b.Owner))
	})
	return infos, nil
}
