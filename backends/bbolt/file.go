package bbolt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv/storedir"
)

const fileMode fs.FileMode = 0o600

// bucketName is the one bucket that everything lies in.
var bucketName = []byte("kv")

// file is an open bbolt file. Its fields beside refs and retired don't change; these two belong to the
// store and its mutex.
type file struct {
	db *bolt.DB
	f  *os.File
	// refs counts who uses the file; retired says that the last of them closes it.
	refs    int
	retired bool
}

func options(p parameters, readOnly bool, f *os.File) *bolt.Options {
	return &bolt.Options{
		// One try: who holds the directory's lock finds the file's free, unless some other program reads it.
		Timeout:  time.Nanosecond,
		ReadOnly: readOnly,
		// The list of free pages is written with every transaction. Leaving it out saves 8 bytes a free
		// page and batch, but then the engine has to find the free pages by going through the whole file when it
		// is opened after a crash (10 to 20 seconds a GB), and again after each failed write; and it does so in
		// a goroutine of its own, where damage is a panic that nobody can catch.
		NoFreelistSync: false,
		// The list is written with each batch, in pages that lie one behind the other. Kept as an array, it is
		// searched from its start, and what is taken lies together; as a map, single pages are taken from
		// anywhere, until no run is left that is long enough, and the file grows although much of it is free.
		FreelistType: bolt.FreelistArrayType,
		// Without it a reader can't tell how much of the file is free.
		PreLoadFreelist: true,
		InitialMmapSize: p.mapBytes,
		OpenFile:        func(string, int, os.FileMode) (*os.File, error) { return f, nil },
	}
}

// openFile opens a file that is there.
func openFile(path string, p parameters, readOnly bool) (*file, error) {
	f, err := openMapped(path, p, readOnly)
	if errors.Is(err, syscall.ENOMEM) && p.mapBytes > 0 {
		// A limit on the process's address space: the file alone may fit.
		p.mapBytes = 0
		f, err = openMapped(path, p, readOnly)
	}
	return f, err
}

func openMapped(path string, p parameters, readOnly bool) (_ *file, err error) {
	flags := os.O_RDWR
	if readOnly {
		flags = os.O_RDONLY
	}
	f, err := os.OpenFile(path, flags, 0)
	if err != nil {
		return nil, fmt.Errorf("bbolt: %w", err)
	}
	if err := inspect(f); err != nil {
		return nil, errors.Join(fmt.Errorf("bbolt: %s: %w", path, err), f.Close())
	}
	engine, err := openEngine(path, f, p, readOnly)
	switch {
	case err == nil:
	case errors.Is(err, berrors.ErrTimeout):
		return nil, fmt.Errorf("bbolt: %s: %w", path, storedir.ErrHeld)
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum):
		return nil, fmt.Errorf("%w: bbolt: %s: %w", db.ErrCorrupted, path, err)
	case errors.Is(err, berrors.ErrVersionMismatch):
		return nil, fmt.Errorf("%w: bbolt: %s: %w", db.ErrFormatVersion, path, err)
	default:
		return nil, fmt.Errorf("bbolt: %s: %w", path, err)
	}
	opened := &file{db: engine, f: f}
	if err := opened.hasBucket(); err != nil {
		return nil, errors.Join(fmt.Errorf("bbolt: %s: %w", path, err), engine.Close())
	}
	return opened, nil
}

// openEngine closes the file where it fails.
func openEngine(path string, f *os.File, p parameters, readOnly bool) (engine *bolt.DB, err error) {
	defer func() {
		if engine == nil {
			// The engine has closed it where it returned an error; where it panicked, it is still mapped.
			_ = errors.Join(storedir.Unlock(f), f.Close())
		}
	}()
	defer guard(&err)()
	return bolt.Open(path, fileMode, options(p, readOnly, f))
}

func (f *file) hasBucket() (err error) {
	defer guard(&err)()
	return f.db.View(func(tx *bolt.Tx) error {
		if tx.Bucket(bucketName) == nil {
			return fmt.Errorf("%w: no bucket %q", db.ErrForeign, bucketName)
		}
		return nil
	})
}

// createFile makes an empty file: complete under its name, or not there.
func createFile(ctx context.Context, path string) error {
	temp := storedir.TempName(path)
	f, err := createTemp(temp)
	if err != nil {
		return err
	}
	if err := errors.Join(f.db.Close(), ctx.Err()); err != nil {
		return fmt.Errorf("bbolt: %w", errors.Join(err, os.Remove(temp)))
	}
	if err := storedir.Rename(temp, path); err != nil {
		return fmt.Errorf("bbolt: %w", err)
	}
	return nil
}

// createTemp makes a file with an empty bucket and leaves it open.
func createTemp(path string) (_ *file, err error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("bbolt: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return nil, fmt.Errorf("bbolt: %w", err)
	}
	engine, err := bolt.Open(path, fileMode, options(parameters{}, false, f))
	if err != nil {
		return nil, fmt.Errorf("bbolt: %w", errors.Join(err, os.Remove(path)))
	}
	if err := engine.Update(func(tx *bolt.Tx) error {
		_, err := tx.CreateBucket(bucketName)
		return err
	}); err != nil {
		return nil, fmt.Errorf("bbolt: %w", errors.Join(err, engine.Close(), os.Remove(path)))
	}
	return &file{db: engine, f: f}, nil
}

// liveBytes is what the pages take that are neither free nor soon to be.
func (f *file) liveBytes() (live int64, err error) {
	defer guard(&err)()
	err = f.db.View(func(tx *bolt.Tx) error {
		stats := f.db.Stats()
		free := int64(stats.FreePageN+stats.PendingPageN) * int64(f.db.Info().PageSize)
		live = max(0, tx.Size()-free)
		return nil
	})
	return live, err
}

// withCause gives an error of the engine back the identity of its cause, where the engine has made mere
// text of it (it does when the file can't grow).
func withCause(err error) error {
	for _, cause := range []syscall.Errno{syscall.ENOSPC, syscall.EFBIG, syscall.EDQUOT, syscall.EIO} {
		if !errors.Is(err, cause) && strings.HasSuffix(err.Error(), ": "+cause.Error()) {
			return &causedError{err, cause}
		}
	}
	return err
}

// causedError is an error with the text of one and the identity of two.
type causedError struct{ err, cause error }

func (e *causedError) Error() string   { return e.err.Error() }
func (e *causedError) Unwrap() []error { return []error{e.err, e.cause} }

// guard is called with defer around every use of the engine, as defer guard(&err)(). The engine panics
// where a page is not what it should be, and the mapping faults where a page can't be read or an offset
// leads out of the file: both become db.ErrCorrupted. It is not for what reads a value later on: a
// fault there is the process's end, which is why inspect compares the file's length beforehand.
func guard(err *error) func() {
	before := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(before)
		if r := recover(); r != nil {
			*err = fmt.Errorf("%w: bbolt: %v", db.ErrCorrupted, r)
		}
	}
}
