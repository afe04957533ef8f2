package plugin

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// makeSharedMemory makes memory to share with a process that is started with the file as its first further
// one, and the variable that tells it. The caller closes the file.
func makeSharedMemory(layout sharedLayout) (m *hostMemory, file *os.File, variable string, err error) {
	const name = "ckpt-walks"
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // kernels before 6.3 don't know the last
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, nil, "", fmt.Errorf("making memory to share: %w", err)
	}
	file = os.NewFile(uintptr(fd), name)
	defer func() {
		if err != nil {
			err = fmt.Errorf("making memory to share: %w", err)
			file.Close()
		}
	}()
	if err := file.Truncate(int64(layout.bytes())); err != nil {
		return nil, nil, "", err
	}
	// A process that made it shorter would have the other one die of reading it.
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
		return nil, nil, "", err
	}
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return nil, nil, "", err
	}
	data, err := unix.Mmap(fd, 0, layout.bytes(), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, "", err
	}
	offer := sharedOffer{descriptor: firstExtraFile, inode: stat.Ino, layout: layout}
	m = newHostMemory(layout, data, func() error { return unix.Munmap(data) })
	return m, file, sharedVariable + "=" + offer.String(), nil
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
