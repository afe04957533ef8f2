//go:build unix

package checkpoint

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// tryLock takes the lock of a file, which is made where create is set and it is not there; errLocked
// where somebody has it, or had it and removed it just now. The lock ends with its process.
func tryLock(path string, create bool) (io.Closer, error) {
	flags := os.O_RDWR
	if create {
		flags |= os.O_CREATE
	}
	return lockOpened(path, flags, unix.LOCK_EX)
}

// lockShared takes the lock of a file that is there, together with others that do; errLocked where somebody has
// it alone, or the file is being removed.
func lockShared(path string) (io.Closer, error) {
	return lockOpened(path, os.O_RDONLY, unix.LOCK_SH)
}

// lockExclusive takes the lock of a file that is there, alone; errLocked where somebody has it.
func lockExclusive(path string) (io.Closer, error) {
	return lockOpened(path, os.O_RDWR, unix.LOCK_EX)
}

func lockOpened(path string, flags, how int) (io.Closer, error) {
	f, err := os.OpenFile(path, flags, fileMode)
	if err != nil {
		return nil, err
	}
	if err := lockFile(f, path, how); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func lockFile(f *os.File, path string, how int) error {
	if err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return errLocked
		}
		return &os.PathError{Op: "lock", Path: path, Err: err}
	}
	// Whoever had the lock before may have removed the file: then this is the lock of nothing.
	locked, err := f.Stat()
	if err != nil {
		return err
	}
	there, err := os.Stat(path)
	if err != nil || !os.SameFile(locked, there) {
		return errLocked
	}
	return nil
}
