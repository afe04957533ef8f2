package checkpoint

import (
	"testing"

	"github.com/ckpt-project/ckpt/conformance/vectors"
)

// TestRoundTrip makes the checkpoint of every known answer from a database, restores it into another
// one, and makes it there again.
func TestRoundTrip(t *testing.T) {
	for _, v := range vectors.All() {
		if v.N > largestVector {
			continue
		}
		t.Run(v.Name(), func(t *testing.T) {
			t.Parallel()
			from := openDB(t)
			root := load(t, from, &v)
			m := makeCheckpoint(t, from, root, v.ChunkSize, v.Threads)
			if got := m.EncodedHash(); got != v.MetadataHash {
				t.Fatalf("metadata's hash %s, want %s", got, v.MetadataHash)
			}

			to := openDB(t)
			r := newRestorer(t, to)
			restore(t, r, m)
			if cp := r.GetCurrentCheckpoint(); cp != nil {
				t.Errorf("restoring %s after the end", cp.Root)
			}
			if _, ok, err := to.GetLatestVersion(t.Context()); err != nil || ok {
				t.Errorf("there is a version before it is finalized: %v, %v", ok, err)
			}
			finalize(t, to, root)
			if !equalPairs(entriesOf(t, to, root), v.Final()) {
				t.Error("the restored state holds other entries")
			}
			again := makeCheckpoint(t, to, root, v.ChunkSize, v.Threads)
			if got := again.EncodedHash(); got != v.MetadataHash {
				t.Errorf("metadata's hash after the restore %s, want %s", got, v.MetadataHash)
			}
		})
	}
}
