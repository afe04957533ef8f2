package config

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ckpt-project/ckpt/framework/checkpoint"
	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

var update = flag.Bool("update", false, "write what comes out to the golden files")

const least = `
data_dir = "state"
backend "main" { plugin = "bbolt" }
namespace "demo" {
  id      = "8000000000000000000000000000000000000000000000000000000000000000"
  backend = "main"
}
`

func testNamespace(last byte) (ns common.Namespace) {
	ns[0], ns[31] = 0x80, last
	return ns
}

func TestLeast(t *testing.T) {
	cfg, err := Parse([]byte(least), "ckpt.hcl", "/etc/ckpt/ckpt.hcl")
	if err != nil {
		t.Fatal(err)
	}
	backend := &Backend{Name: "main", Builtin: "bbolt"}
	want := &Config{
		File:     "/etc/ckpt/ckpt.hcl",
		DataDir:  "/etc/ckpt/state",
		Backends: []*Backend{backend},
		Namespaces: []*Namespace{{
			Name: "demo", ID: testNamespace(0), Backend: backend,
			KeyBytes: db.DefaultMaxKeyBytes, ValueBytes: db.DefaultMaxValueBytes, WriteLogs: true,
			GarbageRate: db.DefaultGarbageRate, MemoryBytes: db.DefaultMemoryBytes,
			Dir: "/etc/ckpt/state/demo",
		}},
	}
	if diff := cmp.Diff(want, cfg); diff != "" {
		t.Error(diff)
	}
	demo := cfg.Namespace("demo")
	if demo == nil || cfg.Namespace("other") != nil {
		t.Fatal("Namespace finds what it should not, or not what it should")
	}
	if got := demo.DatabaseDir(); got != "/etc/ckpt/state/demo/db" {
		t.Errorf("database in %s", got)
	}
	if got := demo.CheckpointsDir(); got != "/etc/ckpt/state/demo/checkpoints" {
		t.Errorf("checkpoints in %s", got)
	}
}

func TestEverything(t *testing.T) {
	source := `
data_dir = "/var/lib/ckpt"

plugin "mine" {
  path   = "../bin/mine"
  args   = ["-v", "--fast"]
  sha256 = "ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef0123456789"
}

backend "a" {
  plugin = "mine"
  config {
    cache = "1GiB"
    depth = 3
    sync  = true
    tags  = ["x", "y"]
    tree  = { leaf = 1 }
    none  = null
  }
}

namespace "one" {
  id         = "8000000000000000000000000000000000000000000000000000000000000001"
  backend    = "a"
  write_logs = false
  garbage_rate = "16 MiB"
  memory_bytes = 1048576
  checkpoints {
    interval   = 10
    keep       = 3
    chunk_size = "64 KiB"
    threads    = 4

    initial_version = 7
    jitter          = "1m30s"
    verification    = "always"
  }
  limits {
    key_bytes   = 64
    value_bytes = "1MiB"

    chunks          = 1000
    metadata_bytes  = "64KiB"
    chunk_bytes     = "2MiB"
    chunk_raw_bytes = "3MiB"
    chunk_entries   = 4000
  }
}

namespace "two" {
  id      = "8000000000000000000000000000000000000000000000000000000000000001"
  backend = "a"
  garbage_rate = 0
  checkpoints {
    interval   = 1
    chunk_size = 0

    initial_version = 0
    jitter          = "0s"
    verification    = "never"
  }
}
`
	cfg, err := Parse([]byte(source), "ckpt.hcl", "/etc/ckpt/ckpt.hcl")
	if err != nil {
		t.Fatal(err)
	}
	version := func(v uint64) *uint64 { return &v }
	plugin := &Plugin{
		Name: "mine", Path: "/etc/bin/mine", Args: []string{"-v", "--fast"},
		SHA256: "abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789",
	}
	backend := &Backend{
		Name: "a", Plugin: plugin,
		Settings: []byte(`{"cache":"1GiB","depth":3,"none":null,"sync":true,"tags":["x","y"],"tree":{"leaf":1}}`),
	}
	want := &Config{
		File: "/etc/ckpt/ckpt.hcl", DataDir: "/var/lib/ckpt",
		Plugins: []*Plugin{plugin}, Backends: []*Backend{backend},
		Namespaces: []*Namespace{
			{
				Name: "one", ID: testNamespace(1), Backend: backend,
				Checkpoints: &Checkpoints{
					Interval: 10, Keep: 3, ChunkSize: 64 << 10, Threads: 4,
					InitialVersion: version(7), Jitter: 90 * time.Second, Verification: checkpoint.VerifyAlways,
				},
				KeyBytes: 64, ValueBytes: 1 << 20,
				Limits:      checkpoint.Limits{Chunks: 1000, MetadataBytes: 64 << 10, ChunkBytes: 2 << 20, RawBytes: 3 << 20, Entries: 4000},
				GarbageRate: 16 << 20, MemoryBytes: 1 << 20,
				Dir: "/var/lib/ckpt/one",
			},
			{
				Name: "two", ID: testNamespace(1), Backend: backend,
				Checkpoints: &Checkpoints{
					Interval: 1, Keep: DefaultKeep, ChunkSize: 0,
					InitialVersion: version(0), Verification: checkpoint.VerifyNever,
				},
				KeyBytes: db.DefaultMaxKeyBytes, ValueBytes: db.DefaultMaxValueBytes, WriteLogs: true,
				GarbageRate: -1, MemoryBytes: db.DefaultMemoryBytes,
				Dir: "/var/lib/ckpt/two",
			},
		},
	}
	if diff := cmp.Diff(want, cfg); diff != "" {
		t.Error(diff)
	}
	got := cfg.Namespaces[0].DatabaseConfig()
	wantDB := &db.Config{
		Dir: "/var/lib/ckpt/one/db", Namespace: testNamespace(1), MaxKeyBytes: 64, MaxValueBytes: 1 << 20,
		DiscardWriteLogs: true, GarbageRate: 16 << 20, MemoryBytes: 1 << 20, Settings: backend.Settings,
	}
	if diff := cmp.Diff(wantDB, got); diff != "" {
		t.Error(diff)
	}
}

// TestWrong compares what is said about each wrong file with what was found good.
func TestWrong(t *testing.T) {
	files, err := filepath.Glob("testdata/wrong/*.hcl")
	if err != nil || len(files) == 0 {
		t.Fatalf("no wrong files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".hcl"), func(t *testing.T) {
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			cfg, err := Parse(source, "ckpt.hcl", "/etc/ckpt/ckpt.hcl")
			var wrong *InvalidError
			if cfg != nil || !errors.As(err, &wrong) {
				t.Fatalf("got %v, %v", cfg, err)
			}
			golden := strings.TrimSuffix(file, ".hcl") + ".golden"
			got := wrong.Error() + "\n"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "ckpt.hcl")
	if err := os.WriteFile(file, []byte(least), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	cfg, err := Load("ckpt.hcl")
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(dir, "state"); cfg.DataDir != want {
		t.Errorf("data_dir is %s, want %s", cfg.DataDir, want)
	}

	if _, err := Load("nothing.hcl"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := Load(dir); err == nil {
		t.Error("a directory was taken for a file")
	}
	if err := os.WriteFile(file, []byte(strings.Repeat("# large\n", maxFileBytes/8+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load("ckpt.hcl"); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("large file: %v", err)
	}
}

func TestLoadSettings(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile("settings.hcl", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// They are what the backend is given where the same stands in a config block.
	const content = "cache_bytes = 1048576\nmode = \"fast\"\nnested = { a = [1, true, null] }\n"
	write(content)
	got, err := LoadSettings("settings.hcl")
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"cache_bytes":1048576,"mode":"fast","nested":{"a":[1,true,null]}}`; string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
	cfg, err := Parse([]byte(strings.Replace(least, `{ plugin = "bbolt" }`, "{\nplugin = \"bbolt\"\nconfig {\n"+content+"}\n}", 1)), "ckpt.hcl", "/ckpt.hcl")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(cfg.Backends[0].Settings), string(got)); diff != "" {
		t.Errorf("not what a config block gives: %s", diff)
	}
	write("")
	if got, err := LoadSettings("settings.hcl"); err != nil || string(got) != "{}" {
		t.Errorf("an empty file: %s, %v", got, err)
	}

	for text, want := range map[string]string{
		least:                       "on settings.hcl line 3",
		"config {\n cache = 1\n}\n": "within the config block",
		"cache = \n":                "Invalid expression",
		"cache = name\n":            "Variables not allowed",
		"cache = 1\ncache = 2\n":    "already set",
	} {
		write(text)
		var wrong *InvalidError
		if got, err := LoadSettings("settings.hcl"); got != nil || !errors.As(err, &wrong) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %s, %v", text, got, err)
		}
	}
	if _, err := LoadSettings("nothing.hcl"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}
