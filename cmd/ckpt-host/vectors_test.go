package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ckpt-project/ckpt/conformance/vectors"
	"github.com/ckpt-project/ckpt/framework/hash"
)

// TestKnownAnswers imports data sets of the known answers and makes their checkpoints with the program:
// one of each kind with each number of threads, where they are small.
func TestKnownAnswers(t *testing.T) {
	const small = 2000
	type shape struct {
		kind    string
		threads int
		removed bool
	}
	seen := map[shape]bool{}
	for _, v := range vectors.All() {
		s := shape{v.Kind, v.Threads, v.RemoveEvery > 0}
		if v.N > small || v.Kind == "bigvalues" || seen[s] {
			continue
		}
		seen[s] = true
		t.Run(v.Name(), func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "ops.ndjson"), []byte(operationsOf(&v)), 0o600); err != nil {
				t.Fatal(err)
			}
			if v.N > 0 {
				runProgram(t, 0, dir, "import", "-c", "ckpt.hcl", "-n", "a", "ops.ndjson")
			} else {
				// An empty state: a key that comes and goes.
				empty := line(1, "x", "") + `{"version":1,"key":"eA==","delete":true}`
				if err := os.WriteFile(filepath.Join(dir, "ops.ndjson"), []byte(empty), 0o600); err != nil {
					t.Fatal(err)
				}
				runProgram(t, 0, dir, "import", "-c", "ckpt.hcl", "-n", "a", "ops.ndjson")
			}
			p := runProgram(t, 0, dir, "checkpoint", "create", "-c", "ckpt.hcl", "-n", "a", "--json",
				"--chunk-size", fmt.Sprint(v.ChunkSize), "--threads", fmt.Sprint(v.Threads))
			var got struct {
				Root         struct{ Hash hash.Hash }
				MetadataHash hash.Hash `json:"metadata_hash"`
				Chunks       []hash.Hash
				Entries      int
			}
			if err := json.Unmarshal(p.stdout.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			if got.Root.Hash != v.Root || got.MetadataHash != v.MetadataHash || len(got.Chunks) != v.Chunks {
				t.Errorf("root %s, metadata %s, %d chunks; want %s, %s, %d",
					got.Root.Hash, got.MetadataHash, len(got.Chunks), v.Root, v.MetadataHash, v.Chunks)
			}
			if want := len(v.Final()); got.Entries != want {
				t.Errorf("%d entries, want %d", got.Entries, want)
			}
		})
	}
	if len(seen) < 10 {
		t.Errorf("only %d known answers were small enough", len(seen))
	}
}

// operationsOf is the vector's data set as NDJSON.
func operationsOf(v *vectors.Vector) string {
	var text strings.Builder
	for i := range v.N {
		key, value := v.DataSet().Entry(i)
		text.WriteString(line(1, string(key), string(value)))
	}
	for _, key := range v.RemovedKeys() {
		fmt.Fprintf(&text, `{"version":2,"key":%q,"delete":true}`+"\n", base64.StdEncoding.EncodeToString(key))
	}
	return text.String()
}
