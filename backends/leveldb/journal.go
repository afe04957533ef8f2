package leveldb

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/ckpt-project/ckpt/framework/common/durable"
)

// journals is the engine's storage, and watches what becomes of the records in its journals: the
// engine's own errors don't tell a batch that was never begun from one that is there in part.
type journals struct {
	storage.Storage
	dir string

	mu sync.Mutex
	// current is the journal that was last written to.
	current *journalWriter
	// touched says that something was written since the last call of begin.
	touched bool
}

// Create makes a file, whose name is safe from a loss of power, and a journal such that it is watched. The
// engine makes names safe only after it has written to its manifest: until then, batches would be safe in a
// journal without a name, and the manifest, should its page have been written already, would name tables
// that aren't there.
func (j *journals) Create(fd storage.FileDesc) (storage.Writer, error) {
	w, err := j.Storage.Create(fd)
	if err != nil {
		return nil, err
	}
	if err := durable.SyncDir(j.dir); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	if fd.Type != storage.TypeJournal {
		return w, nil
	}
	return &journalWriter{Writer: w, all: j, number: fd.Num}, nil
}

// begin is called before a batch.
func (j *journals) begin() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.touched = false
}

// outcome says what has become of the batch since begin: whether anything was written, and whether all
// of it is safe.
func (j *journals) outcome() (touched, safe bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.touched, j.touched && !j.current.failed && j.current.good == j.current.written
}

// journalWriter is a journal. Its fields are guarded by the mutex of all.
type journalWriter struct {
	storage.Writer
	all    *journals
	number int64
	// written is the journal's length, and good what it was when it was last synced. After a failure it
	// isn't synced any more.
	written, good int64
	failed        bool
}

func (w *journalWriter) Write(b []byte) (int, error) {
	n, err := w.Writer.Write(b)
	w.all.mu.Lock()
	defer w.all.mu.Unlock()
	w.all.current, w.all.touched = w, true
	w.written += int64(n)
	w.failed = w.failed || err != nil
	return n, err
}

func (w *journalWriter) Sync() error {
	err := w.Writer.Sync()
	w.all.mu.Lock()
	defer w.all.mu.Unlock()
	if w.failed = w.failed || err != nil; !w.failed {
		w.good = w.written
	}
	return err
}

// cut takes the end of the last journal away that a failed batch has left. The engine must be closed.
func (j *journals) cut(dir string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.current == nil || !j.current.failed {
		return nil
	}
	f, err := os.OpenFile(filepath.Join(dir, fmt.Sprintf("%06d.log", j.current.number)), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(j.current.good), f.Sync(), f.Close())
}

// room is how much space the engine needs when it is opened again: it writes the journal's content as
// a table.
func (j *journals) room() int64 {
	const besides = 4 << 20 // a new journal, a manifest, the table's own overhead
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.current == nil {
		return besides
	}
	return j.current.good + besides
}
