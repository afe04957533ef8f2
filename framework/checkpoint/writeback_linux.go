package checkpoint

import (
	"os"

	"golang.org/x/sys/unix"
)

// startWriteback has the kernel begin to write a part of a file to the disk, so that there is less to wait for
// when the file is made safe. It does not matter whether it works: making safe tells of errors.
func startWriteback(f *os.File, offset, length int64) {
	_ = unix.SyncFileRange(int(f.Fd()), offset, length, unix.SYNC_FILE_RANGE_WRITE)
}
