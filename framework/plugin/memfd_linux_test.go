package plugin

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFaultOfSharedMemory reads memory that is there no more, of a file that was made shorter.
func TestFaultOfSharedMemory(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "memory"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	const size = 1 << 20
	if err := file.Truncate(size); err != nil {
		t.Fatal(err)
	}
	memory, err := unix.Mmap(int(file.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(memory)
	to := make([]byte, size)
	if err := copyShared(to, memory); err != nil {
		t.Error("memory that is there:", err)
	}
	if err := file.Truncate(0); err != nil {
		t.Fatal(err)
	}
	if err := copyShared(to, memory); !errors.Is(err, ErrProtocol) {
		t.Error("memory that is not:", err)
	}
}

// TestSharedMemoryKeepsItsSize has a process try to make it shorter.
func TestSharedMemoryKeepsItsSize(t *testing.T) {
	m, file, _, err := makeSharedMemory(smallLayout)
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	defer file.Close()
	for _, size := range []int64{0, int64(smallLayout.bytes()) - 1, int64(smallLayout.bytes()) + 1} {
		if err := file.Truncate(size); !errors.Is(err, os.ErrPermission) {
			t.Errorf("truncated to %d: %v", size, err)
		}
	}
}

// TestMemoryThatCannotBeMade asks for more than can be mapped: nothing of it is left.
func TestMemoryThatCannotBeMade(t *testing.T) {
	if _, _, _, err := makeSharedMemory(sharedLayout{rings: 1 << 20, slots: 1 << 20, slotBytes: 1 << 20}); err == nil {
		t.Fatal("an exbibyte was mapped")
	}
	open, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range open {
		if target, _ := os.Readlink(name); strings.Contains(target, "memfd:ckpt-walks") {
			t.Error("its file is open")
		}
	}
}
