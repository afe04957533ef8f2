//go:build unix

package conformance

import (
	"sync"
	"syscall"
)

// stop has a process do nothing, not even answer, until resume is called, which can be called again.
func stop(pid int) (resume func(), err error) {
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return nil, err
	}
	return sync.OnceFunc(func() { _ = syscall.Kill(pid, syscall.SIGCONT) }), nil // it may have been killed
}
