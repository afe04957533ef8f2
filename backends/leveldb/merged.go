package leveldb

import (
	"bytes"
	"errors"
	"io"
	"slices"

	"github.com/syndtr/goleveldb/leveldb/journal"
	"github.com/syndtr/goleveldb/leveldb/storage"
)

// merged is the engine's storage with all its journals in the place of the last one. A crash can leave
// more than one, and the engine, open for reading only, then fails with the end of the first. A journal
// that went into tables already does no harm: the engine leaves out what is older than these. It holds
// in memory what the engine takes into memory itself.
type merged struct {
	storage.Storage
	journals []storage.FileDesc
}

// merge returns the storage, with its journals merged where there are several.
func merge(st storage.Storage) (storage.Storage, error) {
	fds, err := st.List(storage.TypeJournal)
	if err != nil || len(fds) < 2 {
		return st, err
	}
	slices.SortFunc(fds, func(a, b storage.FileDesc) int { return int(a.Num - b.Num) })
	return &merged{st, fds}, nil
}

func (m *merged) last() storage.FileDesc { return m.journals[len(m.journals)-1] }

// List lists one journal instead of all.
func (m *merged) List(ft storage.FileType) ([]storage.FileDesc, error) {
	fds, err := m.Storage.List(ft)
	return slices.DeleteFunc(fds, func(fd storage.FileDesc) bool {
		return fd.Type == storage.TypeJournal && fd != m.last()
	}), err
}

// Open opens a file, or what takes the journals' place.
func (m *merged) Open(fd storage.FileDesc) (storage.Reader, error) {
	if fd != m.last() {
		return m.Storage.Open(fd)
	}
	var all bytes.Buffer
	to := journal.NewWriter(&all)
	for _, fd := range m.journals {
		if err := m.copyJournal(to, fd); err != nil {
			return nil, err
		}
	}
	if err := to.Close(); err != nil {
		return nil, err
	}
	return memoryFile{bytes.NewReader(all.Bytes())}, nil
}

// copyJournal copies the records of a journal, as far as it is not cut short.
func (m *merged) copyJournal(to *journal.Writer, fd storage.FileDesc) (err error) {
	file, err := m.Storage.Open(fd)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	for from := journal.NewReader(file, nil, false, true); ; {
		record, err := from.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		content, err := io.ReadAll(record)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			continue // what a crash cut short; inspect has seen that nothing else is damaged
		}
		if err != nil {
			return err
		}
		out, err := to.Next()
		if err != nil {
			return err
		}
		if _, err := out.Write(content); err != nil {
			return err
		}
	}
}

// memoryFile is a file in memory.
type memoryFile struct{ *bytes.Reader }

func (memoryFile) Close() error { return nil }
