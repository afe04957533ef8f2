package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// These tests stop processes in the middle of a restore, as a debugger, a frozen container or a disk that does
// not answer does, and let them go on.

// stopped starts a restore into an empty database, and stops it, or the process of its backend, when some chunks
// have been begun and others have not.
func (k *restoreKills) stopped(t *testing.T, plugin bool) (h *restoreHistory, r *watched, pid int) {
	t.Helper()
	for range 20 {
		h = k.history(t)
		r = h.start(t)
		pid = r.Process.Pid
		going := r.until(t, func() bool { return len(r.opened) >= 5 }, patience)
		if going && plugin {
			pid = nextChild(t, r.program, 0)
			going = pid != 0
		}
		if going {
			send(t, pid, syscall.SIGSTOP)
			t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) }) // where the test has failed before
			awaitStop(t, pid)
			r.opened = append(r.opened, r.watch.take(t)...)
			if h.missing(r) > 0 {
				return h, r, pid
			}
			send(t, pid, syscall.SIGCONT)
		}
		h.ended(t, r) // it was faster
	}
	t.Fatal("no restore could be stopped in the middle")
	return nil, nil, 0
}

func send(t *testing.T, pid int, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, s); err != nil {
		t.Fatal(err)
	}
}

// awaitStop waits until a process does nothing any more: a signal takes a moment to get to all of its threads.
func awaitStop(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		states, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if err != nil {
			t.Fatal(err)
		}
		running := 0
		for _, path := range states {
			stat, err := os.ReadFile(path)
			if _, state, _ := strings.Cut(string(stat), ") "); err == nil && !strings.HasPrefix(state, "T") && !strings.HasPrefix(state, "Z") {
				running++
			}
		}
		if running == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d does not stop", pid)
		}
	}
}

// goesOn runs the program to its end, and checks what is restored.
func (h *restoreHistory) goesOn(t *testing.T) {
	t.Helper()
	r := h.start(t)
	h.ended(t, r)
	r.end(t, 0, nil)
	h.finish(t, r)
	h.count(t)
}

func hangs(t *testing.T, f func(t *testing.T, k *restoreKills)) {
	source := newRestoreSource(t)
	for _, b := range killedBackends {
		t.Run(b.name, func(t *testing.T) { f(t, &restoreKills{source: source, namespace: b.namespace}) })
	}
}

// TestRestoreBesideAnother restores into a database that another restore is at work on: it is told who, and
// nothing comes of it but that. One that waits long enough finds the version there.
func TestRestoreBesideAnother(t *testing.T) {
	hangs(t, func(t *testing.T, k *restoreKills) {
		h, first, pid := k.stopped(t, false)
		backend := childOf(t, pid)
		args := []string{"restore", "--from", h.source.checkpoints, "--trust-source", "--json"}
		for range 3 {
			second := h.program(t, append(args, "--lock-wait", "50ms")...)
			second.end(t, 7, second.Run())
			if text := second.stderr.String(); !strings.Contains(text, "in use by another process") || !strings.Contains(text, strconv.Itoa(backend)) {
				t.Errorf("the second restore does not name process %d: %s", backend, text)
			}
		}
		if begun := h.source.watch.take(t); len(begun) > 0 {
			t.Errorf("the second restore has begun %v", begun)
		}
		waiting := h.program(t, append(args, "--lock-wait", "1m")...)
		if err := waiting.Start(); err != nil {
			t.Fatal(err)
		}
		nextChild(t, waiting, 0)
		send(t, pid, syscall.SIGCONT)
		h.ended(t, first)
		first.end(t, 0, nil)
		h.finish(t, first)
		waiting.end(t, 0, waiting.Wait())
		if text := waiting.stdout.String(); !strings.Contains(text, `"already_there":true`) {
			t.Errorf("the restore that waited tells %s", text)
		}
	})
}

// TestInterruptBesideStoppedBackend interrupts a restore whose backend's process hangs. When that goes on, the
// program ends in good order; when it does not, a second interrupt ends both. In either case the same command
// goes on.
func TestInterruptBesideStoppedBackend(t *testing.T) {
	hangs(t, func(t *testing.T, k *restoreKills) {
		h, r, backend := k.stopped(t, true)
		interrupt(t, r.Process.Pid)
		send(t, backend, syscall.SIGCONT)
		h.ended(t, r)
		r.end(t, 130, nil)
		if text := r.stderr.String(); !strings.Contains(text, "interrupted") || !strings.Contains(text, "run the same command again to go on") {
			t.Errorf("stderr: %s", text)
		}
		h.goesOn(t)

		h, r, _ = k.stopped(t, true)
		for interrupt(t, r.Process.Pid); r.until(t, func() bool { return false }, 50*time.Millisecond); {
			interrupt(t, r.Process.Pid) // the one that comes after the first was taken ends it
		}
		h.ended(t, r)
		if status := r.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGINT {
			t.Errorf("it ended with %v: %s", r.ProcessState, r.stderr.String())
		}
		h.goesOn(t)
	})
}

// TestInterruptEndsStoppedBackend interrupts a restore whose backend's process hangs, once: it says what it waits for,
// and ends both before long. The same command goes on.
func TestInterruptEndsStoppedBackend(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	hangs(t, func(t *testing.T, k *restoreKills) {
		h, r, backend := k.stopped(t, true)
		interrupt(t, r.Process.Pid)
		h.ended(t, r) // within the program's minute
		r.end(t, 130, nil)
		text := r.stderr.String()
		for _, want := range []string{"waiting for backend ", "interrupt again to end at once", "interrupted", "run the same command again to go on"} {
			if !strings.Contains(text, want) {
				t.Errorf("stderr has nothing like %q: %s", want, text)
			}
		}
		if err := syscall.Kill(backend, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("the backend's process is there: %v", err)
		}
		h.goesOn(t)
	})
}
