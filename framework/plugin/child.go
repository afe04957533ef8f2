package plugin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-plugin/runner"
)

// outputGrace is how long a plugin's output is read after its end, should something that it left behind
// keep its pipes open.
const outputGrace = 300 * time.Millisecond

// child is a plugin's process, run for go-plugin. Its standard input is empty; its output goes through
// our own filter, of which go-plugin sees the handshake alone.
type child struct {
	cmd       *exec.Cmd
	forward   *forwarder
	socketDir string

	handshakeR *io.PipeReader
	handshakeW *io.PipeWriter

	mu      sync.Mutex
	process *os.Process // nil until it runs
	killed  bool        // also before it runs

	done chan struct{} // closed when the process has ended and its output is read
	err  error         // how it ended; valid when done is closed
}

var _ runner.Runner = (*child)(nil)

func newChild(cmd *exec.Cmd, socketDir string, forward *forwarder) *child {
	c := &child{cmd: cmd, forward: forward, socketDir: socketDir, done: make(chan struct{})}
	c.handshakeR, c.handshakeW = io.Pipe()
	return c
}

// Start starts the process, from a goroutine that keeps its thread as long as the process runs: the
// signal that a child gets at its parent's death is sent at the death of the thread that started it.
func (c *child) Start(context.Context) error {
	stdout, stdoutW, err := os.Pipe()
	if err != nil {
		return err
	}
	stderr, stderrW, err := os.Pipe()
	if err != nil {
		stdout.Close()
		stdoutW.Close()
		return err
	}
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = nil, stdoutW, stderrW
	isolate(c.cmd)

	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := c.cmd.Start()
		stdoutW.Close()
		stderrW.Close()
		started <- err
		if err != nil {
			stdout.Close()
			stderr.Close()
			return
		}
		var output sync.WaitGroup
		output.Go(func() {
			defer c.handshakeW.Close()
			forwardLines(stdout, c.stdoutLine)
		})
		output.Go(func() { forwardLines(stderr, c.forward.line) })
		c.err = c.cmd.Wait()
		until := time.Now().Add(outputGrace)
		// Where deadlines aren't supported, the output ends with whoever holds the pipes.
		_ = stdout.SetReadDeadline(until)
		_ = stderr.SetReadDeadline(until)
		output.Wait()
		stdout.Close()
		stderr.Close()
		close(c.done)
	}()
	if err := <-started; err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.process = c.cmd.Process
	if c.killed {
		return c.kill()
	}
	return nil
}

// handshakeLine is what go-plugin's handshake looks like.
var handshakeLine = regexp.MustCompile(`^[0-9]+\|[0-9]+\|(unix|tcp)\|`)

// stdoutLine takes a line of the process's standard output: the handshake goes to go-plugin, anything
// else, which would make it give up, into the log.
func (c *child) stdoutLine(line []byte) {
	if handshakeLine.Match(line) {
		// An error says that go-plugin has stopped reading: it has given up already.
		_, _ = c.handshakeW.Write(append(bytes.Clone(line), '\n'))
		return
	}
	c.forward.line(line)
}

func (c *child) Wait(context.Context) error {
	<-c.done
	return c.err
}

// Kill ends the process; one that does not run yet ends when it does.
func (c *child) Kill(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.killed = true
	if c.process == nil {
		return nil
	}
	return c.kill()
}

// kill ends the process that runs, under mu.
func (c *child) kill() error {
	if err := c.process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

func (c *child) Stdout() io.ReadCloser { return c.handshakeR }

// Stderr gives go-plugin nothing to parse.
func (c *child) Stderr() io.ReadCloser { return io.NopCloser(strings.NewReader("")) }

func (c *child) Name() string { return c.cmd.Path }

// ID is the process's number in decimal digits, "" where none runs yet.
func (c *child) ID() string {
	if pid := c.pid(); pid != 0 {
		return strconv.Itoa(pid)
	}
	return ""
}

func (c *child) pid() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process == nil {
		return 0
	}
	return c.process.Pid
}

func (c *child) Diagnose(context.Context) string { return "" }

// PluginToHost accepts no address but a socket in the directory that was made for it: what a plugin
// prints must not make the host connect to anything else.
func (c *child) PluginToHost(network, address string) (string, string, error) {
	if network == "unix" && filepath.Dir(filepath.Clean(address)) != filepath.Clean(c.socketDir) {
		return "", "", fmt.Errorf("plugin listens at %q, which is not in %q", address, c.socketDir)
	}
	return network, address, nil
}

func (c *child) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}

// ending says in words how the process ended; it may be called when done is closed.
func (c *child) ending() string {
	text := fmt.Sprintf("plugin process %d has ended", c.pid())
	if c.err != nil {
		text += ": " + c.err.Error()
	}
	return text
}

// noHandshake are the beginnings of what go-plugin says of a process that ends, or closes its standard
// output, before the handshake. Which of them it says is a matter of time.
var noHandshake = []string{"Unrecognized remote plugin message", "plugin exited before"}

// explain puts the error of a start for which there was no handshake into words that help. It may be called
// for nil, a process that was not started.
func (c *child) explain(err error) error {
	if c == nil || !slices.ContainsFunc(noHandshake, func(text string) bool { return strings.HasPrefix(err.Error(), text) }) {
		return err
	}
	select {
	case <-c.done:
		if c.err != nil {
			return fmt.Errorf("it ended without saying that it is a plugin: %w", c.err)
		}
	default:
	}
	return errors.New("it ended without saying that it is a plugin")
}
