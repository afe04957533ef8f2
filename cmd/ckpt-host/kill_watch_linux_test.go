package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// watch is told by the kernel of the files that are opened in some directories. Who opens them does not know
// that it is watched, and is not slowed down.
type watch struct {
	file int // inotify's
	dirs map[int32]string
}

func newWatch(t *testing.T, dirs ...string) *watch {
	t.Helper()
	file, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(file) })
	w := &watch{file: file, dirs: map[int32]string{}}
	for _, dir := range dirs {
		number, err := unix.InotifyAddWatch(file, dir, unix.IN_OPEN)
		if err != nil {
			t.Fatal(err)
		}
		w.dirs[int32(number)] = dir
	}
	return w
}

// take returns the files that were opened since the last call, in the order of that. It does not wait.
func (w *watch) take(t *testing.T) (opened []string) {
	t.Helper()
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Read(w.file, buf)
		if errors.Is(err, unix.EAGAIN) {
			return opened
		}
		if err != nil {
			t.Fatal(err)
		}
		for events := buf[:n]; len(events) > 0; {
			number := int32(binary.NativeEndian.Uint32(events))
			mask := binary.NativeEndian.Uint32(events[4:])
			end := unix.SizeofInotifyEvent + binary.NativeEndian.Uint32(events[12:])
			name, _, _ := bytes.Cut(events[unix.SizeofInotifyEvent:end], []byte{0})
			events = events[end:]
			switch {
			case mask&unix.IN_Q_OVERFLOW != 0:
				t.Fatal("more files were opened than the kernel has told of")
			case mask&unix.IN_ISDIR == 0:
				opened = append(opened, filepath.Join(w.dirs[number], string(name)))
			}
		}
	}
}

// watched is a run of the program, and the files that it has opened so far.
type watched struct {
	*program
	watch  *watch
	ended  int // can be read from when it has
	opened []string
}

// start starts a program. The files are its own alone where nobody else opens any.
func (w *watch) start(t *testing.T, p *program) *watched {
	t.Helper()
	r := &watched{program: p, watch: w}
	p.SysProcAttr = &syscall.SysProcAttr{PidFD: &r.ended}
	w.take(t)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	if r.ended < 0 {
		t.Fatal("the kernel has no file for a process")
	}
	t.Cleanup(func() { unix.Close(r.ended) })
	return r
}

// until waits until the files that were opened are enough, or for a while. It returns false when the program
// has ended.
func (r *watched) until(t *testing.T, enough func() bool, while time.Duration) bool {
	t.Helper()
	for deadline := time.Now().Add(while); ; {
		r.opened = append(r.opened, r.watch.take(t)...)
		left := time.Until(deadline)
		if left <= 0 || enough() {
			return true
		}
		files := []unix.PollFd{{Fd: int32(r.watch.file), Events: unix.POLLIN}, {Fd: int32(r.ended), Events: unix.POLLIN}}
		timeout := unix.NsecToTimespec(left.Nanoseconds())
		if _, err := unix.Ppoll(files, &timeout, nil); err != nil && !errors.Is(err, unix.EINTR) {
			t.Fatal(err)
		}
		if files[1].Revents != 0 {
			return false
		}
	}
}

// wait waits for the program's end, and returns its exit code, -1 where it was killed.
func (r *watched) wait(t *testing.T) int {
	t.Helper()
	_ = r.Wait() // the exit code says it
	r.opened = append(r.opened, r.watch.take(t)...)
	return r.ProcessState.ExitCode()
}
