package leveldb

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/syndtr/goleveldb/leveldb"
	lerrors "github.com/syndtr/goleveldb/leveldb/errors"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/ckpt-project/ckpt/framework/common/durable"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv/storedir"
)

// files is the engine's directory and its lock, with the database in it.
type files struct {
	journals *journals
	db       *leveldb.DB
}

// openFiles opens the engine's own directory, which nobody else may look into: the engine makes its
// files readable for all.
func openFiles(dir string, o *opt.Options) (_ *files, err error) {
	if !o.ReadOnly {
		if err := makePrivateDir(dir); err != nil {
			return nil, fmt.Errorf("leveldb: %w", err)
		}
	} else if _, err := os.Stat(filepath.Join(dir, "LOCK")); err != nil {
		// The engine would make this file, also for reading.
		return nil, fmt.Errorf("leveldb: no database to read: %w", err)
	}
	under, err := storage.OpenFile(dir, o.ReadOnly)
	if err != nil {
		if isHeld(err) {
			return nil, fmt.Errorf("leveldb: %s: %w", dir, storedir.ErrHeld)
		}
		return nil, fmt.Errorf("leveldb: %s: %w", dir, err)
	}
	st := &journals{Storage: under, dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, st.Close())
		}
	}()
	if err := clearUnmade(st, dir, o.ReadOnly); err != nil {
		return nil, err
	}
	if err := inspect(st); err != nil {
		return nil, err
	}
	var engines storage.Storage = st
	if o.ReadOnly {
		if engines, err = merge(st); err != nil {
			return nil, convert(err)
		}
	}
	recovers, err := hasRecords(st)
	if err != nil {
		return nil, convert(err)
	}
	defer guard(&err)()
	engine, err := leveldb.Open(engines, o)
	if err == nil && recovers && !o.ReadOnly {
		// The tables that the engine makes of journals when it opens it counts twice, and so would not remove
		// them while it is open. Opened again, it makes none.
		if err = engine.Close(); err == nil {
			engine, err = leveldb.Open(engines, o)
		}
	}
	if err != nil {
		return nil, convert(err)
	}
	return &files{st, engine}, nil
}

// hasRecords says whether there is anything in the journals.
func hasRecords(st storage.Storage) (bool, error) {
	fds, err := st.List(storage.TypeJournal)
	if err != nil {
		return false, err
	}
	for _, fd := range fds {
		file, err := st.Open(fd)
		if err != nil {
			return false, err
		}
		n, err := file.Seek(0, io.SeekEnd)
		if err = errors.Join(err, file.Close()); err != nil || n > 0 {
			return n > 0, err
		}
	}
	return false, nil
}

// close waits for the engine's goroutines and gives up its lock.
func (f *files) close() error {
	return errors.Join(convert(f.db.Close()), f.journals.Close())
}

func makePrivateDir(dir string) error {
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(dir))
}

// isHeld says whether an error is the engine's lock being held. It has no error of its own for that.
func isHeld(err error) bool {
	const sharingViolation = syscall.Errno(32) // on Windows
	return errors.Is(err, syscall.EAGAIN) || runtime.GOOS == "windows" && errors.Is(err, sharingViolation)
}

// convert gives the engine's errors the identities of the contract, and keeps them as the cause.
func convert(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, leveldb.ErrNotFound):
		return kv.ErrNotFound
	case errors.Is(err, leveldb.ErrClosed), errors.Is(err, leveldb.ErrSnapshotReleased), errors.Is(err, leveldb.ErrIterReleased):
		return kv.ErrClosed
	case errors.Is(err, leveldb.ErrReadOnly):
		return kv.ErrReadOnly
	case lerrors.IsCorrupted(err):
		return fmt.Errorf("%w: leveldb: %w", db.ErrCorrupted, err)
	default:
		return fmt.Errorf("leveldb: %w", err)
	}
}

// guard is called with defer around uses of the engine, as defer guard(&err)(): it panics where
// something is not as it should be.
func guard(err *error) func() {
	return func() {
		if r := recover(); r != nil {
			*err = fmt.Errorf("%w: leveldb: %v", db.ErrCorrupted, r)
		}
	}
}
