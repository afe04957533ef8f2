package leveldb

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/syndtr/goleveldb/leveldb/storage"
)

// currentName is the engine's file that names the manifest. It is made last: before it is there, nothing can
// have been written.
const currentName = "CURRENT"

// clearUnmade removes what a crash or a full disk has left of an engine that was just being made: a manifest of
// nothing, or the beginning of the file that names it, or both. The engine itself takes that for a database whose
// entry point was lost. A database that has lost it has a journal, or a manifest that names one, and is left as
// it is.
func clearUnmade(st storage.Storage, dir string, readOnly bool) error {
	is, err := isUnmade(st, dir)
	if err != nil || !is {
		return err
	}
	if readOnly {
		return fmt.Errorf("leveldb: no database to read: %w", fs.ErrNotExist)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("leveldb: %w", err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), currentName+".") {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("leveldb: %w", err)
		}
	}
	manifests, err := st.List(storage.TypeManifest)
	for i := 0; err == nil && i < len(manifests); i++ {
		err = st.Remove(manifests[i])
	}
	return convert(err)
}

// isUnmade says whether the engine's files, if there are any, are those of an engine that was just being made.
func isUnmade(st storage.Storage, dir string) (bool, error) {
	switch _, err := os.Lstat(filepath.Join(dir, currentName)); {
	case err == nil:
		return false, nil
	case !errors.Is(err, fs.ErrNotExist):
		return false, fmt.Errorf("leveldb: %w", err)
	}
	if _, err := st.GetMeta(); err == nil { // it takes a file that was about to be named so
		return false, nil
	}
	files, err := st.List(storage.TypeAll)
	if err != nil {
		return false, convert(err)
	}
	for _, fd := range files {
		if fd.Type != storage.TypeManifest {
			return false, nil
		}
		m := manifest{tables: map[int64]bool{}}
		err := inspectJournal(st, fd, func(record io.Reader) error {
			b, err := io.ReadAll(record)
			if err == nil {
				m.read(b)
			}
			return err
		})
		if err != nil || m.journal > 0 || m.sequence > 0 || len(m.tables) > 0 {
			return false, err
		}
	}
	return true, nil
}
