package quickstart

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/exit"
)

// otherHistory is the sample under another first version.
type otherHistory struct{ *sampleSource }

func (otherHistory) ID(uint64) string { return "0123456789abcdef" }

func sample(t *testing.T) *sampleSource {
	t.Helper()
	s, err := openSample()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// contents returns the files below a directory.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	found, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, entry := range found {
		content, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[entry.Name()] = string(content)
	}
	return files
}

func put(t *testing.T, dir, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestClaimWritesAConfiguration(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "directory with spaces")
	src := sample(t)
	d, err := claim(dir, src, "", "")
	if err != nil {
		t.Fatal(err)
	}
	if d.history.Backend.Builtin != "bbolt" || d.restored.Backend.Builtin != "leveldb" {
		t.Errorf("backends %s, %s", d.history.Backend.Builtin, d.restored.Backend.Builtin)
	}
	if d.history.Backend == d.restored.Backend {
		t.Error("one process for both")
	}
	if d.history.ID != d.restored.ID || !d.history.ID.IsTest() {
		t.Errorf("namespaces %s, %s", d.history.ID, d.restored.ID)
	}
	if c := d.history.Checkpoints; c.Interval != 5 || c.Keep != 3 || c.ChunkSize != 1<<20 {
		t.Errorf("checkpoints %+v", c)
	}
	if want := filepath.Join(dir, "state", "history"); d.history.Dir != want {
		t.Errorf("directory %s, want %s", d.history.Dir, want)
	}
	for name, mode := range map[string]os.FileMode{".": 0o700, markerName: 0o600, configName: 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != mode {
			t.Errorf("%s has mode %o", name, info.Mode().Perm())
		}
	}

	before := contents(t, dir)
	again, err := claim(dir, src, "bbolt", "leveldb")
	if err != nil {
		t.Fatal(err)
	}
	if again.history.ID != d.history.ID {
		t.Error("another namespace the second time")
	}
	if after := contents(t, dir); len(after) != len(before) || after[configName] != before[configName] {
		t.Errorf("changed: %v", after)
	}
}

func TestClaimTakesUpAKilledRun(t *testing.T) {
	src := sample(t)
	dir := t.TempDir()
	put(t, dir, markerName+tempSuffix, "{")
	if _, err := claim(dir, src, "", ""); err != nil {
		t.Errorf("killed while the marker was written: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, configName)); err != nil {
		t.Fatal(err)
	}
	put(t, dir, configName+tempSuffix, "data_dir")
	d, err := claim(dir, src, "memory", "")
	if err != nil {
		t.Fatalf("killed while the config was written: %v", err)
	}
	if d.history.Backend.Builtin != "memory" {
		t.Errorf("backend %s", d.history.Backend.Builtin)
	}
}

func TestClaimRefuses(t *testing.T) {
	src := sample(t)
	for name, test := range map[string]struct {
		prepare  func(dir string)
		src      source
		from, to string
		code     int
		want     string
	}{
		"foreign files": {
			prepare: func(dir string) { put(t, dir, "thesis.txt", "years of work") },
			code:    exit.Failed, want: `is not empty, and is not a quickstart's: it holds "thesis.txt"`,
		},
		"a marker of something else": {
			prepare: func(dir string) { put(t, dir, markerName, `{"other": 1}`) },
			code:    exit.Failed, want: "was not written by quickstart",
		},
		"a marker that is no JSON": {
			prepare: func(dir string) { put(t, dir, markerName, `quickstart`) },
			code:    exit.Failed, want: "was not written by quickstart",
		},
		"a later format": {
			prepare: func(dir string) { put(t, dir, markerName, `{"quickstart": 2}`) },
			code:    exit.Failed, want: "is of format 2",
		},
		"another history": {
			src:  otherHistory{src},
			code: exit.Failed, want: "another history: it begins with sample",
		},
		"another backend to put in": {
			from: "leveldb",
			code: exit.Usage, want: "keeps its state in bbolt, not in leveldb",
		},
		"another backend to restore into, by an edited config": {
			prepare: func(dir string) {
				put(t, dir, configName, contents(t, dir)[configName]+"\n# a remark\n")
			},
			to:   "memory",
			code: exit.Usage, want: "was edited",
		},
		"a config without a namespace": {
			prepare: func(dir string) {
				put(t, dir, configName, strings.ReplaceAll(contents(t, dir)[configName], `namespace "restored"`, `namespace "mine"`))
			},
			code: exit.Config, want: `no namespace "restored"`,
		},
		"a config with an error": {
			prepare: func(dir string) { put(t, dir, configName, "data_dir = ") },
			code:    exit.Failed, want: configName,
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if name != "foreign files" && !strings.HasPrefix(name, "a marker") && name != "a later format" {
				if _, err := claim(dir, src, "", ""); err != nil {
					t.Fatal(err)
				}
			}
			if test.prepare != nil {
				test.prepare(dir)
			}
			before := contents(t, dir)
			var history source = src
			if test.src != nil {
				history = test.src
			}
			_, err := claim(dir, history, test.from, test.to)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
			if code, _ := exit.Of(err); code != test.code {
				t.Errorf("exit code %d, want %d", code, test.code)
			}
			after := contents(t, dir)
			if len(after) != len(before) {
				t.Errorf("files before %v, after %v", before, after)
			}
			for name, content := range before {
				if after[name] != content {
					t.Errorf("%s was changed", name)
				}
			}
		})
	}
}

func TestClaimForAnotherBackendToRestoreInto(t *testing.T) {
	dir := t.TempDir()
	src := sample(t)
	if _, err := claim(dir, src, "", ""); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"memory", "", "bbolt"} {
		d, err := claim(dir, src, "", to)
		if err != nil {
			t.Fatal(err)
		}
		want := to
		if to == "" {
			want = "memory"
		}
		if d.restored.Backend.Builtin != want || d.history.Backend.Builtin != "bbolt" {
			t.Errorf("%q: backends %s, %s", to, d.history.Backend.Builtin, d.restored.Backend.Builtin)
		}
	}
}

func TestInterval(t *testing.T) {
	for versions, want := range map[uint64]uint64{
		1: 1, 9: 1, 10: 2, 24: 2, 25: 5, 42: 5, 50: 10, 1000: 200, 1234: 200, 2500: 500, 1_000_000: 200_000,
	} {
		if got := interval(versions); got != want {
			t.Errorf("interval(%d) = %d, want %d", versions, got, want)
		}
	}
}

func TestShellQuote(t *testing.T) {
	for word, want := range map[string]string{
		"/tmp/a-b_c.d": "/tmp/a-b_c.d", "": "''", "a b": "'a b'", "it's": `'it'\''s'`, "$HOME": "'$HOME'", "~": "'~'",
	} {
		if got := shellQuote(word); got != want {
			t.Errorf("%q: %s", word, got)
		}
	}
}
