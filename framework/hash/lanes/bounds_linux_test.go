//go:build amd64 && !purego

package lanes

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// A kernel reads nothing beside the blocks: not beyond the last, nor before the first.
func TestKernelBounds(t *testing.T) {
	page := os.Getpagesize()
	const readable = 16 << 10
	memory, err := unix.Mmap(-1, 0, readable+2*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(memory) })
	for _, fence := range [][]byte{memory[:page], memory[page+readable:]} {
		if err := unix.Mprotect(fence, unix.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	within := memory[page : page+readable]
	t.Run("end", func(t *testing.T) {
		eachMix(t, func(b []byte) []byte {
			at := within[len(within)-len(b):]
			copy(at, b)
			return at
		})
	})
	t.Run("beginning", func(t *testing.T) {
		eachMix(t, func(b []byte) []byte {
			copy(within, b)
			return within[:len(b)]
		})
	})
}
