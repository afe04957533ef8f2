package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestInterruptedConformance ends the suite with Ctrl-C while its cases run, and while a program that is no
// plugin hangs at the start: it ends in good order, and no process, directory or report is left.
func TestInterruptedConformance(t *testing.T) {
	hangs := filepath.Join(t.TempDir(), "hangs")
	if err := os.WriteFile(hangs, []byte("#!/bin/sh\nexec sleep 100\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, plugin string
		// children is how many processes are seen to begin before the signal.
		children int
	}{
		{"cases run", "bbolt", 5},
		{"it hangs at the start", hangs, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			temp, err := os.MkdirTemp("", "sigint") // sockets need a short path
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(temp) })
			p := newProgram(t, dir, "conformance", c.plugin, "--profile", "durable", "--parallel", "2", "--keep", "kept", "--report", "r.json")
			p.Env = append(p.Env, "TMPDIR="+temp, "XDG_RUNTIME_DIR="+temp)
			if err := p.Start(); err != nil {
				t.Fatal(err)
			}
			last := 0
			for range c.children {
				if last = nextChild(t, p, last); last == 0 {
					t.Fatalf("it ended by itself: %v\n%s%s", p.Wait(), p.stdout.String(), p.stderr.String())
				}
			}
			if c.plugin == hangs {
				isTold(t, p.Process.Pid, temp)
			}
			interrupt(t, p.Process.Pid)
			p.end(t, 130, p.Wait())
			if !strings.Contains(p.stderr.String(), "interrupted") || p.stdout.Len() > 0 {
				t.Errorf("stdout %q, stderr %q", p.stdout.String(), p.stderr.String())
			}
			for _, d := range []string{temp, filepath.Join(dir, "kept")} {
				if left, err := os.ReadDir(d); err != nil || len(left) > 0 {
					t.Errorf("left in %s: %v, %v", d, left, err)
				}
			}
			if _, err := os.Stat(filepath.Join(dir, "r.json")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("there is a report: %v", err)
			}
			// A plugin's environment names the directory of its socket.
			for pid, environ := range environments(t) {
				if bytes.Contains(environ, []byte(temp)) {
					t.Errorf("process %s is left", pid)
				}
			}
		})
	}
}

// isTold waits until a process that another one has begun can be told by its environment, which is empty
// while it begins. (Go's own first child, which only tries something out, has none.)
func isTold(t *testing.T, host int, by string) {
	t.Helper()
	for range 500 {
		for pid, environ := range environments(t) {
			if pid != strconv.Itoa(host) && bytes.Contains(environ, []byte(by)) {
				return
			}
		}
		time.Sleep(time.Millisecond)
	}
	t.Errorf("no process that %d has begun has %s in its environment", host, by)
}

// environments are those of all processes that can be asked.
func environments(t *testing.T) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no processes: %v", err)
	}
	all := map[string][]byte{}
	for _, path := range paths {
		environ, err := os.ReadFile(path)
		switch {
		case errors.Is(err, os.ErrNotExist), errors.Is(err, os.ErrPermission), errors.Is(err, syscall.ESRCH):
			continue // somebody else's, or gone
		case err != nil:
			t.Fatal(err)
		}
		all[filepath.Base(filepath.Dir(path))] = environ
	}
	return all
}
