package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

const (
	// maxOutput bounds what is kept of a command that answers with a few lines.
	maxOutput = 1 << 20
	// maxStderr bounds what is kept of a command's messages: the last of them, which say why it failed.
	maxStderr = 4 << 10
)

// commandError says that a git command failed, in git's own words.
type commandError struct {
	command string
	stderr  string
	cause   error
}

func (e *commandError) Error() string {
	if e.stderr == "" {
		return fmt.Sprintf("git %s: %v", e.command, e.cause)
	}
	return fmt.Sprintf("git %s: %s", e.command, e.stderr)
}

func (e *commandError) Unwrap() error { return e.cause }

// command is a git process. Its owner reads stdout, may write stdin, and calls either wait or stop.
type command struct {
	ctx    context.Context
	name   string
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout io.ReadCloser
	stderr tail
	ended  sync.Once
	err    error
}

// start starts git in the repository. The process is killed when ctx is done.
func (r *Repository) start(ctx context.Context, withStdin bool, args ...string) (*command, error) {
	c := r.newCommand(ctx, r.gitDir, append([]string{"--no-replace-objects", "--git-dir=" + r.gitDir}, args...))
	c.name = args[0]
	var err error
	if withStdin {
		if c.stdin, err = c.cmd.StdinPipe(); err != nil {
			return nil, fmt.Errorf("git %s: %w", c.name, err)
		}
	}
	if c.stdout, err = c.cmd.StdoutPipe(); err != nil {
		return nil, fmt.Errorf("git %s: %w", c.name, err)
	}
	if err = c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("git %s: %w", c.name, err)
	}
	return c, nil
}

func (r *Repository) newCommand(ctx context.Context, dir string, args []string) *command {
	c := &command{ctx: ctx, name: args[0], cmd: exec.CommandContext(ctx, r.program, args...)}
	c.cmd.Dir = dir
	c.cmd.Env = r.env
	c.cmd.Stderr = &c.stderr
	// Helpers that git may have started must not keep the pipes open for ever.
	c.cmd.WaitDelay = 2 * time.Second
	ownGroup(c.cmd)
	return c
}

// wait waits for the process to end by itself. What is left of its output must have been read.
func (c *command) wait() error {
	c.ended.Do(func() { c.err = c.failure(c.cmd.Wait()) })
	return c.err
}

// stop ends the process, whatever it is doing.
func (c *command) stop() {
	c.ended.Do(func() {
		if c.stdin != nil {
			c.stdin.Close()
		}
		// Both errors say only that it ended, or had ended, as it was told to.
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
		c.err = c.failure(nil)
	})
}

// broken turns an unexpected end of the output into the reason for it, which the process knows.
func (c *command) broken(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, os.ErrClosed) {
		if failure := c.wait(); failure != nil {
			return failure
		}
		return fmt.Errorf("git %s: %w: it ended too soon", c.name, ErrMalformed)
	}
	c.stop()
	if ctxErr := c.ctx.Err(); ctxErr != nil {
		return ctxErr
	}
	return fmt.Errorf("git %s: %w", c.name, err)
}

func (c *command) failure(err error) error {
	if ctxErr := c.ctx.Err(); ctxErr != nil {
		return ctxErr
	}
	if err != nil {
		return &commandError{command: c.name, stderr: c.stderr.text(), cause: err}
	}
	return nil
}

// output runs a command in the repository that answers with a few lines.
func (r *Repository) output(ctx context.Context, args ...string) ([]byte, error) {
	c := r.newCommand(ctx, r.gitDir, append([]string{"--no-replace-objects", "--git-dir=" + r.gitDir}, args...))
	c.name = args[0]
	return c.output()
}

// outputIn runs a command in a directory, where git finds the repository by itself.
func (r *Repository) outputIn(ctx context.Context, dir string, args ...string) ([]byte, error) {
	return r.newCommand(ctx, dir, args).output()
}

func (c *command) output() ([]byte, error) {
	out := limited{left: maxOutput}
	c.cmd.Stdout = &out
	if err := c.failure(c.cmd.Run()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// limited is a buffer that refuses more than is left.
type limited struct {
	bytes.Buffer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	if len(p) > l.left {
		return 0, fmt.Errorf("%w: more than %d bytes", ErrMalformed, maxOutput)
	}
	l.left -= len(p)
	return l.Buffer.Write(p)
}

// tail keeps the last bytes written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(p)
	p = p[max(0, n-maxStderr):]
	if over := len(t.buf) + len(p) - maxStderr; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	t.buf = append(t.buf, p...)
	return n, nil
}

func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.buf))
}
