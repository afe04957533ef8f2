package storedir

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/ckpt-project/ckpt/framework/common/durable"
)

// TempName returns a name beside path for a file that is renamed to path when it is complete. Those
// left behind by a crash are removed when the directory is opened for writing.
func TempName(path string) string {
	return filepath.Join(filepath.Dir(path), tempPrefix+filepath.Base(path))
}

// WriteFile writes a file as a whole: after a crash it is there with all of its content, or not at all.
func WriteFile(path string, content []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), tempPrefix+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if _, err := f.Write(content); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	return Rename(f.Name(), path)
}

// Rename puts a file that is complete and safe in another's place, safe from a loss of power.
func Rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(to))
}

// Bytes is the length of all files in a directory whose names match a pattern of filepath.Match.
func Bytes(dir, pattern string) (int64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, e := range entries {
		if match, err := filepath.Match(pattern, e.Name()); err != nil {
			return 0, err
		} else if !match {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, os.ErrNotExist) {
			continue // an engine removes files while we look
		}
		if err != nil {
			return 0, err
		}
		if info.Mode().IsRegular() {
			sum += info.Size()
		}
	}
	return sum, nil
}

// errTooLong is returned for a file that has more bytes than it should.
var errTooLong = errors.New("too long")

// readSmall reads a file that should have no more than limit bytes.
func readSmall(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%w: %s has more than %d bytes", errTooLong, path, limit)
	}
	return b, nil
}
