package plugin_test

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/mkvs"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/plugin"
)

// What the tests of supervised processes work with.

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

func stop(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the process is stopped", func() bool { return processState(pid) == "T" })
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
