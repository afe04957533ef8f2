package conformance

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// trial is a case being tried: what the case knows as its test. The case has a goroutine for itself, which
// is left alone where it does not end in time.
type trial struct {
	suite  *suite
	c      *Case
	ctx    context.Context
	cancel context.CancelFunc
	dir    string
	// timeout is how long the case may take.
	timeout time.Duration

	mu       sync.Mutex
	dirs     int
	cleanups []func()
	log      []string
	verdict  Verdict // "" while nothing is wrong
	reason   string
	// opened are the databases that the case has opened, to be killed with it.
	opened []db.NodeDB
	// over says that the case has been given up: what it says now comes too late.
	over bool
}

// afterTimeout is how long a case has to end by itself whose time is up, or that is broken off.
var afterTimeout = 15 * time.Second

func newTrial(ctx context.Context, s *suite, c *Case) *trial {
	t := &trial{suite: s, c: c, dir: filepath.Join(s.dir, strings.ReplaceAll(c.Name, "/", "-")), timeout: s.opts.Timeout}
	if c.timesKills {
		t.timeout *= time.Duration(max(1, s.opts.Kills/DefaultKills))
	}
	t.ctx, t.cancel = context.WithTimeout(ctx, t.timeout)
	return t
}

// run tries the case, and returns when it has ended or was given up.
func (t *trial) run() {
	defer t.cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		t.guarded(func() { t.c.run(newEnv(t, t.suite.h)) })
		for {
			t.mu.Lock()
			n := len(t.cleanups)
			if n == 0 {
				t.mu.Unlock()
				break
			}
			last := t.cleanups[n-1]
			t.cleanups = t.cleanups[:n-1]
			t.mu.Unlock()
			t.guarded(last)
		}
	}()
	select {
	case <-done:
	case <-t.ctx.Done(): // its time is up, or nobody wants to know any more
		limit := time.NewTimer(afterTimeout)
		defer limit.Stop()
		select {
		case <-done:
		case <-limit.C:
			t.giveUp()
		}
	}
	if t.ctx.Err() == context.DeadlineExceeded {
		t.say(Fail, fmt.Sprintf("it did not end within %s", t.timeout))
	}
	if t.Failed() {
		t.noteOutputs()
	}
	t.tidy()
}

// noteOutputs notes what the processes of the case's databases have said last.
func (t *trial) noteOutputs() {
	t.mu.Lock()
	opened := t.opened
	t.mu.Unlock()
	for _, ndb := range opened {
		if s, ok := ndb.(*served); ok && s.said.String() != "" {
			t.note(s.said.String())
		}
	}
}

// tidy removes the case's directory, or keeps it where that is wanted. A run that was broken off fails
// cases for no fault of theirs.
func (t *trial) tidy() {
	if keep := t.suite.opts.Keep; keep != "" && t.Failed() && t.ctx.Err() != context.Canceled {
		kept := filepath.Join(keep, filepath.Base(t.dir))
		err := errors.Join(os.RemoveAll(kept), os.Rename(t.dir, kept)) // that of an earlier run makes room
		if err == nil {
			t.note("its directory is kept: " + kept)
			return
		}
		t.note(fmt.Sprintf("its directory could not be kept: %v", err))
	}
	_ = os.RemoveAll(t.dir) // what is still in use goes with the suite's directory
}

// guarded runs f in a goroutine that f may end, and notes a panic.
func (t *trial) guarded(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				t.say(Fail, fmt.Sprintf("panic: %v", p))
				t.note(string(debug.Stack()))
			}
		}()
		f()
	}()
	<-done
}

// giveUp ends what can be ended of a case that does not end.
func (t *trial) giveUp() {
	stacks := make([]byte, 64<<10)
	stacks = stacks[:runtime.Stack(stacks, true)]
	t.say(Fail, fmt.Sprintf("it did not end within %s, and was given up", t.timeout))
	t.note(string(stacks))
	t.mu.Lock()
	opened := t.opened
	t.over = true
	t.mu.Unlock()
	if t.suite.h.Crash == nil {
		return
	}
	for _, ndb := range opened {
		_ = t.suite.h.Crash(ndb) // it may be gone already
	}
}

// say sets the verdict: an error of the suite's, or the first failure, stays.
func (t *trial) say(v Verdict, reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return
	}
	reason = t.printable(reason)
	t.log = append(t.log, reason)
	if t.verdict == "" || v == Error && t.verdict == Fail {
		t.verdict, t.reason = v, firstLine(reason)
	}
}

// printable is what a case says as reports have it: they go to other machines, where the suite's directory
// says nothing.
func (t *trial) printable(s string) string {
	return printable(strings.ReplaceAll(s, t.suite.dir, "DIR"))
}

// printable replaces what would do something to a terminal: a backend's errors can hold any bytes.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return utf8.RuneError
		}
		return r
	}, s)
}

func firstLine(s string) string {
	line, _, more := strings.Cut(s, "\n")
	if more {
		line += " …"
	}
	return line
}

func (t *trial) note(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.over {
		t.log = append(t.log, t.printable(line))
	}
}

func (t *trial) result() (v Verdict, reason string, log []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if v = t.verdict; v == "" {
		v = Pass
	}
	return v, t.reason, t.log
}

// Helper does nothing: what a case notes has no line numbers.
func (t *trial) Helper() {}

func (t *trial) Context() context.Context { return t.ctx }

func (t *trial) TempDir() string {
	t.mu.Lock()
	t.dirs++
	dir := filepath.Join(t.dir, strconv.Itoa(t.dirs))
	t.mu.Unlock()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.broken("no directory: %v", err)
	}
	return dir
}

func (t *trial) Cleanup(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cleanups = append(t.cleanups, f)
}

func (t *trial) Errorf(format string, args ...any) { t.say(Fail, fmt.Sprintf(format, args...)) }

func (t *trial) Fatalf(format string, args ...any) {
	t.Errorf(format, args...)
	runtime.Goexit()
}

// Logf notes something that changes no verdict.
func (t *trial) Logf(format string, args ...any) { t.note(fmt.Sprintf(format, args...)) }

// Failed says whether the case has failed by now.
func (t *trial) Failed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.verdict == Fail || t.verdict == Error
}

// broken ends the case because the suite can't go on.
func (t *trial) broken(format string, args ...any) {
	t.say(Error, fmt.Sprintf(format, args...))
	runtime.Goexit()
}

// unsupported ends the case because it makes no sense here.
func (t *trial) unsupported(format string, args ...any) {
	t.say(NotSupported, fmt.Sprintf(format, args...))
	runtime.Goexit()
}

// keep notes a database that the case has opened.
func (t *trial) keep(ndb db.NodeDB) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.opened = append(t.opened, ndb)
}
