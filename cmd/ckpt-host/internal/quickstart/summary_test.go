package quickstart

import (
	"strings"
	"testing"
)

// TestFactsCountOne holds the summary to the singular: small histories have a checkpoint of one chunk.
func TestFactsCountOne(t *testing.T) {
	for chunks, want := range map[int]string{1: "1 chunk, ", 2: "2 chunks, "} {
		result := &Result{}
		result.Checkpoint.Chunks = chunks
		found := false
		for _, row := range facts(result) {
			found = found || strings.HasPrefix(row[1], want)
		}
		if !found {
			t.Errorf("no fact begins with %q: %q", want, facts(result))
		}
	}
}
