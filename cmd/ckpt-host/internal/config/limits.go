package config

import (
	"cmp"

	"github.com/ckpt-project/ckpt/framework/checkpoint"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// Bounds of the settings of limits: what is larger, no machine that this runs on can hold in memory.
const (
	// MaxChunkBytes bounds chunk_bytes and chunk_raw_bytes.
	MaxChunkBytes = 1 << 36
	// MaxChunkEntries bounds chunk_entries.
	MaxChunkEntries = 1 << 30
	// minMetadataBytes is enough for a checkpoint of a few chunks.
	minMetadataBytes = 1 << 10
)

// defaultChunkEntries is how many entries a chunk of the largest chunk size can have.
const defaultChunkEntries = 8 << 20

// CheckpointLimits is what a checkpoint may hold that is made, verified or restored for the namespace. Where
// nothing is set, a chunk may hold as much as one that is made here can.
func (n *Namespace) CheckpointLimits() checkpoint.Limits {
	// The last entry of a chunk begins before the chunk size is reached, and can be an internal node with
	// its own leaf; before the chunk's first leaf stands the way to it.
	longest := int64(MaxChunkSize) + 2*int64(n.ValueBytes) + 64<<20
	return checkpoint.Limits{
		Chunks:        cmp.Or(n.Limits.Chunks, checkpoint.MaxChunks),
		MetadataBytes: cmp.Or(n.Limits.MetadataBytes, checkpoint.MaxMetadataBytes),
		ChunkBytes:    cmp.Or(n.Limits.ChunkBytes, max(longest, checkpoint.DefaultChunkBytes)),
		RawBytes:      cmp.Or(n.Limits.RawBytes, max(longest, checkpoint.DefaultRawBytes)),
		Entries:       cmp.Or(n.Limits.Entries, defaultChunkEntries),
		KeyBytes:      n.KeyBytes,
		ValueBytes:    n.ValueBytes,
	}
}

// limits reads the limits block.
func (r *resolver) limits(n *Namespace, b *limitsBlock) {
	n.KeyBytes = int(r.size(b.KeyBytes, db.DefaultMaxKeyBytes, 1, db.DefaultMaxKeyBytes))
	n.ValueBytes = int(r.size(b.ValueBytes, db.DefaultMaxValueBytes, 1, MaxValueBytes))
	n.Limits = checkpoint.Limits{ // 0 where it is not set
		Chunks:        int(r.number(b.Chunks, 0, 1, checkpoint.MaxChunks, "chunks")),
		MetadataBytes: int64(r.size(b.MetadataBytes, 0, minMetadataBytes, checkpoint.MaxMetadataBytes)),
		ChunkBytes:    int64(r.size(b.ChunkBytes, 0, 1, MaxChunkBytes)),
		RawBytes:      int64(r.size(b.ChunkRawBytes, 0, 1, MaxChunkBytes)),
		Entries:       int(r.number(b.ChunkEntries, 0, 1, MaxChunkEntries, "entries")),
	}
}
