package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// openTerminal opens a terminal of 100 columns: what is written to the program's side is read from the other.
func openTerminal(t *testing.T) (screen, program *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no terminal can be made here: %v", err)
	}
	t.Cleanup(func() { screen.Close() })
	number, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(int(screen.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 100}); err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return screen, program
}

// onTerminal runs ckpt-host with a terminal for stderr, and returns what was shown on it. Progress is told so often that
// work need not take long for it to be seen.
func onTerminal(t *testing.T, dir string, args ...string) string {
	t.Helper()
	screen, side := openTerminal(t)
	p := newProgram(t, dir, args...)
	p.Stderr, p.Env = side, append(p.Env, intervalVariable+"=1ms")
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	side.Close()
	shown, _ := io.ReadAll(screen) // ends with an error when nobody has the terminal any more
	if err := p.Wait(); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, shown)
	}
	return string(shown)
}

// TestProgressOnTerminal runs what takes long on a terminal. A bar with what is done in percent is drawn, again
// and again on the same line, and is gone in the end.
func TestProgressOnTerminal(t *testing.T) {
	dir := t.TempDir()
	writeOperations(t, filepath.Join(dir, "ops.ndjson"), 4, 10_000)
	for _, c := range []struct{ args, want string }{
		{"import -n a ops.ndjson", `importing \[#*-*\] \d+%, (\d+ s left, )?\d+\.\d [kM]B/s, `},
		{"checkpoint create -n a --chunk-size 8KiB", `(making|verifying) the state checkpoint of version 4[: ]`},
		{"restore -n b --from state/a/checkpoints --trust-source", `restoring version 4 \[#*-*\] \d+%, `},
	} {
		shown := onTerminal(t, dir, append(strings.Fields(c.args), "-c", "ckpt.hcl")...)
		if !regexp.MustCompile(c.want).MatchString(shown) {
			t.Errorf("%s: nothing on the terminal is like %s: %q", c.args, c.want, shown)
		}
		for line := range strings.SplitSeq(strings.TrimRight(shown, "\r\n"), "\r") {
			if n := len(strings.TrimPrefix(line, "\x1b[K")); n > 99 {
				t.Errorf("%s: a line of %d characters: %q", c.args, n, line)
			}
		}
		if !strings.HasSuffix(shown, "\r\x1b[K") {
			t.Errorf("%s: in the end: %q", c.args, shown[max(0, len(shown)-100):])
		}
	}
}

// TestProgressElsewhere has an import wait for its input: it tells so every few seconds, a line each time.
func TestProgressElsewhere(t *testing.T) {
	if testing.Short() {
		t.Skip("takes ten seconds")
	}
	dir := t.TempDir()
	p := newProgram(t, dir, "import", "--config", "ckpt.hcl", "--namespace", "a", "-")
	p.Stderr = nil
	stderr, err := p.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	input, err := p.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(input, line(1, "one", "1")+line(2, "two", "2")); err != nil {
		t.Fatal(err)
	}
	var lines []string
	scanner := bufio.NewScanner(stderr)
	for scanner.Scan() {
		if lines = append(lines, scanner.Text()); strings.Contains(scanner.Text(), "no progress for") {
			input.Close()
		}
	}
	p.end(t, 0, p.Wait())
	text := strings.Join(lines, "\n")
	if !regexp.MustCompile(`(?m)^importing: \d\.\d kB/s, \d operations?/s, 1 version, \d+ B, 1 operation$`).MatchString(text) &&
		!regexp.MustCompile(`(?m)^importing: \d\.\d kB/s, 1 version, \d+ B, 1 operation$`).MatchString(text) {
		t.Errorf("stderr: %s", text)
	}
	if !regexp.MustCompile(`(?m)^importing: no progress for 1\d s, 1 version, \d+ B, 1 operation$`).MatchString(text) {
		t.Errorf("stderr: %s", text)
	}
}
