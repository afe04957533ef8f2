package quickstart

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/ckpt-project/ckpt/framework/hash"
)

// journal tells which version of the history each version of the database is: a line a version, its
// number, its ID and its root hash. A line is written before its version is finalized, so that the journal
// is never behind after a crash of the process. After a loss of power it can be, because it is not synced
// with each line; the database alone says what is there.
type journal struct {
	file *os.File
	w    *bufio.Writer
}

// journalLine is what is known of one version.
type journalLine struct {
	version uint64
	id      string
	root    hash.Hash
}

// maxJournalLine bounds a line: two numbers of 64 digits and one of 20.
const maxJournalLine = 256

// openJournal opens the journal, calls known for the lines of the versions up to latest, in order, and
// drops what comes after them or can't be read. It returns how many versions are known.
func openJournal(path string, latest uint64, known func(journalLine) error) (*journal, uint64, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, 0, err
	}
	count, end, err := readJournal(file, latest, known)
	if err == nil {
		err = file.Truncate(end)
	}
	if err == nil {
		_, err = file.Seek(end, io.SeekStart)
	}
	if err != nil {
		return nil, 0, errors.Join(err, file.Close())
	}
	return &journal{file: file, w: bufio.NewWriter(file)}, count, nil
}

func readJournal(r io.Reader, latest uint64, known func(journalLine) error) (count uint64, end int64, err error) {
	lines := bufio.NewReaderSize(r, maxJournalLine)
	for count < latest {
		text, err := lines.ReadSlice('\n')
		if err == io.EOF || err == bufio.ErrBufferFull {
			break
		}
		if err != nil {
			return 0, 0, err
		}
		line, ok := parseJournalLine(string(text))
		if !ok || line.version != count+1 {
			break
		}
		if err := known(line); err != nil {
			return 0, 0, err
		}
		count, end = count+1, end+int64(len(text))
	}
	return count, end, nil
}

func parseJournalLine(text string) (line journalLine, ok bool) {
	fields := strings.Split(strings.TrimSuffix(text, "\n"), " ")
	if len(fields) != 3 {
		return line, false
	}
	version, err := strconv.ParseUint(fields[0], 10, 64)
	if err != nil {
		return line, false
	}
	line = journalLine{version: version, id: fields[1]}
	return line, line.root.UnmarshalHex(fields[2]) == nil
}

// add writes the line of the next version. It is with the operating system when add returns.
func (j *journal) add(line journalLine) error {
	_, _ = fmt.Fprintf(j.w, "%d %s %s\n", line.version, line.id, line.root.Hex()) // Flush has the error
	if err := j.w.Flush(); err != nil {
		return fmt.Errorf("writing %s: %w", j.file.Name(), err)
	}
	return nil
}

// Close makes the journal safe from a loss of power. Calling it again does nothing.
func (j *journal) Close() error {
	if err := errors.Join(j.file.Sync(), j.file.Close()); err != nil && !errors.Is(err, fs.ErrClosed) {
		return fmt.Errorf("closing %s: %w", j.file.Name(), err)
	}
	return nil
}
