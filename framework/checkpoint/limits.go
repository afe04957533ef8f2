package checkpoint

import (
	"fmt"

	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/proof"
)

// Limits bounds what a checkpoint may make its receiver take memory and time for. A zero field means the
// default. Whoever restores chunks at once may need as much for each. A creator makes nothing that can't
// be restored under its own.
type Limits struct {
	// Chunks is the largest number of chunks, never more than MaxChunks, and MetadataBytes the length of the
	// longest metadata, never more than MaxMetadataBytes. These are the defaults.
	Chunks        int
	MetadataBytes int64
	// ChunkBytes is the length of the longest chunk.
	ChunkBytes int64
	// RawBytes is what a chunk may be before compression.
	RawBytes int64
	// Entries is the largest number of proof entries in a chunk.
	Entries int
	// KeyBytes and ValueBytes are the lengths of the longest key and value. For a restorer, the defaults
	// are the database's limits.
	KeyBytes   int
	ValueBytes int
}

// Defaults of Limits.
const (
	DefaultChunkBytes = 256 << 20
	DefaultRawBytes   = 512 << 20
	DefaultEntries    = 4 << 20
)

func (l Limits) withDefaults() Limits {
	if l.Chunks <= 0 || l.Chunks > MaxChunks {
		l.Chunks = MaxChunks
	}
	if l.MetadataBytes <= 0 || l.MetadataBytes > MaxMetadataBytes {
		l.MetadataBytes = MaxMetadataBytes
	}
	if l.ChunkBytes <= 0 {
		l.ChunkBytes = DefaultChunkBytes
	}
	if l.RawBytes <= 0 {
		l.RawBytes = DefaultRawBytes
	}
	if l.Entries <= 0 {
		l.Entries = DefaultEntries
	}
	if l.KeyBytes <= 0 {
		l.KeyBytes = node.MaxKeyBytes
	}
	if l.ValueBytes <= 0 {
		l.ValueBytes = proof.DefaultValueBytes
	}
	return l
}

// checkCount says whether a checkpoint of so many chunks, and perhaps more, can be within the limits. It is
// for a creator that does not have the metadata yet.
func (l *Limits) checkCount(chunks uint64) error {
	switch {
	case chunks > uint64(l.Chunks):
		return exceeded("Chunks", l.Chunks, "the chunk size makes more chunks: choose a larger one")
	case chunks*digestBytes > uint64(l.MetadataBytes):
		return exceeded("MetadataBytes", l.MetadataBytes, "the chunk size makes more chunks than the metadata can name: choose a larger one")
	}
	return nil
}

// checkMetadata says whether metadata is within the limits, and its chunks as many as its root can have.
func (l *Limits) checkMetadata(m *Metadata) error {
	n := len(m.Chunks)
	if m.Root.IsEmpty() && n != 1 {
		return fmt.Errorf("%w: %d chunks of an empty tree", ErrMalformedMetadata, n)
	}
	if n > l.Chunks {
		return exceeded("Chunks", l.Chunks, fmt.Sprintf("the checkpoint has %d", n))
	}
	if n := m.encodedBytes(); n > l.MetadataBytes {
		return exceeded("MetadataBytes", l.MetadataBytes, fmt.Sprintf("the checkpoint's metadata has %d", n))
	}
	return nil
}

// metadataBytes is how much of a file of metadata has to be read, at the most, to know whether it is within
// the limits; setting and limit are the one that it is beyond where it is longer.
func (l *Limits) metadataBytes() (most int64, setting string, limit any) {
	if byChunks := metadataHeadBytes + int64(l.Chunks)*digestBytes; byChunks < l.MetadataBytes {
		return byChunks, "Chunks", l.Chunks
	}
	return l.MetadataBytes, "MetadataBytes", l.MetadataBytes
}

// What metadata takes: no more than metadataHeadBytes beside the digests, and exactly digestBytes for each.
const (
	metadataHeadBytes = 1024
	digestBytes       = 2 + hash.Size
)

func exceeded(setting string, limit any, what string) error {
	return fmt.Errorf("%w: Limits.%s is %v: %s", ErrLimitExceeded, setting, limit, what)
}
