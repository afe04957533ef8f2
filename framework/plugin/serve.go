package plugin

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

const (
	// orphanTimeout is how long a plugin that lost its host has to close its databases: together with
	// noticing it, less than the two seconds after which another host may expect the locks to be free,
	// and after which go-plugin's host side ends the process by force.
	orphanTimeout = 1800 * time.Millisecond
	// terminateTimeout is the same for a plugin that is told to end while its host lives.
	terminateTimeout = 10 * time.Second
	// sessionTimeout is how long a plugin waits for its host's session after the handshake.
	sessionTimeout = 30 * time.Second
)

// Serve makes the running program a plugin that serves databases of opts.Factory. It returns never: the
// program exits when its host has no more use for it, or is gone, after closing all databases. A program
// that calls it is launched by a host; run by hand, it says so, and "describe" as its only argument
// makes it print what it is, as JSON.
//
// Standard output belongs to the handshake. What the program prints goes into the host's log. Files that it
// makes are for its owner alone (where the system has a umask).
func Serve(opts ServeOptions) { os.Exit(serve(opts, os.Args[1:])) }

// BuiltinArg is the first argument that makes a host's own program serve one of its built-in backends.
// The second is the backend's name.
const BuiltinArg = "__ckpt-backend"

// selfLinux is this program's file on Linux, also when it has no name any more.
const selfLinux = "/proc/self/exe"

// ServeBuiltin serves one of factories if args, all of the program's arguments with its name, ask for it,
// and then says that it did; the program should exit. A host calls it first thing in main, and its tests
// in TestMain. It exits by itself, with an error, where it can't serve what is asked for.
func ServeBuiltin(args []string, version string, factories ...db.Factory) (handled bool) {
	if len(args) < 2 || args[1] != BuiltinArg {
		return false
	}
	code := 1
	switch i := slices.IndexFunc(factories, func(f db.Factory) bool { return len(args) > 2 && f.Name() == args[2] }); {
	case i >= 0:
		code = serve(ServeOptions{Factory: factories[i], Version: version}, args[3:])
	default:
		var names []string
		for _, f := range factories {
			names = append(names, f.Name())
		}
		fmt.Fprintf(os.Stderr, "no built-in backend %q; there are: %s\n", strings.Join(args[2:], " "), strings.Join(names, ", "))
	}
	if code != 0 {
		os.Exit(code)
	}
	return true
}

// Builtin returns what to launch for a built-in backend: this program itself. On Linux that works also
// where its file has been removed or replaced meanwhile.
func Builtin(name string) (path string, args []string, err error) {
	args = []string{BuiltinArg, name}
	if runtime.GOOS == "linux" {
		return selfLinux, args, nil
	}
	path, err = os.Executable()
	return path, args, err
}

// serve is Serve, and returns the exit code.
func serve(opts ServeOptions, args []string) int {
	if os.Getenv(handshake.MagicCookieKey) != handshake.MagicCookieValue {
		return serveByHand(opts, args)
	}
	keepPrivate()
	if opts.Logger == nil {
		opts.Logger = hclog.New(&hclog.LoggerOptions{
			Name: opts.Factory.Name(), Output: os.Stderr, JSONFormat: true, Level: hclog.LevelFromString(os.Getenv(levelVariable)),
		})
	}
	life := newLife(opts)
	return life.run()
}

// serveByHand is for people who run a plugin themselves.
func serveByHand(opts ServeOptions, args []string) int {
	if len(args) == 1 && args[0] == "describe" {
		description := struct {
			Backend  string `json:"backend"`
			Version  string `json:"version"`
			Protocol int    `json:"protocol"`
			Minor    int    `json:"protocol_minor"`
		}{opts.Factory.Name(), opts.Version, protocolVersion, protocolMinor}
		if err := json.NewEncoder(os.Stdout).Encode(description); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
	program := filepath.Base(os.Args[0])
	fmt.Fprintf(os.Stderr, "%s is the storage backend %q for ckpt. It is not run by hand: name it in the host's\n"+
		"configuration, plugin %q { path = \"%s\" }, and the host launches it.\n"+
		"\"%s describe\" prints what it is.\n", program, opts.Factory.Name(), opts.Factory.Name(), os.Args[0], program)
	return 1
}

// life is the life of a plugin's process, from the handshake to the last database's close.
type life struct {
	logger hclog.Logger
	server *Server
	// grpc is the server that go-plugin runs; nil until it makes one.
	grpc atomic.Pointer[grpc.Server]
	// stop takes how long the rest may take; the first counts.
	stop chan time.Duration
	// waiting ends the process when no session begins.
	waiting *time.Timer
	parent  int
}

func newLife(opts ServeOptions) *life {
	l := &life{logger: opts.Logger, server: NewServer(opts), stop: make(chan time.Duration, 1), parent: os.Getppid()}
	l.server.service.onSession = l.onSession
	var err error
	if l.server.service.memory, err = takeSharedMemory(); err != nil {
		opts.Logger.Debug("walks go through the connection", "reason", err)
	}
	return l
}

// onSession notes that the host has begun or ended its session. One that is launched has one.
func (l *life) onSession(begins bool) {
	if begins {
		l.waiting.Stop()
		return
	}
	l.end(orphanTimeout)
}

// end has the process end within a time.
func (l *life) end(within time.Duration) {
	select {
	case l.stop <- within:
	default: // somebody was first
	}
}

// run serves until the host, a signal or a timer ends it, and closes what is open.
func (l *life) run() int {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	signal.Ignore(syscall.SIGHUP)
	l.waiting = time.AfterFunc(sessionTimeout, func() {
		l.logger.Error("no host has begun a session", "waited", sessionTimeout)
		l.end(orphanTimeout)
	})
	go l.await(signals)

	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig:  handshake,
		VersionedPlugins: map[int]goplugin.PluginSet{protocolVersion: {pluginName: glue{server: l.server}}},
		Logger:           hclog.NewNullLogger(),
		GRPCServer: func(options []grpc.ServerOption) *grpc.Server {
			options = append(options, ServerOptions()...)
			server := grpc.NewServer(append(options, l.server.service.opts.GRPC...)...)
			l.grpc.Store(server)
			return server
		},
	})
	// The host has asked for the end, or await has stopped the server. The socket is gone; so is its
	// directory, which a host that was killed could not remove.
	l.end(orphanTimeout)
	if dir := os.Getenv(goplugin.EnvUnixSocketDir); dir != "" {
		_ = os.Remove(dir) // the host may have been first, and what isn't empty stays
	}
	if l.grpc.Load() == nil {
		l.logger.Error("the plugin could not be served", "socket directory", os.Getenv(goplugin.EnvUnixSocketDir))
		return 1
	}
	if err := l.server.Close(context.Background()); err != nil { // await bounds it
		l.logger.Error("closing databases", "error", err)
		return 1
	}
	return 0
}

// await waits for a reason to end, stops the server, and ends the process by force when closing takes
// too long. It lives as long as the process does.
func (l *life) await(signals <-chan os.Signal) {
	var within time.Duration
	select {
	case within = <-l.stop:
	case <-signals:
		within = terminateTimeout
		if os.Getppid() != l.parent { // the host is dead
			within = orphanTimeout
		}
	}
	time.AfterFunc(within, func() {
		l.logger.Error("databases were not closed in time; the process ends without", "waited", within)
		os.Exit(1)
	})
	if server := l.grpc.Load(); server != nil {
		server.Stop()
	}
}
