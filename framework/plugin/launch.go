package plugin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"

	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

const (
	// DefaultStartTimeout is how long a plugin may take to say that it is there.
	DefaultStartTimeout = 10 * time.Second
	// DefaultCloseTimeout bounds Process.Close where its context has no deadline.
	DefaultCloseTimeout = time.Minute
	// killTimeout is how long go-plugin's way of ending a process, which itself waits two seconds, may
	// take before the process is ended without asking.
	killTimeout = 3 * time.Second
)

// LaunchConfig says which plugin to launch, and how.
type LaunchConfig struct {
	// Path is the program. One without a separator is looked for where the PATH of this process says.
	Path string
	// Args are its arguments.
	Args []string
	// Env is its environment, "NAME=value" each, beside what the handshake needs. Nothing is inherited.
	Env []string
	// Dir is its working directory; "" means this process's.
	Dir string
	// SHA256 is what the program's file has to hash to, in hexadecimal digits; "" means anything. It is
	// worth what keeps others from writing to the file afterwards.
	SHA256 string
	// RunDir is the directory in which a private one is made for the socket; "" means one of the system's
	// for such files. Sockets' paths are short (some 100 bytes), so this must be, too.
	RunDir string
	// NoSharedMemory has everything go through the connection, also where walks could go through memory that both
	// processes share, which is faster. Otherwise that memory is the process's descriptor 3, on Linux.
	NoSharedMemory bool
	// StartTimeout is how long the plugin may take to start; 0 means DefaultStartTimeout.
	StartTimeout time.Duration
	// Logger takes the plugin's messages; nil means that they are dropped.
	Logger hclog.Logger
}

// Process is a plugin's process and the session with it. It is safe for concurrent use.
type Process struct {
	client  *Client
	conn    grpc.ClientConnInterface
	manager *goplugin.Client
	child   *child
	logger  hclog.Logger
	// memory is shared with the process; nil where none is.
	memory *hostMemory
	// gaveUp says that somebody has waited for an end of the process that didn't come.
	gaveUp  atomic.Bool
	watched chan struct{}
	killed  chan struct{} // holds a token while nobody ends the process
}

// Launch starts a plugin and begins a session with it. ctx bounds only that; the process runs until Close,
// its own end, or the end of this process. When Launch fails, it leaves no process behind.
func Launch(ctx context.Context, cfg LaunchConfig) (*Process, error) {
	logger := cfg.Logger
	if logger == nil {
		logger = hclog.NewNullLogger()
	}
	program, err := findProgram(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLaunchFailed, err)
	}
	if err := checkSum(program, cfg.SHA256); err != nil {
		return nil, err
	}
	runDir, err := chooseRunDir(cfg.RunDir)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLaunchFailed, err)
	}
	timeout := cfg.StartTimeout
	if timeout <= 0 {
		timeout = DefaultStartTimeout
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("it did not answer within %s: %w", timeout, context.DeadlineExceeded))
	defer cancel()

	forward := &forwarder{logger: logger}
	p := &Process{logger: logger, watched: make(chan struct{}), killed: make(chan struct{}, 1)}
	p.killed <- struct{}{}
	var extra []*os.File
	env := slices.Clone(cfg.Env)
	if !cfg.NoSharedMemory {
		memory, file, variable, err := makeSharedMemory(ourLayout)
		if err != nil {
			logger.Debug("walks go through the connection", "reason", err)
		} else {
			defer file.Close() // the process has one of its own, or will never have
			p.memory, extra, env = memory, []*os.File{file}, append(env, variable)
		}
	}
	var socketDir string
	prepared := make(chan *child, 1)
	p.manager = goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig:  handshake,
		VersionedPlugins: map[int]goplugin.PluginSet{protocolVersion: {pluginName: glue{}}},
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		StartTimeout:     timeout,
		SkipHostEnv:      true,
		UnixSocketConfig: &goplugin.UnixSocketConfig{TempDir: runDir},
		// go-plugin's own messages say less than the errors that it returns.
		Logger:     hclog.NewNullLogger(),
		SyncStdout: &lineWriter{forward: forward.line},
		SyncStderr: &lineWriter{forward: forward.line},
		GRPCDialOptions: append(DialOptions(), grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(maxMessageBytes), grpc.MaxCallSendMsgSize(maxMessageBytes))),
		RunnerFunc: func(_ hclog.Logger, spec *exec.Cmd, dir string) (runner.Runner, error) {
			socketDir = dir
			cmd := exec.Command(program, cfg.Args...)
			if program == selfLinux {
				cmd.Args[0] = os.Args[0] // which says more in a list of processes
			}
			cmd.ExtraFiles = extra
			cmd.Env = append(slices.Concat(env, spec.Env), levelVariable+"="+logger.GetLevel().String())
			cmd.Dir = cfg.Dir
			c := newChild(cmd, dir, forward)
			prepared <- c
			return c, nil
		},
	})

	err = p.start(ctx, prepared)
	if err != nil {
		if p.child != nil {
			_ = p.child.Kill(ctx) // it has ended, or ends now: Kill waits for it
		}
		p.manager.Kill()
		if socketDir != "" {
			_ = os.RemoveAll(socketDir) // go-plugin leaves it behind where nothing was started
		}
		p.memory.close()
		return nil, launchError(ctx, cfg.Path, p.child.explain(err), forward)
	}
	go p.watch(socketDir)
	name, version := p.client.Backend()
	logger.Debug("plugin started", "path", cfg.Path, "pid", p.child.ID(), "backend", name, "version", version)
	return p, nil
}

// start runs the handshake and begins a session.
func (p *Process) start(ctx context.Context, prepared <-chan *child) error {
	type started struct {
		conn any
		err  error
	}
	result := make(chan started, 1)
	go func() {
		conn, err := dispense(p.manager)
		result <- started{conn, err}
	}()
	var r started
	select {
	case p.child = <-prepared:
		stop := context.AfterFunc(ctx, func() { _ = p.child.Kill(ctx) }) // ends dispense: its process is no more
		r = <-result
		stop()
	case r = <-result:
		select {
		case p.child = <-prepared:
		default: // it did not come to that
		}
	}
	if r.err != nil {
		return r.err
	}
	conn, ok := r.conn.(grpc.ClientConnInterface)
	if !ok {
		return fmt.Errorf("%w: dispensed a %T", ErrProtocol, r.conn)
	}
	p.conn = conn
	var err error
	p.client, err = connect(ctx, conn, p.memory, p.ending)
	return err
}

// dispense starts the process and returns the connection to it.
func dispense(manager *goplugin.Client) (any, error) {
	protocol, err := manager.Client()
	if err != nil {
		return nil, err
	}
	return protocol.Dispense(pluginName)
}

// launchError says why a plugin can't be started, with what it printed.
func launchError(ctx context.Context, path string, err error, forward *forwarder) error {
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	text := strings.TrimSpace(err.Error())
	if tail := forward.lastLines(); tail != "" {
		return &launchFailure{text: fmt.Sprintf("%v: %s: %s\nits last output:\n%s", ErrLaunchFailed, path, text, indent(tail)), cause: err}
	}
	return &launchFailure{text: fmt.Sprintf("%v: %s: %s", ErrLaunchFailed, path, text), cause: err}
}

// launchFailure is ErrLaunchFailed and its cause.
type launchFailure struct {
	text  string
	cause error
}

func (e *launchFailure) Error() string   { return e.text }
func (e *launchFailure) Unwrap() []error { return []error{ErrLaunchFailed, e.cause} }

func indent(text string) string { return "  " + strings.ReplaceAll(text, "\n", "\n  ") }

// watch waits for the end of the process and clears up what is left of it.
func (p *Process) watch(socketDir string) {
	<-p.child.done
	if err := os.RemoveAll(socketDir); err != nil {
		p.logger.Warn("removing a plugin's run directory", "error", err)
	}
	p.logger.Debug(p.child.ending())
	p.memory.close()
	close(p.watched)
}

// ending says how the process ended, waiting a little for it: who asks has just lost the connection. It
// is "" where the process seems to live on.
func (p *Process) ending() string {
	select {
	case <-p.child.done:
		return p.child.ending()
	default:
	}
	if p.gaveUp.Load() {
		return ""
	}
	timer := time.NewTimer(goneWait)
	defer timer.Stop()
	select {
	case <-p.child.done:
		return p.child.ending()
	case <-timer.C:
		p.gaveUp.Store(true)
		return ""
	}
}

// over says that the process, or the session with it, has ended.
func (p *Process) over() bool {
	select {
	case <-p.client.Lost():
		return true
	case <-p.child.done:
		return true
	default:
		return false
	}
}

// unavailable is the error where the process has gone, or says by itself that it has closed what was open: it
// is on its way out then, and the end of the session is on its way here.
func (p *Process) unavailable() error {
	timer := time.NewTimer(goneWait)
	defer timer.Stop()
	select {
	case <-p.client.Lost():
	case <-timer.C:
	}
	return fmt.Errorf("%w: %s", db.ErrUnavailable, p.client.gone())
}

// Open opens a database in the process. cfg.Logger is not used: the plugin's messages come with its log.
// When the process ends, the database's methods return db.ErrUnavailable.
func (p *Process) Open(ctx context.Context, cfg *db.Config) (db.NodeDB, error) {
	return p.client.Open(ctx, cfg)
}

// Backend returns the kind of database that the plugin serves, and the plugin's version.
func (p *Process) Backend() (name, version string) { return p.client.Backend() }

// Conn is the connection to the process, for who speaks the wire (package proto) without this package's
// help: to find out how a plugin takes what this side never sends. It ends with the process.
func (p *Process) Conn() grpc.ClientConnInterface { return p.conn }

// PID is the process's number.
func (p *Process) PID() int { return p.child.pid() }

// Done is closed when the process has ended and nothing is left of it.
func (p *Process) Done() <-chan struct{} { return p.watched }

// Close closes all databases that are open in the process, has it end, and waits for that. ctx bounds the
// closing of the databases (to DefaultCloseTimeout where it has no deadline); the process then ends
// within seconds, by force where it does not by itself. The error is that of a database which could not
// be closed. Calling it again waits for the end.
func (p *Process) Close(ctx context.Context) error {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, DefaultCloseTimeout)
		defer cancel()
	}
	err := p.client.Close(ctx)
	p.kill()
	return err
}

// kill has go-plugin end the process, and ends it by force where that hangs: go-plugin asks a process
// to end without a time limit, and one that is stopped does not answer.
func (p *Process) kill() {
	<-p.killed
	defer func() { p.killed <- struct{}{} }()
	force := time.AfterFunc(killTimeout, func() {
		if err := p.child.Kill(context.Background()); err != nil {
			p.logger.Error("ending a plugin by force", "error", err)
		}
	})
	defer force.Stop()
	p.manager.Kill()
	<-p.watched
}

// findProgram returns the path of a program, absolute: what is checked is what is run, wherever.
func findProgram(path string) (string, error) {
	found, err := exec.LookPath(path)
	if err != nil {
		return "", err
	}
	return filepath.Abs(found)
}

// checkSum compares a program's file with what the configuration says.
func checkSum(path, want string) error {
	if want == "" {
		return nil
	}
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrLaunchFailed, err)
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return fmt.Errorf("%w: %w", ErrLaunchFailed, err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); !strings.EqualFold(got, want) {
		return fmt.Errorf("%w: %s: its SHA-256 is %s, the configuration says %s; if the file is what it should be, put its sum there",
			ErrChecksum, path, got, want)
	}
	return nil
}

// socketNameBytes is what go-plugin appends to the run directory: its own directory in it
// ("/plugin-dir" and up to ten digits) and the socket ("/plugin" and up to ten digits).
const socketNameBytes = len("/plugin-dir") + 10 + len("/plugin") + 10

// maxSocketPath is the length of the longest path of a socket, on the systems that allow the least.
func maxSocketPath() int {
	if runtime.GOOS == "linux" {
		return 107
	}
	return 103
}

// chooseRunDir returns the directory in which to make one for a socket. Those that the system clears when
// a user logs out, or never, are better than those that it clears of old files.
func chooseRunDir(configured string) (string, error) {
	limit := maxSocketPath() - socketNameBytes
	if configured != "" {
		dir, err := filepath.Abs(configured)
		if err != nil {
			return "", err
		}
		if len(dir) > limit {
			return "", fmt.Errorf("run directory %q is too long: %d bytes, and a socket's path leaves %d", dir, len(dir), limit)
		}
		return dir, os.MkdirAll(dir, 0o700)
	}
	var tried []error
	for _, dir := range []string{os.Getenv("XDG_RUNTIME_DIR"), os.TempDir()} {
		switch info, err := os.Stat(dir); {
		case dir == "":
		case err != nil:
			tried = append(tried, err)
		case !info.IsDir():
			tried = append(tried, fmt.Errorf("%q is no directory", dir))
		case len(dir) > limit:
			tried = append(tried, fmt.Errorf("%q is too long: %d bytes, and a socket's path leaves %d", dir, len(dir), limit))
		case !writable(dir):
			tried = append(tried, fmt.Errorf("%q can't be written to", dir))
		default:
			return dir, nil
		}
	}
	return "", fmt.Errorf("no directory for a socket; set TMPDIR or a run directory to a short path: %w", errors.Join(tried...))
}

// writable says whether a directory can be made in dir.
func writable(dir string) bool {
	probe, err := os.MkdirTemp(dir, "ckpt")
	if err != nil {
		return false
	}
	return os.Remove(probe) == nil
}
