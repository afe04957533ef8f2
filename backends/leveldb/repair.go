package leveldb

import (
	"errors"
	"fmt"
	"os"

	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv/storedir"
)

// repair gets rid of what a failed batch has left in the journal, where the engine would not write any
// more: the engine is closed, the journal cut back to what it was, and the engine opened again. That
// can't be while snapshots are open, and is not begun before there is room for it, so that the store can
// be read until then. It is called with the lock held for writing.
func (s *store) repair() error {
	if s.snapshots.Load() > 0 {
		return fmt.Errorf("leveldb: not while snapshots are open after: %w", s.unclean)
	}
	if s.files != nil {
		if err := haveRoom(storedir.TempName(s.path), s.files.journals.room()); err != nil {
			return fmt.Errorf("leveldb: %w, after: %w", err, s.unclean)
		}
		if err := s.files.closeCut(s.path); err != nil {
			return fmt.Errorf("%w, after: %w", err, s.unclean)
		}
		s.files = nil
	}
	files, err := openFiles(s.path, s.options)
	if err != nil {
		return fmt.Errorf("%w, after: %w", err, s.unclean)
	}
	s.files, s.unclean = files, nil
	return nil
}

// closeCut closes the engine and cuts off what a failed batch has left.
func (f *files) closeCut(dir string) error {
	// What the engine's background work failed with is of no interest any more: it is done again.
	_ = f.db.Close()
	if err := errors.Join(f.journals.cut(dir), f.journals.Close()); err != nil {
		return fmt.Errorf("leveldb: %w", err)
	}
	return nil
}

// haveRoom tries whether so many bytes can be written.
func haveRoom(temp string, bytes int64) (err error) {
	f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(temp)) }()
	piece := make([]byte, min(bytes, mib))
	for ; bytes > 0; bytes -= int64(len(piece)) {
		if _, err := f.Write(piece[:min(bytes, int64(len(piece)))]); err != nil {
			return err
		}
	}
	return f.Sync()
}
