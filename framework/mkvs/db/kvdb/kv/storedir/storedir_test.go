package storedir

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

func options(dir string) Options {
	return Options{
		Path: dir, Kind: "test", Format: 3, LockWait: 30 * time.Millisecond,
		Open: func(context.Context) error { return nil },
	}
}

func mustOpen(t *testing.T, opts Options) *Dir {
	t.Helper()
	d, err := Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.lock.release() })
	return d
}

func TestStamp(t *testing.T) {
	dir := t.TempDir()
	if err := mustOpen(t, options(dir)).Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what   string
		change func(*Options)
		want   error
	}{
		{"the same", func(*Options) {}, nil},
		{"another kind", func(o *Options) { o.Kind = "other" }, db.ErrForeign},
		{"a later format", func(o *Options) { o.Format = 2 }, db.ErrFormatVersion},
		{"an earlier format", func(o *Options) { o.Format = 4 }, db.ErrFormatVersion},
	} {
		opts := options(dir)
		c.change(&opts)
		d, err := Open(t.Context(), opts)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.what, err, c.want)
		}
		if err == nil {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	for _, stamp := range []string{"", "ckpt", "something else\n", strings.Repeat("long", 1000)} {
		if err := os.WriteFile(filepath.Join(dir, formatName), []byte(stamp), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), options(dir)); !errors.Is(err, db.ErrForeign) {
			t.Errorf("a stamp of %.20q: %v, want %v", stamp, err, db.ErrForeign)
		}
	}
}

// TestNewDirectoryAtOnce opens new directories several times at once: who comes first has it, and the others
// come after it.
func TestNewDirectoryAtOnce(t *testing.T) {
	for range 100 {
		opts := options(filepath.Join(t.TempDir(), "new"))
		opts.LockWait = time.Minute
		var opening sync.WaitGroup
		for range 4 {
			opening.Go(func() {
				d, err := Open(t.Context(), opts)
				if err == nil {
					err = d.Close()
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		opening.Wait()
	}
}

// TestEngineLost: what has been made and is gone is not made anew, and what a crash kept from being made is.
func TestEngineLost(t *testing.T) {
	for _, crashed := range []bool{false, true} {
		dir := t.TempDir()
		opts := options(dir)
		opts.Engine = "engine"
		makes := 0
		opts.Open = func(context.Context) error {
			if makes++; crashed && makes == 1 {
				return errors.New("no room")
			}
			return os.WriteFile(filepath.Join(dir, "engine"), nil, 0o600)
		}
		if crashed {
			if _, err := Open(t.Context(), opts); err == nil {
				t.Fatal("no error")
			}
		}
		if err := mustOpen(t, opts).Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(dir, "engine")); err != nil {
			t.Fatal(err)
		}
		before := makes
		for _, readOnly := range []bool{false, true} {
			opts.ReadOnly = readOnly
			if _, err := Open(t.Context(), opts); !errors.Is(err, db.ErrCorrupted) || makes != before {
				t.Errorf("crashed %t, read only %t: %v, want %v; made %t", crashed, readOnly, err, db.ErrCorrupted, makes > before)
			}
		}
	}
}

func TestFilesNotCompleted(t *testing.T) {
	for _, name := range []string{"store", "[", "*"} { // as a pattern, a name may mean other directories, or nothing
		dir := filepath.Join(t.TempDir(), name)
		left := filepath.Join(dir, tempPrefix+"left by a crash")
		beside := filepath.Join(filepath.Dir(dir), "other", tempPrefix+"being written")
		for _, path := range []string{left, beside} {
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("half"), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		mustOpen(t, options(dir))
		if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: what was not completed is still there: %v", name, err)
		}
		if _, err := os.Stat(beside); err != nil {
			t.Errorf("%s: another directory's file: %v", name, err)
		}
	}
}

func TestEngineFails(t *testing.T) {
	opts := options(t.TempDir())
	cause := errors.New("the engine's own")
	opts.Open = func(context.Context) error { return cause }
	if _, err := Open(t.Context(), opts); !errors.Is(err, cause) {
		t.Errorf("%v, want %v", err, cause)
	}
	tries := 0
	opts.Open = func(context.Context) error {
		if tries++; tries < 2 {
			return fmt.Errorf("the engine: %w", ErrHeld)
		}
		return nil
	}
	opts.LockWait = time.Hour
	mustOpen(t, opts) // the lock was given up, and the engine tried again
	if tries != 2 {
		t.Errorf("%d tries", tries)
	}
}

// lockedError tries to open a directory that is held, and returns the error's text.
func lockedError(t *testing.T, dir string) string {
	t.Helper()
	_, err := Open(t.Context(), options(dir))
	if !errors.Is(err, db.ErrLocked) {
		t.Fatalf("open of a directory that is held: %v, want %v", err, db.ErrLocked)
	}
	return err.Error()
}

func TestHolderIsNamed(t *testing.T) {
	dir := t.TempDir()
	d := mustOpen(t, options(dir))
	if text := lockedError(t, dir); !strings.Contains(text, fmt.Sprintf("%d, %s", os.Getpid(), filepath.Base(os.Args[0]))) {
		t.Errorf("the holder is not named: %s", text)
	}

	leave := func(o owner) {
		t.Helper()
		b, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, lockName), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// A name that is not true: of a process that has ended, or of an earlier one with the same number.
	ended := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	leave(owner{PID: ended.Process.Pid, Program: "long-gone"})
	if text := lockedError(t, dir); strings.Contains(text, "long-gone") {
		t.Errorf("a process that has ended is named: %s", text)
	}
	leave(owner{PID: os.Getpid(), Program: "earlier", Start: "1"})
	if text := lockedError(t, dir); strings.Contains(text, "earlier") {
		t.Errorf("an earlier process with the same number is named: %s", text)
	}
	for _, text := range []string{"", "{", strings.Repeat("x", maxOwnerBytes+1)} {
		if err := os.WriteFile(filepath.Join(dir, lockName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		lockedError(t, dir)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, options(dir))
}

func TestReadersShare(t *testing.T) {
	dir := t.TempDir()
	if err := mustOpen(t, options(dir)).Close(); err != nil {
		t.Fatal(err)
	}
	reading := options(dir)
	reading.ReadOnly = true
	first, second := mustOpen(t, reading), mustOpen(t, reading)
	lockedError(t, dir) // for a writer
	if err := errors.Join(first.Close(), second.Close()); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, options(dir))
	if _, err := Open(t.Context(), reading); !errors.Is(err, db.ErrLocked) {
		t.Errorf("a reader beside a writer: %v, want %v", err, db.ErrLocked)
	}
}

func TestNoPath(t *testing.T) {
	if _, err := Open(t.Context(), options("")); err == nil {
		t.Error("no directory was taken")
	}
}
