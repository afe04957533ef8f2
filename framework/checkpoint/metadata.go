package checkpoint

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/fxamacker/cbor/v2"

	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// checkpointVersion is the only version of the format.
const checkpointVersion = 1

// MaxChunks is the largest number of chunks in a checkpoint; a creator makes no more, and metadata of
// more is refused.
const MaxChunks = 1 << 20

// MaxMetadataBytes is more than the encoding of MaxChunks digests takes. No metadata is longer.
const MaxMetadataBytes = metadataHeadBytes + MaxChunks*digestBytes

// Metadata is checkpoint metadata.
type Metadata struct {
	Version uint16      `json:"version"`
	Root    node.Root   `json:"root"`
	Chunks  []hash.Hash `json:"chunks"`
}

// ChunkMetadata is chunk metadata.
type ChunkMetadata struct {
	Version uint16    `json:"version"`
	Root    node.Root `json:"root"`
	Index   uint64    `json:"index"`
	Digest  hash.Hash `json:"digest"`
}

// metadataEncoding and metadataDecoding are the canonical CBOR of RFC 7049, section 3.9. Field names are
// those of the JSON tags; hashes and namespaces are byte strings.
var (
	metadataEncoding = func() cbor.EncMode {
		options := cbor.CanonicalEncOptions()
		options.NilContainers = cbor.NilContainerAsEmpty
		mode, err := options.EncMode()
		if err != nil {
			panic(err) // options that contradict each other: a mistake in the program
		}
		return mode
	}()
	metadataDecoding = func() cbor.DecMode {
		mode, err := cbor.DecOptions{
			DupMapKey:         cbor.DupMapKeyEnforcedAPF,
			IndefLength:       cbor.IndefLengthForbidden,
			TagsMd:            cbor.TagsForbidden,
			ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
			MaxArrayElements:  MaxChunks,
			MaxNestedLevels:   4,
		}.DecMode()
		if err != nil {
			panic(err)
		}
		return mode
	}()
)

// EncodeMetadata returns the metadata's encoding, which is what a checkpoint's file "meta" holds.
func EncodeMetadata(m *Metadata) []byte {
	b, err := metadataEncoding.Marshal(m)
	if err != nil {
		panic(err) // of a struct of numbers and byte arrays: can't be
	}
	return b
}

// DecodeMetadata decodes metadata and validates it. It takes only the one encoding that EncodeMetadata
// makes; anything else is ErrMalformedMetadata.
func DecodeMetadata(b []byte) (*Metadata, error) {
	if len(b) > MaxMetadataBytes {
		return nil, fmt.Errorf("%w: %d bytes, and there are never more than %d", ErrMalformedMetadata, len(b), MaxMetadataBytes)
	}
	var m Metadata
	if err := metadataDecoding.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformedMetadata, err)
	}
	if err := m.Validate(); err != nil {
		return nil, err
	}
	// What decodes to the same but isn't the same (other order, longer lengths, null, fields left out) has
	// another hash, and so would be another checkpoint.
	if !bytes.Equal(EncodeMetadata(&m), b) {
		return nil, fmt.Errorf("%w: not in canonical form", ErrMalformedMetadata)
	}
	return &m, nil
}

// Validate says what is wrong with the metadata by itself: an unknown version of the format, an invalid
// root type, no chunks or more than MaxChunks. Errors are ErrMalformedMetadata.
func (m *Metadata) Validate() error {
	switch {
	case m.Version != checkpointVersion:
		return fmt.Errorf("%w: version %d of the format, and only %d is known", ErrMalformedMetadata, m.Version, checkpointVersion)
	case !m.Root.Type.IsValid():
		return fmt.Errorf("%w: %s", ErrMalformedMetadata, m.Root.Type)
	case len(m.Chunks) == 0:
		return fmt.Errorf("%w: no chunks", ErrMalformedMetadata)
	case len(m.Chunks) > MaxChunks:
		return fmt.Errorf("%w: %d chunks, and there are never more than %d", ErrMalformedMetadata, len(m.Chunks), MaxChunks)
	}
	return nil
}

// encodedBytes is the length of the metadata's encoding.
func (m *Metadata) encodedBytes() int64 {
	head := *m
	head.Chunks = nil
	n := int64(len(EncodeMetadata(&head))) + int64(len(m.Chunks))*digestBytes
	switch { // what the list's head is longer than that of an empty one
	case len(m.Chunks) >= 1<<16:
		n += 4
	case len(m.Chunks) >= 1<<8:
		n += 2
	case len(m.Chunks) >= 24:
		n++
	}
	return n
}

// EncodedHash returns the encoded cryptographic hash of the checkpoint metadata.
func (m *Metadata) EncodedHash() hash.Hash {
	return hash.Sum(EncodeMetadata(m))
}

// GetChunkMetadata returns the chunk metadata for the corresponding chunk, ErrChunkNotFound where there
// is none.
func (m Metadata) GetChunkMetadata(idx uint64) (*ChunkMetadata, error) {
	if idx >= uint64(len(m.Chunks)) {
		return nil, fmt.Errorf("%w: index %d of %d", ErrChunkNotFound, idx, len(m.Chunks))
	}
	return &ChunkMetadata{Version: m.Version, Root: m.Root, Index: idx, Digest: m.Chunks[idx]}, nil
}

func (m *Metadata) clone() *Metadata {
	c := *m
	c.Chunks = slices.Clone(m.Chunks)
	return &c
}
