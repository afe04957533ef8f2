package kvdb

import (
	"context"
	"errors"
	"time"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

const (
	// collectEvery is the number of pruned versions whose garbage lists are applied together: applying 25
	// to 64 at once costs a fifth of applying each by itself.
	collectEvery = 32
	// collectBehind is the number at which whoever prunes has to wait for it: the file must not grow for
	// ever because versions are pruned faster than their space is freed.
	collectBehind = 4 * collectEvery
)

// backlog is how many versions wait for their space to be freed, about.
func (s *state) backlog() uint64 {
	if !s.any {
		return 0
	}
	return s.earliest - s.applied
}

// startCollecting begins the work in the background. It ends with the database's life, and Close waits
// for it.
func (d *DB) startCollecting() {
	if d.info.Capabilities.ReadOnly || d.garbageRate < 0 {
		return
	}
	d.background.Go(func() {
		for {
			select {
			case <-d.life.Done():
				return
			case <-d.wake:
			}
			err := d.collect(d.life, &pacer{d: d}, nil)
			switch {
			case err == nil, errors.Is(err, db.ErrClosed), errors.Is(err, context.Canceled):
			default: // it is tried again when the next versions are pruned
				d.log.Warn("the space of pruned versions stays taken until later", "error", err)
			}
		}
	})
	d.collectDue()
}

// collectDue has the background begin where enough versions wait.
func (d *DB) collectDue() {
	if s := d.present(); s.backlog() >= collectEvery {
		select {
		case d.wake <- struct{}{}:
		default: // it will look anyway
		}
	}
}

// afterPrune sees to it that space is freed. The versions have gone, whatever comes of this.
func (d *DB) afterPrune(ctx context.Context) {
	if d.garbageRate < 0 {
		return
	}
	s := d.present()
	if s.backlog() < collectBehind {
		d.collectDue()
		return
	}
	if err := d.collect(ctx, nil, nil); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		d.log.Warn("the space of pruned versions stays taken until later", "error", err)
	}
}

// hurry makes what goes on in the background go on without pauses until the function that it returns is
// called.
func (d *DB) hurry() (done func()) {
	d.hurried.Add(1)
	select {
	case d.nudge <- struct{}{}:
	default:
	}
	return func() { d.hurried.Add(-1) }
}

// pacer holds work in the background back to the database's garbage rate.
type pacer struct {
	d *DB
	// debt is how long the work done so far may take, beyond the time it took.
	debt  time.Duration
	since time.Time
}

// wait waits until work on so many bytes may have been done. A nil pacer does not wait. With a backlog the
// rate grows: twice as many versions waiting, twice the rate.
func (p *pacer) wait(ctx context.Context, bytes int) error {
	if p == nil || p.d.hurried.Load() > 0 {
		return nil
	}
	now := time.Now()
	if p.since.IsZero() {
		p.since = now
	}
	s := p.d.present()
	rate := float64(p.d.garbageRate) * max(1, float64(s.backlog())/collectEvery)
	p.debt += time.Duration(float64(bytes) / rate * float64(time.Second))
	p.debt = max(0, p.debt-now.Sub(p.since))
	p.since = now
	if p.debt < time.Millisecond {
		return nil
	}
	timer := time.NewTimer(p.debt)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.d.nudge:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}
