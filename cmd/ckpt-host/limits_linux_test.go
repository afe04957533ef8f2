package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tightConfiguration is a backend and a namespace with one bound.
const tightConfiguration = `
backend %q { plugin = %q }
namespace %q {
  id      = "8000000000000000000000000000000000000000000000000000000000000000"
  backend = %q
  limits { %s = %d }
}
`

// TestLimits checks that each bound of the configuration holds where checkpoints are made, verified and
// restored: what is just within it is taken, what is beyond it is refused with the bound's name, and nothing
// is left of it.
func TestLimits(t *testing.T) {
	dir := t.TempDir()
	writeOperations(t, filepath.Join(dir, "ops.ndjson"), 1, 800)
	runProgram(t, 0, dir, "import", "-c", "ckpt.hcl", "-n", "a", "ops.ndjson")
	runProgram(t, 0, dir, "checkpoint", "create", "-c", "ckpt.hcl", "-n", "a", "--chunk-size", "2KiB")
	if err := os.Rename(filepath.Join(dir, "state", "a", "checkpoints"), filepath.Join(dir, "made")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		setting, field   string
		enough, tooTight int
	}{
		{setting: "chunks", field: "Chunks", enough: 200, tooTight: 5},
		{setting: "metadata_bytes", field: "MetadataBytes", enough: 1 << 20, tooTight: 1024},
		{setting: "chunk_bytes", field: "ChunkBytes", enough: 8 << 10, tooTight: 500},
		{setting: "chunk_raw_bytes", field: "RawBytes", enough: 8 << 10, tooTight: 500},
		{setting: "chunk_entries", field: "Entries", enough: 1000, tooTight: 5},
		{setting: "key_bytes", field: "KeyBytes", enough: 64, tooTight: 10},
		{setting: "value_bytes", field: "ValueBytes", enough: 1000, tooTight: 10},
	} {
		t.Run(c.setting, func(t *testing.T) {
			run := func(want, value int, args ...string) string {
				t.Helper()
				text := "data_dir = \"state\"\n"
				for namespace, backend := range map[string]string{"a": "bbolt", "b": "leveldb"} {
					text += fmt.Sprintf(tightConfiguration, backend, backend, namespace, backend, c.setting, value)
				}
				if err := os.WriteFile(filepath.Join(dir, "tight.hcl"), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				return runProgram(t, want, dir, append(args, "-c", "tight.hcl")...).stderr.String()
			}
			refused := func(text string) {
				t.Helper()
				named := strings.ReplaceAll(text, "Limits."+c.field+" is ", "Limits."+c.field+" ")
				if !strings.Contains(text, "limit exceeded: ") || !strings.Contains(named, fmt.Sprintf("Limits.%s %d", c.field, c.tooTight)) {
					t.Errorf("refused with: %s", text)
				}
			}
			create := []string{"checkpoint", "create", "-n", "a", "--chunk-size", "2KiB"}
			restore := []string{"restore", "-n", "b", "--from", "made", "--trust-source"}
			verify := []string{"checkpoint", "verify", "-n", "a"}
			reset := func() {
				for _, gone := range []string{"a/checkpoints", "b"} {
					if err := os.RemoveAll(filepath.Join(dir, "state", gone)); err != nil {
						t.Fatal(err)
					}
				}
			}
			reset()
			run(0, c.enough, create...)
			run(0, c.enough, verify...)
			run(0, c.enough, restore...)

			reset()
			refused(run(1, c.tooTight, create...))
			if _, err := os.Stat(filepath.Join(dir, "state", "a", "checkpoints", "1")); !os.IsNotExist(err) {
				t.Errorf("a checkpoint is there: %v", err)
			}
			if err := os.CopyFS(filepath.Join(dir, "state", "a", "checkpoints"), os.DirFS(filepath.Join(dir, "made"))); err != nil {
				t.Fatal(err)
			}
			code, atOnce := 5, c.field == "Chunks" || c.field == "MetadataBytes"
			if atOnce { // it can't be read, and so is not found
				code = 4
			}
			text := run(code, c.tooTight, verify...)
			if !atOnce {
				refused(text)
			}
			refused(run(map[bool]int{true: 5, false: 1}[atOnce], c.tooTight, restore...))
			if _, err := os.Stat(filepath.Join(dir, "state", "b")); atOnce != os.IsNotExist(err) {
				t.Errorf("the namespace to restore into: %v", err)
			}
			if !atOnce {
				if text := runProgram(t, 0, dir, "restore", "status", "-c", "ckpt.hcl", "-n", "b").stdout.String(); !strings.HasPrefix(text, "no restore is in progress") {
					t.Errorf("after the refusal: %s", text)
				}
			}
		})
	}
}
