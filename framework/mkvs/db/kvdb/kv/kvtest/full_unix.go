//go:build unix

package kvtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"syscall"

	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
)

// outOfSpace lets a process run into a limit on the length of files: what it could not apply leaves
// nothing, what it had applied stays, and it goes on when there is room again.
func outOfSpace(e *env) {
	p := startChild(e, "full")
	for p.lines.Scan() {
		e.Log(p.lines.Text())
	}
	if err := p.cmd.Wait(); err != nil {
		e.Fatal(err)
	}
	s := e.open()
	if n, err := batchesIn(e.ctx, s); err != nil || n != 15 {
		e.Errorf("%d batches are there, want 15: %v", n, err)
	}
}

// fillUp is the child's part. The limit is the process's own, so that nobody else runs into it.
func fillUp(ctx context.Context, open func() (kv.Store, error), w io.Writer) error {
	signal.Ignore(syscall.SIGXFSZ)
	s, err := open()
	if err != nil {
		return err
	}
	for i := range uint64(10) {
		if err := s.Apply(ctx, numberedBatch(i), true); err != nil {
			return err
		}
	}
	size, err := s.Size(ctx)
	if err != nil {
		return err
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	none := limit
	none.Cur = rlimit(size.File + 1<<20)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &none); err != nil {
		return err
	}
	large := numberedBatch(10)
	for i := range 100 {
		large.Put(fmt.Appendf(nil, "large %d", i), make([]byte, 1<<20))
	}
	for range 3 {
		err := s.Apply(ctx, large, true)
		if err == nil {
			return fmt.Errorf("100 MiB were applied with room for %d bytes", none.Cur-rlimit(size.File))
		}
		fmt.Fprintln(w, "as it should be:", err)
		if !errors.Is(err, syscall.EFBIG) {
			return fmt.Errorf("the error does not hold its cause: %w", err)
		}
		if n, err := batchesIn(ctx, s); err != nil || n != 10 {
			return fmt.Errorf("after a batch that failed, %d batches: %w", n, err)
		}
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	for i := uint64(10); i < 15; i++ {
		if err := s.Apply(ctx, numberedBatch(i), true); err != nil {
			return fmt.Errorf("with room again, batch %d: %w", i, err)
		}
	}
	return s.Close()
}
