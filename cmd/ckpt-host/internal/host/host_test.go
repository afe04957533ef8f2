package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/ckpt-project/ckpt/backends/bbolt"
	"github.com/ckpt-project/ckpt/backends/leveldb"
	"github.com/ckpt-project/ckpt/backends/memory"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/config"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/plugin"
)

func TestMain(m *testing.M) {
	if plugin.ServeBuiltin(os.Args, "test", memory.New(), bbolt.New(), leveldb.New()) {
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// parse returns a configuration with namespaces a and b on one backend, and c on another.
func parse(t *testing.T) *config.Config {
	t.Helper()
	source := `
data_dir = "state"
backend "one" { plugin = "bbolt" }
backend "two" { plugin = "leveldb" }
`
	for i, name := range []string{"a", "b", "c"} {
		backend := "one"
		if name == "c" {
			backend = "two"
		}
		source += fmt.Sprintf("namespace %q {\n id = \"800000000000000%s%d\"\n backend = %q\n}\n", name, strings.Repeat("0", 48), i, backend)
	}
	cfg, err := config.Parse([]byte(source), "ckpt.hcl", filepath.Join(t.TempDir(), "ckpt.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestOneProcessABackend(t *testing.T) {
	ctx := context.Background()
	cfg := parse(t)
	h := New(hclog.NewNullLogger())
	databases := map[string]db.NodeDB{}
	for _, name := range []string{"a", "b", "c"} {
		ndb, err := h.Open(ctx, cfg.Namespace(name), Write)
		if err != nil {
			t.Fatal(err)
		}
		databases[name] = ndb
		if got := ndb.Info().Namespace; got != cfg.Namespace(name).ID {
			t.Errorf("%s: namespace %s", name, got)
		}
	}
	if len(h.processes) != 2 {
		t.Errorf("%d processes, want 2", len(h.processes))
	}
	if one, two := databases["a"].Info().Backend, databases["c"].Info().Backend; one != "bbolt" || two != "leveldb" {
		t.Errorf("backends %s and %s", one, two)
	}
	var ended []<-chan struct{}
	for _, p := range h.processes {
		ended = append(ended, p.Done())
	}
	// Closing does not depend on the context that is over when a command was interrupted.
	over, cancel := context.WithCancel(ctx)
	cancel()
	if err := h.Close(over); err != nil {
		t.Error(err)
	}
	for _, done := range ended {
		<-done
	}
	if err := h.Close(ctx); err != nil {
		t.Errorf("closed again: %v", err)
	}
	if _, err := h.Open(ctx, cfg.Namespace("a"), Write); err == nil {
		t.Error("opened after Close")
	}

	// What was made can be read by the next host.
	h = New(hclog.NewNullLogger())
	ndb, err := h.Open(ctx, cfg.Namespace("b"), Read)
	if err != nil {
		t.Fatal(err)
	}
	if !ndb.Info().Capabilities.ReadOnly {
		t.Error("opened for more than reading")
	}
	if err := h.Close(ctx); err != nil {
		t.Error(err)
	}
}

func TestNoDatabaseToRead(t *testing.T) {
	ctx := context.Background()
	cfg := parse(t)
	h := New(hclog.NewNullLogger())
	if _, err := h.Open(ctx, cfg.Namespace("a"), Read); !errors.Is(err, ErrNoDatabase) {
		t.Errorf("got %v", err)
	}
	if len(h.processes) != 0 {
		t.Error("a process was launched for nothing")
	}
	if _, err := os.Stat(cfg.DataDir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("reading made the data directory: %v", err)
	}
	if err := h.Close(ctx); err != nil {
		t.Error(err)
	}
}

func TestLaunchFailureNamesTheBackend(t *testing.T) {
	ctx := context.Background()
	cfg := parse(t)
	backend := cfg.Namespace("a").Backend
	backend.Builtin, backend.Plugin = "", &config.Plugin{Name: "mine", Path: filepath.Join(t.TempDir(), "none")}
	h := New(hclog.NewNullLogger())
	defer h.Close(ctx)
	_, err := h.Open(ctx, cfg.Namespace("a"), Write)
	if !errors.Is(err, plugin.ErrLaunchFailed) || !strings.Contains(err.Error(), `namespace "a": backend "one" (mine)`) {
		t.Errorf("got %v", err)
	}
}

// kill ends a backend's process by force, and waits until the host has noticed.
func kill(t *testing.T, h *Host, backend *config.Backend) {
	t.Helper()
	s := h.processes[backend]
	pid := s.PID()
	process, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Kill(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); s.PID() == pid; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the process does not end")
		}
	}
}

func TestRestart(t *testing.T) {
	ctx := context.Background()
	for _, restart := range []bool{false, true} {
		cfg := parse(t)
		h := New(hclog.NewNullLogger())
		h.Restart = restart
		ndb, err := h.Open(ctx, cfg.Namespace("a"), Write)
		if err != nil {
			t.Fatal(err)
		}
		kill(t, h, cfg.Namespace("a").Backend)
		asked := 0
		err = Persist(func() error {
			asked++
			_, _, err := ndb.GetLatestVersion(ctx)
			return err
		})
		if gone := errors.Is(err, db.ErrUnavailable) && errors.Is(err, plugin.ErrGivenUp); gone == restart || restart && err != nil || asked != 1 {
			t.Errorf("restart %v: asked %d times: %v", restart, asked, err)
		}
		_, err = h.Open(ctx, cfg.Namespace("b"), Write)
		if (err == nil) != restart || err != nil && !errors.Is(err, db.ErrUnavailable) {
			t.Errorf("restart %v: another namespace: %v", restart, err)
		}
		if err := h.Close(ctx); (err == nil) != restart || err != nil && !errors.Is(err, db.ErrUnavailable) {
			t.Errorf("restart %v: close: %v", restart, err)
		}
	}
}

func TestPersist(t *testing.T) {
	other := errors.New("another")
	gone := fmt.Errorf("around: %w", db.ErrUnavailable)
	for name, c := range map[string]struct {
		answers []error
		want    error
		times   int
	}{
		"done":           {[]error{nil}, nil, 1},
		"done at last":   {[]error{gone, gone, nil}, nil, 3},
		"fails at last":  {[]error{gone, other}, other, 2},
		"given up":       {[]error{gone, errors.Join(gone, plugin.ErrGivenUp)}, plugin.ErrGivenUp, 2},
		"never answered": {[]error{gone, gone, gone, gone, gone, gone, gone, gone, gone, gone, nil}, db.ErrUnavailable, 10},
	} {
		times := 0
		err := Persist(func() error {
			times++
			return c.answers[times-1]
		})
		if !errors.Is(err, c.want) || times != c.times {
			t.Errorf("%s: %v after %d times", name, err, times)
		}
	}
}
