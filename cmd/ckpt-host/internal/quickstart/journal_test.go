package quickstart

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ckpt-project/ckpt/framework/hash"
)

func lineOf(version uint64) journalLine {
	return journalLine{version: version, id: "id", root: hash.Sum([]byte{byte(version)})}
}

// reopen opens a journal and returns the lines that it knows.
func reopen(t *testing.T, path string, latest uint64) (*journal, []journalLine) {
	t.Helper()
	var lines []journalLine
	j, count, err := openJournal(path, latest, func(line journalLine) error {
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if count != uint64(len(lines)) {
		t.Errorf("count %d, %d lines", count, len(lines))
	}
	return j, lines
}

func TestJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "versions.log")
	write := func(j *journal, from, to uint64) {
		t.Helper()
		for version := from; version <= to; version++ {
			if err := j.add(lineOf(version)); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(j.Close(), j.Close()); err != nil {
			t.Fatal(err)
		}
	}
	var want []journalLine
	for version := range uint64(4) {
		want = append(want, lineOf(version+1))
	}

	j, lines := reopen(t, path, 0)
	if len(lines) != 0 {
		t.Fatalf("a new one has %v", lines)
	}
	write(j, 1, 3)
	// Version 3 was written and never finalized.
	j, lines = reopen(t, path, 2)
	if !slices.Equal(lines, want[:2]) {
		t.Fatalf("got %v", lines)
	}
	write(j, 3, 4)
	j, lines = reopen(t, path, 9)
	if !slices.Equal(lines, want) {
		t.Fatalf("got %v", lines)
	}
	write(j, 5, 4)

	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"a line cut short":   whole[:len(whole)-5],
		"a line of zeros":    append(slices.Clone(whole[:len(whole)-len(whole)/4]), make([]byte, len(whole)/4)...),
		"a very long line":   append(slices.Clone(whole[:len(whole)-len(whole)/4]), slices.Repeat([]byte("x"), 10_000)...),
		"a version left out": append(slices.Clone(whole[:len(whole)-len(whole)/4]), "5 id "+lineOf(5).root.Hex()+"\n"...),
	} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		j, lines = reopen(t, path, 4)
		if !slices.Equal(lines, want[:3]) {
			t.Errorf("%s: got %v", name, lines)
		}
		write(j, 4, 4)
		if again, err := os.ReadFile(path); err != nil || string(again) != string(whole) {
			t.Errorf("%s: not as before after the line was written again: %v", name, err)
		}
	}

	refused := errors.New("refused")
	if _, _, err := openJournal(path, 4, func(journalLine) error { return refused }); !errors.Is(err, refused) {
		t.Errorf("got %v", err)
	}
	if again, err := os.ReadFile(path); err != nil || string(again) != string(whole) {
		t.Errorf("a journal that was refused was changed: %v", err)
	}
}
