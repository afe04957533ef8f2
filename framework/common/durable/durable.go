// Package durable makes the names of files and directories outlast a loss of power: POSIX promises that of none until
// the directory that it is in was synced. Its functions may be called by any number of goroutines.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

// dirMode is the mode of directories: they are their owner's alone.
const dirMode = 0o700

// SyncDir makes the names in a directory safe from a loss of power.
func SyncDir(path string) error {
	if runtime.GOOS == "windows" {
		return nil // directories can't be synced there; NTFS logs its names
	}
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("making %s safe: %w", path, err)
	}
	return nil
}

// SyncTaken is SyncDir for names that were there and are taken over: who made them may have been killed before they
// were safe. The directory may be one that we must not read, or of a file system that has no such thing: that is no
// error, for then whoever made the name could not have made it safe, either.
func SyncTaken(path string) error {
	err := SyncDir(path)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EINVAL) {
		return nil
	}
	return err
}

// MakeDirs makes a directory, and those above it that are not there, for their owner alone, and makes their names safe;
// also that of the first one that is there already.
func MakeDirs(path string) error {
	parent := filepath.Dir(path)
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return SyncTaken(parent)
	case err == nil:
		return &fs.PathError{Op: "mkdir", Path: path, Err: syscall.ENOTDIR}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if parent != path {
		if err := MakeDirs(parent); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(path, dirMode); err != nil { // somebody else may just have made it
		return err
	}
	return SyncDir(parent)
}
