package storedir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const maxOwnerBytes = 4096

// owner is what a writer leaves in the lock file. It is for people: what counts is the lock.
type owner struct {
	PID     int    `json:"pid"`
	Program string `json:"program"`
	// Start tells the process from a later one with the same number; empty where that isn't known.
	Start string `json:"start,omitempty"`
}

// lock is a lock file that this process holds.
type lock struct {
	file   *os.File // nil where a reader found no lock file
	reader bool
}

// tryLock locks a file, shared for a reader, and returns ErrHeld where that can't be done now. A reader
// doesn't make the file: where there is none, there is no writer that keeps to the rules.
func tryLock(path string, reader bool) (*lock, error) {
	flags := os.O_RDWR | os.O_CREATE
	if reader {
		flags = os.O_RDONLY
	}
	f, err := os.OpenFile(path, flags, fileMode)
	if reader && errors.Is(err, fs.ErrNotExist) {
		return &lock{reader: true}, nil
	}
	if err != nil {
		return nil, err
	}
	if err := tryFlock(f, !reader); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &lock{file: f, reader: reader}, nil
}

func (l *lock) writeOwner() error {
	if l.reader {
		return nil
	}
	pid := os.Getpid()
	b, err := json.Marshal(owner{PID: pid, Program: filepath.Base(os.Args[0]), Start: processStart(pid)})
	if err != nil {
		return err
	}
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	_, err = l.file.WriteAt(append(b, '\n'), 0)
	return err
}

// release takes the name away and gives up the lock. The file stays: removing it would let two
// processes hold the locks of two files of that name.
func (l *lock) release() error {
	if l.file == nil {
		return nil
	}
	var err error
	if !l.reader {
		err = l.file.Truncate(0)
	}
	return errors.Join(err, l.file.Close())
}

// holder describes who holds a directory, as far as can be known: a name that a crashed process left
// is not given.
func holder(dir string) string {
	const unknown = "another process"
	b, err := readSmall(filepath.Join(dir, lockName), maxOwnerBytes)
	if err != nil {
		return unknown
	}
	var o owner
	if err := json.Unmarshal(b, &o); err != nil || o.PID <= 0 {
		return unknown + " (perhaps one that reads)"
	}
	if !processLives(o.PID) || o.Start != processStart(o.PID) {
		return fmt.Sprintf("%s (not process %d, which has ended)", unknown, o.PID)
	}
	if o.PID == os.Getpid() {
		return fmt.Sprintf("this process (%d, %s)", o.PID, o.Program)
	}
	return fmt.Sprintf("process %d (%s)", o.PID, o.Program)
}
