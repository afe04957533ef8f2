package storedir

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/ckpt-project/ckpt/conformance/lossyfs"
)

// These make the test's binary open a directory on a file system that its parent has mounted, and another one be there
// before, whose name is not safe.
const (
	powerOpenEnv  = "CKPT_STOREDIR_POWER_OPEN"
	powerThereEnv = "CKPT_STOREDIR_POWER_THERE"
)

// TestDirectoryOfAKill opens a directory that is there, or is made below one that is, whose maker was killed before its
// name was safe: what is made safe in it after that survives a loss of power.
func TestDirectoryOfAKill(t *testing.T) {
	if dir := os.Getenv(powerOpenEnv); dir != "" {
		if err := os.Mkdir(os.Getenv(powerThereEnv), dirMode); err != nil {
			t.Fatal(err)
		}
		opts := options(dir)
		opts.Engine = "engine"
		opts.Open = func(context.Context) error { return WriteFile(filepath.Join(dir, opts.Engine), []byte("data")) }
		mustOpen(t, opts)
		return
	}
	if err := lossyfs.Available(); err != nil {
		t.Skip("a file system that loses power can't be mounted here:", err)
	}
	for _, opened := range []string{"there", filepath.Join("there", "below", "it")} {
		files, mount := lossyfs.New(), t.TempDir()
		m, err := files.MountAt(mount)
		if err != nil {
			t.Fatal(err)
		}
		child := exec.Command(os.Args[0], "-test.run=^TestDirectoryOfAKill$")
		child.Env = append(os.Environ(), powerOpenEnv+"="+filepath.Join(mount, opened), powerThereEnv+"="+filepath.Join(mount, "there"))
		if out, err := child.CombinedOutput(); err != nil {
			t.Errorf("%s: %v, %s", opened, err, out)
		}
		if err := m.Unmount(); err != nil {
			t.Fatal(err)
		}
		left := t.TempDir()
		if err := files.AfterLosingAll().CopyTo(left); err != nil {
			t.Fatal(err)
		}
		if data, err := os.ReadFile(filepath.Join(left, opened, "engine")); err != nil || string(data) != "data" {
			t.Errorf("%s: after a loss of power there is %q, %v", opened, data, err)
		}
	}
}
