package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// childOf returns the process number of a process's only child.
func childOf(t *testing.T, parent int) int {
	t.Helper()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", parent))
	if err != nil {
		t.Fatal(err)
	}
	var children []string
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			t.Fatal(err)
		}
		children = append(children, strings.Fields(string(text))...)
	}
	if len(children) != 1 {
		t.Fatalf("%d children of process %d, want one: %v", len(children), parent, children)
	}
	child, err := strconv.Atoi(children[0])
	if err != nil {
		t.Fatal(err)
	}
	return child
}

func TestKilledBackendIsUnavailable(t *testing.T) {
	dir := t.TempDir()
	p, input := startImport(t, dir)
	if err := syscall.Kill(childOf(t, p.Process.Pid), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	input.Close()
	p.end(t, 7, p.Wait())
	if text := p.stderr.String(); !strings.Contains(text, "unavailable") || !strings.Contains(text, "version 1 was imported and is kept") {
		t.Errorf("stderr: %s", text)
	}
	if got := latest(t, dir); got != "1" {
		t.Errorf("the latest version is %s", got)
	}
}

// TestLockedDatabaseNamesItsHolder has an import hold the database while another one wants it.
func TestLockedDatabaseNamesItsHolder(t *testing.T) {
	dir := t.TempDir()
	holder, input := startImport(t, dir)
	child := childOf(t, holder.Process.Pid)
	p := runProgram(t, 7, dir, "dump", "--config", "ckpt.hcl", "--namespace", "a", "--lock-wait", "100ms")
	if text := p.stderr.String(); !strings.Contains(text, "in use by another process") || !strings.Contains(text, strconv.Itoa(child)) {
		t.Errorf("stderr does not name process %d: %s", child, text)
	}
	input.Close()
	holder.end(t, 0, holder.Wait())
	if got := latest(t, dir); got != "2" {
		t.Errorf("the latest version is %s", got)
	}
}
