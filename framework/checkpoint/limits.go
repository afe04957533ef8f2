package checkpoint

import (
	"fmt"

	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/proof"
)

// Limits bounds what a checkpoint may make its receiver take memory and time for. A zero field means the
// default. Whoever restores chunks at once may need as much for each. A creator makes nothing that can't
// be restored under its own.
type Limits struct {
	// Chunks is the largest number of chunks, and so the length of the metadata: never more than MaxChunks.
	Chunks int
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

func exceeded(setting string, limit any, what string) error {
	return fmt.Errorf("%w: Limits.%s is %v: %s", ErrLimitExceeded, setting, limit, what)
}
