// Package framework_test holds the house to its plan: dependencies point downwards only.
package framework_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/ckpt-project/ckpt/"

// floors lists the packages from the ground up: a package may import those before it, and of those with
// the same floor none. Tests are not bound.
var floors = []struct {
	name     string
	packages []string
}{
	{"ground", []string{"framework/hash", "framework/common/durable", "framework/common/errors", "framework/mkvs/writelog"}},
	{"names", []string{"framework/common", "framework/hash/lanes"}},
	{"node", []string{"framework/mkvs/node"}},
	{"contract", []string{"framework/mkvs/db", "framework/mkvs/proof", "framework/plugin/proto", "framework/mkvs/db/kvdb/kv", "conformance/vectors"}},
	{"reference", []string{"conformance/reference"}},
	{"storage", []string{"framework/mkvs/db/kvdb", "framework/mkvs/db/kvdb/kv/kvtest", "framework/mkvs/db/kvdb/kv/storedir"}},
	{"use", []string{"framework/mkvs", "framework/checkpoint", "framework/plugin"}},
}

// closed lists what a package may import of this module, where that is less than its floor allows.
var closed = map[string][]string{
	"backends/memory":  {"backends/internal/", "framework/mkvs/db"},
	"backends/bbolt":   {"backends/internal/", "framework/mkvs/db", "framework/common"},
	"backends/leveldb": {"backends/internal/", "framework/mkvs/db", "framework/common"},
	"framework/plugin": {"framework/plugin/proto", "framework/mkvs/db", "framework/mkvs/node", "framework/mkvs/writelog", "framework/common", "framework/hash"},
}

func TestImportsPointDownwards(t *testing.T) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	floorOf := make(map[string]int)
	for i, floor := range floors {
		for _, p := range floor.packages {
			floorOf[p] = i
		}
	}
	seen := make(map[string]bool)
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(p.ImportPath, module)
		seen[name] = true
		floor, planned := floorOf[name]
		if strings.HasPrefix(name, "framework/") && !planned {
			t.Errorf("%s is on no floor: say where it belongs", name)
		}
		for _, imported := range p.Imports {
			to, ours := strings.CutPrefix(imported, module)
			if !ours {
				continue
			}
			if f, ok := floorOf[to]; planned && (!ok || f >= floor) {
				t.Errorf("%s (%s) imports %s, which is not below it", name, floors[floor].name, to)
			}
			if allowed, ok := closed[name]; ok && !anyPrefix(to, allowed) {
				t.Errorf("%s imports %s, which it should not know", name, to)
			}
			if strings.HasPrefix(to, "cmd/") && !strings.HasPrefix(name, "cmd/") {
				t.Errorf("%s imports %s: nothing knows the host", name, to)
			}
		}
	}
	for p := range floorOf {
		if !seen[p] {
			t.Errorf("%s is planned and not there", p)
		}
	}
}

func anyPrefix(s string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}
