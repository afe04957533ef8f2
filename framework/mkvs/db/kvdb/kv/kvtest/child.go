package kvtest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"go.uber.org/goleak"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
)

// The environment of a test's binary that runs as a child: what it does, and with the store in which
// directory.
const (
	childTaskEnv = "CKPT_KVTEST_TASK"
	childDirEnv  = "CKPT_KVTEST_DIR"
)

// tasks is what a child can be told to do. It says on w how far it is.
var tasks = map[string]func(ctx context.Context, open func() (kv.Store, error), w io.Writer) error{
	"batches": applyForEver,
	"full":    fillUp,
}

// Main runs a package's tests, after which no goroutine may be left, or, in a child that one of them has
// started, that child's task.
func Main(m *testing.M, h Harness) {
	name := os.Getenv(childTaskEnv)
	if name == "" {
		ignore := make([]goleak.Option, len(h.Lingering))
		for i, f := range h.Lingering {
			ignore[i] = goleak.IgnoreTopFunction(f)
		}
		goleak.VerifyTestMain(m, ignore...)
		return
	}
	ctx := context.Background()
	cfg := db.Config{Dir: os.Getenv(childDirEnv)}
	open := func() (kv.Store, error) { return h.Open(ctx, &cfg) }
	if err := tasks[name](ctx, open, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// child is a process with a task.
type child struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner
}

// startChild starts a child on the case's directory.
func startChild(e *env, task string) *child {
	e.Helper()
	self, err := os.Executable()
	e.check(err)
	cmd := exec.CommandContext(e.ctx, self)
	cmd.Env = append(os.Environ(), childTaskEnv+"="+task, childDirEnv+"="+e.cfg.Dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	e.check(err)
	e.check(cmd.Start())
	return &child{cmd, bufio.NewScanner(out)}
}
