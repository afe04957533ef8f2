package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// ownMountsVariable says that this process may mount what it likes, for itself and its children alone.
const ownMountsVariable = "CKPT_HOST_TEST_OWN_MOUNTS"

// withOwnMounts runs the test again, in a process that may mount file systems. It returns false in that process.
func withOwnMounts(t *testing.T) bool {
	t.Helper()
	if os.Getenv(ownMountsVariable) != "" {
		return false
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), ownMountsVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	text, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		t.Errorf("%s", text)
	case err != nil:
		t.Skip("a process can't have mounts of its own here:", err)
	case strings.Contains(string(text), "--- SKIP"):
		t.Skipf("%s", text)
	default:
		t.Logf("%s", text)
	}
	return true
}

// disk is a file system in memory.
type disk struct{ dir string }

// mountDisk mounts a disk that holds so many pages.
func mountDisk(t *testing.T, dir string, pages int) *disk {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, tmpfsSize(pages)); err != nil {
		t.Skip("a file system can't be mounted here:", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return &disk{dir}
}

func tmpfsSize(pages int) string { return fmt.Sprintf("size=%d", pages*os.Getpagesize()) }

// resize makes the disk hold so many pages.
func (d *disk) resize(t *testing.T, pages int) {
	t.Helper()
	if err := unix.Mount("", d.dir, "", unix.MS_REMOUNT, tmpfsSize(pages)); err != nil {
		t.Fatal(err)
	}
}

func (h *restoreHistory) namespaceDir() string { return filepath.Join(h.dir, "state", h.namespace) }

// TestRestoreOnFullDisk restores onto a disk that is full again and again, at first page by page: the program
// says so, keeps what it has, and goes on when there is more.
func TestRestoreOnFullDisk(t *testing.T) {
	if withOwnMounts(t) {
		return
	}
	source := newRestoreSource(t)
	for _, b := range killedBackends {
		t.Run(b.name, func(t *testing.T) {
			k := &restoreKills{source: source, namespace: b.namespace}
			args := []string{"restore", "--from", source.checkpoints, "--trust-source", "--json"}
			h := k.history(t)
			mountDisk(t, h.namespaceDir(), 100)
			refused := h.program(t, args...)
			refused.end(t, 1, refused.Run())
			if text := refused.stderr.String(); !strings.Contains(text, "nothing was written") {
				t.Errorf("a disk that is too small: %s", text)
			}

			h = k.history(t)
			d := mountDisk(t, h.namespaceDir(), 1)
			full, kept := 0, 0
			for pages, more := 2, 1; ; pages += more {
				d.resize(t, pages)
				if pages > 24 {
					more = pages / 3
				}
				r := h.source.watch.start(t, h.program(t, append(args, "--ignore-space")...))
				if code := h.ended(t, r); code == 0 {
					h.finish(t, r)
					break
				}
				r.end(t, 1, nil)
				full++
				text := r.stderr.String()
				if !strings.Contains(text, "no space left on device") {
					t.Fatalf("with %d pages: %s", pages, text)
				}
				if len(r.opened) == 0 {
					continue
				}
				before, finalized := h.kept, h.finalized
				h.look(t)
				if h.kept < before {
					t.Errorf("with %d pages %d chunks are in, and there were %d", pages, h.kept, before)
				}
				// What is left to do when the version is there is the engine's own business.
				if !strings.Contains(text, "run the same command again to go on") && h.finalized == finalized {
					t.Errorf("with %d pages: %s", pages, text)
				}
				if h.kept > before {
					kept++
				}
			}
			h.count(t)
			if full < 10 || kept < 3 {
				t.Errorf("the disk was full %d times, %d times with more chunks than before", full, kept)
			}
			t.Logf("the disk was full %d times, %d times with more chunks than before", full, kept)
		})
	}
}
