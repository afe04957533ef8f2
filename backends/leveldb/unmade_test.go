package leveldb

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
)

// unstored makes a directory that of a store whose engine has not made any file yet.
func unstored(t *testing.T, dir string) *db.Config {
	t.Helper()
	cfg := &db.Config{Dir: dir}
	s, err := OpenStore(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{dirName, "made"} {
		if err := os.RemoveAll(filepath.Join(cfg.Dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return cfg
}

// dying is the files below an engine that is killed after some of its calls, or in the one that names the
// manifest: what comes later is not done.
type dying struct {
	storage.Storage
	dir  string
	left int
	// torn is how much has been written then of the file that is to be renamed to CURRENT; -1 where the process
	// does not die with it.
	torn int
	// full says that it does not die then either: the disk is full, and the engine can remove what it has made.
	full bool
}

var errDead = errors.New("the process is dead")

func (d *dying) alive() bool {
	d.left--
	return d.left >= 0
}

func (d *dying) Create(fd storage.FileDesc) (storage.Writer, error) {
	if !d.alive() {
		return nil, errDead
	}
	w, err := d.Storage.Create(fd)
	return &dyingFile{w, d}, err
}

func (d *dying) SetMeta(fd storage.FileDesc) error {
	if !d.alive() {
		return errDead
	}
	if d.torn < 0 {
		return d.Storage.SetMeta(fd)
	}
	if !d.full {
		d.left = -1
	}
	text := fmt.Sprintf("MANIFEST-%06d\n", fd.Num)
	name := fmt.Sprintf("%s.%d", currentName, fd.Num)
	return errors.Join(errDead, os.WriteFile(filepath.Join(d.dir, name), []byte(text[:min(d.torn, len(text))]), 0o600))
}

func (d *dying) Remove(fd storage.FileDesc) error {
	if !d.alive() {
		return errDead
	}
	return d.Storage.Remove(fd)
}

type dyingFile struct {
	storage.Writer
	all *dying
}

func (f *dyingFile) Write(b []byte) (int, error) {
	if !f.all.alive() {
		return 0, errDead
	}
	return f.Writer.Write(b)
}

func (f *dyingFile) Sync() error {
	if !f.all.alive() {
		return errDead
	}
	return f.Writer.Sync()
}

// TestKilledWhileMade kills the engine at each of its calls while it makes its first files. Nothing was written
// yet, and so nothing is lost: who opens the store next finds it empty.
func TestKilledWhileMade(t *testing.T) {
	calls, made := 0, false
	for ; !made; calls++ {
		t.Run(fmt.Sprintf("after %d calls", calls), func(t *testing.T) { made = killWhileMade(t, calls, -1, false) })
	}
	if calls < 5 {
		t.Errorf("made with %d calls", calls)
	}
	for _, torn := range []int{0, 5, 1 << 10} {
		for _, full := range []bool{false, true} {
			t.Run(fmt.Sprintf("CURRENT torn at %d, disk full: %v", torn, full), func(t *testing.T) {
				if killWhileMade(t, calls, torn, full) {
					t.Error("it was made all the same")
				}
			})
		}
	}
}

// killWhileMade says whether the engine's files were made, because there were no more calls.
func killWhileMade(t *testing.T, calls, torn int, full bool) (made bool) {
	cfg := unstored(t, t.TempDir())
	path := filepath.Join(cfg.Dir, dirName)
	under, err := storage.OpenFile(path, false)
	if err != nil {
		t.Fatal(err)
	}
	st := &dying{Storage: under, dir: path, left: calls, torn: torn, full: full}
	engine, err := leveldb.Open(st, nil)
	if made = err == nil; made {
		err = engine.Close()
	} else if st.left < 0 || full {
		err = nil // of that; the engine's error does not say it
	}
	if err = errors.Join(err, under.Close()); err != nil {
		t.Fatal(err)
	}

	reading := *cfg
	reading.ReadOnly = true
	if s, err := OpenStore(t.Context(), &reading); err == nil {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opened for reading: %v", err)
	}
	for range 2 {
		s, err := OpenStore(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		var b kv.Batch
		b.Put([]byte("key"), []byte("value"))
		if err := errors.Join(s.Apply(t.Context(), &b, true), s.Close()); err != nil {
			t.Fatal(err)
		}
	}
	return made
}

// TestEntryPointLost takes the file away that names the manifest of a store that was written to, alone and with
// its journal: that is no store in the making.
func TestEntryPointLost(t *testing.T) {
	for _, lost := range [][]string{{"CURRENT*"}, {"CURRENT*", "*.log"}, {"CURRENT*", "*.log", "*.ldb"}} {
		cfg := &db.Config{Dir: t.TempDir()}
		s, err := OpenStore(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		var b kv.Batch
		b.Put([]byte("key"), []byte("value"))
		if err := errors.Join(s.Apply(t.Context(), &b, true), s.Compact(t.Context(), nil), s.Close()); err != nil {
			t.Fatal(err)
		}
		for _, pattern := range lost {
			names, err := filepath.Glob(filepath.Join(cfg.Dir, dirName, pattern))
			if err != nil || len(names) == 0 {
				t.Fatalf("no %s: %v", pattern, err)
			}
			for _, name := range names {
				if err := os.Remove(name); err != nil {
					t.Fatal(err)
				}
			}
		}
		if _, err := OpenStore(t.Context(), cfg); !errors.Is(err, db.ErrCorrupted) {
			t.Errorf("without %s: %v", lost, err)
		}
	}
}

// TestDirectoryIsNoPattern opens stores in the making whose directories' names, as patterns, mean others, or
// nothing. What lies in those stays.
func TestDirectoryIsNoPattern(t *testing.T) {
	for _, name := range []string{"[", "*", "[o]ther"} {
		dir := t.TempDir()
		beside := filepath.Join(dir, "other", dirName, currentName+".7")
		begun := filepath.Join(dir, name, dirName, currentName+".1")
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		cfg := unstored(t, filepath.Join(dir, name))
		for _, path := range []string{beside, begun} {
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, nil, 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		s, err := OpenStore(t.Context(), cfg)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(beside); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(begun); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: what was begun is still there: %v", name, err)
		}
	}
}
