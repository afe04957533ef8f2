package kvtest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
)

// files describes everything in a directory: names, kinds, times and content.
func files(e *env, dir string) string {
	e.Helper()
	var all strings.Builder
	e.check(filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&all, "%s %s %d %s", path, info.Mode(), info.Size(), info.ModTime())
		if info.Mode().IsRegular() {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&all, " %s", hash.Sum(content))
		}
		all.WriteByte('\n')
		return nil
	}))
	return all.String()
}

func readOnly(e *env) {
	s := e.open()
	e.apply(s, pairs("a", "1", "b", "2"))
	e.check(s.Close())

	before := files(e, e.cfg.Dir)
	e.cfg.ReadOnly = true
	first, second := e.open(), e.open() // readers share
	for _, s := range []kv.Store{first, second} {
		e.checkIs("Apply", s.Apply(e.ctx, pairs("a", "3"), true), kv.ErrReadOnly)
		e.expect(s, "a=1", "b=2")
		e.check(s.Sync(e.ctx))
		_, err := s.Size(e.ctx)
		e.check(err)
	}
	e.check(first.Close())
	e.check(second.Close())
	if after := files(e, e.cfg.Dir); after != before {
		e.Errorf("files have changed from\n%sto\n%s", before, after)
	}
}

func readOnlyMissing(e *env) {
	e.cfg.ReadOnly = true
	if _, err := e.h.Open(e.ctx, &e.cfg); !errors.Is(err, fs.ErrNotExist) {
		e.Errorf("open of nothing: %v, want %v", err, fs.ErrNotExist)
	}
	if _, err := os.Stat(e.cfg.Dir); !errors.Is(err, fs.ErrNotExist) {
		e.Errorf("the directory was made: %v", err)
	}
}

func lockHeld(e *env) {
	s := e.open()
	e.cfg.LockWait = 50 * time.Millisecond
	refused := func() {
		e.Helper()
		start := time.Now()
		_, err := e.h.Open(e.ctx, &e.cfg)
		e.checkIs("second open", err, db.ErrLocked)
		if err != nil && !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
			e.Errorf("the error does not name the holder, %d: %v", os.Getpid(), err)
		}
		if waited := time.Since(start); waited < e.cfg.LockWait {
			e.Errorf("waited %s, not %s", waited, e.cfg.LockWait)
		}
	}
	refused()
	e.cfg.ReadOnly = true
	refused()

	e.cfg.LockWait = time.Hour
	ctx, cancel := context.WithCancel(e.ctx)
	waiting := make(chan error, 1)
	go func() {
		_, err := e.h.Open(ctx, &e.cfg)
		waiting <- err
	}()
	cancel()
	e.checkIs("an open that is given up", <-waiting, context.Canceled)

	e.apply(s, pairs("a", "1")) // the holder has noticed nothing
	e.expect(s, "a=1")
}

func lockReleased(e *env) {
	s := e.open()
	e.apply(s, pairs("a", "1"))
	e.cfg.LockWait = time.Hour
	opened := make(chan kv.Store)
	go func() {
		defer close(opened)
		second, err := e.h.Open(e.ctx, &e.cfg)
		if err != nil {
			e.Errorf("open: %v", err)
			return
		}
		opened <- second
	}()
	select {
	case <-opened:
		e.Fatal("two have the store open")
	case <-time.After(100 * time.Millisecond):
	}
	e.check(s.Close())
	if second, ok := <-opened; ok {
		e.expect(second, "a=1")
		e.check(second.Close())
	}
}

func foreignDirectory(e *env) {
	e.check(os.MkdirAll(e.cfg.Dir, 0o700))
	e.check(os.WriteFile(filepath.Join(e.cfg.Dir, "somebody's.db"), []byte("precious"), 0o600))
	before := files(e, e.cfg.Dir)
	for _, readOnly := range []bool{false, true} {
		e.cfg.ReadOnly = readOnly
		_, err := e.h.Open(e.ctx, &e.cfg)
		e.checkIs("open of a directory with other files", err, db.ErrForeign)
		if after := files(e, e.cfg.Dir); after != before {
			e.Errorf("files have changed from\n%sto\n%s", before, after)
		}
	}
	e.cfg.ReadOnly = false
	e.cfg.Dir = filepath.Join(e.cfg.Dir, "somebody's.db")
	_, err := e.h.Open(e.ctx, &e.cfg)
	e.checkIs("open of a file", err, db.ErrForeign)

	e.cfg.Dir = e.TempDir() // one that is there and empty is taken
	s := e.open()
	e.apply(s, pairs("a", "1"))
	e.check(s.Close())
	e.expect(e.open(), "a=1")
}

func privateDirectory(e *env) {
	e.cfg.Dir += "/a/b"
	e.open()
	for dir := e.cfg.Dir; strings.HasPrefix(dir, filepath.Clean(e.cfg.Dir+"/../..")); dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		e.check(err)
		if info.Mode().Perm()&0o077 != 0 {
			e.Errorf("%s has mode %s", dir, info.Mode())
		}
	}
}
