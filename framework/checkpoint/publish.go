package checkpoint

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/ckpt-project/ckpt/framework/common/durable"
)

// A checkpoint is made in a directory of its own beside the others, and renamed into place when all of
// it is safe. One that is deleted is renamed out of the way first. What a crash leaves has one of these
// prefixes and nobody's lock.
const (
	makingPrefix  = ".making-"
	deletedPrefix = ".deleted-"

	lockName   = "lock"
	resultName = "checkpoint"
)

const (
	dirMode  = 0o700
	fileMode = 0o600
)

// workshop is the directory that a checkpoint is made in.
type workshop struct {
	path string
	lock io.Closer
}

// openWorkshop makes a directory in dataDir, with an empty checkpoint in it.
func openWorkshop(dataDir string) (*workshop, error) {
	if err := durable.MakeDirs(dataDir); err != nil {
		return nil, err
	}
	for {
		w := &workshop{path: filepath.Join(dataDir, makingPrefix+rand.Text())}
		if err := os.Mkdir(w.path, dirMode); err != nil {
			return nil, err
		}
		var err error
		w.lock, err = tryLock(filepath.Join(w.path, lockName), true)
		if err == nil {
			err = os.MkdirAll(filepath.Join(w.result(), chunksName), dirMode)
		}
		if err == nil {
			return w, nil
		}
		err = errors.Join(err, w.close())
		// A sweeper came between the directory and its lock; it won't again and again.
		if !errors.Is(err, errLocked) && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
}

// result is the checkpoint in the making.
func (w *workshop) result() string { return filepath.Join(w.path, resultName) }

// close removes the workshop and what is left in it.
func (w *workshop) close() error {
	err := os.RemoveAll(w.path)
	if w.lock != nil {
		err = errors.Join(err, w.lock.Close())
	}
	return err
}

// publish renames the workshop's checkpoint to dir. Everything in it must be safe already.
func (w *workshop) publish(dataDir, dir string) error {
	if err := durable.SyncDir(w.result()); err != nil {
		return err
	}
	parent := filepath.Dir(dir)
	for attempt := 0; ; attempt++ {
		if err := os.MkdirAll(parent, dirMode); err != nil {
			return err
		}
		err := os.Rename(w.result(), dir)
		if err == nil {
			break
		}
		// Whoever deletes the version's last checkpoint removes the parent.
		if !errors.Is(err, fs.ErrNotExist) || attempt >= 10 {
			return err
		}
	}
	return errors.Join(durable.SyncDir(parent), durable.SyncDir(dataDir))
}

// syncPlace makes the name of a checkpoint that somebody else has put into its place safe: they may have been killed before
// it was.
func syncPlace(dataDir, dir string) error {
	return errors.Join(durable.SyncTaken(filepath.Dir(dir)), durable.SyncTaken(dataDir))
}

// replace writes a file in the workshop, makes it safe, and renames it to path.
func (w *workshop) replace(b []byte, path string) error {
	aside := filepath.Join(w.path, rand.Text())
	if err := writeFile(aside, b); err != nil {
		return err
	}
	if err := os.Rename(aside, path); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}

// discard makes the checkpoint in dir disappear at once, and then removes it.
func discard(dataDir, dir string) error {
	gone, err := setAside(dataDir, dir)
	if err != nil {
		return err
	}
	return os.RemoveAll(gone)
}

// setAside makes the checkpoint in dir disappear, for good, to a place where it can be removed.
func setAside(dataDir, dir string) (gone string, err error) {
	gone = filepath.Join(dataDir, deletedPrefix+rand.Text())
	if err := os.Rename(dir, gone); err != nil {
		return "", err
	}
	if err := durable.SyncDir(filepath.Dir(dir)); err != nil {
		return "", err
	}
	// No error: another checkpoint of the version is there, or is just coming.
	_ = os.Remove(filepath.Dir(dir))
	return gone, nil
}

// sweep removes what crashes have left in dataDir.
func sweep(dataDir string) error {
	names, err := os.ReadDir(dataDir)
	if err != nil {
		return err
	}
	var failures []error
	for _, n := range names {
		path := filepath.Join(dataDir, n.Name())
		switch {
		case strings.HasPrefix(n.Name(), deletedPrefix):
			failures = append(failures, os.RemoveAll(path))
		case strings.HasPrefix(n.Name(), makingPrefix):
			failures = append(failures, sweepWorkshop(path))
		}
	}
	return errors.Join(failures...)
}

// sweepWorkshop removes a workshop unless somebody works in it.
func sweepWorkshop(path string) error {
	lock, err := tryLock(filepath.Join(path, lockName), false)
	switch {
	case errors.Is(err, errLocked):
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return sweepUnlocked(path)
	case err != nil:
		return err
	}
	err = os.RemoveAll(path)
	return errors.Join(err, lock.Close())
}

// sweepUnlocked removes a workshop that has no lock, unless it is just being made.
func sweepUnlocked(path string) error {
	names, err := os.ReadDir(path)
	if err != nil || len(names) == 0 {
		_ = os.Remove(path) // its maker crashed so early, or goes on with another one; or it is gone
		return nil
	}
	// A lock is made before anything else. Where something else was there and no lock is, removing it was broken off.
	_, err = os.Lstat(filepath.Join(path, lockName))
	if names[0].Name() == lockName && len(names) == 1 || !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return os.RemoveAll(path)
}

var errLocked = errors.New("checkpoint: locked")

// writeFile writes a file that is not there yet, and makes it safe.
func writeFile(path string, b []byte) error {
	f, err := createFile(path)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}

// safeFile is a file that is made safe when it is closed.
type safeFile struct{ *os.File }

// laterBytes is the length up to which files are made safe later, many at once: one after the other,
// thousands of small chunks would take longer to make safe than to make.
const (
	laterBytes  = 1 << 20
	laterAtOnce = 64
)

// writebackBytes is how much of a chunk's file is written before the disk is to begin with it.
const writebackBytes = 1 << 20

// chunkFile is a file that is made safe when it is closed, or noted for later.
type chunkFile struct {
	*safeFile
	written int64
	begun   int64 // of these, what the disk was told to begin with
	later   func(path string)
}

func (f *chunkFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	f.written += int64(n)
	if f.written-f.begun >= writebackBytes {
		startWriteback(f.File, f.begun, f.written-f.begun)
		f.begun = f.written
	}
	return n, err
}

// Close makes the file safe from a loss of power, now or later, and closes it.
func (f *chunkFile) Close() error {
	if f.written > laterBytes {
		return f.safeFile.Close()
	}
	f.later(f.Name())
	return f.File.Close()
}

// syncFiles makes files safe from a loss of power.
func syncFiles(ctx context.Context, paths []string) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(laterAtOnce)
	for _, path := range paths {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			return (&safeFile{f}).Close()
		})
	}
	return group.Wait()
}

func createFile(path string) (*safeFile, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return nil, err
	}
	return &safeFile{f}, nil
}

// Close makes the file safe from a loss of power and closes it.
func (f *safeFile) Close() error {
	err := f.Sync()
	return errors.Join(err, f.File.Close())
}
