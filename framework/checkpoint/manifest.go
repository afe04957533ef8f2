package checkpoint

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// manifestFormat is the only format of manifests.
const manifestFormat = 1

// A manifest takes no more than manifestHeadBytes, and chunkManifestBytes for each chunk.
const (
	manifestHeadBytes  = 64 << 10
	chunkManifestBytes = 512
)

// Manifest tells of a checkpoint what its metadata does not. Only checkpoints that were made here have
// one; it is for estimates, progress and audits, and no one has to believe it.
type Manifest struct {
	// Format is the manifest's format.
	Format int `json:"format"`
	// Root is the checkpoint's root.
	Root node.Root `json:"root"`
	// MetadataHash is the hash of the checkpoint's metadata.
	MetadataHash hash.Hash `json:"metadata_hash"`
	// ChunkSize and Threads are the layout's parameters: 1 thread is the sequential layout.
	ChunkSize uint64 `json:"chunk_size"`
	Threads   int    `json:"threads"`
	// Bytes is the length of all chunks together, RawBytes what it was before compression.
	Bytes    int64 `json:"bytes"`
	RawBytes int64 `json:"raw_bytes"`
	// Entries is the number of keys, Nodes that of all nodes of the tree, leaves included.
	Entries uint64 `json:"entries"`
	Nodes   uint64 `json:"nodes"`
	// Started and Finished are when the checkpoint was made.
	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished"`
	// Origin is "checkpointer" where a checkpointer made the checkpoint by itself, and empty otherwise.
	Origin string `json:"origin,omitempty"`
	// Software is what made the checkpoint.
	Software string `json:"software"`
	// Chunks tells of each chunk.
	Chunks []ChunkManifest `json:"chunks"`
}

// ChunkManifest tells of one chunk. Its counts are of what no chunk before it holds.
type ChunkManifest struct {
	Digest   hash.Hash `json:"digest"`
	Bytes    int64     `json:"bytes"`
	RawBytes int64     `json:"raw_bytes"`
	Entries  uint64    `json:"entries"`
	Nodes    uint64    `json:"nodes"`
}

// newManifest puts the manifest of a checkpoint together.
func newManifest(m *Metadata, chunks []ChunkManifest) *Manifest {
	manifest := &Manifest{
		Format:       manifestFormat,
		Root:         m.Root,
		MetadataHash: m.EncodedHash(),
		Chunks:       chunks,
	}
	for i := range chunks {
		manifest.Bytes += chunks[i].Bytes
		manifest.RawBytes += chunks[i].RawBytes
		manifest.Entries += chunks[i].Entries
		manifest.Nodes += chunks[i].Nodes
	}
	return manifest
}

// maxManifestBytes is the length of the longest manifest of a checkpoint whose metadata is m.
func maxManifestBytes(m *Metadata) int64 {
	return manifestHeadBytes + int64(len(m.Chunks))*chunkManifestBytes
}

// ReadManifest reads the manifest of the checkpoint in dir (the directory that its metadata lies in), whose
// metadata is m. Where there is none, the error is fs.ErrNotExist; one that can't be used is ErrDamaged. It takes
// no more memory than the metadata gives reason for.
func ReadManifest(dir string, m *Metadata) (*Manifest, error) {
	b, err := readBounded(filepath.Join(dir, manifestName), maxManifestBytes(m))
	if err != nil {
		return nil, err
	}
	return decodeManifest(b, m)
}

// encodeManifest returns the bytes of a manifest.
func encodeManifest(manifest *Manifest) ([]byte, error) {
	b, err := json.MarshalIndent(manifest, "", " ")
	if err != nil {
		return nil, err
	}
	return append(b, '\n'), nil
}

// decodeManifest decodes the manifest of the checkpoint whose metadata is m.
func decodeManifest(b []byte, m *Metadata) (*Manifest, error) {
	var manifest Manifest
	if err := json.Unmarshal(b, &manifest); err != nil {
		return nil, fmt.Errorf("%w: manifest: %w", ErrDamaged, err)
	}
	switch {
	case manifest.Format != manifestFormat:
		return nil, fmt.Errorf("%w: manifest of format %d, and only %d is known", ErrDamaged, manifest.Format, manifestFormat)
	case manifest.MetadataHash != m.EncodedHash():
		return nil, fmt.Errorf("%w: the manifest is of another checkpoint", ErrDamaged)
	case len(manifest.Chunks) != len(m.Chunks):
		return nil, fmt.Errorf("%w: the manifest tells of %d chunks of %d", ErrDamaged, len(manifest.Chunks), len(m.Chunks))
	case manifest.Bytes < 0 || manifest.RawBytes < 0:
		return nil, fmt.Errorf("%w: the manifest tells of %d bytes, %d before compression", ErrDamaged, manifest.Bytes, manifest.RawBytes)
	}
	for i := range manifest.Chunks {
		if c := &manifest.Chunks[i]; c.Digest != m.Chunks[i] || c.Bytes < 0 || c.RawBytes < 0 {
			return nil, fmt.Errorf("%w: the manifest tells of another chunk %d", ErrDamaged, i)
		}
	}
	return &manifest, nil
}

// layoutThreads is the number of threads as the layout knows it: none and one are the same.
func layoutThreads(threads int) int { return max(threads, 1) }

// software names this program for manifests.
func software() string {
	const name = "ckpt"
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return name + " " + info.Main.Version
	}
	return name
}
