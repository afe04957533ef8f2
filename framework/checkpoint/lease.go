package checkpoint

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// A checkpoint that is being served has a lease: a shared lock on its metadata file, held by whoever reads its
// chunks, in any process. What deletes by itself needs that lock alone, and so spares it. Who fetches a
// checkpoint comes for one chunk after the other: the lease stays for leaseGrace after the last one.

// leaseGrace is how long a checkpoint counts as being served after a chunk of it was.
const leaseGrace = time.Minute

// leases are those of one provider, by the checkpoint's directory. The zero value has none.
type leases struct {
	mu   sync.Mutex
	held map[string]*lease
}

type lease struct {
	lock    io.Closer
	file    os.FileInfo // what is locked
	readers int
	// until is when the longest grace of those that have read ends, expiry what ends the lease then.
	until  time.Time
	expiry *time.Timer
}

// holdLease keeps checkpointers from deleting the checkpoint in dir until release is called.
func holdLease(dir string) (release func(), err error) {
	var l leases
	return l.take(dir, 0)
}

// take takes the lease of the checkpoint in dir, or shares it, until release is called and grace has passed. Whoever
// else has it, or had it just now, has its own grace all the same.
// Where a file system knows no locks, there is none. One that is just being deleted is ErrCheckpointNotFound.
func (l *leases) take(dir string, grace time.Duration) (release func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	path := filepath.Join(dir, metadataName)
	file, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrCheckpointNotFound, err)
	}
	if err != nil {
		return nil, err
	}
	held := l.held[dir]
	if held == nil || !os.SameFile(held.file, file) { // or the other one was deleted: its readers close it
		lock, err := lockShared(path)
		switch {
		case errors.Is(err, errLocked), errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("%w: %s is being deleted", ErrCheckpointNotFound, dir)
		case err != nil:
			return func() {}, nil // serving matters more than the lease
		}
		l.drop(held)
		held = &lease{lock: lock, file: file}
		if l.held == nil {
			l.held = make(map[string]*lease)
		}
		l.held[dir] = held
	}
	held.readers++
	if held.expiry != nil {
		held.expiry.Stop()
	}
	return sync.OnceFunc(func() { l.release(dir, held, grace) }), nil
}

func (l *leases) release(dir string, held *lease, grace time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if end := time.Now().Add(grace); end.After(held.until) {
		held.until = end
	}
	if held.readers--; held.readers > 0 {
		return
	}
	left := time.Until(held.until)
	if l.held[dir] != held || left <= 0 {
		if l.held[dir] == held {
			delete(l.held, dir)
		}
		_ = held.lock.Close() // it was for reading
		return
	}
	held.expiry = time.AfterFunc(left, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.held[dir] == held && held.readers == 0 && !time.Now().Before(held.until) {
			delete(l.held, dir)
			_ = held.lock.Close()
		}
	})
}

// drop ends a lease that is of no use any more, unless readers have it. Its caller holds the lock.
func (l *leases) drop(held *lease) {
	if held == nil || held.readers > 0 {
		return
	}
	held.expiry.Stop()
	_ = held.lock.Close()
}

// ifUnused does something to the checkpoint in dir while nobody has a lease of it; ErrCheckpointInUse where
// somebody does.
func ifUnused(dir string, do func() error) error {
	lock, err := lockExclusive(filepath.Join(dir, metadataName))
	switch {
	case errors.Is(err, errLocked):
		return fmt.Errorf("%w: %s is being served", ErrCheckpointInUse, dir)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %w", ErrCheckpointNotFound, err)
	case err != nil:
		return err
	}
	return errors.Join(do(), lock.Close())
}
