package bench

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const (
	// dirPrefix begins the names of the directories that runs work in.
	dirPrefix = "ckpt-bench-"
	// lockName is the file in such a directory whose lock says that somebody still works in it: it is held by the
	// run, and by the processes of its steps, which outlive a run that is killed.
	lockName = "bench.lock"
	// newLockName is the lock's file until it is locked: so nobody finds one that is not.
	newLockName = lockName + ".new"
)

// errInUse is returned for a lock that somebody holds.
var errInUse = errors.New("in use")

// workDir is a new directory that a run works in.
type workDir struct {
	path string
	// lock is the file whose lock is held; nil where there are no locks, and nobody removes what a kill leaves.
	lock *os.File
}

// newWorkDir makes a directory within parent, or among the temporary files where that is empty. Before, it removes
// those there that runs have left which were killed, and tells of each.
func newWorkDir(parent string, tell func(format string, args ...any)) (*workDir, error) {
	if parent == "" {
		parent = os.TempDir()
	}
	removeAbandoned(parent, tell)
	path, err := os.MkdirTemp(parent, dirPrefix)
	if err != nil {
		return nil, fmt.Errorf("making a directory to work in: %w", err)
	}
	lock, err := makeLock(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("making a directory to work in: %w", err), os.RemoveAll(path))
	}
	return &workDir{path: path, lock: lock}, nil
}

// makeLock makes the lock's file in a directory, locked; nil where it can't be locked.
func makeLock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, newLockName), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if lockErr := tryLock(f); lockErr != nil {
		return nil, errors.Join(f.Close(), os.Remove(f.Name()))
	}
	if err := os.Rename(f.Name(), filepath.Join(dir, lockName)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// held are the files that a process is to inherit for the directory to be in use as long as it lives, or one that it
// starts.
func (d *workDir) held() []*os.File {
	if d.lock == nil {
		return nil
	}
	// The first descriptor stays free: a plugin's process has the memory there that it shares with its host.
	return []*os.File{nil, d.lock}
}

// remove removes the directory with all that is in it.
func (d *workDir) remove() error {
	root, err := os.OpenRoot(d.path)
	if err == nil {
		err = errors.Join(removeAll(root), root.Close())
	}
	if d.lock != nil {
		err = errors.Join(err, d.lock.Close())
	}
	if err != nil {
		return fmt.Errorf("removing what was made: %w", err)
	}
	return nil
}

// removeAll removes a directory. The lock goes last: where that is broken off, somebody else can go on.
func removeAll(dir *os.Root) error {
	f, err := dir.Open(".")
	if err != nil {
		return err
	}
	names, err := f.Readdirnames(-1)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	for _, name := range names {
		if name != lockName {
			if err := dir.RemoveAll(name); err != nil {
				return err
			}
		}
	}
	if err := dir.Remove(lockName); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Remove(dir.Name())
}

// removeAbandoned removes the directories of runs that were killed: those of our own with a lock that nobody holds.
// What can't be removed stays, and is no reason not to measure.
func removeAbandoned(parent string, tell func(format string, args ...any)) {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return // making the next one tells of it
	}
	for _, e := range entries {
		if e.IsDir() && strings.HasPrefix(e.Name(), dirPrefix) {
			_ = removeIfAbandoned(filepath.Join(parent, e.Name()), tell)
		}
	}
}

func removeIfAbandoned(path string, tell func(format string, args ...any)) (err error) {
	// All that follows is done within the directory that is looked at here, whatever its name comes to mean.
	dir, err := os.OpenRoot(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	if info, err := dir.Stat("."); err != nil || !isOurs(info) {
		return err
	}
	if info, err := dir.Lstat(lockName); err != nil || !info.Mode().IsRegular() || !isOurs(info) {
		return err
	}
	lock, err := dir.OpenFile(lockName, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := tryLock(lock); err != nil {
		return err
	}
	tell("removing %s, which a run has left that was killed", path)
	return removeAll(dir)
}
