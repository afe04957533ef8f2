package checkpoint

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/golang/snappy"

	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/proof"
)

// readChunk reads a chunk and checks its digest. Nothing is decoded before that.
func readChunk(r io.Reader, want hash.Hash, limits *Limits) ([]byte, error) {
	var b bytes.Buffer
	n, err := b.ReadFrom(io.LimitReader(r, limits.ChunkBytes+1))
	if err != nil {
		return nil, fmt.Errorf("reading the chunk: %w", err)
	}
	if n > limits.ChunkBytes {
		return nil, exceeded("ChunkBytes", limits.ChunkBytes, "the chunk is longer")
	}
	if got := hash.Sum(b.Bytes()); got != want {
		return nil, fmt.Errorf("%w: digest of its %d bytes is %s, not %s", ErrChunkCorrupted, n, got, want)
	}
	return b.Bytes(), nil
}

// decodeChunk decodes a chunk whose digest is right, and verifies it: a strict proof of the tree with
// the given root, with a leaf in it unless the tree is empty. The tree's nodes lie in memory that the
// chunk does not.
func decodeChunk(chunk []byte, root hash.Hash, limits *Limits) (*proof.Tree, error) {
	raw, err := decompress(chunk, limits.RawBytes)
	if err != nil {
		return nil, err
	}
	tree, err := decodeEntries(raw, limits)
	switch {
	case errors.Is(err, proof.ErrLimitExceeded):
		return nil, fmt.Errorf("%w: Limits.Entries is %d, Limits.KeyBytes %d, Limits.ValueBytes %d: %w",
			ErrLimitExceeded, limits.Entries, limits.KeyBytes, limits.ValueBytes, err)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrChunkProofVerificationFailed, err)
	}
	if got := tree.Root(); got != root {
		return nil, fmt.Errorf("%w: it is of the root %s, not %s", ErrChunkProofVerificationFailed, got, root)
	}
	if !holdsLeaf(tree) && root != hash.EmptyHash {
		return nil, fmt.Errorf("%w: it holds no leaf", ErrChunkProofVerificationFailed)
	}
	return tree, nil
}

func holdsLeaf(tree *proof.Tree) bool {
	for i := range tree.Nodes {
		if n := &tree.Nodes[i]; n.Kind == proof.KindLeaf || n.Compact.OwnLeaf != nil {
			return true
		}
	}
	return false
}

// decodeEntries decodes a chunk's entries, each a CBOR byte string or null in its only encoding. It goes
// over them twice: the first time to learn how many there are, before any memory is taken for them.
func decodeEntries(raw []byte, limits *Limits) (*proof.Tree, error) {
	nodes := 0
	for rest := raw; len(rest) > 0; {
		entry, next, err := nextEntry(raw, rest)
		if err != nil {
			return nil, err
		}
		if entry != nil {
			nodes++
		}
		rest = next
	}
	d := proof.NewDecoder(proof.Version0, proof.Limits{KeyBytes: limits.KeyBytes, ValueBytes: limits.ValueBytes, Entries: limits.Entries})
	d.Grow(nodes)
	for rest := raw; len(rest) > 0; {
		entry, next, err := nextEntry(raw, rest)
		if err != nil {
			return nil, err
		}
		if err := d.Add(entry); err != nil {
			return nil, err
		}
		rest = next
	}
	return d.Finish()
}

// nextEntry takes the first entry of rest, the end of raw, which must not be empty: nil for null.
func nextEntry(raw, rest []byte) (entry, next []byte, err error) {
	if rest[0] == cborNull {
		return nil, rest[1:], nil
	}
	n, head, err := bytesHead(rest)
	if err != nil {
		return nil, nil, fmt.Errorf("byte %d: %w", len(raw)-len(rest), err)
	}
	if uint64(len(rest)-head) < uint64(n) {
		return nil, nil, fmt.Errorf("byte %d: entry of %d bytes cut short", len(raw)-len(rest), n)
	}
	end := head + int(n)
	return rest[head:end:end], rest[end:], nil
}

var errNotBytes = errors.New("not a byte string in its shortest form")

// bytesHead takes the head of a CBOR byte string apart: the string's length and the head's own.
func bytesHead(b []byte) (n uint32, head int, err error) {
	switch {
	case b[0] >= cborBytes && b[0] < cborBytes8:
		return uint32(b[0] - cborBytes), 1, nil
	case b[0] == cborBytes8 && len(b) >= 2 && b[1] >= 24:
		return uint32(b[1]), 2, nil
	case b[0] == cborBytes16 && len(b) >= 3 && b[1] != 0:
		return uint32(binary.BigEndian.Uint16(b[1:])), 3, nil
	case b[0] == cborBytes32 && len(b) >= 5 && (b[1] != 0 || b[2] != 0):
		return binary.BigEndian.Uint32(b[1:]), 5, nil
	default:
		return 0, 0, errNotBytes
	}
}

// The snappy framing format: a stream identifier, then blocks of 4 bytes of head (kind, length of the
// rest), a checksum, and up to 65,536 bytes, compressed or not.
const (
	frameCompressed   = 0x00
	frameUncompressed = 0x01
	frameHeadBytes    = 4
	frameSumBytes     = 4
	frameMaxRaw       = 1 << 16

	streamIdentifier = "\xff\x06\x00\x00sNaPpY"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// frameSum is the checksum of a block.
func frameSum(b []byte) uint32 {
	c := crc32.Update(0, castagnoli, b)
	return (c>>15 | c<<17) + 0xa282ead8
}

func badFrame(at int, what string) error {
	return fmt.Errorf("%w: block at byte %d: %s", ErrChunkProofVerificationFailed, at, what)
}

// frame takes the block at b[at:] apart, and tells where the next one begins.
func frameAt(b []byte, at int) (kind byte, body []byte, rawBytes, next int, err error) {
	if len(b)-at < frameHeadBytes+frameSumBytes {
		return 0, nil, 0, 0, badFrame(at, "cut short")
	}
	kind = b[at]
	n := int(b[at+1]) | int(b[at+2])<<8 | int(b[at+3])<<16
	if n < frameSumBytes || n > len(b)-at-frameHeadBytes {
		return 0, nil, 0, 0, badFrame(at, "cut short")
	}
	next = at + frameHeadBytes + n
	body = b[at+frameHeadBytes : next]
	switch kind {
	case frameCompressed:
		if rawBytes, err = snappy.DecodedLen(body[frameSumBytes:]); err != nil {
			return 0, nil, 0, 0, badFrame(at, err.Error())
		}
	case frameUncompressed:
		rawBytes = n - frameSumBytes
	default: // no writer of chunks makes padding or any other kind
		return 0, nil, 0, 0, badFrame(at, fmt.Sprintf("unknown kind %#02x", kind))
	}
	if rawBytes > frameMaxRaw {
		return 0, nil, 0, 0, badFrame(at, fmt.Sprintf("holds %d bytes", rawBytes))
	}
	return kind, body, rawBytes, next, nil
}

// decompress undoes the snappy framing format. It goes over the blocks twice: the first time to learn
// how many bytes they hold, before any memory is taken for them.
func decompress(chunk []byte, limit int64) ([]byte, error) {
	if !bytes.HasPrefix(chunk, []byte(streamIdentifier)) {
		return nil, fmt.Errorf("%w: not in the snappy framing format", ErrChunkProofVerificationFailed)
	}
	total := int64(0)
	for at := len(streamIdentifier); at < len(chunk); {
		_, _, rawBytes, next, err := frameAt(chunk, at)
		if err != nil {
			return nil, err
		}
		if total += int64(rawBytes); total > limit {
			return nil, exceeded("RawBytes", limit, "the chunk is longer before compression")
		}
		at = next
	}

	raw := make([]byte, total)
	filled := 0
	for at := len(streamIdentifier); at < len(chunk); {
		kind, body, rawBytes, next, err := frameAt(chunk, at)
		if err != nil {
			return nil, err
		}
		into := raw[filled : filled+rawBytes : filled+rawBytes]
		if kind == frameUncompressed {
			copy(into, body[frameSumBytes:])
		} else if _, err := snappy.Decode(into, body[frameSumBytes:]); err != nil {
			return nil, badFrame(at, err.Error())
		}
		if frameSum(into) != binary.LittleEndian.Uint32(body) {
			return nil, badFrame(at, "wrong checksum")
		}
		filled += rawBytes
		at = next
	}
	return raw, nil
}
