package leveldb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/syndtr/goleveldb/leveldb/journal"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/storage"
	"github.com/syndtr/goleveldb/leveldb/table"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// inspect looks for files that are missing, and for damage within the journals and the manifest. The engine
// leaves out each record that it can't read, as it must where a crash cut the last one short; one in the
// middle, however, is a batch that was applied and is gone, with later ones there, and has to be an error.
func inspect(st storage.Storage) error {
	fds, err := st.List(storage.TypeJournal)
	if err != nil {
		return convert(err)
	}
	js := journalsSeen{}
	for _, fd := range fds {
		var first uint64 // the sequence number of its first batch; 0 where there is none
		err := inspectJournal(st, fd, func(record io.Reader) error {
			var head [8]byte
			if _, err := io.ReadFull(record, head[:]); err == nil && first == 0 {
				first = binary.LittleEndian.Uint64(head[:])
			}
			_, err := io.Copy(io.Discard, record)
			return err
		})
		if err != nil {
			return err
		}
		js[fd.Num] = first
	}
	fd, err := st.GetMeta()
	if os.IsNotExist(err) {
		return nil
	} else if err != nil {
		return convert(err)
	}
	m := manifest{tables: make(map[int64]bool)}
	err = inspectJournal(st, fd, func(record io.Reader) error {
		b, err := io.ReadAll(record)
		if err == nil {
			m.read(b)
		}
		return err
	})
	if err != nil {
		return err
	}
	return m.lookFor(st, fd, js)
}

// journalsSeen are the sequence numbers of journals' first batches, by the journals' numbers.
type journalsSeen map[int64]uint64

// The fields of a manifest's record, as the engine writes them.
const (
	fieldComparer     = 1 // bytes
	fieldJournal      = 2 // number
	fieldNextFile     = 3 // number
	fieldSequence     = 4 // number
	fieldCompactAt    = 5 // level, bytes
	fieldRemovedTable = 6 // level, number
	fieldAddedTable   = 7 // level, number, size, bytes, bytes
	fieldOldJournal   = 9 // number
)

// manifest is what a manifest says: tables, the journal from which on batches are not in tables, and the last
// sequence number that is.
//
// What it names is there: the engine removes a file after the manifest has named those in its place, safely.
// There is one exception, a journal in which nothing was written when the next one was begun. So what is
// missing otherwise was lost, or the end of the manifest was. Of that the engine notices tables that are missing,
// after it has written over others that it should know of; and it goes on without what was in a journal, and
// removes the tables that no record names any more.
type manifest struct {
	tables   map[int64]bool
	journal  int64 // 0: none yet
	sequence uint64
}

// read takes the next record.
func (m *manifest) read(record []byte) {
	number := func() int64 {
		v, n := binary.Uvarint(record)
		if n <= 0 {
			record = nil
			return 0
		}
		record = record[n:]
		return int64(v)
	}
	skip := func() {
		n := uint64(number())
		record = record[min(n, uint64(len(record))):]
	}
	for len(record) > 0 {
		switch number() {
		case fieldJournal:
			m.journal = number()
		case fieldSequence:
			m.sequence = uint64(number())
		case fieldNextFile, fieldOldJournal:
			number()
		case fieldComparer:
			skip()
		case fieldCompactAt:
			number()
			skip()
		case fieldRemovedTable:
			number()
			delete(m.tables, number())
		case fieldAddedTable:
			number()
			m.tables[number()] = true
			number()
			skip()
			skip()
		}
	}
}

// lookFor returns an error where something is missing that the manifest names.
func (m *manifest) lookFor(st storage.Storage, fd storage.FileDesc, js journalsSeen) error {
	fds, err := st.List(storage.TypeTable)
	if err != nil {
		return convert(err)
	}
	missing := maps.Clone(m.tables)
	var unnamed []storage.FileDesc
	for _, there := range fds {
		delete(missing, there.Num)
		if !m.tables[there.Num] {
			unnamed = append(unnamed, there)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: leveldb: tables %v, which %s names, are missing", db.ErrCorrupted, slices.Sorted(maps.Keys(missing)), fd)
	}
	if _, there := js[m.journal]; there || m.journal == 0 {
		return nil
	}
	lost := fmt.Errorf("%w: leveldb: journal %06d, which %s names, is missing", db.ErrCorrupted, m.journal, fd)
	later := slices.Sorted(maps.Keys(js))
	later = slices.DeleteFunc(later, func(number int64) bool { return number < m.journal })
	if len(later) == 0 {
		return lost
	}
	// If nothing was in it, the next batch has the next number, and no table has any that are higher.
	for _, number := range later {
		if first := js[number]; first > m.sequence+1 {
			return fmt.Errorf("%w: the next batch has number %d, after %d", lost, first, m.sequence)
		} else if first > 0 {
			break
		}
	}
	for _, table := range unnamed {
		switch last, err := lastSequence(st, table); {
		case err != nil:
			return err
		case last > m.sequence:
			return fmt.Errorf("%w: %s, which it does not name, has batch %d, after %d", lost, table, last, m.sequence)
		}
	}
	return nil
}

// lastSequence returns the highest sequence number in a table, 0 where it is not complete: a crash can have
// left it in the making.
func lastSequence(st storage.Storage, fd storage.FileDesc) (last uint64, err error) {
	file, err := st.Open(fd)
	if err != nil {
		return 0, convert(err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, convert(err)
	}
	r, err := table.NewReader(struct{ io.ReaderAt }{file}, size, fd, // which it would close
		nil, nil, &opt.Options{Strict: opt.StrictAll})
	if err != nil {
		return 0, nil // it has no end
	}
	defer r.Release()
	entries := r.NewIterator(nil, nil)
	defer entries.Release()
	for entries.Next() {
		if key := entries.Key(); len(key) >= 8 { // ends with the number and the kind of entry
			last = max(last, binary.LittleEndian.Uint64(key[len(key)-8:])>>8)
		}
	}
	if entries.Error() != nil {
		return 0, nil // nor is it whole
	}
	return last, nil
}

// damage remembers the first thing that a journal's reader left out.
type damage struct{ first error }

// Drop is called by the reader.
func (d *damage) Drop(err error) {
	if d.first == nil {
		d.first = err
	}
}

// inspectJournal reads a journal, or the manifest, which has the same form, and hands each record to use.
func inspectJournal(st storage.Storage, fd storage.FileDesc, use func(record io.Reader) error) (err error) {
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
		switch err := use(record); {
		case errors.Is(err, io.ErrUnexpectedEOF): // left out; what follows decides
		case err != nil:
			return convert(err)
		case d.first != nil:
			return fmt.Errorf("%w: leveldb: %s: %w", db.ErrCorrupted, fd, d.first)
		}
	}
}
