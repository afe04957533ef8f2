package lossyfs

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// childEnv makes the test's binary use a file system that its parent has mounted: what it is to do, and
// childDirEnv where.
const (
	childEnv    = "CKPT_LOSSYFS_TASK"
	childDirEnv = "CKPT_LOSSYFS_DIR"
)

var tasks = map[string]func(dir string) error{"write": written, "map": mapped, "name": named, "move": moved, "move safely": movedSafely, "empty": emptied}

func TestMain(m *testing.M) {
	task := os.Getenv(childEnv)
	if task == "" {
		os.Exit(m.Run())
	}
	if err := tasks[task](os.Getenv(childDirEnv)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// used is a file system that a child has done something on.
func used(t *testing.T, task string, ignoreSync bool) *FS {
	t.Helper()
	if err := Available(); err != nil {
		t.Skip("nothing can be mounted here:", err)
	}
	fs, dir := New(), t.TempDir()
	fs.SetIgnoreSync(ignoreSync)
	m, err := fs.MountAt(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := m.Unmount(); err != nil {
			t.Error(err)
		}
	}()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+task, childDirEnv+"="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return fs
}

const sectors = 20

// written makes a file safe, with ones in it, and then fills it with twos, which are not.
func written(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, "file"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(bytes.Repeat([]byte{1}, sectors*sectorBytes))
	d, derr := os.Open(dir)
	err = errors.Join(err, f.Sync(), derr, d.Sync(), d.Close())
	_, werr := f.WriteAt(bytes.Repeat([]byte{2}, sectors*sectorBytes), 0)
	return errors.Join(err, werr, f.Close())
}

// TestSectors: what was synced is there or overwritten, sector by sector, and nothing is in between.
func TestSectors(t *testing.T) {
	fs := used(t, "write", false)
	var kept, mixed, gone int
	for seed := range uint64(300) {
		n := fs.AfterLoss(rand.New(rand.NewPCG(seed, 0))).root.names["file"]
		if n == nil {
			t.Fatal("a name that was made safe is gone")
		}
		if len(n.data) != sectors*sectorBytes {
			t.Fatalf("%d bytes, want %d", len(n.data), sectors*sectorBytes)
		}
		twos := 0
		for s := range sectors {
			sector := n.data[s*sectorBytes : (s+1)*sectorBytes]
			if sector[0] != 1 && sector[0] != 2 || !bytes.Equal(sector, bytes.Repeat(sector[:1], sectorBytes)) {
				t.Fatalf("sector %d is torn: %x", s, sector)
			}
			twos += int(sector[0] - 1)
		}
		switch twos {
		case 0:
			gone++
		case sectors:
			kept++
		default:
			mixed++
		}
	}
	if kept == 0 || mixed == 0 || gone == 0 {
		t.Errorf("of 300 losses, %d lost nothing, %d a part and %d all", kept, mixed, gone)
	}
}

// TestSyncsIgnored: without syncs, what would be safe is lost.
func TestSyncsIgnored(t *testing.T) {
	fs := used(t, "write", true)
	lost := 0
	for seed := range uint64(100) {
		n := fs.AfterLoss(rand.New(rand.NewPCG(seed, 0))).root.names["file"]
		if n == nil || bytes.IndexByte(n.data, 0) >= 0 || len(n.data) < sectors*sectorBytes {
			lost++
		}
	}
	if lost == 0 {
		t.Error("nothing was lost in 100 losses")
	}
}

// named makes a file safe and replaces it by a rename of another one, whose name is not safe.
func named(dir string) error {
	if err := written(dir); err != nil {
		return err
	}
	temp := filepath.Join(dir, "temp")
	f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte{3})
	return errors.Join(err, f.Sync(), f.Close(), os.Rename(temp, filepath.Join(dir, "file")))
}

// TestRename: the name leads to the one file or to the other, and both happens.
func TestRename(t *testing.T) {
	fs := used(t, "name", false)
	var before, after int
	for seed := range uint64(100) {
		n := fs.AfterLoss(rand.New(rand.NewPCG(seed, 0))).root.names["file"]
		switch {
		case n == nil:
			t.Fatal("the name leads nowhere")
		case len(n.data) == 1 && n.data[0] == 3:
			after++
		case len(n.data) == sectors*sectorBytes:
			before++
		default:
			t.Fatalf("%d bytes", len(n.data))
		}
	}
	if before == 0 || after == 0 {
		t.Errorf("of 100 losses, %d were before and %d after the rename", before, after)
	}
}

// emptied makes a file safe, and opens it as one to be written anew, which is not safe.
func emptied(dir string) error {
	err := written(dir)
	f, oerr := os.OpenFile(filepath.Join(dir, "file"), os.O_WRONLY|os.O_TRUNC, 0)
	return errors.Join(err, oerr, f.Close())
}

// TestOpeningEmpties: a file that is opened to be written anew is empty, and may have what it had after a loss.
func TestOpeningEmpties(t *testing.T) {
	fs := used(t, "empty", false)
	for want, left := range map[int]*FS{0: fs, sectors * sectorBytes: fs.AfterLosingAll()} {
		copied := t.TempDir()
		if err := left.CopyTo(copied); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(filepath.Join(copied, "file")); err != nil || len(b) != want {
			t.Errorf("%d bytes, want %d: %v", len(b), want, err)
		}
	}
}

// moved makes two directories safe and moves a directory with a file from one to the other, which is not safe.
func moved(dir string) error {
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	err := errors.Join(os.MkdirAll(filepath.Join(from, "a", "b"), 0o700), os.Mkdir(to, 0o700))
	for _, path := range []string{filepath.Join(from, "a"), from, dir} {
		d, derr := os.Open(path)
		err = errors.Join(err, derr, d.Sync(), d.Close())
	}
	err = errors.Join(err, os.MkdirAll(filepath.Join(to, "full", "of"), 0o700))
	if os.Rename(filepath.Join(from, "a"), filepath.Join(to, "full")) == nil {
		return errors.New("a rename to a directory that is not empty is no error")
	}
	return errors.Join(err, os.Rename(filepath.Join(from, "a"), filepath.Join(to, "a")))
}

func movedSafely(dir string) error {
	err := moved(dir)
	d, derr := os.Open(filepath.Join(dir, "to"))
	return errors.Join(err, derr, d.Sync(), d.Close())
}

// TestMove: what is moved is in one of the two directories, whole, and in the new one when that is safe.
func TestMove(t *testing.T) {
	for task, safe := range map[string]bool{"move": false, "move safely": true} {
		fs := used(t, task, false)
		var before, after int
		for seed := range uint64(200) {
			copied := t.TempDir()
			if err := fs.AfterLoss(rand.New(rand.NewPCG(seed, 0))).CopyTo(copied); err != nil {
				t.Fatal(err)
			}
			_, inFrom := os.Stat(filepath.Join(copied, "from", "a", "b"))
			_, inTo := os.Stat(filepath.Join(copied, "to", "a", "b"))
			switch {
			case inFrom == nil && inTo != nil:
				before++
			case inFrom != nil && inTo == nil:
				after++
			default:
				t.Fatalf("%s, seed %d: %v, %v", task, seed, inFrom, inTo)
			}
		}
		if (before == 0) != safe || after == 0 {
			t.Errorf("%s: of 200 losses, %d were before and %d after the rename", task, before, after)
		}
	}
}

// mapped writes to a file and expects to see it in a mapping, also beyond the length that the file had
// when it was mapped.
func mapped(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, "file"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := f.Truncate(pageBytes); err != nil {
		return err
	}
	b, err := syscall.Mmap(int(f.Fd()), 0, 64*pageBytes, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return err
	}
	for i := range 32 {
		if i == 8 {
			if err := f.Truncate(64 * pageBytes); err != nil {
				return err
			}
		}
		at := i % 8 * 500
		if i >= 8 {
			at = i * pageBytes
		}
		if _, err := f.WriteAt([]byte{byte(i + 1)}, int64(at)); err != nil {
			return err
		}
		if b[at] != byte(i+1) {
			return fmt.Errorf("byte %d is %d in the mapping, and %d was written", at, b[at], i+1)
		}
	}
	return errors.Join(syscall.Munmap(b), f.Close())
}

func TestMapping(t *testing.T) { used(t, "map", false) }
