package plugin_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ckpt-project/ckpt/conformance"
	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/mkvs"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/plugin"
)

// Processes that die under supervision, and what goes on.

func init() { parts["once"] = playOnce }

// never is a pause that no test sees the end of.
var never = plugin.Restarts{Backoff: time.Hour, MaxBackoff: time.Hour}

// quickly starts again soon, and often.
var quickly = plugin.Restarts{Max: 1000, Backoff: time.Millisecond, MaxBackoff: 10 * time.Millisecond}

// supervise starts a supervised process for a backend, and checks at the end that nothing of it is left.
func supervise(t testing.TB, backend string, restarts plugin.Restarts, change ...func(*plugin.LaunchConfig)) *plugin.Supervisor {
	t.Helper()
	path, args, err := plugin.Builtin(backend)
	if err != nil {
		t.Fatal(err)
	}
	cfg := plugin.LaunchConfig{Path: path, Args: args, Env: []string{quickRace}, RunDir: runDir(t), Logger: (&log{}).logger()}
	for _, f := range change {
		f(&cfg)
	}
	s, err := plugin.Supervise(testContext(t), cfg, restarts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.Close(within(t, 10*time.Second)) // tests that care close it themselves
		select {
		case <-s.Done():
		default:
			t.Error("the supervisor was not waited for")
		}
	})
	return s
}

// openSupervised opens a database under supervision.
func openSupervised(t testing.TB, s *plugin.Supervisor, change ...func(*db.Config)) db.NodeDB {
	t.Helper()
	cfg := &db.Config{Dir: t.TempDir() + "/db", Namespace: testNamespace}
	for _, f := range change {
		f(cfg)
	}
	ndb, err := s.Open(testContext(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return ndb
}

// durableFake has the fake backend claim to be durable: it is opened again then.
func durableFake(t testing.TB, settings string) func(*db.Config) {
	return func(cfg *db.Config) {
		cfg.Dir, cfg.Settings = t.TempDir(), []byte(`{"durable":true`+settings+`}`)
	}
}

// end sends a signal to the process that runs, and waits until the supervisor has noticed.
func end(t testing.TB, s *plugin.Supervisor, signal syscall.Signal) {
	t.Helper()
	var pid int
	eventually(t, "a process runs", func() bool { pid = s.PID(); return pid != 0 })
	if err := syscall.Kill(pid, signal); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the supervisor notices", func() bool { return s.PID() != pid })
}

// chain commits versions that have one key each, and finalizes them.
type chain struct {
	ndb       db.NodeDB
	namespace common.Namespace
	roots     []node.Root // by version, from 1 on
}

func (h *chain) root(version uint64) node.Root {
	if version == 0 {
		var none node.Root
		none.Empty()
		none.Namespace, none.Type = h.namespace, node.RootTypeState
		return none
	}
	return h.roots[version-1]
}

// add commits the next version, again where its process died meanwhile, and finalizes it.
func (h *chain) add(ctx context.Context) error {
	version := uint64(len(h.roots) + 1)
	for {
		err := h.commit(ctx, version)
		if err == nil {
			return nil
		}
		if !errors.Is(err, db.ErrUnavailable) || errors.Is(err, plugin.ErrGivenUp) {
			return fmt.Errorf("version %d: %w", version, err)
		}
	}
}

func (h *chain) commit(ctx context.Context, version uint64) error {
	tree := mkvs.NewWithRoot(h.ndb, h.root(version-1))
	defer tree.Close()
	if err := tree.Insert(ctx, fmt.Appendf(nil, "key %d", version), fmt.Appendf(nil, "value %d", version)); err != nil {
		return err
	}
	_, hash, err := tree.Commit(ctx, h.namespace, version)
	if err != nil {
		return err
	}
	root := node.Root{Namespace: h.namespace, Version: version, Type: node.RootTypeState, Hash: hash}
	if err := h.ndb.Finalize(ctx, []node.Root{root}); err != nil {
		return err
	}
	h.roots = append(h.roots, root)
	return nil
}

// check reads a version.
func (h *chain) check(ctx context.Context, version uint64) error {
	tree := mkvs.NewWithRoot(h.ndb, h.root(version))
	defer tree.Close()
	value, err := tree.Get(ctx, fmt.Appendf(nil, "key %d", version))
	if err == nil && string(value) != fmt.Sprintf("value %d", version) {
		err = fmt.Errorf("version %d has %q", version, value)
	}
	return err
}

func newChain(t testing.TB, ndb db.NodeDB, versions int) *chain {
	t.Helper()
	h := &chain{ndb: ndb, namespace: ndb.Info().Namespace}
	for range versions {
		if err := h.add(testContext(t)); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

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

// TestCrashLoop has a process die whenever its database is opened: that ends.
func TestCrashLoop(t *testing.T) {
	logged := &log{}
	s := supervise(t, "fake", plugin.Restarts{Max: 3, Backoff: time.Millisecond}, func(cfg *plugin.LaunchConfig) { cfg.Logger = logged.logger() })
	dir := t.TempDir()
	ndb := openSupervised(t, s, durableFake(t, ""), func(c *db.Config) { c.Dir = dir })
	pin, err := ndb.Pin(testContext(t), 5, "me")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, exitAtOpen), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	end(t, s, syscall.SIGKILL)
	ctx := testContext(t)
	_, call := ndb.Size(ctx)
	<-s.Done()
	_, later := ndb.Size(ctx)
	_, opened := s.Open(ctx, &db.Config{Namespace: testNamespace})
	for name, err := range map[string]error{"call": call, "later": later, "open": opened, "release": pin.Release(ctx), "close": ndb.Close(ctx)} {
		if !errors.Is(err, db.ErrUnavailable) || !errors.Is(err, plugin.ErrGivenUp) || !strings.Contains(err.Error(), "failed 4 times within 1m0s") || !strings.Contains(err.Error(), "exit status 9") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := strings.Count(logged.String(), "is started again: in="); n != 3 {
		t.Errorf("started again %d times:\n%s", n, logged)
	}
	if left := children(t); left != "" {
		t.Errorf("children: %q", left)
	}
}

// TestNotStartedAgain has a supervisor that starts nothing again.
func TestNotStartedAgain(t *testing.T) {
	s := supervise(t, "fake", plugin.Restarts{Max: -1})
	ndb := openSupervised(t, s, durableFake(t, ""))
	end(t, s, syscall.SIGKILL)
	<-s.Done()
	if _, err := ndb.Size(testContext(t)); !errors.Is(err, db.ErrUnavailable) || !errors.Is(err, plugin.ErrGivenUp) || !strings.Contains(err.Error(), "signal: killed") {
		t.Error(err)
	}
}

// TestProgramGoes has the program be another one, and then gone, when it is to be started again.
func TestProgramGoes(t *testing.T) {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		replaced bool
		is       error
		starts   int
	}{
		"replaced": {true, plugin.ErrChecksum, 1},
		"gone":     {false, plugin.ErrLaunchFailed, 2},
	} {
		t.Run(name, func(t *testing.T) {
			program := filepath.Join(t.TempDir(), "plugin")
			if err := os.WriteFile(program, self, 0o700); err != nil {
				t.Fatal(err)
			}
			logged := &log{}
			s := supervise(t, "fake", plugin.Restarts{Max: 2, Backoff: time.Millisecond}, func(cfg *plugin.LaunchConfig) {
				cfg.Path, cfg.SHA256, cfg.Logger = program, fmt.Sprintf("%x", sha256.Sum256(self)), logged.logger()
			})
			ndb := openSupervised(t, s, durableFake(t, ""))
			if err := os.Remove(program); err != nil { // it can't be written to while it runs
				t.Fatal(err)
			}
			if c.replaced {
				if err := os.WriteFile(program, []byte("another"), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			end(t, s, syscall.SIGKILL)
			_, err := ndb.Size(testContext(t))
			if !errors.Is(err, db.ErrUnavailable) || !errors.Is(err, c.is) {
				t.Error(err)
			}
			if n := strings.Count(logged.String(), "is started again: in="); n != c.starts {
				t.Errorf("started again %d times, want %d:\n%s", n, c.starts, logged)
			}
		})
	}
}

// TestMemoryIsLost has a backend that is not durable: the next process does not pretend to have its data.
func TestMemoryIsLost(t *testing.T) {
	ctx := testContext(t)
	s := supervise(t, "memory", quickly)
	h := newChain(t, openSupervised(t, s), 2)
	pin, err := h.ndb.Pin(ctx, 2, "me")
	if err != nil {
		t.Fatal(err)
	}
	end(t, s, syscall.SIGKILL)
	_, has := h.ndb.HasRoot(ctx, h.root(2))
	_, _, latest := h.ndb.GetLatestVersion(ctx)
	for name, err := range map[string]error{"has": has, "latest": latest, "pin": pin.Release(ctx)} {
		if !errors.Is(err, plugin.ErrGivenUp) || !errors.Is(err, db.ErrUnavailable) || !strings.Contains(err.Error(), "the data is lost") || !strings.Contains(err.Error(), "signal: killed") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := h.ndb.Close(ctx); !errors.Is(err, db.ErrUnavailable) {
		t.Error(err)
	}
	newChain(t, openSupervised(t, s), 1) // whoever opens it knows what he gets
}

// TestDataIsGone has a database's directory vanish while its process is away: an empty one is not taken
// for it.
func TestDataIsGone(t *testing.T) {
	ctx := testContext(t)
	s := supervise(t, "bbolt", plugin.Restarts{Backoff: time.Second})
	dir := t.TempDir() + "/db"
	h := newChain(t, openSupervised(t, s, func(c *db.Config) { c.Dir = dir }), 2)
	end(t, s, syscall.SIGKILL)
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.ndb.HasRoot(ctx, h.root(2)); !errors.Is(err, db.ErrUnavailable) || !strings.Contains(err.Error(), "its latest version was 2, and it is empty") {
		t.Error(err)
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

// TestRefusedForGood has databases that can't be opened again: who asks is told why, at once, and the
// other database of the process goes on.
func TestRefusedForGood(t *testing.T) {
	for name, c := range map[string]struct {
		is   error
		away func(t *testing.T, dir string)
	}{
		"locked": {db.ErrLocked, func(t *testing.T, dir string) {
			open(t, launch(t, "bbolt"), func(c *db.Config) { c.Dir, c.LockWait = dir, time.Minute })
		}},
		"foreign": {db.ErrForeign, func(t *testing.T, dir string) {
			if err := os.Rename(dir, dir+".away"); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "thesis.tex"), []byte("mine"), 0o600); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := testContext(t)
			s := supervise(t, "bbolt", plugin.Restarts{Backoff: 2 * time.Second})
			dir := t.TempDir() + "/db"
			refused := newChain(t, openSupervised(t, s, func(c *db.Config) { c.Dir, c.LockWait = dir, time.Millisecond }), 1)
			other := newChain(t, openSupervised(t, s), 1)
			pin, err := refused.ndb.Pin(ctx, 1, "me")
			if err != nil {
				t.Fatal(err)
			}
			end(t, s, syscall.SIGKILL)
			c.away(t, dir)
			_, call := refused.ndb.HasRoot(ctx, refused.root(1))
			for name, err := range map[string]error{"call": call, "release": pin.Release(ctx), "close": refused.ndb.Close(ctx)} {
				if !errors.Is(err, db.ErrUnavailable) || !errors.Is(err, plugin.ErrGivenUp) || !errors.Is(err, c.is) {
					t.Errorf("%s: %v", name, err)
				}
			}
			if err := other.add(ctx); err != nil {
				t.Error("the other database:", err)
			}
			if err := s.Close(ctx); err != nil {
				t.Error(err)
			}
		})
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

func stop(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the process is stopped", func() bool { return processState(pid) == "T" })
}
