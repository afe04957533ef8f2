package checkpoint

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/ckpt-project/ckpt/framework/hash"
)

// TestManifestRefused checks that a manifest that does not fit its checkpoint is not used.
func TestManifestRefused(t *testing.T) {
	m := sourceOf(t, dataSet("uniform", 100), 1024, 0)
	good, err := ReadManifest(m.path, m.Metadata)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Manifest){
		"format":                   func(m *Manifest) { m.Format++ },
		"checkpoint":               func(m *Manifest) { m.MetadataHash[0] ^= 1 },
		"number of chunks":         func(m *Manifest) { m.Chunks = m.Chunks[:len(m.Chunks)-1] },
		"chunk":                    func(m *Manifest) { m.Chunks[1].Digest[0] ^= 1 },
		"bytes of a chunk":         func(m *Manifest) { m.Chunks[1].Bytes = -1 },
		"raw bytes of a chunk":     func(m *Manifest) { m.Chunks[1].RawBytes = -1 },
		"bytes":                    func(m *Manifest) { m.Bytes = -1 },
		"bytes before compression": func(m *Manifest) { m.RawBytes = -1 },
	} {
		b, err := json.Marshal(good)
		if err != nil {
			t.Fatal(err)
		}
		bad, err := decodeManifest(b, m.Metadata)
		if err != nil {
			t.Fatal(err)
		}
		change(bad)
		if b, err = json.Marshal(bad); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(m.path, manifestName), b, fileMode); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadManifest(m.path, m.Metadata); !errors.Is(err, ErrDamaged) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	if err := os.Remove(filepath.Join(m.path, manifestName)); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadManifest(m.path, m.Metadata); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no manifest: %v", err)
	}
}

// TestManifestIsBounded checks that a manifest takes no more memory than its checkpoint's metadata gives reason
// for, and that the longest one that can be made is read.
func TestManifestIsBounded(t *testing.T) {
	m := sourceOf(t, dataSet("uniform", 100), 1024, 0)
	path := filepath.Join(m.path, manifestName)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	writeTo(t, path, append(good, bytes.Repeat([]byte(" "), manifestHeadBytes+len(m.Chunks)*chunkManifestBytes)...))
	if _, err := ReadManifest(m.path, m.Metadata); !errors.Is(err, ErrDamaged) {
		t.Errorf("a manifest of much space: %v", err)
	}

	long := &Metadata{Version: 1, Root: m.Root, Chunks: make([]hash.Hash, 10_000)}
	chunks := make([]ChunkManifest, len(long.Chunks))
	for i := range chunks {
		chunks[i] = ChunkManifest{Bytes: 1 << 62 / int64(len(chunks)), RawBytes: 1 << 62 / int64(len(chunks)), Entries: 1 << 63, Nodes: 1 << 63}
	}
	b, err := json.MarshalIndent(newManifest(long, chunks), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	writeTo(t, path, b)
	if _, err := ReadManifest(m.path, long); err != nil {
		t.Errorf("a manifest of large numbers: %v", err)
	}
}

func FuzzDecodeManifest(f *testing.F) {
	_, m := knownMetadata(f)
	chunks := make([]ChunkManifest, len(m.Chunks))
	for i := range chunks {
		chunks[i] = ChunkManifest{Digest: m.Chunks[i], Bytes: 7, RawBytes: 9, Entries: 1, Nodes: 1}
	}
	good, err := json.Marshal(newManifest(m, chunks))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(bytes.Replace(good, []byte(`"bytes":7`), []byte(`"bytes":-7`), 1))
	f.Add(good[:len(good)/2])
	f.Add([]byte(`{"format":1}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, b []byte) {
		manifest, err := decodeManifest(b, m)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("%v", err)
			}
			return
		}
		if manifest.MetadataHash != m.EncodedHash() || len(manifest.Chunks) != len(m.Chunks) {
			t.Errorf("the manifest of something else was taken: %+v", manifest)
		}
		for i, c := range manifest.Chunks {
			if c.Digest != m.Chunks[i] || c.Digest == (hash.Hash{}) || c.Bytes < 0 || c.RawBytes < 0 {
				t.Errorf("chunk %d: %+v", i, c)
			}
		}
	})
}
