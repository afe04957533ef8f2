package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ckpt-project/ckpt/conformance/vectors"
)

// These tests run the program as the shell does, and end it in the middle.

// mainVariable makes the test binary be ckpt-host.
const mainVariable = "CKPT_HOST_TEST_MAIN"

// intervalVariable says how often that ckpt-host tells of progress, where it is set.
const intervalVariable = "CKPT_HOST_TEST_INTERVAL"

// program is a run of ckpt-host.
type program struct {
	*exec.Cmd
	stdout, stderr bytes.Buffer
}

// newProgram prepares ckpt-host to run in dir, which gets the scripts' configuration.
func newProgram(t *testing.T, dir string, args ...string) *program {
	t.Helper()
	return newLongProgram(t, time.Minute, dir, args...)
}

// newLongProgram is newProgram for one that may take so long.
func newLongProgram(t *testing.T, limit time.Duration, dir string, args ...string) *program {
	t.Helper()
	for name, text := range configurations("bbolt", "leveldb") {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	p := &program{Cmd: exec.CommandContext(ctx, self, args...)}
	p.Dir, p.Env = dir, append(os.Environ(), mainVariable+"=1")
	p.Stdout, p.Stderr = &p.stdout, &p.stderr
	return p
}

// runProgram runs ckpt-host and checks its exit code.
func runProgram(t *testing.T, want int, dir string, args ...string) *program {
	t.Helper()
	p := newProgram(t, dir, args...)
	p.end(t, want, p.Run())
	return p
}

// end checks how the program ended.
func (p *program) end(t *testing.T, want int, err error) {
	t.Helper()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if got := p.ProcessState.ExitCode(); got != want {
		t.Fatalf("%v: exit code %d, want %d\n%s%s", p.Args[1:], got, want, p.stdout.String(), p.stderr.String())
	}
}

// line is an operation as NDJSON.
func line(version uint64, key, value string) string {
	text := base64.StdEncoding.EncodeToString
	return fmt.Sprintf(`{"version":%d,"key":%q,"value":%q}`+"\n", version, text([]byte(key)), text([]byte(value)))
}

// startImport starts an import that has finalized one version and waits for more of the second.
func startImport(t *testing.T, dir string) (*program, io.WriteCloser) {
	t.Helper()
	p := newProgram(t, dir, "import", "--config", "ckpt.hcl", "--namespace", "a", "-")
	input, err := p.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	// A pipe takes only so much that is not read: when all of this is written, most of it was imported.
	if _, err := io.WriteString(input, line(1, "one", "1")); err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		if _, err := io.WriteString(input, line(2, fmt.Sprint(i), strings.Repeat("x", 200_000))); err != nil {
			t.Fatal(err)
		}
	}
	return p, input
}

// latest returns the latest version, found out by a run of its own, which needs the database's lock.
func latest(t *testing.T, dir string) string {
	t.Helper()
	p := runProgram(t, 0, dir, "checkpoint", "create", "--config", "ckpt.hcl", "--namespace", "a", "--json")
	var result struct{ Root struct{ Version json.Number } }
	if err := json.Unmarshal(p.stdout.Bytes(), &result); err != nil {
		t.Fatal(err)
	}
	return result.Root.Version.String()
}

func TestSignalEndsInGoodOrder(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			dir := t.TempDir()
			p, input := startImport(t, dir)
			defer input.Close()
			if err := p.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			p.end(t, 130, p.Wait())
			if text := p.stderr.String(); !strings.Contains(text, "interrupted") || !strings.Contains(text, "version 1 was imported and is kept") {
				t.Errorf("stderr: %s", text)
			}
			if got := latest(t, dir); got != "1" {
				t.Errorf("the latest version is %s", got)
			}
		})
	}
}

func TestKilledHostLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	p, input := startImport(t, dir)
	defer input.Close()
	if err := p.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	p.end(t, -1, p.Wait())
	// The lock is waited for, so that this works as soon as the backend's process has seen the end of
	// its host's.
	if got := latest(t, dir); got != "1" {
		t.Errorf("the latest version is %s", got)
	}
	if err := os.WriteFile(filepath.Join(dir, "more.ndjson"), []byte(line(2, "two", "2")), 0o600); err != nil {
		t.Fatal(err)
	}
	runProgram(t, 0, dir, "import", "--config", "ckpt.hcl", "--namespace", "a", "more.ndjson")
	if got := latest(t, dir); got != "2" {
		t.Errorf("the latest version is %s", got)
	}
}

func TestBrokenPipeEndsQuietly(t *testing.T) {
	dir := t.TempDir()
	var operations strings.Builder
	set := vectors.DataSet{Kind: "uniform", Seed: 1, N: 5000}
	for i := range set.N {
		key, value := set.Entry(i)
		operations.WriteString(line(1, string(key), string(value)))
	}
	if err := os.WriteFile(filepath.Join(dir, "ops.ndjson"), []byte(operations.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	runProgram(t, 0, dir, "import", "--config", "ckpt.hcl", "--namespace", "a", "ops.ndjson")

	p := newProgram(t, dir, "dump", "--config", "ckpt.hcl", "--namespace", "a")
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.Stdout = writer
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	writer.Close()
	if _, err := io.ReadFull(reader, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	reader.Close()
	p.end(t, 141, p.Wait())
	if p.stderr.Len() > 0 {
		t.Errorf("stderr: %s", p.stderr.String())
	}
}
