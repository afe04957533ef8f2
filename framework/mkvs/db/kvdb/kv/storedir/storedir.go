// Package storedir looks after the directory that a store keeps its files in: that it is there, that it
// is the store's own and no other's, and that one process at a time writes in it.
//
// The directory holds, beside the engine's files, three of its own: "format", a line that says which
// store's directory it is; "lock", whose lock its user holds and in which a writer leaves its name for those
// who wait; and "made", an empty file that says that the engine's files have been made, so that where they are
// not there they have been lost.
package storedir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ckpt-project/ckpt/framework/common/durable"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

const (
	dirMode  fs.FileMode = 0o700
	fileMode fs.FileMode = 0o600

	formatName = "format"
	lockName   = "lock"
	madeName   = "made"
	// tempPrefix begins the names of files that are not complete and count for nothing.
	tempPrefix = "tmp-"

	maxFormatBytes = 256
)

// ErrHeld is returned by Options.Open where the engine finds its own lock held; Open then tries again.
var ErrHeld = errors.New("storedir: held by another process")

// retryEvery is how often a lock that is held is tried: seldom enough to cost nothing, often enough
// that nobody notices. The locks of the operating system can't be awaited together with a context.
const retryEvery = 20 * time.Millisecond

// Options says which directory to open.
type Options struct {
	// Path is the directory. It is made where it is not there, unless ReadOnly.
	Path string
	// Kind names the store, and Format the version of what it writes; both stand in the stamp.
	Kind   string
	Format int
	// ReadOnly shares the directory with other readers, and changes nothing in it.
	ReadOnly bool
	// LockWait is how long to wait for a lock; 0 means db.DefaultLockWait.
	LockWait time.Duration
	// Engine is the name of what the engine has in the directory, a file or a directory, from when Open makes
	// it until for ever. Where it is missing later, that is db.ErrCorrupted, and Open is not called.
	Engine string
	// Open opens the engine's files, once the directory is ours, and makes them where they were never made.
	Open func(ctx context.Context) error
}

// Dir is a directory in use.
type Dir struct {
	lock *lock
}

// Open takes a directory into use. A directory that holds something else is refused with
// db.ErrForeign, one of another format with db.ErrFormatVersion, and one that another process keeps for
// longer than the wait with db.ErrLocked. Nothing is ever removed but files that were not completed.
func Open(ctx context.Context, opts Options) (*Dir, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if opts.Path == "" {
		return nil, fmt.Errorf("%s: no directory given", opts.Kind)
	}
	if !opts.ReadOnly {
		if err := makeDir(opts.Path); err != nil {
			return nil, fmt.Errorf("%s: %w", opts.Kind, err)
		}
	}
	if err := checkStamp(opts); err != nil {
		return nil, err
	}
	wait := opts.LockWait
	if wait <= 0 {
		wait = db.DefaultLockWait
	}
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	retry := time.NewTicker(retryEvery)
	defer retry.Stop()
	for {
		d, err := open(ctx, opts)
		if !errors.Is(err, ErrHeld) {
			return d, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%s: waiting for the lock of %s: %w", opts.Kind, opts.Path, ctx.Err())
		case <-deadline.C:
			return nil, fmt.Errorf("%w: %s: %s is held by %s", db.ErrLocked, opts.Kind, opts.Path, holder(opts.Path))
		case <-retry.C:
		}
	}
}

// open tries once: the directory's lock, then what can only be done under it.
func open(ctx context.Context, opts Options) (*Dir, error) {
	l, err := tryLock(filepath.Join(opts.Path, lockName), opts.ReadOnly)
	if err != nil {
		if errors.Is(err, ErrHeld) {
			return nil, err
		}
		return nil, fmt.Errorf("%s: %w", opts.Kind, err)
	}
	d := &Dir{lock: l}
	if !opts.ReadOnly {
		if err := removeTemps(opts.Path); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", opts.Kind, err), d.Close())
		}
	}
	made, err := exists(filepath.Join(opts.Path, madeName))
	if err == nil && made {
		err = engineIsThere(opts)
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	if err := opts.Open(ctx); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	if !made && !opts.ReadOnly {
		// Without it nothing is lost but that a loss would be seen: not worth failing for, and the next who opens
		// tries again.
		_ = WriteFile(filepath.Join(opts.Path, madeName), nil)
	}
	if err := l.writeOwner(); err != nil {
		// Only those who wait would have read it: not worth failing for.
		return d, nil
	}
	return d, nil
}

func engineIsThere(opts Options) error {
	there, err := exists(filepath.Join(opts.Path, opts.Engine))
	if err != nil {
		return fmt.Errorf("%s: %w", opts.Kind, err)
	}
	if !there {
		return fmt.Errorf("%w: %s: %s is missing in %s", db.ErrCorrupted, opts.Kind, opts.Engine, opts.Path)
	}
	return nil
}

func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Close gives the directory up. The engine's files must be closed.
func (d *Dir) Close() error { return d.lock.release() }

// makeDir makes the directory and those above it, safe from a loss of power.
func makeDir(path string) error {
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		return fmt.Errorf("%w: %s is no directory", db.ErrForeign, path)
	}
	return durable.MakeDirs(path)
}

// checkStamp reads the stamp, or leaves one in an empty directory.
func checkStamp(opts Options) error {
	want := fmt.Sprintf("ckpt %s %d\n", opts.Kind, opts.Format)
	path := filepath.Join(opts.Path, formatName)
	got, err := readSmall(path, maxFormatBytes)
	if errors.Is(err, fs.ErrNotExist) {
		if opts.ReadOnly {
			return missing(opts, err)
		}
		names, err := foreignNames(opts.Path)
		if err != nil {
			return fmt.Errorf("%s: %w", opts.Kind, err)
		}
		if len(names) == 0 {
			err := WriteFile(path, []byte(want))
			if err == nil {
				return nil
			}
			// Who has begun here meanwhile may have removed our file as one that was left behind, after
			// leaving a stamp.
			there, readErr := readSmall(path, maxFormatBytes)
			if readErr != nil || !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%s: %w", opts.Kind, err)
			}
			got = there
		} else if got, err = readSmall(path, maxFormatBytes); err != nil { // nobody has begun here meanwhile
			return fmt.Errorf("%w: %s: %s holds other files (%s)", db.ErrForeign, opts.Kind, opts.Path, names[0])
		}
	} else if errors.Is(err, errTooLong) {
		return fmt.Errorf("%w: %s: %s is not ours", db.ErrForeign, opts.Kind, path)
	} else if err != nil {
		return fmt.Errorf("%s: %w", opts.Kind, err)
	}
	if string(got) == want {
		return nil
	}
	var kind string
	var format int
	if n, _ := fmt.Sscanf(string(got), "ckpt %s %d\n", &kind, &format); n != 2 {
		return fmt.Errorf("%w: %s: %s is not ours", db.ErrForeign, opts.Kind, path)
	}
	if kind != opts.Kind {
		return fmt.Errorf("%w: %s holds a database of the backend %q, not %q", db.ErrForeign, opts.Path, kind, opts.Kind)
	}
	return fmt.Errorf("%w: %s: %s has format %d, this program reads %d", db.ErrFormatVersion, opts.Kind, opts.Path, format, opts.Format)
}

// missing tells a directory without a database from one that holds something else.
func missing(opts Options, cause error) error {
	entries, err := os.ReadDir(opts.Path)
	if err == nil && len(entries) > 0 {
		return fmt.Errorf("%w: %s: %s holds other files (%s)", db.ErrForeign, opts.Kind, opts.Path, entries[0].Name())
	}
	return fmt.Errorf("%s: no database to read: %w", opts.Kind, cause)
}

// foreignNames lists what a directory without a stamp must not hold.
func foreignNames(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), tempPrefix) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func removeTemps(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), tempPrefix) {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
