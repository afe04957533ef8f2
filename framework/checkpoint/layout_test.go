package checkpoint

import (
	"encoding/hex"
	"testing"

	"github.com/ckpt-project/ckpt/conformance/vectors"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// TestVectors makes the checkpoints of known answers from a tree built by definition, with leaves embedded
// and not.
func TestVectors(t *testing.T) {
	for _, v := range vectors.All() {
		for _, embed := range []int{db.DefaultEmbedBytes, 0} {
			name := v.Name()
			if embed == 0 {
				name += "-unembedded"
			}
			if v.N > min(20000, largestVector/8) {
				continue // TestRoundTrip has them
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				d := newTreeDB(t, v.Final(), v.Version(), embed)
				if d.root.Hash != v.Root {
					t.Fatalf("root %s, want %s", d.root.Hash, v.Root)
				}
				c, err := NewFileCreator(t.TempDir(), d, WithThreads(v.Threads))
				if err != nil {
					t.Fatal(err)
				}
				m, err := c.CreateCheckpoint(t.Context(), d.root, v.ChunkSize)
				if err != nil {
					t.Fatal(err)
				}
				if len(m.Chunks) != v.Chunks {
					t.Errorf("%d chunks, want %d", len(m.Chunks), v.Chunks)
				}
				for i, want := range v.ChunkDigests {
					if i < len(m.Chunks) && m.Chunks[i] != want {
						t.Errorf("chunk %d is %s, want %s", i, m.Chunks[i], want)
					}
				}
				if got := hex.EncodeToString(EncodeMetadata(m)); v.MetadataCBOR != "" && got != v.MetadataCBOR {
					t.Errorf("metadata %s, want %s", got, v.MetadataCBOR)
				}
				if got := m.EncodedHash(); got != v.MetadataHash {
					t.Errorf("metadata's hash %s, want %s", got, v.MetadataHash)
				}
				d.checkPins(t)
				manifest, path, err := c.(Inspector).Describe(t.Context(), d.root)
				if err != nil {
					t.Fatal(err)
				}
				if want := uint64(len(v.Final())); manifest.Entries != want {
					t.Errorf("the manifest counts %d entries, want %d", manifest.Entries, want)
				}
				report, err := Verify(t.Context(), path)
				if err != nil {
					t.Fatal(err)
				}
				if report.Entries != manifest.Entries || report.Bytes != manifest.Bytes || report.MetadataHash != v.MetadataHash {
					t.Errorf("verification found %+v", report)
				}
			})
		}
	}
}
