//go:build !unix

package checkpoint

import (
	"errors"
	"io"
	"io/fs"
	"os"
)

// tryLock takes the lock of a file that is not there yet; errLocked where it is. Without locks that end
// with their process, what a crash leaves is not taken for left.
func tryLock(path string) (io.Closer, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, fileMode)
	if errors.Is(err, fs.ErrExist) {
		return nil, errLocked
	}
	return f, err
}
