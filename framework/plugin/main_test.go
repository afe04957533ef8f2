package plugin_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/ckpt-project/ckpt/backends/bbolt"
	"github.com/ckpt-project/ckpt/backends/leveldb"
	"github.com/ckpt-project/ckpt/backends/memory"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/plugin"
)

// The test binary is host and plugin: launched again, it serves a backend, or plays a part of its own.
func TestMain(m *testing.M) {
	if plugin.ServeBuiltin(os.Args, "1.0-test", memory.New(), bbolt.New(), leveldb.New(), fakeFactory{"fake"}) {
		return
	}
	if part, ok := parts[os.Getenv(partVariable)]; ok {
		part()
		return
	}
	goleak.VerifyTestMain(m)
}

// quickRace keeps the race detector from holding each process for a second at its end.
const quickRace = "GORACE=atexit_sleep_ms=0"

// partVariable names the part that the launched test binary plays.
const partVariable = "CKPT_TEST_PART"

// parts are what it can play; files for some systems alone add theirs.
var parts = map[string]func(){
	"manual": func() { plugin.Serve(plugin.ServeOptions{Factory: fakeFactory{"fake"}, Version: "0.1"}) },
}

// log is a log that a test reads.
type log struct {
	mu    sync.Mutex
	lines bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.String()
}

func (l *log) logger() hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Output: l, Level: hclog.Debug})
}

// within is a context that ends before a hanging test is the whole run's problem.
func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func testContext(t testing.TB) context.Context { return within(t, time.Minute) }

// runDir is a short directory for sockets, in which nothing may be left.
func runDir(t testing.TB) string {
	dir, err := os.MkdirTemp("", "ckpt-t")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 0 {
			t.Errorf("left behind: %q", left)
		}
		os.RemoveAll(dir)
	})
	return dir
}

// launch starts a process for a backend, and checks at the end that nothing of it is left.
func launch(t testing.TB, backend string, change ...func(*plugin.LaunchConfig)) *plugin.Process {
	t.Helper()
	path, args, err := plugin.Builtin(backend)
	if err != nil {
		t.Fatal(err)
	}
	cfg := plugin.LaunchConfig{Path: path, Args: args, Env: []string{quickRace}, RunDir: runDir(t), Logger: (&log{}).logger()}
	for _, f := range change {
		f(&cfg)
	}
	p, err := plugin.Launch(testContext(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.Close(within(t, 10*time.Second)) // tests that care close it themselves
		select {
		case <-p.Done():
		default:
			t.Error("the process was not waited for")
		}
	})
	return p
}

// open opens a database in a process.
func open(t testing.TB, p *plugin.Process, change ...func(*db.Config)) db.NodeDB {
	t.Helper()
	cfg := &db.Config{Dir: t.TempDir(), Namespace: testNamespace}
	for _, f := range change {
		f(cfg)
	}
	ndb, err := p.Open(testContext(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return ndb
}

func openFake(t testing.TB) db.NodeDB { return open(t, launch(t, "fake")) }

// eventually waits for something that another process does.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

// play returns the command that runs the test binary in a part.
func play(part string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), partVariable+"="+part, quickRace)
	return cmd
}

func launchPart(part string) func(*plugin.LaunchConfig) {
	return func(cfg *plugin.LaunchConfig) {
		cfg.Args = nil
		cfg.Env = append(cfg.Env, fmt.Sprintf("%s=%s", partVariable, part))
	}
}

// rawMessage is a message, preceded by its length, as an item holds it.
func rawMessage(t testing.TB, m proto.Message) []byte {
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return append(binary.AppendUvarint(nil, uint64(len(b))), b...)
}
