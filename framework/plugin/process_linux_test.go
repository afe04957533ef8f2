package plugin_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/plugin"
)

// Processes that die, hang, are not what they should be, or print what they shouldn't.

func init() {
	parts["host"], parts["noise"], parts["silence"], parts["crash"] = playHost, playNoise, playSilence, playCrash
}

func TestCancellation(t *testing.T) {
	ndb := openFake(t)
	ctx, cancel := context.WithCancel(testContext(t))
	time.AfterFunc(50*time.Millisecond, cancel)
	_, err := ndb.GetRootsForVersion(ctx, versionBlocks)
	if !errors.Is(err, context.Canceled) || errors.Is(err, db.ErrUnavailable) {
		t.Error("cancelled:", err)
	}
	ctx, cancel = context.WithTimeout(testContext(t), 50*time.Millisecond)
	defer cancel()
	if _, err = ndb.GetRootsForVersion(ctx, versionBlocks); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, db.ErrUnavailable) {
		t.Error("deadline:", err)
	}
	ctx, cancel = context.WithCancel(testContext(t))
	defer cancel()
	n := 0
	for _, err = range ndb.Walk(ctx, fakeRoot(1<<40, "a"), node.RootPosition()) {
		if n++; n == 1000 {
			cancel()
		}
	}
	if !errors.Is(err, context.Canceled) || errors.Is(err, db.ErrUnavailable) {
		t.Error("walk:", err)
	}
	requireIdle(t, ndb)
}

// kill9 sends SIGKILL as soon as the backend runs what was asked of it.
func kill9(t *testing.T, p *plugin.Process) {
	t.Helper()
	if err := syscall.Kill(p.PID(), syscall.SIGKILL); err != nil {
		t.Error(err)
	}
}

func TestPluginKilled(t *testing.T) {
	p := launch(t, "fake")
	ndb := open(t, p)
	ctx := testContext(t)
	batch, err := ndb.NewBatch(ctx, fakeRoot(1, "a"), 2)
	if err != nil {
		t.Fatal(err)
	}
	pin, err := ndb.Pin(ctx, 5, "me")
	if err != nil {
		t.Fatal(err)
	}

	var calls sync.WaitGroup
	var during, walking error
	calls.Go(func() { _, during = ndb.GetRootsForVersion(ctx, versionBlocks) })
	calls.Go(func() {
		for _, err := range ndb.Walk(ctx, fakeRoot(1<<40, "a"), node.RootPosition()) {
			walking = err
		}
	})
	eventually(t, "both run", func() bool {
		size, err := ndb.Size(ctx)
		return err == nil && size.Live == 2
	})
	began := time.Now()
	kill9(t, p)
	calls.Wait()
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("noticed after %s", took)
	}
	for name, err := range map[string]error{"call": during, "walk": walking} {
		if !errors.Is(err, db.ErrUnavailable) || errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !strings.Contains(during.Error(), "signal: killed") {
		t.Error("does not say how the process ended:", during)
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		t.Fatal("Done is not closed")
	}

	if found, err := ndb.HasRoot(ctx, fakeRoot(0, "a")); found || !errors.Is(err, db.ErrUnavailable) {
		t.Error("has:", found, err)
	}
	if _, _, err := ndb.GetLatestVersion(ctx); !errors.Is(err, db.ErrUnavailable) {
		t.Error("latest:", err)
	}
	if _, err := ndb.NewBatch(ctx, fakeRoot(1, "a"), 2); !errors.Is(err, db.ErrUnavailable) {
		t.Error("batch:", err)
	}
	if err := batch.Commit(ctx, fakeRoot(2, "a"), node.Address{}); !errors.Is(err, db.ErrUnavailable) {
		t.Error("commit:", err)
	}
	if err := batch.Abort(ctx); err != nil {
		t.Error("abort of what is gone:", err)
	}
	if err := pin.Release(ctx); !errors.Is(err, db.ErrUnavailable) {
		t.Error("release:", err)
	}
	if _, err := p.Open(ctx, &db.Config{Namespace: testNamespace}); !errors.Is(err, db.ErrUnavailable) {
		t.Error("open:", err)
	}
	if err := ndb.Close(ctx); !errors.Is(err, db.ErrUnavailable) {
		t.Error("close:", err)
	}
	if _, err := ndb.Size(ctx); !errors.Is(err, db.ErrClosed) {
		t.Error("after close:", err)
	}
}

// TestPinsOutlastCalls ends sessions while a pin is held and something prunes: what has not ended yet must
// still see the pin, or a version goes that somebody, who will come back for it, has pinned.
func TestPinsOutlastCalls(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, p *plugin.Process, ndb db.NodeDB){
		"terminated": func(t *testing.T, p *plugin.Process, _ db.NodeDB) {
			if err := syscall.Kill(p.PID(), syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			<-p.Done()
		},
		"process closed": func(t *testing.T, p *plugin.Process, _ db.NodeDB) {
			if err := p.Close(testContext(t)); err != nil {
				t.Error(err)
			}
		},
		"database closed": func(t *testing.T, _ *plugin.Process, ndb db.NodeDB) {
			if err := ndb.Close(testContext(t)); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t)
			p := launch(t, "fake")
			dir := t.TempDir()
			ndb := open(t, p, func(c *db.Config) { c.Dir = dir })
			if _, err := ndb.Pin(ctx, 5, "me"); err != nil {
				t.Fatal(err)
			}
			var pruning sync.WaitGroup
			var pruned error
			pruning.Go(func() { pruned = ndb.Prune(ctx, prunesAtEnd) })
			eventually(t, "the prune runs", func() bool {
				size, err := ndb.Size(ctx)
				return err == nil && size.Live == 1
			})
			end(t, p, ndb)
			pruning.Wait()
			if pruned == nil && name == "terminated" {
				t.Error("the call outlived its process")
			}
			if pins, err := os.ReadFile(filepath.Join(dir, "pins")); err != nil || string(pins) != "1" {
				t.Errorf("pins that the prune saw: %q, %v", pins, err)
			}
			if !exists(filepath.Join(dir, "closed")) {
				t.Error("the database was not closed")
			}
		})
	}
}

func TestPluginExits(t *testing.T) {
	for version, want := range map[uint64]string{versionExits: "exit status 7", versionSpawned: "exit status 2"} {
		logged := &log{}
		p := launch(t, "fake", func(cfg *plugin.LaunchConfig) { cfg.Logger = logged.logger() })
		ndb := open(t, p)
		if _, err := ndb.GetRootsForVersion(testContext(t), version); !errors.Is(err, db.ErrUnavailable) || !strings.Contains(err.Error(), want) {
			t.Error(err)
		}
		if version == versionSpawned && !strings.Contains(logged.String(), "[ERROR] panic: a bug in a goroutine of the backend") {
			t.Error("the panic is not in the log:", logged)
		}
	}
}

func TestPanics(t *testing.T) {
	logged := &log{}
	p := launch(t, "fake", func(cfg *plugin.LaunchConfig) { cfg.Logger = logged.logger() })
	ndb := open(t, p)
	ctx := testContext(t)
	for _, version := range []uint64{versionPanics, versionFaults} {
		if _, err := ndb.GetRootsForVersion(ctx, version); !errors.Is(err, plugin.ErrPanicked) || errors.Is(err, db.ErrUnavailable) {
			t.Error(err)
		}
	}
	if _, err := p.Open(ctx, &db.Config{Namespace: testNamespace, Settings: []byte(`{"panic_at_open":true}`)}); !errors.Is(err, plugin.ErrPanicked) {
		t.Error("open:", err)
	}
	if _, err := ndb.HasRoot(ctx, fakeRoot(0, "a")); err != nil {
		t.Error("the process does not go on:", err)
	}
	eventually(t, "the stack is logged", func() bool { return strings.Contains(logged.String(), "fake_test.go") })
}

func TestOpenFails(t *testing.T) {
	p := launch(t, "fake")
	if _, err := p.Open(testContext(t), &db.Config{Namespace: testNamespace, Settings: []byte(`no json`)}); !errors.Is(err, db.ErrBadSettings) {
		t.Error(err)
	}
	if _, err := p.Open(testContext(t), &db.Config{Namespace: testNamespace, MaxKeyBytes: -1}); !errors.Is(err, db.ErrBadSettings) {
		t.Error(err)
	}
}

// TestBeyondLimit has messages that are too large, one way and the other.
func TestBeyondLimit(t *testing.T) {
	ctx, ndb := testContext(t), openFake(t)
	if err := ndb.StartMultipart(ctx, 1); err != nil {
		t.Fatal(err)
	}
	if err := ndb.AddMultipartRoot(ctx, fakeRoot(1, "a"), 1, make([]byte, 65<<20)); !errors.Is(err, db.ErrLimitExceeded) {
		t.Error("request:", err)
	}
	for _, seed := range []string{"a", "b"} {
		if err := ndb.AddMultipartRoot(ctx, fakeRoot(1, seed), 1, make([]byte, 40<<20)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := ndb.Multipart(ctx); !errors.Is(err, db.ErrLimitExceeded) {
		t.Error("answer:", err)
	}
	if _, err := ndb.Size(ctx); err != nil {
		t.Error("the plugin does not go on:", err)
	}
}

// TestOpenCancelled gives up opening while the backend is at it: the database must not stay open, locked,
// for the rest of the session.
func TestOpenCancelled(t *testing.T) {
	p := launch(t, "fake")
	cfg := &db.Config{Dir: t.TempDir(), Namespace: testNamespace, Settings: []byte(`{"open_millis":100}`)}
	for _, wait := range []time.Duration{0, 50 * time.Millisecond, 95 * time.Millisecond, 100 * time.Millisecond, 101 * time.Millisecond} {
		ctx, cancel := context.WithCancel(testContext(t))
		var ndb db.NodeDB
		var err error
		var opening sync.WaitGroup
		opening.Go(func() { ndb, err = p.Open(ctx, cfg) })
		eventually(t, "the backend is at it", func() bool { return exists(filepath.Join(cfg.Dir, openingMark)) })
		time.Sleep(wait) // about as long as the backend takes
		cancel()
		opening.Wait()
		if err == nil { // it was faster
			if err := ndb.Close(testContext(t)); err != nil {
				t.Error(err)
			}
		} else if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		eventually(t, "the database is closed", func() bool { return exists(filepath.Join(cfg.Dir, "closed")) })
		for _, mark := range []string{"closed", openingMark} {
			if err := os.Remove(filepath.Join(cfg.Dir, mark)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestHandlesAreApart(t *testing.T) {
	p := launch(t, "fake")
	one, other := open(t, p), open(t, p)
	ctx := testContext(t)
	if err := one.StartMultipart(ctx, 1); err != nil {
		t.Fatal(err)
	}
	if m, err := other.Multipart(ctx); m != nil || err != nil {
		t.Error(m, err)
	}
	if err := one.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if err := one.Close(ctx); !errors.Is(err, db.ErrClosed) {
		t.Error("second close:", err)
	}
	if _, err := other.Multipart(ctx); err != nil {
		t.Error("the other after one's close:", err)
	}
	if err := p.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Multipart(ctx); !errors.Is(err, db.ErrClosed) {
		t.Error("after the process's close:", err)
	}
	if _, err := p.Open(ctx, &db.Config{Namespace: testNamespace}); !errors.Is(err, db.ErrClosed) {
		t.Error("open after close:", err)
	}
}

func TestTwoProcesses(t *testing.T) {
	one, other := launch(t, "fake"), launch(t, "fake")
	a, b := open(t, one), open(t, other)
	kill9(t, one)
	<-one.Done()
	if _, err := a.Size(testContext(t)); !errors.Is(err, db.ErrUnavailable) {
		t.Error(err)
	}
	if _, err := b.Size(testContext(t)); err != nil {
		t.Error(err)
	}
}

// TestCloseEndsWhatRuns closes a database under a call, a walk, a batch and a pin.
func TestCloseEndsWhatRuns(t *testing.T) {
	p := launch(t, "fake")
	ndb := open(t, p)
	ctx := testContext(t)
	batch, err := ndb.NewBatch(ctx, fakeRoot(1, "a"), 2)
	if err != nil {
		t.Fatal(err)
	}
	pin, err := ndb.Pin(ctx, 5, "me")
	if err != nil {
		t.Fatal(err)
	}
	var calls sync.WaitGroup
	var during, walking error
	calls.Go(func() { _, during = ndb.GetRootsForVersion(ctx, versionBlocks) })
	walks := make(chan struct{})
	resume := make(chan struct{})
	calls.Go(func() {
		first := true
		for _, err := range ndb.Walk(ctx, fakeRoot(1<<40, "a"), node.RootPosition()) {
			if first { // and does not read on, so that the backend is held back by flow control
				first = false
				close(walks)
				<-resume
			}
			walking = err
		}
	})
	<-walks
	eventually(t, "both run", func() bool {
		size, err := ndb.Size(ctx)
		return err == nil && size.Live == 2
	})
	if err := ndb.Close(within(t, 10*time.Second)); err != nil {
		t.Error("close:", err)
	}
	close(resume)
	calls.Wait()
	for name, err := range map[string]error{
		"call": during, "walk": walking, "put": batch.Put(ctx, node.RootPosition(), nil), "release": pin.Release(ctx),
	} {
		if !errors.Is(err, db.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSlowClose has a close that takes longer than go-plugin's two seconds.
func TestSlowClose(t *testing.T) {
	for _, what := range []string{"database", "process"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			p := launch(t, "fake")
			dir := t.TempDir()
			ndb := open(t, p, func(c *db.Config) { c.Dir, c.Settings = dir, []byte(`{"close_millis":3000}`) })
			closeIt := ndb.Close
			if what == "process" {
				closeIt = p.Close
			}
			if err := closeIt(within(t, 20*time.Second)); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(filepath.Join(dir, "closed")); err != nil {
				t.Error("the database was not closed:", err)
			}
		})
	}
	t.Run("too slow", func(t *testing.T) {
		t.Parallel()
		p := launch(t, "fake")
		open(t, p, func(c *db.Config) { c.Settings = []byte(`{"close_millis":600000}`) })
		began := time.Now()
		if err := p.Close(within(t, 500*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if took := time.Since(began); took > 6*time.Second {
			t.Error("took", took)
		}
	})
}

// TestHungPlugin stops the plugin's process: it answers nothing, and does not go when asked to.
func TestHungPlugin(t *testing.T) {
	t.Parallel()
	p := launch(t, "fake")
	ndb := open(t, p)
	if err := syscall.Kill(p.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the plugin is stopped", func() bool { return processState(p.PID()) == "T" })
	if _, err := ndb.Size(within(t, 50*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
		t.Error("call:", err)
	}
	began := time.Now()
	if err := p.Close(within(t, 200*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
		t.Error("close:", err)
	}
	if took := time.Since(began); took > 8*time.Second {
		t.Error("took", took)
	}
	select {
	case <-p.Done():
	default:
		t.Error("it lives")
	}
}

func TestTerminated(t *testing.T) {
	p := launch(t, "fake")
	dir := t.TempDir()
	ndb := open(t, p, func(c *db.Config) { c.Dir = dir })
	if err := syscall.Kill(p.PID(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.Done():
	case <-testContext(t).Done():
		t.Fatal("it lives")
	}
	if _, err := os.Stat(filepath.Join(dir, "closed")); err != nil {
		t.Error("the database was not closed:", err)
	}
	if _, err := ndb.Size(testContext(t)); !errors.Is(err, db.ErrUnavailable) || !strings.Contains(err.Error(), "has ended") {
		t.Error(err)
	}
}

// playHost is a host that opens a database and says where its plugin runs. It is then killed.
func playHost() {
	path, args, err := plugin.Builtin(os.Getenv("CKPT_TEST_BACKEND"))
	if err != nil {
		fmt.Println(err)
		return
	}
	p, err := plugin.Launch(context.Background(), plugin.LaunchConfig{Path: path, Args: args, Env: []string{quickRace}, RunDir: os.Getenv("CKPT_TEST_RUN")})
	if err != nil {
		fmt.Println(err)
		return
	}
	dir := os.Getenv("CKPT_TEST_DIR")
	if _, err := p.Open(context.Background(), &db.Config{Dir: dir, Namespace: testNamespace}); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(p.PID())
	io.Copy(io.Discard, os.Stdin) // until it is killed
}

func TestHostKilled(t *testing.T) {
	for _, backend := range []string{"fake", "bbolt", "leveldb"} {
		t.Run(backend, func(t *testing.T) {
			dir := t.TempDir()
			run := runDir(t)
			host := play("host")
			host.Env = append(host.Env, "CKPT_TEST_BACKEND="+backend, "CKPT_TEST_DIR="+dir, "CKPT_TEST_RUN="+run)
			stdin, err := host.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			defer stdin.Close()
			stdout, err := host.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := host.Start(); err != nil {
				t.Fatal(err)
			}
			line, err := bufio.NewReader(stdout).ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			var pid int
			if _, err := fmt.Sscanln(line, &pid); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			began := time.Now()
			if err := host.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = host.Wait()
			eventually(t, "the plugin ends", func() bool { return ended(pid) })
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("the plugin ended after %s", took)
			}
			if backend == "fake" {
				if _, err := os.Stat(filepath.Join(dir, "closed")); err != nil {
					t.Error("the database was not closed:", err)
				}
				return
			}
			next := open(t, launch(t, backend), func(c *db.Config) { c.Dir, c.LockWait = dir, time.Millisecond })
			if err := next.Close(testContext(t)); err != nil {
				t.Error(err)
			}
		})
	}
}

// ended says whether a process that isn't our child has ended: it is gone, or waits to be buried by a
// process that doesn't care.
func ended(pid int) bool {
	state := processState(pid)
	return state == "" || state == "Z"
}

// processState is the letter that the system has for a process's state, "" where there is no process.
func processState(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return after[:1]
}

// playNoise prints before the handshake what would break it.
func playNoise() {
	fmt.Println("welcome to the noisy plugin")
	fmt.Println(strings.Repeat("x", 1<<20))
	fmt.Fprintln(os.Stderr, `{"@message":5}`)
	plugin.Serve(plugin.ServeOptions{Factory: fakeFactory{"fake"}})
}

// playSilence never says anything to its host.
func playSilence() {
	fmt.Fprintln(os.Stderr, "I am thinking")
	select {}
}

// playCrash does not come as far as the handshake.
func playCrash() {
	fmt.Fprintln(os.Stderr, "some trouble with a library")
	os.Exit(3)
}

func TestWeirdLogLines(t *testing.T) {
	logged := &log{}
	p := launch(t, "fake", func(cfg *plugin.LaunchConfig) { launchPart("noise")(cfg); cfg.Logger = logged.logger() })
	ndb := open(t, p)
	if _, err := ndb.GetRootsForVersion(testContext(t), versionPrints); err != nil {
		t.Fatal(err)
	}
	if _, err := ndb.Size(testContext(t)); err != nil {
		t.Error("the plugin does not go on:", err)
	}
	eventually(t, "the last line is logged", func() bool { return strings.Contains(logged.String(), "the last line") })
	text := logged.String()
	for _, want := range []string{
		`[INFO]  {"@message":5}`,
		`[WARN]  time is a number`,
		`[WARN]  plain: list="[1 2]" n=1 object=map[a:<nil>]`,
		`[ERROR] escape ?[31m`,
		`[WARN]  [WARN] a line with a level`,
		`welcome to the noisy plugin`,
		`[WARN]  opened: module=fake dir=001`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("not logged: %s", want)
		}
	}
	for line := range strings.SplitSeq(text, "\n") {
		if len(line) > 70<<10 {
			t.Errorf("a line of %d bytes", len(line))
		}
	}
	if t.Failed() {
		t.Logf("%s", strings.ReplaceAll(text, strings.Repeat("x", 1000), ""))
	}
}

// TestLaunchFailures checks that what can't be launched is told from each other, quickly, and leaves
// neither a process nor a file.
func TestLaunchFailures(t *testing.T) {
	notExecutable := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(notExecutable, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*plugin.LaunchConfig)
		is     error
		text   []string
	}{
		"not there":      {func(c *plugin.LaunchConfig) { c.Path = "/nowhere/plugin" }, os.ErrNotExist, []string{"/nowhere/plugin"}},
		"not executable": {func(c *plugin.LaunchConfig) { c.Path = notExecutable }, os.ErrPermission, []string{notExecutable}},
		"not a plugin":   {func(c *plugin.LaunchConfig) { c.Path, c.Args = "/bin/echo", []string{"hello"} }, nil, []string{"hello"}},
		"crash":          {launchPart("crash"), nil, []string{"some trouble with a library"}},
		"silence": {func(c *plugin.LaunchConfig) {
			launchPart("silence")(c)
			c.StartTimeout = 300 * time.Millisecond
		}, context.DeadlineExceeded, []string{"300ms", "I am thinking"}},
		"unknown builtin":    {func(c *plugin.LaunchConfig) { c.Args[1] = "paper" }, nil, []string{`"paper"`, "memory, bbolt, leveldb, fake"}},
		"long run directory": {func(c *plugin.LaunchConfig) { c.RunDir = "/tmp/" + strings.Repeat("x", 100) }, nil, []string{"too long"}},
	} {
		t.Run(name, func(t *testing.T) {
			path, args, err := plugin.Builtin("fake")
			if err != nil {
				t.Fatal(err)
			}
			cfg := plugin.LaunchConfig{Path: path, Args: args, RunDir: runDir(t)}
			c.change(&cfg)
			before := children(t)
			began := time.Now()
			_, err = plugin.Launch(testContext(t), cfg)
			if !errors.Is(err, plugin.ErrLaunchFailed) || c.is != nil && !errors.Is(err, c.is) {
				t.Fatalf("%v", err)
			}
			for _, want := range c.text {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in: %v", want, err)
				}
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Error("took", took)
			}
			if after := children(t); after != before {
				t.Errorf("children: %q, before %q", after, before)
			}
		})
	}
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(testContext(t))
		time.AfterFunc(100*time.Millisecond, cancel)
		cfg := plugin.LaunchConfig{Path: "/proc/self/exe", RunDir: runDir(t)}
		launchPart("silence")(&cfg)
		began := time.Now()
		if _, err := plugin.Launch(ctx, cfg); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Error("took", took)
		}
	})
}

// children lists the processes that this one has started and that are still there.
func children(t *testing.T) string {
	t.Helper()
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil || len(lists) == 0 {
		t.Fatal("no list of children:", err)
	}
	var all strings.Builder
	for _, list := range lists {
		text, _ := os.ReadFile(list) // a thread may have gone meanwhile
		all.Write(text)
	}
	return all.String()
}

func TestChecksum(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(content)
	right := hex.EncodeToString(sum[:])
	for range 2 { // a sum that was right once is right again
		p := launch(t, "fake", func(c *plugin.LaunchConfig) { c.Path, c.SHA256 = program, strings.ToUpper(right) })
		if err := p.Close(testContext(t)); err != nil {
			t.Error(err)
		}
	}
	wrong := strings.Repeat("0", 64)
	_, err = plugin.Launch(testContext(t), plugin.LaunchConfig{Path: program, SHA256: wrong})
	if !errors.Is(err, plugin.ErrChecksum) || !strings.Contains(err.Error(), right) || !strings.Contains(err.Error(), wrong) {
		t.Error(err)
	}
}

// TestEnvironment looks at what a plugin's process inherits: nothing but what is said.
func TestEnvironment(t *testing.T) {
	t.Setenv("CKPT_TEST_SECRET", "of the host")
	p := launch(t, "fake", func(c *plugin.LaunchConfig) { c.Env = append(c.Env, "CKPT_TEST_GIVEN=yes") })
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.PID()))
	if err != nil {
		t.Fatal(err)
	}
	for _, banned := range []string{"CKPT_TEST_SECRET", "HOME=", "PATH="} {
		if strings.Contains("\x00"+string(environ), "\x00"+banned) {
			t.Errorf("inherited: %s", banned)
		}
	}
	if !strings.Contains(string(environ), "CKPT_TEST_GIVEN=yes\x00") {
		t.Error("not given:", string(environ))
	}
	stdin, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/0", p.PID()))
	if err != nil || stdin != os.DevNull {
		t.Errorf("standard input is %q, %v", stdin, err)
	}
	sockets, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p.PID()))
	if err != nil || len(sockets) == 0 {
		t.Error(err)
	}
}

func TestRunByHand(t *testing.T) {
	cmd := play("manual")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(out), `storage backend "fake"`) {
		t.Errorf("%v: %s", err, out)
	}
	cmd = play("manual")
	cmd.Args = append(cmd.Args, "describe")
	out, err = cmd.Output()
	var description map[string]any
	if err != nil || json.Unmarshal(out, &description) != nil || description["backend"] != "fake" || description["protocol"] != 1.0 {
		t.Errorf("%v: %s", err, out)
	}
}
