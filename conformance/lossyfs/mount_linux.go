package lossyfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// Mount is a file system that is mounted.
type Mount struct {
	server *fuse.Server
}

// ErrNoFUSE is returned where this process can't mount anything.
var ErrNoFUSE = errors.New("lossyfs: needs /dev/fuse and root")

// Available returns ErrNoFUSE where this process can't mount anything.
func Available() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("%w: this is user %d", ErrNoFUSE, os.Geteuid())
	}
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoFUSE, err)
	}
	return f.Close()
}

// closeDeviceOnExec has no child inherit what this process has open of the device.
func closeDeviceOnExec() error {
	const fds = "/proc/self/fd"
	names, err := os.ReadDir(fds)
	if err != nil {
		return err
	}
	for _, n := range names {
		fd, err := strconv.Atoi(n.Name())
		if err != nil {
			return err
		}
		if to, err := os.Readlink(filepath.Join(fds, n.Name())); err == nil && to == "/dev/fuse" { // others may have been closed
			syscall.CloseOnExec(fd)
		}
	}
	return nil
}

// MountAt mounts a file system at a directory.
func (f *FS) MountAt(dir string) (*Mount, error) {
	// A child that inherited the device would keep the mount going, with nobody to answer, when this process has
	// died; and wait for answers for ever.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	server, err := fuse.NewServer(&handler{RawFileSystem: fuse.NewDefaultRawFileSystem(), fs: f}, dir, &fuse.MountOptions{
		DirectMountStrict:  true, // there need be no fusermount
		FsName:             "lossyfs",
		Name:               "lossyfs",
		DisableXAttrs:      true,
		DisableReadDirPlus: true,
		MaxWrite:           1 << 20,
	})
	if err != nil {
		return nil, fmt.Errorf("lossyfs: %w", err)
	}
	if err := closeDeviceOnExec(); err != nil {
		return nil, errors.Join(fmt.Errorf("lossyfs: %w", err), server.Unmount())
	}
	go server.Serve() // ends with Unmount, which waits for it
	if err := server.WaitMount(); err != nil {
		return nil, errors.Join(fmt.Errorf("lossyfs: %w", err), server.Unmount())
	}
	return &Mount{server}, nil
}

// Unmount ends the mount. Nobody may use it any more.
func (m *Mount) Unmount() error {
	if err := m.server.Unmount(); err != nil {
		return fmt.Errorf("lossyfs: %w", err)
	}
	m.server.Wait()
	return nil
}
