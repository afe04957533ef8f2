//go:build unix

package quickstart_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/exit"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/git/gittest"
)

// program prepares a run of the program itself.
func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), asCommand+"=1")
	return cmd
}

// finish runs the program to its end, and checks its exit code.
func finish(t *testing.T, cmd *exec.Cmd, code int) (stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Fatalf("%q: exit code %d, want %d\n%s\n%s", cmd.Args[1:], got, code, out.Bytes(), errs.Bytes())
	}
	return out.String(), errs.String()
}

// summary is the part of --json that other programs were promised.
type summary struct {
	Versions uint64 `json:"versions"`
	Added    uint64 `json:"versions_added"`
	Entries  uint64 `json:"entries"`
	Root     struct {
		Namespace string `json:"ns"`
		Version   uint64 `json:"version"`
		Type      int    `json:"root_type"`
		Hash      string `json:"hash"`
	} `json:"root"`
	Checkpoints int     `json:"checkpoints"`
	Verified    uint64  `json:"verified_blobs"`
	Seconds     float64 `json:"seconds"`
}

// parse reads the one object that stdout has to hold.
func parse(t *testing.T, stdout string) (s summary) {
	t.Helper()
	if err := json.Unmarshal([]byte(stdout), &s); err != nil {
		t.Fatalf("%v: %s", err, stdout)
	}
	return s
}

func TestJSON(t *testing.T) {
	gittest.Isolate(t)
	made := history(t)
	stdout, stderr := finish(t, program(t, "quickstart", "--git", made.Dir, "--dir", t.TempDir(), "--json"), exit.OK)
	s := parse(t, stdout)
	if s.Versions != 4 || s.Entries != 6 || s.Verified != 6 || s.Checkpoints < 1 || s.Seconds <= 0 ||
		s.Root.Version != 4 || s.Root.Type != 1 || len(s.Root.Hash) != 64 || len(s.Root.Namespace) != 64 {
		t.Errorf("got %+v from %s", s, stdout)
	}
	if !strings.Contains(stderr, "Committing versions 1 to 4 to bbolt") {
		t.Errorf("stderr: %s", stderr)
	}
}

func TestCommandLine(t *testing.T) {
	gittest.Isolate(t)
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--git", ""}, exit.Usage, "--git is empty"},
		{[]string{"--dir", ""}, exit.Usage, "--dir is empty"},
		{[]string{"--sample", "--git", "."}, exit.Usage, "exclude each other"},
		{[]string{"directory"}, exit.Usage, "directory"},
		{[]string{"--to-backend", "rocksdb"}, exit.Usage, "choose one of memory, bbolt, leveldb"},
		{[]string{"--git", t.TempDir()}, exit.NotFound, "not a git repository"},
	} {
		stdout, stderr := finish(t, program(t, append([]string{"quickstart", "--json"}, test.args...)...), test.code)
		if stdout != "" || !strings.Contains(stderr, test.want) {
			t.Errorf("%q: stdout %q, stderr %q", test.args, stdout, stderr)
		}
	}
}

// TestNextSteps runs every command that the summary ends with.
func TestNextSteps(t *testing.T) {
	gittest.Isolate(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	wrapper := fmt.Sprintf("#!/bin/sh\n%s=1 exec '%s' \"$@\"\n", asCommand, self)
	if err := os.WriteFile(filepath.Join(bin, "ckpt-host"), []byte(wrapper), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+string(filepath.ListSeparator)+os.Getenv("PATH"))

	made := history(t)
	for name, args := range map[string][]string{
		"git":         {"--git", made.Dir},
		"sample":      {"--sample"},
		"from memory": {"--sample", "--from-backend", "memory"},
		"to memory":   {"--sample", "--to-backend", "memory"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "it's a directory")
			stdout, _ := finish(t, program(t, append([]string{"quickstart", "--dir", dir}, args...)...), exit.OK)
			hash := after(t, stdout, "metadata hash ")
			_, next, found := strings.Cut(stdout, "What to try next:\n")
			if !found {
				t.Fatalf("no next steps in\n%s", stdout)
			}
			ran := 0
			for line := range strings.Lines(next) {
				command := strings.TrimSpace(line)
				if command == "" || strings.HasPrefix(command, "#") {
					continue
				}
				ran++
				out, err := exec.CommandContext(t.Context(), "/bin/sh", "-c", "set -e; "+command).CombinedOutput()
				if err != nil {
					t.Errorf("%s: %v\n%s", command, err, out)
				}
				if strings.Contains(command, "create") && !strings.Contains(string(out), hash) {
					t.Errorf("%s: no metadata hash %s in\n%s", command, hash, out)
				}
			}
			if ran < 3 {
				t.Errorf("%d commands in\n%s", ran, next)
			}
		})
	}
}

// after returns the word that follows a text.
func after(t *testing.T, text, before string) string {
	t.Helper()
	_, rest, found := strings.Cut(text, before)
	if fields := strings.Fields(rest); found && len(fields) > 0 {
		return fields[0]
	}
	t.Fatalf("no %q in\n%s", before, text)
	return ""
}

// long makes a history of n commits, of several changes each.
func long(t *testing.T, n int) *gittest.Repository {
	t.Helper()
	made := gittest.Init(t)
	var h gittest.History
	for i := range n {
		h.Commit("main")
		for j := range 5 {
			h.Put(gittest.Regular, fmt.Sprintf("dir%d/file%d", (i+j)%7, i*j%101), bytes.Repeat(fmt.Appendf(nil, "%d ", i), 1+j*50))
		}
	}
	made.Import(&h)
	return made
}

// TestKilled kills the program at several points, each time where the run before left off, and ends with a
// run that has the same result as one that was never killed.
func TestKilled(t *testing.T) {
	gittest.Isolate(t)
	sockets := t.TempDir()
	t.Setenv("TMPDIR", sockets)
	const versions = 120
	made := long(t, versions)
	stdout, _ := finish(t, program(t, "quickstart", "--git", made.Dir, "--dir", t.TempDir(), "--json"), exit.OK)
	want := parse(t, stdout)

	dir := filepath.Join(t.TempDir(), "killed")
	run := []string{"quickstart", "--git", made.Dir, "--dir", dir, "--json"}
	lines := func(n int) func() bool {
		return func() bool {
			content, err := os.ReadFile(filepath.Join(dir, "versions.log"))
			return err == nil && bytes.Count(content, []byte("\n")) >= n
		}
	}
	exists := func(parts ...string) func() bool {
		return func() bool {
			_, err := os.Stat(filepath.Join(append([]string{dir}, parts...)...))
			return !errors.Is(err, fs.ErrNotExist)
		}
	}
	for _, kill := range []struct {
		when string
		now  func() bool
	}{
		{"the marker is there", exists("quickstart.json")},
		{"the database is there", exists("state", "history", "db")},
		{"the first version is written", lines(1)},
		{"some more are", lines(17)},
		{"nothing new has been done yet", exists("state")},
		{"many are", lines(90)},
		{"the copy is being restored", exists("state", "restored", "db")},
	} {
		killed := program(t, run...)
		var stderr bytes.Buffer
		killed.Stderr = &stderr
		if err := killed.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- killed.Wait() }()
		// There is nothing to be told by but files: the program must not know that it is watched.
		for tick := time.NewTicker(time.Millisecond); !kill.now(); {
			select {
			case err := <-ended:
				t.Fatalf("it ended before %s: %v\n%s", kill.when, err, stderr.Bytes())
			case <-tick.C:
			}
		}
		if err := killed.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-ended
		nothingLeft(t, made.Dir)
	}

	stdout, stderr := finish(t, program(t, run...), exit.OK)
	got := parse(t, stdout)
	if got.Root != want.Root || got.Verified != want.Verified || got.Versions != versions {
		t.Errorf("got %+v, want %+v\n%s", got, want, stderr)
	}
	if left, err := os.ReadDir(sockets); err != nil || len(left) > 0 {
		t.Errorf("left among the temporary files: %v, %v", left, err)
	}
}

func TestInterrupted(t *testing.T) {
	gittest.Isolate(t)
	made := long(t, 250)
	dir := filepath.Join(t.TempDir(), "interrupted")
	cmd := program(t, "quickstart", "--git", made.Dir, "--dir", dir, "--json")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	journal := filepath.Join(dir, "versions.log")
	for tick := time.NewTicker(time.Millisecond); ; <-tick.C {
		if info, err := os.Stat(journal); err == nil && info.Size() > 1000 {
			break
		}
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // the exit code says it
	if code := cmd.ProcessState.ExitCode(); code != exit.Interrupted || stdout.Len() > 0 {
		t.Errorf("exit code %d, stdout %s, stderr %s", code, stdout.Bytes(), stderr.Bytes())
	}
	nothingLeft(t, made.Dir)
	out, _ := finish(t, program(t, "quickstart", "--git", made.Dir, "--dir", dir, "--json"), exit.OK)
	if s := parse(t, out); s.Added == 0 || s.Added == s.Versions || s.Versions != 250 {
		t.Errorf("got %+v", s)
	}
}

// nothingLeft waits until no process of the program, of its backends and of git in the repository is left:
// a backend has two seconds for that. It knows processes on Linux only; elsewhere the next run, which needs
// the locks, has to tell.
func nothingLeft(t *testing.T, repository string) {
	t.Helper()
	if runtime.GOOS != "linux" {
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(5 * time.Second)
	for {
		left := processes(t, self, repository)
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still there: %q", left)
		}
		time.Sleep(10 * time.Millisecond) // the processes are nobody's children any more: no one is told of their end
	}
}

// processes lists the command lines of other processes of a program, or with a word in their arguments.
func processes(t *testing.T, executable, word string) (found []string) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if entry.Name() == fmt.Sprint(os.Getpid()) || strings.Trim(entry.Name(), "0123456789") != "" {
			continue
		}
		process := filepath.Join("/proc", entry.Name())
		line, err := os.ReadFile(filepath.Join(process, "cmdline"))
		if err != nil || len(line) == 0 {
			continue // it has ended
		}
		exe, err := os.Readlink(filepath.Join(process, "exe"))
		if err == nil && exe == executable || bytes.Contains(line, []byte(word)) {
			found = append(found, entry.Name()+" "+strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}
