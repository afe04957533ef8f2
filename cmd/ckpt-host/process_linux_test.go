package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
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

// nextChild waits until a process has another child than the last one, and returns it; 0 when the process
// has ended.
func nextChild(t *testing.T, p *program, last int) int {
	t.Helper()
	for {
		lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", p.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Process.Pid))
		if _, state, _ := strings.Cut(string(stat), ") "); err != nil || strings.HasPrefix(state, "Z") {
			return 0
		}
		for _, list := range lists {
			text, _ := os.ReadFile(list) // a thread may have gone meanwhile
			for _, child := range strings.Fields(string(text)) {
				if pid, err := strconv.Atoi(child); err == nil && pid != last {
					return pid
				}
			}
		}
		time.Sleep(time.Millisecond)
	}
}

// TestImportSurvivesItsBackend kills the backend of an import that waits for more, and kills it again while the
// next version is committed: all that was written comes in.
func TestImportSurvivesItsBackend(t *testing.T) {
	dir := t.TempDir()
	p, input := startImport(t, dir)
	child := childOf(t, p.Process.Pid)
	if err := syscall.Kill(child, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	child = nextChild(t, p, child)
	const versions = 40
	for version := 2; version <= versions; version++ {
		for i := range 200 {
			if _, err := io.WriteString(input, line(uint64(version), fmt.Sprint("more ", i), fmt.Sprint(version))); err != nil {
				t.Fatal(err)
			}
		}
		if version == versions/2 {
			if err := syscall.Kill(child, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	input.Close()
	p.end(t, 0, p.Wait())
	if n := strings.Count(p.stderr.String(), "is started again"); n != 2 {
		t.Errorf("started again %d times: %s", n, p.stderr.String())
	}
	if got := latest(t, dir); got != strconv.Itoa(versions) {
		t.Errorf("the latest version is %s", got)
	}
	dump := runProgram(t, 0, dir, "dump", "--config", "ckpt.hcl", "--namespace", "a", "--encoding", "utf8")
	if n := strings.Count(dump.stdout.String(), fmt.Sprintf(`"value":"%d"`, versions)); n != 200 {
		t.Errorf("%d keys have the value of the last version", n)
	}
}

// TestKilledBackendIsUnavailable kills the backend of an import whenever it is there.
func TestKilledBackendIsUnavailable(t *testing.T) {
	dir := t.TempDir()
	p, input := startImport(t, dir)
	for child := childOf(t, p.Process.Pid); child != 0; child = nextChild(t, p, child) {
		if err := syscall.Kill(child, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Fatal(err)
		}
		input.Close()
	}
	p.end(t, 7, p.Wait())
	if text := p.stderr.String(); !strings.Contains(text, "unavailable") || !strings.Contains(text, "failed 6 times within 1m0s") || !strings.Contains(text, "version 1 was imported and is kept") {
		t.Errorf("stderr: %s", text)
	}
	if got := latest(t, dir); got != "1" {
		t.Errorf("the latest version is %s", got)
	}
}

// TestOthersEndWithTheirBackend kills the backend of a dump that waits for its reader: it is not started again.
func TestOthersEndWithTheirBackend(t *testing.T) {
	dir := t.TempDir()
	filled, input := startImport(t, dir)
	input.Close()
	filled.end(t, 0, filled.Wait())

	p := newProgram(t, dir, "dump", "--config", "ckpt.hcl", "--namespace", "a")
	p.Stdout = nil
	output, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(output, make([]byte, 1000)); err != nil { // the dump has begun
		t.Fatal(err)
	}
	if err := syscall.Kill(childOf(t, p.Process.Pid), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, output); err != nil {
		t.Fatal(err)
	}
	p.end(t, 7, p.Wait())
	if text := p.stderr.String(); !strings.Contains(text, "signal: killed") || !strings.Contains(text, "the backend's process has gone") || strings.Contains(text, "is started again") {
		t.Errorf("stderr: %s", text)
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
