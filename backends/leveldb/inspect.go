package leveldb

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/syndtr/goleveldb/leveldb/journal"
	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// inspect looks for damage within the journals and the manifest. The engine leaves out each record that
// it can't read, as it must where a crash cut the last one short; one in the middle, however, is a batch
// that was applied and is gone, with later ones there, and has to be an error.
func inspect(st storage.Storage) error {
	fds, err := st.List(storage.TypeJournal)
	if err != nil {
		return convert(err)
	}
	manifest, err := st.GetMeta()
	switch {
	case err == nil:
		fds = append(fds, manifest)
	case !os.IsNotExist(err):
		return convert(err)
	}
	for _, fd := range fds {
		if err := inspectJournal(st, fd); err != nil {
			return err
		}
	}
	return nil
}

// damage remembers the first thing that a journal's reader left out.
type damage struct{ first error }

// Drop is called by the reader.
func (d *damage) Drop(err error) {
	if d.first == nil {
		d.first = err
	}
}

func inspectJournal(st storage.Storage, fd storage.FileDesc) (err error) {
	file, err := st.Open(fd)
	if err != nil {
		return convert(err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	var d damage
	records := journal.NewReader(file, &d, false, true)
	for {
		record, err := records.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return convert(err)
		}
		switch _, err := io.Copy(io.Discard, record); {
		case errors.Is(err, io.ErrUnexpectedEOF): // left out; what follows decides
		case err != nil:
			return convert(err)
		case d.first != nil:
			return fmt.Errorf("%w: leveldb: %s: %w", db.ErrCorrupted, fd, d.first)
		}
	}
}
