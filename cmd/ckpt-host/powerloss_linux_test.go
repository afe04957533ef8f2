package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ckpt-project/ckpt/conformance/lossyfs"
)

// TestImportSurvivesLossOfPower imports into a new directory, on a file system that loses what was not made safe, the
// names of directories included: what was reported as imported is there.
func TestImportSurvivesLossOfPower(t *testing.T) {
	if err := lossyfs.Available(); err != nil {
		t.Skip("a file system that loses power can't be mounted here:", err)
	}
	dir := t.TempDir()
	mount, left := filepath.Join(dir, "mount"), filepath.Join(dir, "left")
	if err := os.Mkdir(mount, 0o700); err != nil {
		t.Fatal(err)
	}
	settings := strings.Replace(configurations("bbolt", "leveldb")["ckpt.hcl"], `data_dir = "state"`, `data_dir = "mount/state"`, 1)
	for name, text := range map[string]string{"mount.hcl": settings, "ops.ndjson": line(1, "one", "1") + line(2, "two", "2")} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files := lossyfs.New()
	m, err := files.MountAt(mount)
	if err != nil {
		t.Fatal(err)
	}
	p := newProgram(t, dir, "import", "--config", "mount.hcl", "--namespace", "a", "ops.ndjson")
	err = p.Run()
	if err := m.Unmount(); err != nil {
		t.Fatal(err)
	}
	p.end(t, 0, err)
	if files.Changes() == 0 {
		t.Fatal("nothing was done on the file system")
	}
	if err := files.AfterLosingAll().CopyTo(left); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(left, "state"), filepath.Join(dir, "state")); err != nil {
		t.Fatal(err)
	}
	if got := latest(t, dir); got != "2" {
		t.Errorf("the latest version is %s", got)
	}
}
