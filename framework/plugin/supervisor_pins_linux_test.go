package plugin_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/plugin"
)

// Pins that outlive the process that keeps them.

// TestNeverPrunedWhilePinned has pins held over the deaths of processes while somebody prunes as much as
// he can.
func TestNeverPrunedWhilePinned(t *testing.T) {
	rounds := 40
	if testing.Short() {
		rounds = 8
	}
	for name, signal := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "terminated": syscall.SIGTERM} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := within(t, 5*time.Minute)
			s := supervise(t, "bbolt", quickly)
			h := newChain(t, openSupervised(t, s), 2)
			pruning, stop := context.WithCancel(ctx)
			var pruner sync.WaitGroup
			defer pruner.Wait()
			defer stop()
			// They don't care which versions are there: what may go, goes.
			prune := func(prune func(version uint64) error) {
				pruner.Go(func() {
					for version := uint64(1); pruning.Err() == nil; {
						switch err := prune(version); {
						case err == nil, errors.Is(err, db.ErrNotEarliest), errors.Is(err, db.ErrVersionPruned):
							version++
						case errors.Is(err, db.ErrVersionPinned), errors.Is(err, db.ErrUnavailable), errors.Is(err, context.Canceled):
						case errors.Is(err, db.ErrCannotPruneLatestVersion):
							version = 1
						default:
							t.Error("prune:", err)
							return
						}
					}
				})
			}
			prune(func(version uint64) error { return h.ndb.Prune(pruning, version) })
			prune(func(version uint64) error { _, err := h.ndb.PruneBefore(pruning, version); return err })
			for round := range rounds {
				latest := uint64(len(h.roots))
				pin, err := h.ndb.Pin(ctx, latest, fmt.Sprint("round ", round))
				if errors.Is(err, db.ErrUnavailable) {
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				if err := h.add(ctx); err != nil {
					t.Fatal(err)
				}
				for range 3 {
					end(t, s, signal)
					if err := h.check(ctx, latest); err != nil {
						t.Fatalf("round %d: a version that is pinned: %v", round, err)
					}
				}
				if err := pin.Release(ctx); err != nil {
					t.Fatalf("round %d: %v", round, err)
				}
			}
			if pins, err := h.ndb.Pins(ctx); err != nil || len(pins) != 0 {
				t.Error(pins, err)
			}
			latest := uint64(len(h.roots))
			eventually(t, "what is not pinned is pruned", func() bool {
				version, _, err := h.ndb.GetEarliestVersion(ctx)
				return err == nil && version == latest
			})
		})
	}
}

// TestPinIsLost has somebody else prune a pinned version while the process is away: the pin's holder is
// told, and the others' pins go on.
func TestPinIsLost(t *testing.T) {
	ctx := testContext(t)
	logged := &log{}
	s := supervise(t, "bbolt", plugin.Restarts{Backoff: 2 * time.Second}, func(cfg *plugin.LaunchConfig) { cfg.Logger = logged.logger() })
	dir := t.TempDir() + "/db"
	h := newChain(t, openSupervised(t, s, func(c *db.Config) { c.Dir = dir }), 3)
	var pins []db.Pin
	for version := range uint64(2) {
		pin, err := h.ndb.Pin(ctx, version+1, "me")
		if err != nil {
			t.Fatal(err)
		}
		pins = append(pins, pin)
	}
	somebody := launch(t, "bbolt")
	var pruning sync.WaitGroup
	pruning.Go(func() { // he waits for the lock, and gets it in the pause
		theirs, err := somebody.Open(ctx, &db.Config{Dir: dir, Namespace: testNamespace, LockWait: time.Minute})
		if err != nil {
			t.Error(err)
			return
		}
		if err := errors.Join(theirs.Prune(ctx, 1), theirs.Close(ctx)); err != nil {
			t.Error(err)
		}
	})
	end(t, s, syscall.SIGKILL)
	pruning.Wait()
	if err := h.check(ctx, 1); !errors.Is(err, db.ErrVersionPruned) {
		t.Error("a read of what was pruned:", err)
	}
	if err := pins[0].Release(ctx); !errors.Is(err, db.ErrVersionPruned) || !strings.Contains(err.Error(), "the pin of version 1 was lost") {
		t.Error("release:", err)
	}
	if err := pins[0].Release(ctx); err != nil {
		t.Error("release again:", err)
	}
	if !strings.Contains(logged.String(), "a pin was lost") {
		t.Error("not logged:", logged)
	}
	if err := h.ndb.Prune(ctx, 2); !errors.Is(err, db.ErrVersionPinned) {
		t.Error("prune of what is still pinned:", err)
	}
	if err := errors.Join(pins[1].Release(ctx), h.ndb.Prune(ctx, 2)); err != nil {
		t.Error(err)
	}
}
