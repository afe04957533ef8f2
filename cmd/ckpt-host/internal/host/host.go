// Package host opens the databases of a configuration: one process for each backend block that is
// needed, under supervision, and one handle in it for each namespace.
package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/config"
	"github.com/ckpt-project/ckpt/framework/common/durable"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/plugin"
)

// closeTimeout is how long databases and processes have for closing. A large database that was written
// to has much to do then.
const closeTimeout = 2 * time.Minute

// interruptedTimeout is how long they have once the user has asked for the end. What was reported as done is safe without
// closing (DB34, DB40); whoever opens the database next recovers it.
const interruptedTimeout = 10 * time.Second

// tellAfter is how long closing goes on after the user has asked for the end until that is told.
const tellAfter = time.Second

// ErrNoDatabase is returned for a database to read from that was never made.
var ErrNoDatabase = errors.New("there is no database yet")

// Mode says what a database is opened for.
type Mode int

// The modes.
const (
	// Read changes nothing; others can read at the same time.
	Read Mode = iota
	// Write makes the database where there is none.
	Write
	// Change changes the database that is there.
	Change
	// Migrate is Change, and brings a database of an older format to the present one first.
	Migrate
)

// Host holds the processes of backends, and the databases open in them. It may be used by several
// goroutines at once.
type Host struct {
	// LockWait is how long to wait for a database that another process holds; 0 means the default. It is
	// set before Open.
	LockWait time.Duration
	// Restart says that a backend's process that dies is started again, and its databases are opened again
	// with their pins, unless it dies too often. Without it, everything in it is unavailable from then on. It
	// is set before Open.
	Restart bool
	// Tell, where it is set, is told what Close waits for when its context has ended. It is set before Open.
	Tell func(format string, args ...any)

	logger hclog.Logger

	mu        sync.Mutex
	processes map[*config.Backend]*plugin.Supervisor
	// opened is closed in reverse order.
	opened []db.NodeDB
	closed bool
}

// New returns a host that has nothing open. logger takes its own messages and those of the backends'
// processes.
func New(logger hclog.Logger) *Host {
	return &Host{logger: logger, processes: map[*config.Backend]*plugin.Supervisor{}}
}

// Open opens the database of a namespace in its backend's process, which it launches where it doesn't
// run. The database belongs to the host, which closes it.
func (h *Host) Open(ctx context.Context, ns *config.Namespace, mode Mode) (db.NodeDB, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, errors.New("host: closed")
	}
	fail := func(err error) (db.NodeDB, error) {
		return nil, fmt.Errorf("namespace %q: backend %q (%s): %w", ns.Name, ns.Backend.Name, ns.Backend.PluginName(), err)
	}
	if err := prepare(ns, mode); err != nil {
		return fail(err)
	}
	process, err := h.process(ctx, ns.Backend)
	if err != nil {
		return fail(err)
	}
	cfg := ns.DatabaseConfig()
	cfg.ReadOnly, cfg.Migrate, cfg.LockWait = mode == Read, mode == Migrate, h.LockWait
	ndb, err := process.Open(ctx, cfg)
	if err != nil {
		return fail(err)
	}
	h.opened = append(h.opened, ndb)
	return ndb, nil
}

// prepare makes the namespace's directory, or sees that there is a database in it.
func prepare(ns *config.Namespace, mode Mode) error {
	if mode == Write {
		if err := durable.MakeDirs(ns.Dir); err != nil {
			return fmt.Errorf("making the namespace's directory: %w", err)
		}
		return nil
	}
	// A plugin of somebody else's may keep its data elsewhere. It says itself what is missing.
	if ns.Backend.Builtin == "" {
		return nil
	}
	if _, err := os.Stat(ns.DatabaseDir()); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s", ErrNoDatabase, ns.DatabaseDir())
	} else if err != nil {
		return err
	}
	return nil
}

// closing returns the context that databases and processes are closed with. The caller holds mu, and calls stop when
// they are.
func (h *Host) closing(ctx context.Context) (closing context.Context, stop func()) {
	var names []string
	for backend := range h.processes {
		names = append(names, fmt.Sprintf("backend %q", backend.Name))
	}
	slices.Sort(names)
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	closed := func(within time.Duration) bool {
		timer := time.NewTimer(within)
		defer timer.Stop()
		select {
		case <-closing.Done():
			return true
		case <-timer.C:
			return false
		}
	}
	var waiting sync.WaitGroup
	waiting.Go(func() {
		select {
		case <-ctx.Done():
		case <-closing.Done():
			return
		}
		if closed(tellAfter) {
			return
		}
		if h.Tell != nil {
			h.Tell("waiting for %s to close what is open, for at most %s; interrupt again to end at once",
				strings.Join(names, ", "), interruptedTimeout)
		}
		if !closed(interruptedTimeout - tellAfter) {
			cancel()
		}
	})
	return closing, func() {
		cancel()
		waiting.Wait()
	}
}

// process returns the backend's process. The caller holds mu.
func (h *Host) process(ctx context.Context, backend *config.Backend) (*plugin.Supervisor, error) {
	if p, runs := h.processes[backend]; runs {
		return p, nil
	}
	launch := plugin.LaunchConfig{Logger: h.logger.Named(backend.Name), Env: runtimeEnv()}
	if backend.Plugin != nil {
		launch.Path, launch.Args, launch.SHA256 = backend.Plugin.Path, backend.Plugin.Args, backend.Plugin.SHA256
	} else {
		path, args, err := plugin.Builtin(backend.Builtin)
		if err != nil {
			return nil, err
		}
		launch.Path, launch.Args = path, args
	}
	var restarts plugin.Restarts
	if !h.Restart {
		restarts.Max = -1
	}
	p, err := plugin.Supervise(ctx, launch, restarts)
	if err != nil {
		return nil, err
	}
	h.processes[backend] = p
	return p, nil
}

// runtimeVariables tune Go's runtime. Backends' processes inherit these, and nothing else: whoever limits
// the host's memory or cores means its backends, too.
var runtimeVariables = []string{"GOMEMLIMIT", "GOGC", "GOMAXPROCS", "GODEBUG", "GOTRACEBACK"}

// runtimeEnv is the environment of backends' processes.
func runtimeEnv() (env []string) {
	for _, name := range runtimeVariables {
		if value, set := os.LookupEnv(name); set {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// Close closes all databases, then all processes, and waits for them: up to two minutes, and ten seconds where ctx has
// ended or ends meanwhile. Processes that hang are then ended by force, which takes some seconds more.
func (h *Host) Close(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	ctx, stop := h.closing(ctx)
	defer stop()
	var errs []error
	for i := len(h.opened) - 1; i >= 0; i-- {
		if err := h.opened[i].Close(ctx); err != nil {
			errs = append(errs, fmt.Errorf("closing a database: %w", err))
		}
	}
	h.opened = nil
	for backend, p := range h.processes {
		if err := p.Close(ctx); err != nil {
			errs = append(errs, fmt.Errorf("ending the process of backend %q: %w", backend.Name, err))
		}
	}
	clear(h.processes)
	return errors.Join(errs...)
}
