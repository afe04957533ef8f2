package plugin_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ckpt-project/ckpt/conformance"
	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/plugin"
)

// Processes that die under supervision, and what goes on.

// TestSupervisedConformance has the way over a supervisor change nothing of what the contract says. All
// databases are in one process, which nothing kills here.
func TestSupervisedConformance(t *testing.T) {
	backend := "bbolt" // the way is the same for all
	if testing.Short() {
		backend = "memory"
	}
	conformance.Run(t, conformance.Harness{Open: supervise(t, backend, never).Open})
}

// TestRestart kills the process of two databases, again and again: what was acknowledged is there, and
// calls go on without an error where none was under way.
func TestRestart(t *testing.T) {
	for _, backend := range []string{"bbolt", "leveldb"} {
		t.Run(backend, func(t *testing.T) {
			ctx := testContext(t)
			s := supervise(t, backend, quickly)
			readOnly := t.TempDir() + "/db"
			if err := newChain(t, openSupervised(t, s, func(c *db.Config) { c.Dir = readOnly }), 2).ndb.Close(ctx); err != nil {
				t.Fatal(err)
			}
			reader := openSupervised(t, s, func(c *db.Config) { c.Dir, c.ReadOnly = readOnly, true })
			one, other := newChain(t, openSupervised(t, s), 0), newChain(t, openSupervised(t, s), 0)
			pids := map[int]bool{}
			for round := range 10 {
				for _, h := range []*chain{one, other} {
					if err := h.commit(ctx, uint64(round+1)); err != nil {
						t.Fatal(err)
					}
				}
				pids[s.PID()] = true
				end(t, s, syscall.SIGKILL)
				for _, h := range []*chain{one, other} {
					if err := h.check(ctx, uint64(round+1)); err != nil {
						t.Fatal(err)
					}
				}
				if version, _, err := reader.GetLatestVersion(ctx); err != nil || version != 2 {
					t.Fatal(version, err)
				}
				if err := reader.Prune(ctx, 1); !errors.Is(err, db.ErrReadOnly) {
					t.Fatal("what was opened for reading only was opened again for more:", err)
				}
			}
			if len(pids) != 10 {
				t.Errorf("%d processes", len(pids))
			}
			if err := s.Close(ctx); err != nil {
				t.Error(err)
			}
			if _, err := one.ndb.Size(ctx); !errors.Is(err, db.ErrClosed) {
				t.Error(err)
			}
			if _, err := s.Open(ctx, &db.Config{Namespace: testNamespace}); !errors.Is(err, db.ErrClosed) {
				t.Error(err)
			}
		})
	}
}

// TestWhatRunsEnds kills a process under a call, a walk, a batch, a chunk and a pin: they end, and the
// database and the pin go on.
func TestWhatRunsEnds(t *testing.T) {
	s := supervise(t, "fake", quickly)
	ndb := openSupervised(t, s, durableFake(t, ""))
	ctx := testContext(t)
	batch, err := ndb.NewBatch(ctx, fakeRoot(1, "a"), 2)
	if err != nil {
		t.Fatal(err)
	}
	chunk, err := ndb.NewChunk(ctx, fakeRoot(1, "a"), 2)
	if err != nil {
		t.Fatal(err)
	}
	pin, err := ndb.Pin(ctx, 5, "me")
	if err != nil {
		t.Fatal(err)
	}
	var calls sync.WaitGroup
	var during, walking error
	calls.Go(func() { _, during = ndb.GetRootsForVersion(ctx, versionBlocks) })
	calls.Go(func() {
		for _, err := range ndb.Walk(ctx, fakeRoot(1<<40, "a"), node.RootPosition()) {
			walking = err
		}
	})
	eventually(t, "both run", func() bool {
		size, err := ndb.Size(ctx)
		return err == nil && size.Live == 2
	})
	end(t, s, syscall.SIGKILL)
	calls.Wait()
	for name, err := range map[string]error{
		"call": during, "walk": walking,
		"put": batch.Put(ctx, node.RootPosition(), nil), "commit": batch.Commit(ctx, fakeRoot(2, "a"), node.Address{}),
		"chunk": chunk.Commit(ctx, true),
	} {
		if !errors.Is(err, db.ErrUnavailable) || errors.Is(err, plugin.ErrGivenUp) || errors.Is(err, db.ErrClosed) || errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A call that begins now waits for the next process.
	if size, err := ndb.Size(ctx); err != nil || size.Live != 0 || size.File != 0 {
		t.Error(size, err)
	}
	for name, err := range map[string]error{"put": batch.Put(ctx, node.RootPosition(), nil), "chunk": chunk.Commit(ctx, true)} {
		if !errors.Is(err, db.ErrUnavailable) {
			t.Errorf("%s, with the next process there: %v", name, err)
		}
	}
	pins, err := ndb.Pins(ctx)
	if err != nil || len(pins) != 1 || pins[0].Version != 5 || pins[0].Owner != "me" {
		t.Error(pins, err)
	}
	if err := errors.Join(pin.Release(ctx), pin.Release(ctx)); err != nil {
		t.Error(err)
	}
	if pins, err := ndb.Pins(ctx); err != nil || len(pins) != 0 {
		t.Error(pins, err)
	}
	if err := s.Close(ctx); err != nil {
		t.Error(err)
	}
}

// TestCallsWait has calls wait for a restart as long as they may, and no longer.
func TestCallsWait(t *testing.T) {
	s := supervise(t, "fake", never)
	ndb := openSupervised(t, s, durableFake(t, ""))
	pin, err := ndb.Pin(testContext(t), 5, "me")
	if err != nil {
		t.Fatal(err)
	}
	end(t, s, syscall.SIGKILL)
	short, cancel := context.WithTimeout(testContext(t), 20*time.Millisecond)
	defer cancel()
	var walked error
	for _, err := range ndb.Walk(short, fakeRoot(1<<40, "a"), node.RootPosition()) {
		walked = err
	}
	_, _, latest := ndb.GetLatestVersion(short)
	_, opened := s.Open(short, &db.Config{Namespace: testNamespace})
	for name, err := range map[string]error{"walk": walked, "latest": latest, "prune": ndb.Prune(short, 3), "open": opened} {
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, db.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := pin.Release(testContext(t)); err != nil {
		t.Error("a pin that will not be renewed:", err)
	}
}

// TestStopped stops a process and has it go on: that is not its end. Then it is closed while it is
// stopped, which takes force.
func TestStopped(t *testing.T) {
	ctx := testContext(t)
	s := supervise(t, "bbolt", quickly)
	h := newChain(t, openSupervised(t, s), 2)
	pin, err := h.ndb.Pin(ctx, 1, "me")
	if err != nil {
		t.Fatal(err)
	}
	pid := s.PID()
	stop(t, pid)
	if _, err := h.ndb.Size(within(t, 50*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, db.ErrUnavailable) {
		t.Error(err)
	}
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := h.ndb.Prune(ctx, 1); !errors.Is(err, db.ErrVersionPinned) || s.PID() != pid {
		t.Error(err, s.PID())
	}
	if err := pin.Release(ctx); err != nil {
		t.Error(err)
	}
	stop(t, pid)
	if err := s.Close(within(t, 100*time.Millisecond)); err == nil {
		t.Error("closed in good order, stopped as it was")
	}
	if !ended(pid) {
		t.Error("the process is still there")
	}
}

// TestFarewell has a process that is told to end take its time to close its database: the next one waits.
func TestFarewell(t *testing.T) {
	t.Parallel()
	s := supervise(t, "fake", quickly)
	dir := t.TempDir()
	ndb := openSupervised(t, s, durableFake(t, `,"close_millis":4000`), func(c *db.Config) { c.Dir = dir })
	end(t, s, syscall.SIGTERM)
	if _, err := ndb.Size(testContext(t)); err != nil {
		t.Error(err)
	}
	if !exists(filepath.Join(dir, "closed")) {
		t.Error("the database was opened again before it was closed")
	}
}

func init() { parts["once"] = playOnce }

// playOnce serves when it is started first in a directory, and then only thinks.
func playOnce() {
	if exists("started") {
		playSilence()
	}
	if err := os.WriteFile("started", nil, 0o600); err != nil {
		panic(err)
	}
	plugin.Serve(plugin.ServeOptions{Factory: fakeFactory{"fake"}})
}

// TestCloseDuringRestart closes while nothing runs, while a process is starting, and while a database is
// opened again: who waits is told, and nothing is left.
func TestCloseDuringRestart(t *testing.T) {
	for name, c := range map[string]struct {
		restarts plugin.Restarts
		change   func(*plugin.LaunchConfig)
		settings string
		until    string // what the log says when it is time to close
	}{
		"pausing":  {never, func(*plugin.LaunchConfig) {}, "", "is started again"},
		"starting": {quickly, launchPart("once"), "", "I am thinking"},
		"opening":  {quickly, func(*plugin.LaunchConfig) {}, `,"open_again_millis":60000`, "opening again"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := testContext(t)
			for _, what := range []string{"database", "supervisor"} {
				logged := &log{}
				dir := t.TempDir()
				s := supervise(t, "fake", c.restarts, c.change, func(cfg *plugin.LaunchConfig) {
					cfg.Logger, cfg.Dir = logged.logger(), dir
				})
				ndb := openSupervised(t, s, durableFake(t, c.settings))
				pin, err := ndb.Pin(ctx, 5, "me")
				if err != nil {
					t.Fatal(err)
				}
				end(t, s, syscall.SIGKILL)
				var waiting sync.WaitGroup
				var waited error
				waiting.Go(func() { _, waited = ndb.Size(ctx) })
				eventually(t, c.until, func() bool { return strings.Contains(logged.String(), c.until) })
				closeIt := ndb.Close
				if what == "supervisor" {
					closeIt = s.Close
				}
				if err := closeIt(within(t, 10*time.Second)); !errors.Is(err, db.ErrUnavailable) {
					t.Error("close:", err)
				}
				waiting.Wait()
				if !errors.Is(waited, db.ErrClosed) {
					t.Error("a call that waited:", waited)
				}
				if err := pin.Release(ctx); !errors.Is(err, db.ErrClosed) {
					t.Error("release:", err)
				}
				if err := ndb.Close(ctx); !errors.Is(err, db.ErrClosed) {
					t.Error("closed again:", err)
				}
				if err := s.Close(within(t, 10*time.Second)); err != nil {
					t.Error(err)
				}
				if left := children(t); left != "" {
					t.Errorf("children: %q", left)
				}
			}
		})
	}
}
