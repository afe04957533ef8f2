package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ckpt-project/ckpt/conformance/vectors"
)

// childOf returns the process number of a process's only child.
func childOf(t *testing.T, parent int) int {
	t.Helper()
	children := childrenOf(t, parent)
	if len(children) != 1 {
		t.Fatalf("%d children of process %d, want one: %v", len(children), parent, children)
	}
	return children[0]
}

// childrenOf returns the process numbers of a process's children; none where it has ended.
func childrenOf(t *testing.T, parent int) (children []int) {
	t.Helper()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", parent))
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // the thread has ended meanwhile
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, field := range strings.Fields(string(text)) {
			child, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			if runsItsOwn(child, parent) {
				children = append(children, child)
			}
		}
	}
	return children
}

// runsItsOwn says whether a child runs a program of its own. Go tries out once in each process whether it can
// have children in the way it wants: that one ends at once.
func runsItsOwn(child, parent int) bool {
	own, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", child))
	if err != nil || len(own) == 0 { // it has ended
		return false
	}
	of, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", parent))
	return err != nil || !bytes.Equal(own, of)
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
				if pid, err := strconv.Atoi(child); err == nil && pid != last && runsItsOwn(pid, p.Process.Pid) {
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
	for _, command := range [][]string{
		{"db", "stats"},
		{"db", "check"},
		{"db", "prune", "--before", "1"},
		{"db", "compact"},
		{"db", "migrate"},
		{"restore", "status"},
		{"restore", "abort"},
		{"restore", "abort", "--yes"},
	} {
		args := append(command, "--config", "ckpt.hcl", "--namespace", "a", "--lock-wait", "1ms")
		runProgram(t, 7, dir, args...)
	}
	input.Close()
	holder.end(t, 0, holder.Wait())
	if got := latest(t, dir); got != "2" {
		t.Errorf("the latest version is %s", got)
	}
}

// TestKilledUpkeepGoesOn kills the program and the process that keeps the database, at one write after the
// other, while versions are pruned and while the files are compacted.
func TestKilledUpkeepGoesOn(t *testing.T) {
	for namespace, backend := range map[string]string{"a": "bbolt", "b": "leveldb"} {
		t.Run(backend, func(t *testing.T) {
			const versions = 60
			dir := t.TempDir()
			run := func(want int, args ...string) *program {
				return runProgram(t, want, dir, append(args, "--config", "ckpt.hcl", "--namespace", namespace)...)
			}
			writeOperations(t, filepath.Join(dir, "ops.ndjson"), versions, 3000)
			run(0, "import", "ops.ndjson")
			dump := run(0, "dump").stdout.String()
			earliest := uint64(1)
			killed := 0
			for writes := 1; writes <= 6; writes++ {
				for _, command := range [][]string{{"prune", "--before", fmt.Sprint(9 * writes)}, {"compact"}} {
					p := newProgram(t, dir, append([]string{"db", "--config", "ckpt.hcl", "--namespace", namespace}, command...)...)
					if atWrite(t, p, filepath.Join(dir, "state", namespace, "db"), writes, kill) == -1 {
						killed++
					}
					before := earliest
					earliest = earliestOf(t, run(0, "db", "stats", "--json"))
					if earliest != before && earliest != uint64(9*writes) {
						t.Fatalf("the earliest version was %d and is %d, after %v was killed", before, earliest, command)
					}
					run(0, "db", "check")
					if run(0, "dump").stdout.String() != dump {
						t.Fatalf("not the same entries after %v was killed", command)
					}
				}
			}
			if killed == 0 {
				t.Error("nothing was killed")
			}
			run(0, "db", "prune", "--before", fmt.Sprint(versions))
			run(0, "db", "compact")
			if got := earliestOf(t, run(0, "db", "stats", "--json")); got != versions {
				t.Errorf("the earliest version is %d", got)
			}
			run(0, "db", "check")
			if run(0, "dump").stdout.String() != dump {
				t.Error("not the same entries in the end")
			}
		})
	}
}

// TestInterruptedUpkeep interrupts what frees space and gives it back: it ends in good order, and the same
// command does the rest.
func TestInterruptedUpkeep(t *testing.T) {
	dir := t.TempDir()
	writeOperations(t, filepath.Join(dir, "ops.ndjson"), 60, 3000)
	runProgram(t, 0, dir, "import", "--config", "ckpt.hcl", "--namespace", "a", "ops.ndjson")
	for _, command := range [][]string{{"prune", "--before", "50"}, {"compact"}} {
		args := append([]string{"db", "--config", "ckpt.hcl", "--namespace", "a"}, command...)
		p := newProgram(t, dir, args...)
		switch code := atWrite(t, p, filepath.Join(dir, "state", "a", "db"), 1, interrupt); {
		case code == 130 && strings.Contains(p.stderr.String(), "interrupted"), code == 0:
		default:
			t.Errorf("%v: exit code %d: %s", command, code, p.stderr.String())
		}
		runProgram(t, 0, dir, "db", "check", "--config", "ckpt.hcl", "--namespace", "a")
		runProgram(t, 0, dir, args...)
	}
	if got := earliestOf(t, runProgram(t, 0, dir, "db", "stats", "--config", "ckpt.hcl", "--namespace", "a", "--json")); got != 50 {
		t.Errorf("the earliest version is %d", got)
	}
}

// TestUnfinishedRestoreIsInTheWay kills a restore on top of older versions, and looks at what is said of it.
func TestUnfinishedRestoreIsInTheWay(t *testing.T) {
	dir := t.TempDir()
	run := func(want int, args ...string) *program {
		return runProgram(t, want, dir, append(args, "--config", "ckpt.hcl")...)
	}
	writeOperations(t, filepath.Join(dir, "ops.ndjson"), 6, 3000)
	run(0, "import", "--namespace", "a", "ops.ndjson")
	run(0, "checkpoint", "create", "--namespace", "a", "--chunk-size", "2KiB")
	writeOperations(t, filepath.Join(dir, "older.ndjson"), 3, 30)
	run(0, "import", "--namespace", "b", "older.ndjson")
	restore := []string{"restore", "--namespace", "b", "--from", "state/a/checkpoints", "--trust-source"}

	for writes := 12; ; writes *= 2 { // until some of it is there
		p := newProgram(t, dir, append(restore, "--config", "ckpt.hcl")...)
		if code := atWrite(t, p, filepath.Join(dir, "state", "b", "db"), writes, kill); code != -1 {
			t.Fatalf("the restore ended with exit code %d: %s", code, p.stderr.String())
		}
		stats := run(0, "db", "stats", "--namespace", "b").stdout.String()
		if strings.Contains(stats, "unfinished restore  version 6, state root: ") {
			break
		}
	}
	run(0, "db", "check", "--namespace", "b")
	dry := run(0, "db", "prune", "--namespace", "b", "--before", "2", "--dry-run").stdout.String()
	if !strings.Contains(dry, "would remove 1 version of") || !strings.Contains(dry, "in the way: a restore of version 6 is not finished") {
		t.Errorf("dry run: %s", dry)
	}
	refused := run(1, "db", "prune", "--namespace", "b", "--before", "2").stderr.String()
	if !strings.Contains(refused, "nothing was removed") || !strings.Contains(refused, "run the restore that is not finished again") {
		t.Errorf("refused with: %s", refused)
	}
	run(0, restore...)
	run(0, "db", "prune", "--namespace", "b", "--before", "6")
	run(0, "db", "check", "--namespace", "b")
	if run(0, "dump", "--namespace", "a").stdout.String() != run(0, "dump", "--namespace", "b").stdout.String() {
		t.Error("not the same entries in the end")
	}
}

// writeOperations writes a file of so many operations for so many versions from 1 on.
func writeOperations(t *testing.T, path string, versions, operations uint64) {
	t.Helper()
	var text strings.Builder
	set := vectors.DataSet{Kind: "uniform", Seed: 1, N: operations}
	for i := range operations {
		key, value := set.Entry(i)
		text.WriteString(line(1+i*versions/operations, string(key), string(value)))
	}
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

func earliestOf(t *testing.T, stats *program) uint64 {
	t.Helper()
	var result struct{ Earliest uint64 }
	if err := json.Unmarshal(stats.stdout.Bytes(), &result); err != nil {
		t.Fatal(err)
	}
	return result.Earliest
}

// atWrite runs a program, strikes when the files in dir have changed so many times, and returns the exit
// code, -1 where it was killed. A program that ends before that has to have succeeded.
func atWrite(t *testing.T, p *program, dir string, writes int, strike func(t *testing.T, host int)) int {
	t.Helper()
	before := stateOf(t, dir)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- p.Wait() }()
	tick := time.NewTicker(200 * time.Microsecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			p.end(t, 0, err)
			return 0
		case <-tick.C:
		}
		now := stateOf(t, dir)
		if now == before {
			continue
		}
		if before, writes = now, writes-1; writes == 0 {
			strike(t, p.Process.Pid)
			break
		}
	}
	<-ended
	return p.ProcessState.ExitCode()
}

// kill kills a host and the processes of its backends.
func kill(t *testing.T, host int) {
	t.Helper()
	for _, pid := range append([]int{host}, childrenOf(t, host)...) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Fatal(err)
		}
	}
}

// interrupt is Ctrl-C.
func interrupt(t *testing.T, host int) {
	t.Helper()
	if err := syscall.Kill(host, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
}

// stateOf tells files and their changes apart.
func stateOf(t *testing.T, dir string) string {
	t.Helper()
	var state strings.Builder
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed meanwhile
		}
		if err != nil {
			return err
		}
		if info, err := entry.Info(); err == nil && entry.Type().IsRegular() {
			fmt.Fprintln(&state, path, info.Size(), info.ModTime().UnixNano())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return state.String()
}
