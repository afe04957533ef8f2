//go:build unix && !solaris && !aix

package bench

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

func newDir(t *testing.T, parent string) *workDir {
	t.Helper()
	d, err := newWorkDir(parent, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// fill puts something into a directory that a run works in.
func fill(t *testing.T, d *workDir) {
	t.Helper()
	for _, name := range []string{"a", filepath.Join("state", "deep"), "z"} {
		path := filepath.Join(d.path, name, "file")
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("data"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

// abandon does to a directory what the end of its run does.
func abandon(t *testing.T, d *workDir) {
	t.Helper()
	if err := d.lock.Close(); err != nil {
		t.Fatal(err)
	}
}

func isThere(t *testing.T, path string) bool {
	t.Helper()
	_, err := os.Lstat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

// A directory whose run has gone is removed by the next run, and one that is in use is not.
func TestAbandonedIsRemoved(t *testing.T) {
	parent := t.TempDir()
	left, inUse := newDir(t, parent), newDir(t, parent)
	fill(t, left)
	fill(t, inUse)
	abandon(t, left)
	var told []string
	d, err := newWorkDir(parent, func(format string, args ...any) { told = append(told, format) })
	if err != nil {
		t.Fatal(err)
	}
	if isThere(t, left.path) || len(told) != 1 {
		t.Errorf("it is still there: %t; told: %q", isThere(t, left.path), told)
	}
	if !isThere(t, filepath.Join(inUse.path, "state", "deep", "file")) {
		t.Error("one that is in use was removed")
	}
	if err := errors.Join(d.remove(), inUse.remove()); err != nil {
		t.Fatal(err)
	}
	emptyAfter(t, parent)
}

// What is not known to be of a run that has gone stays, whatever it is called.
func TestOthersAreLeftAlone(t *testing.T) {
	parent, elsewhere := t.TempDir(), t.TempDir()
	make := func(name string) string {
		path := filepath.Join(parent, name)
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write := func(path string) {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := func(to, path string) {
		if err := os.Symlink(to, path); err != nil {
			t.Fatal(err)
		}
	}
	make(dirPrefix + "without-lock")
	write(filepath.Join(make(dirPrefix+"beginning"), newLockName))
	write(filepath.Join(make("ckpt-other"), lockName))
	write(filepath.Join(parent, dirPrefix+"file"))
	if err := os.Mkdir(filepath.Join(make(dirPrefix+"lock-is-directory"), lockName), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(make(dirPrefix+"lock-is-pipe"), lockName), 0o600); err != nil {
		t.Fatal(err)
	}
	write(filepath.Join(elsewhere, lockName))
	link(filepath.Join(elsewhere, lockName), filepath.Join(make(dirPrefix+"lock-is-link"), lockName))
	link(elsewhere, filepath.Join(parent, dirPrefix+"link"))
	before, err := os.ReadDir(parent)
	if err != nil {
		t.Fatal(err)
	}

	if err := newDir(t, parent).remove(); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadDir(parent)
	if err != nil {
		t.Fatal(err)
	}
	if len(after) != len(before) || !isThere(t, filepath.Join(elsewhere, lockName)) {
		t.Errorf("%v were there, and %v are", before, after)
	}
}

// A link within a directory is removed, and not what it leads to.
func TestLinksAreNotFollowed(t *testing.T) {
	parent, elsewhere := t.TempDir(), t.TempDir()
	kept := filepath.Join(elsewhere, "kept")
	left := newDir(t, parent)
	if err := errors.Join(os.WriteFile(kept, nil, 0o600), os.Symlink(elsewhere, filepath.Join(left.path, "state"))); err != nil {
		t.Fatal(err)
	}
	abandon(t, left)
	removeAbandoned(parent, t.Logf)
	emptyAfter(t, parent)
	if !isThere(t, kept) {
		t.Error("what a link leads to was removed")
	}
}

// A process of a step that outlives its run has the directory in use.
func TestStepsHoldTheDirectory(t *testing.T) {
	parent := t.TempDir()
	left := newDir(t, parent)
	step := exec.Command("cat") // until its input ends
	step.ExtraFiles = left.held()
	in, err := step.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := step.Start(); err != nil {
		t.Fatal(err)
	}
	abandon(t, left)
	removeAbandoned(parent, t.Logf)
	if !isThere(t, left.path) {
		t.Error("a directory was removed that a step works in")
	}
	in.Close()
	if err := step.Wait(); err != nil {
		t.Fatal(err)
	}
	removeAbandoned(parent, t.Logf)
	emptyAfter(t, parent)
}

// Removing that is broken off is gone on with.
func TestRemovingGoesOn(t *testing.T) {
	parent := t.TempDir()
	left := newDir(t, parent)
	fill(t, left)
	stuck := filepath.Join(left.path, "state")
	if err := os.Chmod(stuck, 0o500); err != nil {
		t.Fatal(err)
	}
	abandon(t, left)
	removeAbandoned(parent, t.Logf)
	if err := os.Chmod(stuck, 0o700); err != nil && !errors.Is(err, fs.ErrNotExist) { // root can do it at once
		t.Fatal(err)
	}
	removeAbandoned(parent, t.Logf)
	emptyAfter(t, parent)
}
