package plugin

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// makeSharedMemory makes memory to share with a process that is started with the file as its first further
// one, and the variable that tells it. The caller closes the file.
func makeSharedMemory(layout sharedLayout) (*hostMemory, *os.File, string, error) {
	file, err := makeMemoryFile(int64(layout.bytes()))
	if err != nil {
		return nil, nil, "", fmt.Errorf("making memory to share: %w", err)
	}
	m, variable, err := mapMemoryFile(file, layout)
	if err != nil {
		return nil, nil, "", errors.Join(fmt.Errorf("making memory to share: %w", err), file.Close())
	}
	return m, file, variable, nil
}

// makeMemoryFile makes a file that is in memory alone, and keeps its size: a process that made it shorter would
// have the other one die of reading it.
func makeMemoryFile(size int64) (*os.File, error) {
	const name = "ckpt-walks"
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // kernels before 6.3 don't know the last
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), name)
	err = file.Truncate(size)
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// mapMemoryFile maps the file for reading, and says where another process finds it.
func mapMemoryFile(file *os.File, layout sharedLayout) (m *hostMemory, variable string, err error) {
	fd := int(file.Fd())
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return nil, "", err
	}
	data, err := unix.Mmap(fd, 0, layout.bytes(), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, "", err
	}
	offer := sharedOffer{descriptor: firstExtraFile, inode: stat.Ino, layout: layout}
	m = newHostMemory(layout, data, func() error { return unix.Munmap(data) })
	return m, sharedVariable + "=" + offer.String(), nil
}

// firstExtraFile is the descriptor that the first of exec.Cmd's ExtraFiles has in the process.
const firstExtraFile = 3

// takeSharedMemory maps the memory that the host has handed to this process, nil where it has not. It takes
// the variable out of the environment, which this process's own may not have: it is not theirs.
func takeSharedMemory() (*backendMemory, error) {
	text, offered := os.LookupEnv(sharedVariable)
	if !offered {
		return nil, nil
	}
	if err := os.Unsetenv(sharedVariable); err != nil {
		return nil, err
	}
	offer, err := parseOffer(text)
	if err != nil {
		return nil, err
	}
	var stat unix.Stat_t
	if err := unix.Fstat(offer.descriptor, &stat); err != nil {
		return nil, fmt.Errorf("memory that the host shares: descriptor %d: %w", offer.descriptor, err)
	}
	if stat.Ino != offer.inode || stat.Size != int64(offer.layout.bytes()) { // something between host and here has closed it
		return nil, fmt.Errorf("memory that the host shares: descriptor %d is another file", offer.descriptor)
	}
	defer unix.Close(offer.descriptor)
	data, err := unix.Mmap(offer.descriptor, 0, offer.layout.bytes(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("memory that the host shares: %w", err)
	}
	return newBackendMemory(offer.layout, data), nil
}
