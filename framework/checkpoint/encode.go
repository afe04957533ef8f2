package checkpoint

import (
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"io"
	"sync"

	"github.com/golang/snappy"

	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// A chunk is the entries of a proof (version 0), one after the other, each as a CBOR byte string or null,
// through the snappy framing format. Where its blocks end depends on how the bytes are handed to the
// snappy writer: each entry in one Write, head and bytes together.

// The first byte of a proof's entry that is not nil.
const (
	entryIncluded byte = 0x01
	entryLeftOut  byte = 0x02
)

// The heads of CBOR data items that chunks consist of.
const (
	cborBytes   byte = 0x40 // major type 2; the low five bits are the length, or say where it is
	cborBytes8  byte = 0x58
	cborBytes16 byte = 0x59
	cborBytes32 byte = 0x5a
	cborNull    byte = 0xf6
)

// segmentBytes is how much of a chunk goes from the layout to the compressor at once. With
// segmentsAhead, it bounds the memory that a chunk in the making takes.
const (
	segmentBytes  = 1 << 20
	segmentsAhead = 4
)

// segment is a run of encoded entries; ends are where in data they end.
type segment struct {
	data []byte
	ends []int
}

var segments = sync.Pool{New: func() any { return &segment{data: make([]byte, 0, segmentBytes+4096)} }}

// chunkEncoder takes the entries of one chunk, in order, and passes them on to a compressor, which
// works beside it. It belongs to one goroutine.
type chunkEncoder struct {
	out     chan<- *segment
	current *segment
	limits  *Limits
	entries int
	sent    int64 // bytes of the segments that were passed on
}

// newChunkEncoder returns an encoder, and what its compressor receives from.
func newChunkEncoder(limits *Limits) (*chunkEncoder, <-chan *segment) {
	ch := make(chan *segment, segmentsAhead)
	return &chunkEncoder{out: ch, current: segments.Get().(*segment), limits: limits}, ch
}

// check says whether the chunk is, so far, one that can be restored under the limits.
func (e *chunkEncoder) check() error {
	switch {
	case e.entries > e.limits.Entries:
		return exceeded("Entries", e.limits.Entries, "a chunk of this chunk size has more")
	case e.sent+int64(len(e.current.data)) > e.limits.RawBytes:
		return exceeded("RawBytes", e.limits.RawBytes, "a chunk of this chunk size is longer before compression")
	}
	return nil
}

// checkLeaf says whether a leaf, given its encoding, can be restored under the limits.
func (l *Limits) checkLeaf(encoding []byte) error {
	if len(encoding)-node.LeafOverhead <= min(l.KeyBytes, l.ValueBytes) {
		return nil
	}
	c, _, err := node.ParseCompactV0(encoding)
	switch {
	case err != nil:
		return err
	case len(c.Key) > l.KeyBytes:
		return exceeded("KeyBytes", l.KeyBytes, fmt.Sprintf("a key has %d", len(c.Key)))
	case len(c.Value) > l.ValueBytes:
		return exceeded("ValueBytes", l.ValueBytes, fmt.Sprintf("the value of key %x has %d", c.Key, len(c.Value)))
	}
	return nil
}

// included adds the entry of a node that is included, given its compact encoding.
func (e *chunkEncoder) included(encoding []byte) {
	e.current.data = appendBytesHead(e.current.data, 1+len(encoding))
	e.current.data = append(e.current.data, entryIncluded)
	e.current.data = append(e.current.data, encoding...)
	e.end()
}

// leftOut adds the entry of a node that is left out.
func (e *chunkEncoder) leftOut(h hash.Hash) {
	e.current.data = append(e.current.data, cborBytes8, 1+hash.Size, entryLeftOut)
	e.current.data = append(e.current.data, h[:]...)
	e.end()
}

// absent adds the entry of an absent child, or of the empty tree's root.
func (e *chunkEncoder) absent() {
	e.current.data = append(e.current.data, cborNull)
	e.end()
}

func (e *chunkEncoder) end() {
	e.entries++
	e.current.ends = append(e.current.ends, len(e.current.data))
	if len(e.current.data) >= segmentBytes {
		e.sent += int64(len(e.current.data))
		e.out <- e.current
		e.current = segments.Get().(*segment)
	}
}

// close ends the chunk: its compressor comes to an end. It must be called once.
func (e *chunkEncoder) close() {
	e.out <- e.current
	close(e.out)
}

// appendBytesHead appends the head of a CBOR byte string of n bytes, in its shortest form.
func appendBytesHead(dst []byte, n int) []byte {
	switch {
	case n < 24:
		return append(dst, cborBytes|byte(n))
	case n < 1<<8:
		return append(dst, cborBytes8, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(dst, cborBytes16), uint16(n))
	default:
		return binary.BigEndian.AppendUint32(append(dst, cborBytes32), uint32(n))
	}
}

// compressed is what came out of a compressor.
type compressed struct {
	digest hash.Hash
	// bytes is the chunk's length, raw what it was before compression.
	bytes, raw int64
}

// compressor holds what compressing takes, to be used for one chunk after the other.
type compressor struct {
	snappy *snappy.Writer
}

var compressors = sync.Pool{New: func() any { return &compressor{snappy: snappy.NewBufferedWriter(nil)} }}

// compress writes the chunk whose segments come from in to w. It receives all of them even where it
// fails, so that whoever sends them never waits for it in vain.
func compress(w io.Writer, in <-chan *segment) (c compressed, err error) {
	worker := compressors.Get().(*compressor)
	defer compressors.Put(worker)
	defer worker.snappy.Reset(nil)

	digest := sha512.New512_256()
	counter := &countingWriter{}
	worker.snappy.Reset(io.MultiWriter(digest, counter, w))
	for s := range in {
		start := 0
		for _, end := range s.ends {
			if err != nil {
				break
			}
			_, err = worker.snappy.Write(s.data[start:end])
			start = end
		}
		c.raw += int64(len(s.data))
		if cap(s.data) <= 2*segmentBytes { // one with a huge value in it isn't kept
			s.data, s.ends = s.data[:0], s.ends[:0]
			segments.Put(s)
		}
	}
	if err == nil {
		err = worker.snappy.Close()
	}
	if err != nil {
		return c, fmt.Errorf("writing the chunk: %w", err)
	}
	digest.Sum(c.digest[:0])
	c.bytes = counter.n
	return c, nil
}

type countingWriter struct{ n int64 }

func (c *countingWriter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}
