package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestInterruptedConversion interrupts and kills conversions in the middle: nothing of them is visible, and the
// same command goes on with what was written.
func TestInterruptedConversion(t *testing.T) {
	for name, strike := range map[string]func(t *testing.T, host int){"interrupted": interrupt, "killed": kill} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			run := func(want int, args ...string) *program {
				return runProgram(t, want, dir, append(args, "--config", "ckpt.hcl")...)
			}
			writeOperations(t, filepath.Join(dir, "ops.ndjson"), 2, 6000)
			run(0, "import", "--namespace", "a", "ops.ndjson")
			run(0, "convert", "--from", "a", "--to", "b", "--version", "1")
			convert := []string{"convert", "--from", "a", "--to", "b", "--chunk-size", "4KiB"}
			for writes := 12; ; writes *= 2 { // until some of it is there
				p := newProgram(t, dir, append(convert, "--config", "ckpt.hcl")...)
				switch code := atWrite(t, p, filepath.Join(dir, "state", "b", "db"), writes, strike); {
				case code == -1 && name == "killed":
				case code == 130 && name == "interrupted" && strings.Contains(p.stderr.String(), "interrupted"):
				default:
					t.Fatalf("exit code %d: %s", code, p.stderr.String())
				}
				var stats struct {
					Latest    uint64
					Multipart *struct {
						Roots []struct{ Done uint64 }
					}
				}
				if err := json.Unmarshal(run(0, "db", "stats", "--namespace", "b", "--json").stdout.Bytes(), &stats); err != nil {
					t.Fatal(err)
				}
				if stats.Latest != 1 {
					t.Fatalf("version %d is visible", stats.Latest)
				}
				if m := stats.Multipart; m != nil && len(m.Roots) == 1 && m.Roots[0].Done > 0 {
					if name == "interrupted" && !strings.Contains(p.stderr.String(), "is kept; run the same command again") {
						t.Errorf("stderr: %s", p.stderr.String())
					}
					break
				}
			}
			var result struct {
				Chunks  int `json:"chunks"`
				Resumed int `json:"chunks_resumed"`
			}
			if err := json.Unmarshal(run(0, append(convert, "--json")...).stdout.Bytes(), &result); err != nil {
				t.Fatal(err)
			}
			if result.Resumed == 0 || result.Resumed >= result.Chunks {
				t.Errorf("%d chunks of %d were there", result.Resumed, result.Chunks)
			}
			run(0, "db", "check", "--namespace", "b")
			if run(0, "dump", "--namespace", "a").stdout.String() != run(0, "dump", "--namespace", "b").stdout.String() {
				t.Error("not the same entries")
			}
		})
	}
}

// exported makes a checkpoint and returns its archive.
func exported(t *testing.T, dir string) []byte {
	t.Helper()
	writeOperations(t, filepath.Join(dir, "ops.ndjson"), 1, 3000)
	runProgram(t, 0, dir, "import", "--config", "ckpt.hcl", "--namespace", "a", "ops.ndjson")
	runProgram(t, 0, dir, "checkpoint", "create", "--config", "ckpt.hcl", "--namespace", "a", "--chunk-size", "8KiB")
	return runProgram(t, 0, dir, "checkpoint", "export", "--config", "ckpt.hcl", "--namespace", "a", "-").stdout.Bytes()
}

// TestInterruptedArchiveImport ends imports that have half of an archive and wait for more. What a signal ends
// leaves nothing; what is killed leaves nothing that is visible, and nothing at all after the next import.
func TestInterruptedArchiveImport(t *testing.T) {
	dir := t.TempDir()
	archive := exported(t, dir)
	store := filepath.Join(dir, "state", "b", "checkpoints")
	begin := func() (*program, io.Closer) {
		t.Helper()
		p := newProgram(t, dir, "checkpoint", "import", "--config", "ckpt.hcl", "--namespace", "b", "-")
		input, err := p.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := input.Write(archive[:len(archive)/2]); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			if found, err := filepath.Glob(filepath.Join(store, ".making-*", "checkpoint", "chunks", "1")); err != nil || len(found) > 0 {
				return p, input
			}
			if time.Now().After(deadline) {
				t.Fatal("no chunk is written")
			}
		}
	}
	left := func() string {
		t.Helper()
		entries, err := os.ReadDir(store)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, entry := range entries {
			names = append(names, entry.Name())
		}
		return strings.Join(names, " ")
	}

	p, input := begin()
	interrupt(t, p.Process.Pid)
	p.end(t, 130, p.Wait())
	input.Close()
	if got := left(); got != "" {
		t.Errorf("after a signal: %s", got)
	}
	p, input = begin()
	input.Close() // as when a transfer breaks off
	p.end(t, 5, p.Wait())
	if got := left(); got != "" || !strings.Contains(p.stderr.String(), "stdin: ") || !strings.Contains(p.stderr.String(), "cut short") {
		t.Errorf("after the end of input: %s: %s", got, p.stderr.String())
	}
	p, input = begin()
	kill(t, p.Process.Pid)
	p.end(t, -1, p.Wait())
	input.Close()
	if got := left(); !strings.HasPrefix(got, ".making-") || strings.Contains(got, " ") {
		t.Errorf("after a kill: %s", got)
	}
	list := runProgram(t, 0, dir, "checkpoint", "list", "--config", "ckpt.hcl", "--namespace", "b")
	if !strings.Contains(list.stdout.String(), "no checkpoints") {
		t.Errorf("%s", list.stdout.String())
	}
	p = newProgram(t, dir, "checkpoint", "import", "--config", "ckpt.hcl", "--namespace", "b", "-")
	p.Stdin = bytes.NewReader(archive)
	p.end(t, 0, p.Run())
	if got := left(); got != "1 index.json" {
		t.Errorf("in the end: %s", got)
	}
}

// TestExportIntoBrokenPipe checks that an export ends quietly when nobody reads on, and that a full disk is no
// success.
func TestExportIntoBrokenPipe(t *testing.T) {
	dir := t.TempDir()
	archive := exported(t, dir)
	p := newProgram(t, dir, "checkpoint", "export", "--config", "ckpt.hcl", "--namespace", "a", "-")
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.Stdout = writer
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	writer.Close()
	head := make([]byte, 100)
	if _, err := io.ReadFull(reader, head); err != nil || !bytes.Equal(head, archive[:100]) {
		t.Errorf("%q, %v", head, err)
	}
	reader.Close()
	p.end(t, 141, p.Wait())
	if p.stderr.Len() > 0 {
		t.Errorf("stderr: %s", p.stderr.String())
	}

	p = newProgram(t, dir, "checkpoint", "export", "--config", "ckpt.hcl", "--namespace", "a", "-")
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	p.Stdout = full
	p.end(t, 1, p.Run())
	if !strings.Contains(p.stderr.String(), "no space left") {
		t.Errorf("stderr: %s", p.stderr.String())
	}
}

// shown reads from a terminal until what it has shown is like pattern, or to the end where that is never so.
func shown(screen io.Reader, pattern string) string {
	var text []byte
	want, b := regexp.MustCompile(pattern), make([]byte, 4096)
	for !want.Match(text) {
		n, err := screen.Read(b)
		text = append(text, b[:n]...)
		if err != nil {
			break
		}
	}
	return string(text)
}

// TestArchiveProgress holds up the pipe between an export and an import in its middle: on a terminal both have a bar
// there, as the archive tells how long it is.
func TestArchiveProgress(t *testing.T) {
	dir := t.TempDir()
	half := len(exported(t, dir)) / 2
	begin := func(p *program) (screen *os.File) {
		t.Helper()
		screen, side := openTerminal(t)
		p.Stderr = side
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		side.Close()
		return screen
	}
	check := func(p *program, screen *os.File, pattern string) {
		t.Helper()
		if got := shown(screen, pattern); !regexp.MustCompile(pattern).MatchString(got) {
			t.Fatalf("%v: nothing on the terminal is like %s: %q", p.Args[1:], pattern, got[max(0, len(got)-200):])
		}
	}
	const bar = ` \[#+-+\] [1-9]\d%, (\d+ s left, )?\d+\.\d [kM]B/s`

	from := newProgram(t, dir, "checkpoint", "export", "--config", "ckpt.hcl", "--namespace", "a", "-")
	from.Stdout = nil
	archive, err := from.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	to := newProgram(t, dir, "checkpoint", "import", "--config", "ckpt.hcl", "--namespace", "b", "-")
	input, err := to.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	exporting, importing := begin(from), begin(to)
	if _, err := io.CopyN(input, archive, int64(half)); err != nil {
		t.Fatal(err)
	}
	check(from, exporting, "exporting the state checkpoint of version 1"+bar)
	check(to, importing, "reading stdin"+bar)
	if _, err := io.Copy(input, archive); err != nil {
		t.Fatal(err)
	}
	input.Close()
	_, _ = io.Copy(io.Discard, exporting) // ends with an error when nobody has the terminal any more
	_, _ = io.Copy(io.Discard, importing)
	from.end(t, 0, from.Wait())
	to.end(t, 0, to.Wait())
}

// TestConversionProgress converts on a terminal: when the source is read the second time, it is known how much there is;
// the first time, where there is a checkpoint of the version, whose manifest tells.
func TestConversionProgress(t *testing.T) {
	dir := t.TempDir()
	writeOperations(t, filepath.Join(dir, "ops.ndjson"), 1, 20_000)
	runProgram(t, 0, dir, "import", "--config", "ckpt.hcl", "--namespace", "a", "ops.ndjson")
	const (
		first  = `reading version 1 of a the first time`
		bar    = ` \[#*-*\] \d+%, (\d+ s left, )?`
		second = `writing version 1 to b` + bar + `\d+\.\d [kM]B/s, [\d,]+ entries/s`
	)
	convert := func(chunkSize string, want ...string) {
		t.Helper()
		got := onTerminal(t, dir, "convert", "--config", "ckpt.hcl", "--from", "a", "--to", "b", "--chunk-size", chunkSize)
		for _, want := range want {
			if !regexp.MustCompile(want).MatchString(got) {
				t.Errorf("chunks of %s: nothing on the terminal is like %s: %q", chunkSize, want, got)
			}
		}
		if err := os.RemoveAll(filepath.Join(dir, "state", "b")); err != nil {
			t.Fatal(err)
		}
	}
	convert("8KiB", first+`[: ]`, second)
	runProgram(t, 0, dir, "checkpoint", "create", "--config", "ckpt.hcl", "--namespace", "a", "--chunk-size", "8KiB")
	convert("8KiB", first+bar, `the first time.* of [\d,]+ chunks`, second)
	convert("16KiB", first+bar, `the first time.* [\d,]+ of 20,000 entries`, second) // other chunks of the same entries
}
