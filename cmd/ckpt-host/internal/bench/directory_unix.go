//go:build unix && !solaris && !aix

package bench

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// tryLock takes the lock of a file, which ends when nobody has the opened file any more: this process, and those that
// have inherited it.
func tryLock(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EWOULDBLOCK):
			return errInUse
		default:
			return os.NewSyscallError("flock", err)
		}
	}
}

// isOurs says whether a file belongs to the user whose process this is.
func isOurs(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}
