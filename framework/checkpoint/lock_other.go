//go:build !unix

package checkpoint

import (
	"errors"
	"io"
	"io/fs"
	"os"
)

// tryLock makes the file of a lock; errLocked where it is there. Without locks that end with their
// process nobody can tell what a crash has left, so nothing is taken for it.
func tryLock(path string, create bool) (io.Closer, error) {
	if !create {
		if _, err := os.Stat(path); err != nil {
			return nil, err
		}
		return nil, errLocked
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, fileMode)
	if errors.Is(err, fs.ErrExist) {
		return nil, errLocked
	}
	return f, err
}

// lockShared locks nothing: without locks that end with their process, a checkpoint that is being served is known
// only by its files, which can't be removed while they are open.
func lockShared(string) (io.Closer, error) { return noLock{}, nil }

// lockExclusive locks nothing.
func lockExclusive(string) (io.Closer, error) { return noLock{}, nil }

type noLock struct{}

func (noLock) Close() error { return nil }
