package main

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestKilledBenchIsRemoved kills a bench, and then the step that it was at. What they leave is removed by the next bench,
// and not before the step and its backend have gone, too.
func TestKilledBenchIsRemoved(t *testing.T) {
	dir := t.TempDir()
	work := filepath.Join(dir, "work")
	if err := os.Mkdir(work, 0o700); err != nil {
		t.Fatal(err)
	}
	directories := func() []string {
		found, err := filepath.Glob(filepath.Join(work, "*"))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	signal := func(pid int, s syscall.Signal) {
		t.Helper()
		if err := syscall.Kill(pid, s); err != nil {
			t.Fatalf("%v of process %d: %v", s, pid, err)
		}
	}
	p := newProgram(t, dir, "bench", "--entries", "100000", "--versions", "0", "--rounds", "1", "--dir", work)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	var step int
	var backend []int
	for len(backend) == 0 { // the first step has its database in its own process
		if step = nextChild(t, p, 0); step == 0 {
			t.Fatalf("bench ended: %v", p.Wait())
		}
		backend = childrenOf(t, step)
	}
	signal(step, syscall.SIGSTOP)
	ended := false
	defer func() {
		if !ended {
			signal(step, syscall.SIGKILL)
		}
	}()
	if err := p.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	p.end(t, -1, p.Wait())
	left := directories()
	if len(left) != 1 {
		t.Fatalf("%v are left", left)
	}
	if !hasOpen(t, backend[0], filepath.Join(left[0], "bench.lock")) {
		t.Error("the backend's process does not hold the directory")
	}

	next := []string{
		"bench", "storage", "--backend", "memory", "--data", "uniform", "--entries", "1", "--versions", "1", "--keep", "1",
		"--many-versions", "101", "--dir", work,
	}
	runProgram(t, 0, dir, next...)
	if now := directories(); len(now) != 1 || now[0] != left[0] {
		t.Errorf("%v was left, whose step lives, and %v is there", left, now)
	}
	signal(step, syscall.SIGKILL)
	ended = true
	for deadline := time.Now().Add(time.Minute); len(directories()) > 0; { // the backend ends a moment later
		runProgram(t, 0, dir, next...)
		if time.Now().After(deadline) {
			t.Fatalf("%v stay", directories())
		}
	}
}

// hasOpen says whether a process has a file open.
func hasOpen(t *testing.T, pid int, path string) bool {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	open, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range open {
		if to, err := os.Readlink(filepath.Join(dir, file.Name())); err == nil && to == path {
			return true
		}
	}
	return false
}
