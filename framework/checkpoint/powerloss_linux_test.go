package checkpoint

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ckpt-project/ckpt/conformance/lossyfs"
	"github.com/ckpt-project/ckpt/conformance/vectors"
	"github.com/ckpt-project/ckpt/framework/common/durable"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// powerDirEnv makes the test's binary do its steps on a file system that its parent has mounted; with
// powerNoIndexEnv, the index can't be written; with powerTakenEnv, the directory of checkpoints is there, and its name is
// not safe: its maker was killed.
const (
	powerTakenEnv   = "CKPT_CHECKPOINT_POWER_TAKEN"
	powerDirEnv     = "CKPT_CHECKPOINT_POWER_DIR"
	powerNoIndexEnv = "CKPT_CHECKPOINT_POWER_NO_INDEX"
)

// powerStep is what is done to a version's checkpoint.
type powerStep struct {
	do      string
	version uint64
}

// powerSteps are done one after the other. What each promises when it returns holds from then on, also while those
// after it are done.
var powerSteps = []powerStep{
	{"create", 1},
	{"keep", 1},
	{"create", 2}, // with a chunk that is made safe by itself
	{"create", 3},
	{"delete", 2},
	{"create", 4}, // in the directory of a version that has one
	{"create", 2},
	{"delete", 3},
	{"place", 3}, // as by somebody who is killed before it is safe
	{"create", 3},
	{"mark", 3}, // as well
	{"keep", 3},
}

// powerRoots makes the database that the steps are about, the same one each time.
func powerRoots(t *testing.T) (db.NodeDB, map[uint64]node.Root) {
	ndb := openDB(t)
	large := make([]byte, laterBytes+4096)
	_, _ = rand.NewChaCha8([32]byte{}).Read(large) // so that no compression makes it small; it never fails
	roots := make(map[uint64]node.Root)
	for version, pairs := range [][]vectors.Pair{
		dataSet("uniform", 9),
		append(dataSet("uniform", 5), vectors.Pair{Key: []byte("large"), Value: large}),
		dataSet("decimal", 4),
	} {
		root := commit(t, ndb, uint64(version+1), node.RootTypeState, pairs)
		all := []node.Root{root}
		if version == 2 { // the last one, of which two checkpoints are made
			all = append(all, commit(t, ndb, 3, node.RootTypeIO, dataSet("uniform", 3)))
			roots[4] = all[1]
		}
		roots[uint64(version+1)] = root
		finalize(t, ndb, all...)
	}
	return ndb, roots
}

// powerChild does the steps, and waits after each until its parent has heard of it.
func powerChild(t *testing.T, dir string) {
	ndb, roots := powerRoots(t)
	if os.Getenv(powerNoIndexEnv) != "" {
		// As a file that was made by somebody else would: then what makes the index safe makes nothing else safe.
		if err := os.MkdirAll(filepath.Join(dir, IndexName), dirMode); err != nil {
			t.Fatal(err)
		}
		for name := dir; ; name = filepath.Dir(name) {
			if err := durable.SyncDir(name); err != nil {
				t.Fatal(err)
			}
			if name == filepath.Dir(filepath.Dir(dir)) {
				break
			}
		}
	}
	if os.Getenv(powerTakenEnv) != "" {
		if err := errors.Join(durable.MakeDirs(filepath.Dir(dir)), os.Mkdir(dir, dirMode)); err != nil {
			t.Fatal(err)
		}
	}
	c := newCreator(t, dir, ndb, WithWorkers(2))
	parent := bufio.NewReader(os.Stdin)
	for _, s := range powerSteps {
		var err error
		switch root := roots[s.version]; s.do {
		case "create":
			_, err = c.CreateCheckpoint(t.Context(), root, 512)
		case "place":
			err = placeUnsafely(t, ndb, dir, root)
		case "mark":
			err = os.WriteFile(filepath.Join(CheckpointDir(dir, root), keepName), nil, fileMode)
		case "keep":
			err = c.(Keeper).Keep(t.Context(), root)
		case "delete":
			err = c.DeleteCheckpoint(t.Context(), 1, root)
		}
		if err != nil {
			t.Fatalf("%s %d: %v", s.do, s.version, err)
		}
		fmt.Println("done")
		if _, err := parent.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	fmt.Println("end")
}

// placeUnsafely puts a checkpoint into its place, and makes what is in it safe, and not its name.
func placeUnsafely(t *testing.T, ndb db.NodeDB, dir string, root node.Root) error {
	aside := dir + "-aside"
	if _, err := newCreator(t, aside, ndb).CreateCheckpoint(t.Context(), root, 512); err != nil {
		return err
	}
	to := CheckpointDir(dir, root)
	return errors.Join(os.MkdirAll(filepath.Dir(to), dirMode), os.Rename(CheckpointDir(aside, root), to))
}

// TestPowerLoss has checkpoints made, marked and deleted on a file system that loses what was not made safe, and
// looks at what a loss would leave after every single change of it: whatever checkpoint can be seen then is whole,
// and what was reported as done is so.
func TestPowerLoss(t *testing.T) {
	if dir := os.Getenv(powerDirEnv); dir != "" {
		powerChild(t, dir)
		return
	}
	if err := lossyfs.Available(); err != nil {
		t.Skip("a file system that loses power can't be mounted here:", err)
	}
	t.Run("with an index", func(t *testing.T) { powerLoss(t, 4) })
	t.Run("without", func(t *testing.T) { powerLoss(t, 2, powerNoIndexEnv+"=1") })
	t.Run("in a directory that a kill has left", func(t *testing.T) { powerLoss(t, 1, powerTakenEnv+"=1") })
}

// powerLoss looks at so many losses after each change.
func powerLoss(t *testing.T, each int, env ...string) {
	_, roots := powerRoots(t)
	mount := t.TempDir()
	files := lossyfs.New()
	m, err := files.MountAt(mount)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := m.Unmount(); err != nil {
			t.Error(err)
		}
	}()

	l := &losses{t: t, files: files, roots: roots, dir: t.TempDir(), each: each, index: len(env) == 0}
	files.OnChange(l.look)
	cmd := exec.Command(os.Args[0], "-test.run=^TestPowerLoss$", "-test.timeout=10m")
	cmd.Env = append(append(os.Environ(), env...), powerDirEnv+"="+filepath.Join(mount, "state", "checkpoints"))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	told := bufio.NewScanner(out)
	ended := false
	for told.Scan() {
		switch told.Text() {
		case "done":
			l.done.Add(1)
			l.look()
			if _, err := in.Write([]byte("\n")); err != nil {
				t.Error(err)
			}
		case "end":
			ended = true
		default:
			if !ended {
				t.Errorf("the steps: %s", told.Text())
			}
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if done := int(l.done.Load()); done != len(powerSteps) {
		t.Fatalf("%d steps of %d were done", done, len(powerSteps))
	}
	t.Logf("%d losses after %d changes, %d checkpoints seen", l.count, files.Changes(), l.seen)
	if changes := files.Changes(); changes < 150 || l.count < int(changes)*each || l.seen < l.count {
		t.Error("these are too few")
	}
}

// losses looks at what losses leave.
type losses struct {
	t     *testing.T
	files *lossyfs.FS
	roots map[uint64]node.Root
	dir   string
	each  int          // losses after each change: one of all that was not made safe, the others of any part of it
	index bool         // it can be written
	done  atomic.Int32 // steps

	mu          sync.Mutex
	count, seen int
}

func (l *losses) look() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.t.Failed() {
		return
	}
	for i := range l.each {
		left := l.files.AfterLosingAll()
		if i > 0 {
			left = l.files.AfterLoss(rand.New(rand.NewPCG(uint64(l.count), 1)))
		}
		dir := filepath.Join(l.dir, fmt.Sprint(l.count))
		l.count++
		err := left.CopyTo(dir)
		if err == nil {
			err = l.check(filepath.Join(dir, "state", "checkpoints"))
		}
		if err = errors.Join(err, os.RemoveAll(dir)); err != nil {
			l.t.Errorf("loss %d, after change %d and %d steps: %v", l.count-1, l.files.Changes(), l.done.Load(), err)
		}
	}
}

// check compares what a loss has left with what was promised.
func (l *losses) check(dir string) error {
	there := make(map[node.Root]Stored)
	d, err := OpenDirectory(dir)
	if err == nil {
		all, err := d.List(l.t.Context())
		if err != nil {
			return err
		}
		for _, s := range all {
			if s.Err != nil {
				return s.Err
			}
			if _, err := Verify(l.t.Context(), s.Path, VerifyWorkers(1)); err != nil {
				return fmt.Errorf("%s is there: %w", s.Path, err)
			}
			if _, err := ReadManifest(s.Path, s.Metadata); err != nil {
				return fmt.Errorf("%s is there: %w", s.Path, err)
			}
			there[s.Metadata.Root] = s
		}
		l.seen += len(all)
		if _, err := ReadIndex(dir); l.index && err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for version, state := range l.promised() {
		s, ok := there[l.roots[version]]
		switch {
		case state == "there" && !ok:
			return fmt.Errorf("checkpoint %d was made, and is not there", version)
		case state == "gone" && ok:
			return fmt.Errorf("checkpoint %d was deleted, and is there", version)
		case state == "kept" && (!ok || !s.Kept):
			return fmt.Errorf("checkpoint %d was marked to be kept: it is there: %v, with its mark: %v", version, ok, s.Kept)
		}
	}
	return l.makeAgain(dir)
}

// promised says of each checkpoint what it has to be: "there", "kept", "gone", or "" for any of it, where a step is
// under way.
func (l *losses) promised() map[uint64]string {
	states := make(map[uint64]string)
	done := int(l.done.Load())
	for i, s := range powerSteps {
		switch {
		case i == done && (s.do == "keep" || s.do == "mark"):
		case i == done:
			states[s.version] = ""
		case i > done:
		case s.do == "place":
			states[s.version] = ""
		case s.do == "create":
			states[s.version] = "there"
		case s.do == "keep":
			states[s.version] = "kept"
		case s.do == "delete":
			states[s.version] = "gone"
		}
	}
	return states
}

// makeAgain checks that what a loss has left is in nobody's way.
func (l *losses) makeAgain(dir string) error {
	if l.count%200 != 0 {
		return nil
	}
	ndb, roots := powerRoots(l.t)
	c, err := NewFileCreator(dir, ndb)
	if err != nil {
		return err
	}
	for version := range roots {
		m, err := c.CreateCheckpoint(l.t.Context(), roots[version], 512)
		if err != nil {
			return err
		}
		for i := range m.Chunks {
			chunk, err := m.GetChunkMetadata(uint64(i))
			if err != nil {
				return err
			}
			if err := c.GetCheckpointChunk(l.t.Context(), chunk, &bytes.Buffer{}); err != nil {
				return err
			}
		}
	}
	return nil
}
