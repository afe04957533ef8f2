package checkpoint

import (
	"context"
	"fmt"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// watchBuffer is how many versions a watcher may be behind.
const watchBuffer = 256

// Subscription is a watch of a checkpointer's checkpoints.
type Subscription struct {
	c        *ManagedCheckpointer
	versions chan uint64
	err      error // guarded by c.mu
}

// WatchCheckpoints returns a channel that gets each version when all of its checkpoints are made, in the order in
// which they are. Versions whose checkpoints were there already are not told of.
//
// The checkpointer never waits for a watcher. One that is 256 versions behind has its channel closed when it has
// received these, and Err is ErrWatcherTooSlow: what it missed is in GetCheckpoints. The channel is closed, too,
// when the checkpointer ends, Err being ErrCheckpointerEnded.
func (c *ManagedCheckpointer) WatchCheckpoints() (<-chan uint64, *Subscription, error) {
	s := &Subscription{c: c, versions: make(chan uint64, watchBuffer)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return nil, nil, ErrCheckpointerEnded
	}
	c.watchers[s] = struct{}{}
	return s.versions, s, nil
}

// Close ends the subscription, and closes its channel. Calling it again does nothing.
func (s *Subscription) Close() {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if _, ok := s.c.watchers[s]; ok {
		delete(s.c.watchers, s)
		s.end(nil)
	}
}

// Err says why the channel was closed; nil where Close did it, or it is not.
func (s *Subscription) Err() error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.err
}

// end closes the channel. Its caller holds the lock, and takes it from the watchers.
func (s *Subscription) end(err error) {
	s.err = err
	close(s.versions)
}

// tellWatchers tells of a version whose checkpoints are all made.
func (c *ManagedCheckpointer) tellWatchers(version uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for s := range c.watchers {
		select {
		case s.versions <- version:
		default:
			delete(c.watchers, s)
			s.end(ErrWatcherTooSlow)
		}
	}
}

// expect tells a waiter of what is known of its version now, or later when it is.
func (c *ManagedCheckpointer) expect(ctx context.Context, w *waiter) error {
	there, err := c.existing(ctx)
	if err != nil {
		return err
	}
	complete, err := c.isComplete(ctx, w.version, there)
	if isGone(err) {
		complete, err = c.isCompleteWithout(ctx, w.version)
	}
	switch {
	case err != nil:
		return err
	case complete:
		w.outcome <- nil
	case c.failed[w.version] != nil:
		w.outcome <- c.failed[w.version]
	default:
		c.mu.Lock()
		defer c.mu.Unlock()
		c.waiters[w] = struct{}{}
	}
	return nil
}

// isCompleteWithout says whether the checkpoints of a version that the database does not have are there, as far
// as can be told without its roots. One that was pruned before is ErrVersionPruned.
func (c *ManagedCheckpointer) isCompleteWithout(ctx context.Context, version uint64) (bool, error) {
	earliest, ok, err := c.ndb.GetEarliestVersion(ctx)
	if err != nil || !ok || version >= earliest {
		return false, err
	}
	there, err := c.existing(ctx)
	if err != nil {
		return false, err
	}
	count := 0
	for root := range there {
		if root.Version == version {
			count++
		}
	}
	if count < max(c.cfg.RootsPerVersion, 1) {
		return false, fmt.Errorf("version %d: %w", version, db.ErrVersionPruned)
	}
	return true, nil
}

// settle tells those that wait for a version what came of it, and remembers what went wrong.
func (c *ManagedCheckpointer) settle(version uint64, err error) {
	if err == nil {
		delete(c.failed, version)
	} else {
		c.failed[version] = err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for w := range c.waiters {
		if w.version == version {
			w.outcome <- err
			delete(c.waiters, w)
		}
	}
}

// settlePruned tells those that wait for versions below the earliest that these have gone.
func (c *ManagedCheckpointer) settlePruned(earliest uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for w := range c.waiters {
		if w.version < earliest {
			w.outcome <- fmt.Errorf("version %d: %w", w.version, db.ErrVersionPruned)
			delete(c.waiters, w)
		}
	}
}
