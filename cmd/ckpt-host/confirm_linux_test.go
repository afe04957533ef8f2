package main

import (
	"encoding/json"
	"io"
	"path/filepath"
	"strings"
	"testing"
)

// answer runs ckpt-host with a terminal for stdin and stderr, on which somebody types an answer to its question. It
// returns what was shown.
func answer(t *testing.T, want int, dir, text string, args ...string) string {
	t.Helper()
	screen, side := openTerminal(t)
	p := newProgram(t, dir, args...)
	p.Stdin, p.Stderr = side, side
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	side.Close()
	if _, err := io.WriteString(screen, text); err != nil { // it is there when it is asked for
		t.Fatal(err)
	}
	shown, _ := io.ReadAll(screen) // ends with an error when nobody has the terminal any more
	p.stderr.Write(shown)
	p.end(t, want, p.Wait())
	return string(shown)
}

// TestAnsweredWithNo asks whether something is to be removed, and is told no: it stays, and what is said is so.
func TestAnsweredWithNo(t *testing.T) {
	dir := t.TempDir()
	writeOperations(t, filepath.Join(dir, "ops.ndjson"), 1, 500)
	runProgram(t, 0, dir, "import", "--config", "ckpt.hcl", "--namespace", "a", "ops.ndjson")
	made := runProgram(t, 0, dir, "checkpoint", "create", "--config", "ckpt.hcl", "--namespace", "a", "--chunk-size", "2KiB", "--json")
	var at struct{ Path string }
	if err := json.Unmarshal(made.stdout.Bytes(), &at); err != nil {
		t.Fatal(err)
	}
	database := filepath.Join(dir, "state", "b", "db")
	if err := beginRestore("leveldb", database, at.Path, 2); err != nil {
		t.Fatal(err)
	}
	status := []string{"restore", "status", "--config", "ckpt.hcl", "--namespace", "b"}
	before := runProgram(t, 0, dir, status...).stdout.String()

	for _, text := range []string{"n\n", "\n"} {
		shown := answer(t, 1, dir, text, "restore", "abort", "--config", "ckpt.hcl", "--namespace", "b")
		for _, want := range []string{
			"Remove the unfinished restore of version 1",
			"nothing was removed: the restore is still unfinished",
			"finish it with the command that began it", "'ckpt-host restore abort'",
		} {
			if !strings.Contains(shown, want) {
				t.Errorf("abort, answered with %q: nothing on the terminal is like %q: %q", text, want, shown)
			}
		}
		if after := runProgram(t, 0, dir, status...).stdout.String(); after != before {
			t.Errorf("abort, answered with %q: %s", text, after)
		}
	}
	shown := answer(t, 1, dir, "n\n", "checkpoint", "delete", "--config", "ckpt.hcl", "--namespace", "a")
	if !strings.Contains(shown, "nothing was deleted") {
		t.Errorf("delete: %q", shown)
	}
	runProgram(t, 0, dir, "checkpoint", "verify", at.Path)

	answer(t, 0, dir, "y\n", "restore", "abort", "--config", "ckpt.hcl", "--namespace", "b")
	if after := runProgram(t, 0, dir, status...).stdout.String(); !strings.Contains(after, "no restore is in progress") {
		t.Errorf("after an abort that was answered with yes: %s", after)
	}
}
