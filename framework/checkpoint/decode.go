package checkpoint

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"sync"
	"unsafe"

	"github.com/golang/snappy"

	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/proof"
)

// chunkReader reads chunks, one after the other, into memory that it uses again. It belongs to one
// goroutine.
type chunkReader struct {
	limit int64
	chunk []byte
}

// read reads a chunk and checks its digest. Nothing is decoded before that. It takes memory as bytes come;
// the chunk is valid until the next call.
func (c *chunkReader) read(r io.Reader, want hash.Hash) (chunk []byte, err error) {
	b := c.chunk[:0]
	for {
		if len(b) == cap(b) {
			b = slices.Grow(b, max(len(b), 64<<10))
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if c.chunk = b; int64(len(b)) > c.limit {
			return nil, exceeded("ChunkBytes", c.limit, "the chunk is longer")
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("reading the chunk: %w", err)
		}
	}
	if got := hash.Sum(b); got != want {
		return nil, fmt.Errorf("%w: digest of its %d bytes is %s, not %s", ErrChunkCorrupted, len(b), got, want)
	}
	return b, nil
}

// chunkDecoder decodes and verifies chunks, one after the other, in memory that it uses again: for a chunk
// of the usual size that is some twenty megabytes, which cost more to get than to fill. It belongs to one
// goroutine.
type chunkDecoder struct {
	limits *Limits
	raw    []byte
	nodes  *proof.Decoder
}

func newChunkDecoder(limits *Limits) *chunkDecoder {
	return &chunkDecoder{
		limits: limits,
		nodes:  proof.NewDecoder(proof.Version0, proof.Limits{KeyBytes: limits.KeyBytes, ValueBytes: limits.ValueBytes, Entries: limits.Entries}),
	}
}

// How much memory readers and decoders that nobody uses may hold on to, each.
const (
	keptChunkBytes   = 32 << 20
	keptDecoderBytes = 128 << 20
)

// workspaces are readers and decoders of the same limits that nobody uses.
type workspaces struct {
	limits   *Limits
	readers  sync.Pool
	decoders sync.Pool
}

// reader returns a reader, to be given back with putReader.
func (w *workspaces) reader() *chunkReader {
	if r, ok := w.readers.Get().(*chunkReader); ok {
		return r
	}
	return &chunkReader{limit: w.limits.ChunkBytes}
}

// putReader gives a reader back, whose last chunk may not be used any more.
func (w *workspaces) putReader(r *chunkReader) {
	if cap(r.chunk) <= keptChunkBytes {
		w.readers.Put(r)
	}
}

// decoder returns a decoder, to be given back with putDecoder.
func (w *workspaces) decoder() *chunkDecoder {
	if d, ok := w.decoders.Get().(*chunkDecoder); ok {
		return d
	}
	return newChunkDecoder(w.limits)
}

// putDecoder gives a decoder back, with the tree that it decoded, which may not be used any more. One that
// failed comes with none, and is dropped: what it holds may be large.
func (w *workspaces) putDecoder(d *chunkDecoder, tree *proof.Tree) {
	if tree != nil && cap(d.raw)+cap(tree.Nodes)*int(unsafe.Sizeof(proof.Node{})) <= keptDecoderBytes {
		w.decoders.Put(d)
	}
}

// decode decodes a chunk whose digest is right, and verifies it: a strict proof of the tree with the given
// root, with a leaf in it unless the tree is empty. The tree is valid until the next call; its nodes lie
// in memory that the chunk does not.
func (d *chunkDecoder) decode(chunk []byte, root hash.Hash) (*proof.Tree, error) {
	var err error
	if d.raw, err = decompress(d.raw[:0], chunk, d.limits.RawBytes); err != nil {
		return nil, err
	}
	tree, err := d.entries()
	switch {
	case errors.Is(err, proof.ErrLimitExceeded):
		return nil, fmt.Errorf("%w: Limits.Entries is %d, Limits.KeyBytes %d, Limits.ValueBytes %d: %w",
			ErrLimitExceeded, d.limits.Entries, d.limits.KeyBytes, d.limits.ValueBytes, err)
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
		if n := &tree.Nodes[i]; n.Kind == proof.KindLeaf || n.HasOwnLeaf {
			return true
		}
	}
	return false
}

// entries decodes a chunk's entries, each a CBOR byte string or null in its only encoding. It goes over
// them twice: the first time to learn how many there are, before any memory is taken for them.
func (d *chunkDecoder) entries() (*proof.Tree, error) {
	nodes := 0
	for rest := d.raw; len(rest) > 0; {
		entry, next, err := nextEntry(d.raw, rest)
		if err != nil {
			return nil, err
		}
		if entry != nil {
			nodes++
		}
		rest = next
	}
	d.nodes.Reset()
	d.nodes.Grow(nodes)
	for rest := d.raw; len(rest) > 0; {
		entry, next, err := nextEntry(d.raw, rest)
		if err != nil {
			return nil, err
		}
		if err := d.nodes.Add(entry); err != nil {
			return nil, err
		}
		rest = next
	}
	return d.nodes.Finish()
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

// frameAt takes the block at b[at:] apart, and tells where the next one begins.
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

// decompress undoes the snappy framing format, into dst where that is large enough. It goes over the
// blocks twice: the first time to learn how many bytes they hold, before any memory is taken for them.
func decompress(dst, chunk []byte, limit int64) ([]byte, error) {
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

	raw := slices.Grow(dst[:0], int(total))[:total]
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
