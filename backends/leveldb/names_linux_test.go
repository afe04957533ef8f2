package leveldb

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/ckpt-project/ckpt/conformance/lossyfs"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
)

// These make the test's binary use a file system that its parent has mounted: what it is to do, and where.
const (
	namesPartEnv = "CKPT_LEVELDB_NAMES_PART"
	namesDirEnv  = "CKPT_LEVELDB_NAMES_DIR"
)

// TestNewNamesAreMadeSafe cuts the power when the engine has gone on with a new journal, at the two moments
// at which something relies on a new file's name while the engine itself has not made it safe yet. All that
// was not synced is lost; all batches are to be there.
func TestNewNamesAreMadeSafe(t *testing.T) {
	switch part := os.Getenv(namesPartEnv); part {
	case "":
	case "count":
		countPairs(t)
		return
	default:
		applyUntil(t, moment(part))
		return
	}
	if err := lossyfs.Available(); err != nil {
		t.Skip("a file system that loses power can't be mounted here:", err)
	}
	for _, m := range []moment{journalUsed, tableNamed} {
		t.Run(string(m), func(t *testing.T) {
			before := lossyfs.New()
			applied := onFiles(t, before, string(m))
			if applied < 2 {
				t.Fatalf("%d batches before the loss", applied)
			}
			if found := onFiles(t, before.AfterLosingAll(), "count"); found != applied {
				t.Errorf("%d batches are there after the loss, %d were applied", found, applied)
			}
		})
	}
}

// onFiles mounts a file system, has a child do its part on it, and returns the number that this tells of.
// Then the power is cut, and the child killed.
func onFiles(t *testing.T, fs *lossyfs.FS, part string) (n int) {
	t.Helper()
	dir := t.TempDir()
	m, err := fs.MountAt(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := m.Unmount(); err != nil {
			t.Error(err)
		}
	}()
	cmd := exec.Command(os.Args[0], "-test.run=^TestNewNamesAreMadeSafe$", "-test.timeout=1m")
	cmd.Env = append(os.Environ(), namesPartEnv+"="+part, namesDirEnv+"="+dir)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		fs.Cut()
		_ = cmd.Process.Kill()
		_, _ = in.Close(), cmd.Wait() // it was killed
	}()
	told := bufio.NewReader(out)
	if _, err := fmt.Fscanf(told, "batches %d\n", &n); err != nil {
		text, _ := io.ReadAll(told)
		t.Fatalf("%s: %v, %s", part, err, text)
	}
	return n
}

// tell tells the parent of a number, and waits until it kills this process.
func tell(t *testing.T, n int) {
	fmt.Printf("batches %d\n", n)
	_, err := io.Copy(io.Discard, os.Stdin)
	t.Fatalf("not killed: %v", err)
}

// moment is one at which the engine's background work is held.
type moment string

const (
	// journalUsed is when batches are in a new journal, and neither a table nor the manifest has been begun.
	journalUsed moment = "a journal"
	// tableNamed is when the manifest's page with the name of a new table has reached the disk, and the engine
	// has not synced anything yet.
	tableNamed moment = "a table"
)

// applyUntil applies batches until the engine goes on with another journal, and its work in the background
// is at a moment.
func applyUntil(t *testing.T, m moment) {
	cfg := &db.Config{Dir: os.Getenv(namesDirEnv)}
	s, err := OpenStore(t.Context(), cfg) // makes the directory
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(cfg.Dir, dirName)
	o, err := parseSettings([]byte(`{"write_buffer_bytes": 1048576}`), false)
	if err != nil {
		t.Fatal(err)
	}
	under, err := storage.OpenFile(path, false)
	if err != nil {
		t.Fatal(err)
	}
	held := &holding{Storage: under, dir: path, at: m, reached: make(chan struct{})}
	engine, err := leveldb.Open(&journals{Storage: held, dir: path}, o)
	if err != nil {
		t.Fatal(err)
	}
	held.armed.Store(true)
	applied := 0
	for ; held.newJournals.Load() == 0; applied++ {
		err := engine.Put(fmt.Appendf(nil, "key %d", applied), make([]byte, 100_000), &opt.WriteOptions{Sync: true})
		if err != nil {
			t.Fatal(err)
		}
	}
	<-held.reached
	tell(t, applied)
}

// holding is the files below the engine. Once it is armed, it holds what comes to a moment for good.
type holding struct {
	storage.Storage
	dir string
	at  moment

	armed       atomic.Bool
	newJournals atomic.Int32
	once        sync.Once
	reached     chan struct{}
}

func (h *holding) hold() {
	h.once.Do(func() { close(h.reached) })
	select {}
}

func (h *holding) Create(fd storage.FileDesc) (storage.Writer, error) {
	if h.armed.Load() {
		switch {
		case fd.Type == storage.TypeJournal:
			h.newJournals.Add(1)
		case fd.Type == storage.TypeTable && h.at == journalUsed:
			h.hold()
		}
	}
	w, err := h.Storage.Create(fd)
	if err == nil && fd.Type == storage.TypeManifest {
		return &heldManifest{Writer: w, all: h, path: filepath.Join(h.dir, fd.String())}, nil
	}
	return w, err
}

type heldManifest struct {
	storage.Writer
	all  *holding
	path string
}

func (m *heldManifest) Write(b []byte) (int, error) {
	n, err := m.Writer.Write(b)
	if err == nil && m.all.armed.Load() && m.all.at == tableNamed {
		f, err := os.Open(m.path)
		if err == nil {
			err = errors.Join(f.Sync(), f.Close()) // the system may write a page at any time
		}
		if err != nil {
			return n, err
		}
		m.all.hold()
	}
	return n, err
}

// countPairs counts what was applied.
func countPairs(t *testing.T) {
	s, err := OpenStore(t.Context(), &db.Config{Dir: os.Getenv(namesDirEnv)})
	if err != nil {
		t.Fatal(err)
	}
	snap, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n, err := pairs(snap)
	if err = errors.Join(err, snap.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	tell(t, n)
}

func pairs(snap kv.Snapshot) (n int, err error) {
	c := snap.Cursor()
	for ok := c.Seek([]byte("key")); ok; ok = c.Next() {
		n++
	}
	return n, errors.Join(c.Err(), c.Close())
}
