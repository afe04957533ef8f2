package durable_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/ckpt-project/ckpt/framework/common/durable"
)

// That names outlast a loss of power is shown where they are made: by the tests of losses of power in storedir,
// checkpoint and the host.

func TestMakeDirs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b", "c")
	for range 2 { // the second time it is there
		if err := durable.MakeDirs(path); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() || runtime.GOOS != "windows" && info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}
	file := filepath.Join(path, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{file, filepath.Join(file, "below")} {
		if err := durable.MakeDirs(p); !errors.Is(err, syscall.ENOTDIR) {
			t.Errorf("%s: %v", p, err)
		}
	}
}

func TestSyncOfNothing(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("directories can't be synced there, and are not looked at")
	}
	path := filepath.Join(t.TempDir(), "nothing")
	for name, sync := range map[string]func(string) error{"SyncDir": durable.SyncDir, "SyncTaken": durable.SyncTaken} {
		if err := sync(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
