// Package crash proves that a database survives crashes. A process (the test's own binary, started again)
// lives through a random history: trees are committed, several candidates a version and several at once,
// finalized and pruned, versions are pinned, checkpoints restored in chunks, files compacted, databases
// closed and opened. Again and again it is killed. Then the database is opened in another process, read as
// a whole, and held against a model: what was acknowledged is there and whole, each operation in flight has
// been done wholly or not at all, no pin is left, Check finds nothing damaged and nothing that nothing
// reaches. Then the history goes on with the same database. Crashes are aimed at commits, finalizes, prunes,
// collections of garbage, compactions and restores such that each is hit about as often; the log says how often.
//
//	func TestMain(m *testing.M) {
//		if crash.Serve(mybackend.New()) {
//			return
//		}
//		os.Exit(m.Run())
//	}
//
//	func TestKills(t *testing.T) { crash.Kills(t, crash.Harness{Factory: mybackend.New()}) }
//
// PowerLoss does the same on a file system of its own (package lossyfs) that loses what was not synced.
//
// The seed chooses the histories and, for a loss of power, its moments and what is lost. Operations that are
// done at once, and kills, which come by the clock, make two runs with one seed differ.
package crash

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// crashesPerHistory is how many crashes one database lives through.
const crashesPerHistory = 12

const defaultCrashes = 48

// Harness says which databases are to be proved.
type Harness struct {
	// Factory opens them, in a child that Serve makes of the test's binary.
	Factory db.Factory
	// Remote opens and kills them instead of Factory, where they live in processes of their own anyway. It
	// can't be used for PowerLoss.
	Remote *Remote
	// Settings are the backend's own.
	Settings []byte
	// Strict says that the backend makes all that it acknowledges safe from a loss of power, which is more than
	// the contract asks for. It is then held to that.
	Strict bool
	// Crashes is how many there are at least, where the environment does not say; 0 means 48. With -short it
	// is half as many.
	Crashes int
}

// Remote are databases that live in processes of their own.
type Remote struct {
	// Open opens the database that cfg names, as a factory's New does.
	Open func(ctx context.Context, cfg *db.Config) (db.NodeDB, error)
	// Kill ends a database's process as kill -9 does, and returns when it is gone. One that has gone by itself
	// may be an error.
	Kill func(ndb db.NodeDB) error
}

// The environment says how much is done: at least so many crashes, in histories numbered from a seed on.
const (
	crashesEnv = "CKPT_CRASHES"
	seedEnv    = "CKPT_CRASH_SEED"
)

// Kills kills the processes of databases.
func Kills(t *testing.T, h Harness) {
	newHost := func() (host, error) { return startChild(h.Factory.Name()) }
	if h.Remote != nil {
		newHost = h.Remote.host
	}
	n, seed := amount(t, h)
	c, err := kills(context.WithoutCancel(t.Context()), newHost, &h, t.TempDir(), n, seed)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(c)
}

// KillRemote lives through histories of remote databases, numbered from a seed on, until there were so many
// kills. The databases are made in dir, with the backend's own settings. What a database has done that it
// should not have is a *Violation; other errors say that it can't be known.
func KillRemote(ctx context.Context, remote Remote, settings []byte, dir string, n int, seed uint64) (*Counts, error) {
	return kills(ctx, remote.host, &Harness{Settings: settings}, dir, n, seed)
}

// kills lives through histories until there were n kills.
func kills(ctx context.Context, newHost func() (host, error), h *Harness, dir string, n int, seed uint64) (*Counts, error) {
	c := newCounts()
	lasted := map[kind][]time.Duration{} // the clock is no part of a history: it may know from the ones before
	for ; c.Crashes < n; seed++ {
		dir := filepath.Join(dir, strconv.FormatUint(seed, 10))
		r := newRun(&killing{path: filepath.Join(dir, "db"), newHost: newHost, lasted: lasted}, h, seed, c)
		err := r.history(ctx, crashesPerHistory)
		if err != nil && r.host != nil {
			r.host.kill()
			_ = r.host.end()
		}
		if err != nil {
			return c, fmt.Errorf("seed %d, after %d crashes: %w", seed, c.Crashes, err)
		}
		if err := os.RemoveAll(dir); err != nil {
			return c, err
		}
	}
	return c, nil
}

func amount(t *testing.T, h Harness) (crashes int, seed uint64) {
	crashes, seed = cmp.Or(h.Crashes, defaultCrashes), 1
	if testing.Short() {
		crashes /= 2
	}
	var err error
	if s := os.Getenv(crashesEnv); s != "" {
		if crashes, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	if s := os.Getenv(seedEnv); s != "" {
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	return crashes, seed
}
