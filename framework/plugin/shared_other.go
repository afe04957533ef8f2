//go:build !linux

package plugin

import (
	"fmt"
	"os"
	"runtime"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// makeSharedMemory makes none: there is no memory here that is known to keep its size, and to need no name.
func makeSharedMemory(sharedLayout) (*hostMemory, *os.File, string, error) {
	return nil, nil, "", fmt.Errorf("%w: shared memory on %s", db.ErrUnsupported, runtime.GOOS)
}

// takeSharedMemory takes none: no host offers any here.
func takeSharedMemory() (*backendMemory, error) { return nil, nil }
