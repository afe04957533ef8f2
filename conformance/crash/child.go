package crash

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// childEnv names, for a test's binary that runs as a child, the factory of its databases.
const childEnv = "CKPT_CRASH_FACTORY"

// Serve does what a child has to do, and says whether this process was one. A test's binary calls it
// before anything else, with the factories of its harnesses.
func Serve(factories ...db.Factory) bool {
	name := os.Getenv(childEnv)
	if name == "" {
		return false
	}
	for _, f := range factories {
		if f.Name() == name {
			if err := serve(f, os.Stdin, os.Stdout); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			return true
		}
	}
	fmt.Fprintf(os.Stderr, "crash: no factory %q\n", name)
	os.Exit(1)
	return true
}

// serve reads sets of operations, until there are no more, and does each set at once.
func serve(f db.Factory, in io.Reader, out io.Writer) error {
	w := worker{open: f.New}
	asked, told := gob.NewDecoder(in), gob.NewEncoder(out)
	for {
		var ops []op
		if err := asked.Decode(&ops); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		var mu sync.Mutex
		var failed error
		doAll(context.Background(), &w, ops, func(a answer) {
			mu.Lock()
			defer mu.Unlock()
			failed = errors.Join(failed, told.Encode(a))
		})
		if failed != nil {
			return failed
		}
	}
}

// doAll does operations at once, and tells of each, in its own goroutine, as soon as it is done.
func doAll(ctx context.Context, w *worker, ops []op, tell func(answer)) {
	var running sync.WaitGroup
	for i := range ops {
		running.Go(func() {
			a, err := w.do(ctx, &ops[i])
			if a.Index = i; err != nil {
				a.Err = err.Error()
			}
			tell(a)
		})
	}
	running.Wait()
}

// child is a process of the test's own binary.
type child struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	ask    *gob.Encoder
	told   *gob.Decoder
	stderr bytes.Buffer
}

func startChild(factory string) (host, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.Command(self)}
	c.cmd.Env = append(os.Environ(), childEnv+"="+factory)
	c.cmd.Stderr = &c.stderr
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.ask, c.told = gob.NewEncoder(c.in), gob.NewDecoder(out)
	return c, c.cmd.Start()
}

func (c *child) do(ctx context.Context, ops []op, answered func(answer)) error {
	defer context.AfterFunc(ctx, c.kill)() // one that hangs is not waited for
	if err := c.ask.Encode(ops); err != nil {
		return errors.Join(err, ctx.Err())
	}
	for range ops {
		var a answer
		if err := c.told.Decode(&a); err != nil {
			return errors.Join(err, ctx.Err())
		}
		answered(a)
	}
	return nil
}

func (c *child) kill() { _ = c.cmd.Process.Kill() }

func (c *child) end() error {
	_ = c.in.Close()
	if err := c.cmd.Wait(); err != nil {
		return fmt.Errorf("%w: %s", err, c.stderr.Bytes())
	}
	return nil
}
