package report_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ckpt-project/ckpt/conformance"
)

// TestCommitted reads the reports in docs/conformance: all pass the profile that is claimed, and the names of
// their cases, which others have in their scripts, are still there.
func TestCommitted(t *testing.T) {
	known := map[string]bool{}
	for _, c := range conformance.Cases() {
		known[c.Name] = true
	}
	const dir = "../../docs/conformance"
	for name, profile := range map[string]conformance.Profile{
		"memory": conformance.ProfileCore, "bbolt": conformance.ProfileDurable, "leveldb": conformance.ProfileDurable,
		"bbolt-crash": conformance.ProfileCrash, "leveldb-crash": conformance.ProfileCrash,
	} {
		backend, _, crash := strings.Cut(name, "-")
		least := 60
		if crash {
			least = 7
		}
		content, err := os.ReadFile(filepath.Join(dir, name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		decoder := json.NewDecoder(bytes.NewReader(content))
		decoder.DisallowUnknownFields()
		var r conformance.Report
		if err := decoder.Decode(&r); err != nil {
			t.Fatalf("%s: %v", backend, err)
		}
		if r.Backend != backend || r.Profile != profile || r.Verdict != conformance.Pass || r.Counts.Pass < least {
			t.Errorf("%s: %s of %s, profile %s, %d cases passed", backend, r.Verdict, r.Backend, r.Profile, r.Counts.Pass)
		}
		for _, c := range r.Cases {
			if !known[c.Name] {
				t.Errorf("%s: the suite has no case %s any more", backend, c.Name)
			}
		}
		page, err := os.ReadFile(filepath.Join(dir, name+".html"))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(page, []byte(r.SHA256)) || !bytes.Contains(page, []byte(`<div class="verdict pass">`)) {
			t.Errorf("%s: the page is not of the same run", backend)
		}
		// No path of the machine that made it: neither a temporary file's nor one of somebody's home.
		home, err := os.UserHomeDir()
		if err != nil {
			t.Fatal(err)
		}
		for _, dir := range []string{os.TempDir(), home} {
			if text := string(content) + string(page); strings.Contains(text, filepath.Clean(dir)+"/") {
				t.Errorf("%s: the report names %s", backend, dir)
			}
		}
	}
}
