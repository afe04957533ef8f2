package checkpoint

import (
	"context"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	stdhash "hash"
	"io"
	"sync"

	"github.com/golang/snappy"
	"golang.org/x/sync/semaphore"

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

// segmentBytes is how much of a chunk goes from the layout to the compressor at once: so little that it is still in
// the processor's cache. aheadBytes is how much of it may wait there, and one entry; it bounds the memory that a
// chunk in the making takes.
const (
	segmentBytes = 256 << 10
	aheadBytes   = 4 << 20
)

// segment is a run of encoded entries; ends are where in data they end.
type segment struct {
	data []byte
	ends []int
	// taken is what it takes of ahead, which is nil where nothing bounds it.
	ahead *semaphore.Weighted
	taken int64
}

var segments = sync.Pool{New: func() any { return &segment{data: make([]byte, 0, segmentBytes+4096)} }}

// release gives a segment's memory up, and its place.
func (s *segment) release() {
	if s.ahead != nil {
		s.ahead.Release(s.taken)
	}
	if cap(s.data) <= 2*segmentBytes { // one with a huge value in it isn't kept
		s.data, s.ends, s.ahead = s.data[:0], s.ends[:0], nil
		segments.Put(s)
	}
}

// chunkEncoder takes the entries of one chunk, in order, and passes them on to a compressor, which
// works beside it. It belongs to one goroutine.
type chunkEncoder struct {
	out     chan<- *segment
	ahead   *semaphore.Weighted
	current *segment
	limits  *Limits
	entries int
	sent    int64 // bytes of the segments that were passed on
}

// newChunkEncoder returns an encoder, and what its compressor receives from.
func newChunkEncoder(limits *Limits) (*chunkEncoder, <-chan *segment) {
	ch := make(chan *segment, aheadBytes/segmentBytes)
	e := &chunkEncoder{out: ch, ahead: semaphore.NewWeighted(aheadBytes), current: segments.Get().(*segment), limits: limits}
	return e, ch
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
		e.send()
		e.current = segments.Get().(*segment)
	}
}

// send passes the present segment on. It waits until there is room ahead; the compressor makes that, whatever
// happens to it.
func (e *chunkEncoder) send() {
	s := e.current
	s.ahead, s.taken = e.ahead, min(int64(len(s.data)), aheadBytes)
	_ = e.ahead.Acquire(context.Background(), s.taken) // fails with its context alone
	e.out <- s
}

// close ends the chunk: its compressor comes to an end. It must be called once.
func (e *chunkEncoder) close() {
	e.send()
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

// compressor compresses chunks, one after the other: their bytes are cut into blocks of up to 64 KiB, in
// the way in which a buffered writer of package snappy cuts what it is given entry by entry. It does so in
// the segments themselves, and hands on many blocks at once. It belongs to one goroutine.
type compressor struct {
	w      io.Writer
	digest stdhash.Hash
	sums   compressed

	// held is the beginning of a block whose end has yet to come; it was in a segment that has gone.
	held []byte
	out  []byte
	err  error
}

// compressedBytes is how much a compressor hands on at once.
const compressedBytes = 256 << 10

var compressors = sync.Pool{New: func() any {
	return &compressor{
		digest: sha512.New512_256(),
		held:   make([]byte, 0, frameMaxRaw),
		out:    make([]byte, 0, compressedBytes+frameHeadBytes+frameSumBytes+snappy.MaxEncodedLen(frameMaxRaw)),
	}
}}

// compress writes the chunk whose segments come from in to w. It receives all of them even where it
// fails, so that whoever sends them never waits for it in vain.
func compress(w io.Writer, in <-chan *segment) (compressed, error) {
	c := compressors.Get().(*compressor)
	defer compressors.Put(c)
	c.begin(w)
	for s := range in {
		c.segment(s)
		s.release()
	}
	return c.end()
}

func (c *compressor) begin(w io.Writer) {
	c.w, c.sums, c.err = w, compressed{}, nil
	c.digest.Reset()
	c.held, c.out = c.held[:0], append(c.out[:0], streamIdentifier...)
}

// segment takes the next segment. An entry goes into the present block as far as that has room, and the rest
// into the next ones; one that is longer than a block and begins one is cut by itself, and its last block
// ends with it.
func (c *compressor) segment(s *segment) {
	c.sums.raw += int64(len(s.data))
	from, at := 0, 0 // where the present block goes on in this segment, and the next entry
	for _, end := range s.ends {
		for end-at > frameMaxRaw-len(c.held)-(at-from) {
			if len(c.held) == 0 && at == from {
				for ; at < end; at += frameMaxRaw {
					c.block(s.data[at:min(at+frameMaxRaw, end)])
				}
				from, at = end, end
				break
			}
			at = from + frameMaxRaw - len(c.held)
			c.blockOf(s.data[from:at])
			from = at
		}
		at = end
	}
	c.held = append(c.held, s.data[from:]...)
}

// blockOf ends the block that was begun with what is held and goes on with rest.
func (c *compressor) blockOf(rest []byte) {
	if len(c.held) == 0 {
		c.block(rest)
		return
	}
	c.held = append(c.held, rest...)
	c.block(c.held)
	c.held = c.held[:0]
}

// block compresses a block.
func (c *compressor) block(raw []byte) {
	head := len(c.out)
	body := head + frameHeadBytes + frameSumBytes
	c.out = c.out[:cap(c.out)]
	kind, n := byte(frameCompressed), len(snappy.Encode(c.out[body:], raw))
	if n >= len(raw)-len(raw)/8 { // package snappy's measure of what is not worth it
		kind, n = frameUncompressed, copy(c.out[body:], raw)
	}
	c.out = c.out[:body+n]
	n += frameSumBytes
	c.out[head], c.out[head+1], c.out[head+2], c.out[head+3] = kind, byte(n), byte(n>>8), byte(n>>16)
	binary.LittleEndian.PutUint32(c.out[head+frameHeadBytes:], frameSum(raw))
	if len(c.out) >= compressedBytes {
		c.flush()
	}
}

// flush hands on what was compressed.
func (c *compressor) flush() {
	if c.err == nil {
		c.digest.Write(c.out)
		c.sums.bytes += int64(len(c.out))
		_, c.err = c.w.Write(c.out)
	}
	c.out = c.out[:0]
}

// end compresses and hands on what is left.
func (c *compressor) end() (compressed, error) {
	if len(c.held) > 0 {
		c.block(c.held)
	}
	c.flush()
	c.w = nil
	if c.err != nil {
		return c.sums, fmt.Errorf("writing the chunk: %w", c.err)
	}
	c.digest.Sum(c.sums.digest[:0])
	return c.sums, nil
}
