package plugin_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/plugin"
)

// What can't go on, and what is said of it: processes that are not started again, and databases that are
// not opened again.

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
