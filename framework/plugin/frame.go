package plugin

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"sync"

	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	pb "github.com/ckpt-project/ckpt/framework/plugin/proto"
)

// The sizes of frames, in bytes of data.
const (
	// maxFrameBytes is the largest frame that is accepted.
	maxFrameBytes = 1 << 20
	// firstFrameBytes is the size of a stream's first frame; each next one is twice as large until
	// bulkFrameBytes: who reads a few nodes gets them soon and pays for few more, and who reads
	// everything soon gets frames of the size that is fastest.
	firstFrameBytes = 16 << 10
	bulkFrameBytes  = 256 << 10
)

// frame is a pb.Frame that costs no copy where frameCodec is used: one that is sent lies in a pooled
// buffer, one that is received in the transport's own. With gRPC's own codec it is an ordinary message.
type frame struct {
	*pb.Frame
	// out is the buffer of a frame to be sent, until the codec gives it to the transport.
	out *[]byte
	// in is what a received frame lies in, and pieces are its data there, in order.
	in     mem.BufferSlice
	pieces [][]byte
}

func newFrame() *frame { return &frame{Frame: &pb.Frame{}} }

// received returns the data of a received frame, in pieces, and how long it is.
func (f *frame) received() (pieces [][]byte, n int) {
	if f.Data != nil { // gRPC's own codec has taken it apart
		f.pieces = append(f.pieces[:0], f.Data)
	}
	for _, p := range f.pieces {
		n += len(p)
	}
	return f.pieces, n
}

// release gives up what a received frame lies in; its data must not be used any more.
func (f *frame) release() {
	f.Data = nil
	f.in.Free()
	clear(f.in)
	clear(f.pieces)
	f.in, f.pieces = f.in[:0], f.pieces[:0]
}

// frameCodec is the protobuf codec with a short way for frames. The bytes on the wire are the same.
type frameCodec struct{ encoding.CodecV2 }

var codec encoding.CodecV2 = frameCodec{encoding.GetCodecV2(grpcproto.Name)}

// frameTag is field 1 of pb.Frame, of type bytes.
var frameTag = protowire.AppendTag(nil, 1, protowire.BytesType)

func (c frameCodec) Marshal(v any) (mem.BufferSlice, error) {
	f, ok := v.(*frame)
	if !ok || f.out == nil {
		return c.CodecV2.Marshal(v)
	}
	head := protowire.AppendVarint(slices.Clone(frameTag), uint64(len(f.Data)))
	body := mem.NewBuffer(f.out, framePool)
	f.out = nil
	return mem.BufferSlice{mem.SliceBuffer(head), body}, nil
}

func (c frameCodec) Unmarshal(data mem.BufferSlice, v any) error {
	f, ok := v.(*frame)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	f.release()
	if !f.refer(data) {
		return f.assemble(data)
	}
	return nil
}

// refer has the frame's data stay where the transport put it. It says whether that can be: where a message
// is nothing but its data, as itemWriter sends it.
func (f *frame) refer(data mem.BufferSlice) bool {
	if len(data) == 0 {
		return true
	}
	head := data[0].ReadOnlyData()
	if !bytes.HasPrefix(head, frameTag) {
		return false
	}
	n, k := protowire.ConsumeVarint(head[len(frameTag):])
	if k < 0 || uint64(data.Len()-len(frameTag)-k) != n {
		return false
	}
	data.Ref()
	f.in = append(f.in, data...)
	for _, b := range data {
		f.pieces = append(f.pieces, b.ReadOnlyData())
	}
	f.pieces[0] = head[len(frameTag)+k:]
	return true
}

// assemble takes any message apart that the .proto file allows.
func (f *frame) assemble(data mem.BufferSlice) error {
	whole := data.MaterializeToBuffer(framePool)
	f.in = append(f.in, whole)
	for b := whole.ReadOnlyData(); len(b) > 0; {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		if number == 1 && kind == protowire.BytesType {
			payload, k := protowire.ConsumeBytes(b)
			if n = k; n < 0 {
				return protowire.ParseError(n)
			}
			f.pieces = append(f.pieces[:0], payload) // the last one counts
		} else if n = protowire.ConsumeFieldValue(number, kind, b); n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
	}
	return nil
}

// bufferPool keeps buffers of the sizes that frames have, and the pieces that the transport receives them in.
// Unlike gRPC's default pool it does not clear them, which would cost as much as copying, and has a class
// for bulk frames.
type bufferPool struct{ classes [4]sync.Pool }

var framePool mem.BufferPool = &bufferPool{}

// bufferSizes are the sizes of a bufferPool's classes. A received frame has a few bytes more than data.
var bufferSizes = [4]int{4 << 10, firstFrameBytes + 64, 64<<10 + 64, bulkFrameBytes + 64}

func (p *bufferPool) Get(n int) *[]byte {
	for i, size := range bufferSizes {
		if n > size {
			continue
		}
		if b, ok := p.classes[i].Get().(*[]byte); ok {
			*b = (*b)[:n]
			return b
		}
		b := make([]byte, n, size)
		return &b
	}
	b := make([]byte, n)
	return &b
}

func (p *bufferPool) Put(b *[]byte) {
	for i, size := range bufferSizes {
		if cap(*b) == size {
			p.classes[i].Put(b)
			return
		}
	}
}

// The kinds of items in a stream's frames; see nodedb.proto for their payloads.
const (
	itemBegin   byte = 1
	itemAddress byte = 2
	itemNode    byte = 3
	itemPut     byte = 4
	itemEndRun  byte = 5
	itemRemove  byte = 6
	itemSet     byte = 7
	itemDelete  byte = 8
	itemCommit  byte = 9
	itemAbort   byte = 10

	// putWhole is the flag of an itemPut whose node is whole.
	putWhole byte = 1 << 0

	maxItemHead = 1 + binary.MaxVarintLen64
)

// messageStream is what both ends of a gRPC stream have.
type messageStream interface {
	SendMsg(m any) error
	RecvMsg(m any) error
}

// frameSender takes a stream's frames away. One goroutine uses it, and has one frame at a time.
type frameSender interface {
	// begin returns an empty frame with room for size bytes, which are at most bulkFrameBytes. It may wait
	// until the other side has taken an earlier one.
	begin(size int) ([]byte, error)
	// send sends what begin returned, filled.
	send(data []byte) error
	// drop gives it up.
	drop()
}

// messageFrames sends frames as messages.
type messageFrames struct {
	stream messageStream
	buf    *[]byte
}

func (m *messageFrames) begin(size int) ([]byte, error) {
	m.buf = framePool.Get(size)
	return (*m.buf)[:0], nil
}

func (m *messageFrames) send(data []byte) error {
	*m.buf = data
	f := &frame{Frame: &pb.Frame{Data: data}, out: m.buf}
	m.buf = nil
	err := m.stream.SendMsg(f)
	if f.out != nil { // not taken by our codec: copied by another one, or not sent
		framePool.Put(f.out)
	}
	return err
}

func (m *messageFrames) drop() {
	framePool.Put(m.buf)
	m.buf = nil
}

// itemWriter packs items into frames and sends these when they are full.
type itemWriter struct {
	frames frameSender
	// buf is the present frame, of which cap says how long it may get; nil where there is none.
	buf  []byte
	next int
}

func newItemWriter(frames frameSender) *itemWriter { return &itemWriter{frames: frames} }

// fits says whether an item with n bytes of payload can be written without sending anything.
func (w *itemWriter) fits(n int) bool {
	return w.buf == nil && n+maxItemHead <= w.frameBytes(0) || w.buf != nil && len(w.buf)+maxItemHead+n <= cap(w.buf)
}

// begin starts an item whose payload, of n bytes, is then given to write. An item that does not fit into
// what is left of the present frame starts a new one.
func (w *itemWriter) begin(kind byte, n int) error {
	if w.buf != nil && len(w.buf)+maxItemHead+n > cap(w.buf) {
		if err := w.flush(); err != nil {
			return err
		}
	}
	if err := w.room(n + maxItemHead); err != nil {
		return err
	}
	w.buf = binary.AppendUvarint(append(w.buf, kind), uint64(n))
	return nil
}

// write adds to the payload of the item that was begun.
func (w *itemWriter) write(p []byte) error {
	for len(p) > 0 {
		if err := w.room(len(p)); err != nil {
			return err
		}
		n := min(len(p), cap(w.buf)-len(w.buf))
		w.buf = append(w.buf, p[:n]...)
		if p = p[n:]; len(p) > 0 {
			if err := w.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// item writes a whole item of two parts.
func (w *itemWriter) item(kind byte, head, tail []byte) error {
	if n := len(head) + len(tail); w.buf != nil && len(w.buf)+maxItemHead+n <= cap(w.buf) {
		b := binary.AppendUvarint(append(w.buf, kind), uint64(n))
		w.buf = append(append(b, head...), tail...)
		return nil
	}
	if err := w.begin(kind, len(head)+len(tail)); err != nil {
		return err
	}
	if err := w.write(head); err != nil {
		return err
	}
	return w.write(tail)
}

// frameBytes is the size of the next frame, which n bytes wait for.
func (w *itemWriter) frameBytes(n int) int {
	return min(max(w.next, firstFrameBytes, n), bulkFrameBytes)
}

// room begins a frame to write to where there is none.
func (w *itemWriter) room(n int) (err error) {
	if w.buf != nil {
		return nil
	}
	size := w.frameBytes(n)
	if w.buf, err = w.frames.begin(size); err != nil {
		return err
	}
	w.next = min(2*size, bulkFrameBytes)
	return nil
}

// flush sends what is written so far.
func (w *itemWriter) flush() error {
	if w.buf == nil {
		return nil
	}
	data := w.buf
	w.buf = nil
	return w.frames.send(data)
}

// drop gives up what is written and not sent.
func (w *itemWriter) drop() {
	if w.buf != nil {
		w.buf = nil
		w.frames.drop()
	}
}

// itemReader takes items out of frames.
type itemReader struct {
	stream messageStream
	// limit is the length of the longest payload that is accepted.
	limit int
	frame *frame
	// rest is what is left of the present piece of the frame, and pieces are those behind it.
	rest   []byte
	pieces [][]byte
	// head holds the beginning of an item whose head was joined from several pieces.
	head [maxItemHead]byte
	// long holds the present payload where it was joined from several pieces.
	long   []byte
	joined bool
}

func newItemReader(stream messageStream, limit int) *itemReader {
	return &itemReader{stream: stream, limit: limit, frame: newFrame()}
}

// close gives up the reader's buffers.
func (r *itemReader) close() {
	r.frame.release()
	r.rest, r.pieces, r.long = nil, nil, nil
}

// more goes on to the next piece, if need be that of the next frame, which it waits for.
func (r *itemReader) more() error {
	if len(r.pieces) == 0 {
		r.rest = nil
		r.frame.release()
		if err := r.stream.RecvMsg(r.frame); err != nil {
			return err
		}
		var n int
		if r.pieces, n = r.frame.received(); n > maxFrameBytes {
			return fmt.Errorf("%w: frame of %d bytes, at most %d are allowed", ErrProtocol, n, maxFrameBytes)
		}
		if n == 0 {
			return nil
		}
	}
	r.rest, r.pieces = r.pieces[0], r.pieces[1:]
	return nil
}

// read returns the next item, io.EOF after the last. The payload is valid until the next call.
func (r *itemReader) read() (kind byte, payload []byte, err error) {
	for len(r.rest) == 0 {
		if err := r.more(); err != nil {
			return 0, nil, err
		}
	}
	if len(r.rest) < maxItemHead && len(r.pieces) > 0 {
		r.joinHead()
	}
	kind = r.rest[0]
	length, k := binary.Uvarint(r.rest[1:])
	if k <= 0 {
		return 0, nil, fmt.Errorf("%w: length of an item cut short", ErrProtocol)
	}
	if length > uint64(r.limit) {
		return 0, nil, &itemTooLongError{length: length, limit: r.limit}
	}
	n := int(length)
	r.rest, r.joined = r.rest[1+k:], false
	if n <= len(r.rest) {
		payload, r.rest = r.rest[:n:n], r.rest[n:]
		return kind, payload, nil
	}
	if payload, err = r.join(n); err != nil {
		return 0, nil, err
	}
	return kind, payload, nil
}

// joinHead makes the rest of this piece and the beginnings of the next ones one piece, in which an item's
// head lies whole. (It does lie whole in a frame.)
func (r *itemReader) joinHead() {
	head := append(r.head[:0], r.rest...)
	for len(head) < maxItemHead && len(r.pieces) > 0 {
		n := min(maxItemHead-len(head), len(r.pieces[0]))
		head = append(head, r.pieces[0][:n]...)
		if r.pieces[0] = r.pieces[0][n:]; len(r.pieces[0]) == 0 {
			r.pieces = r.pieces[1:]
		}
	}
	r.rest = head
}

// join reads a payload of n bytes that begins with the rest of this piece and goes on in the next. It
// takes memory as bytes come, not as they are promised.
func (r *itemReader) join(n int) ([]byte, error) {
	if cap(r.long) > maxFrameBytes { // don't let one large value be kept for the life of a stream
		r.long = nil
	}
	r.long = append(r.long[:0], r.rest...)
	r.rest = nil
	for len(r.long) < n {
		if err := r.more(); err != nil {
			if err == io.EOF {
				err = fmt.Errorf("%w: stream ended within an item", ErrProtocol)
			}
			return nil, err
		}
		take := min(n-len(r.long), len(r.rest))
		if need := len(r.long) + take; need > cap(r.long) {
			r.long = slices.Grow(r.long, min(n, 2*need)-len(r.long))
		}
		r.long = append(r.long, r.rest[:take]...)
		r.rest = r.rest[take:]
	}
	r.joined = true
	return r.long, nil
}

// own returns a payload, or a part of one, that stays valid after the next read.
func (r *itemReader) own(part []byte) []byte {
	if r.joined && len(r.long) > maxFrameBytes && len(part) > len(r.long)/2 { // give the large buffer away
		r.long, r.joined = nil, false
		return part[:len(part):len(part)]
	}
	return append(make([]byte, 0, len(part)), part...)
}

// itemTooLongError says that an item is longer than the limits in force allow.
type itemTooLongError struct {
	length uint64
	limit  int
}

func (e *itemTooLongError) Error() string {
	return fmt.Sprintf("%v: item of %d bytes, at most %d are allowed here", ErrProtocol, e.length, e.limit)
}

func (e *itemTooLongError) Unwrap() []error { return []error{ErrProtocol, db.ErrLimitExceeded} }
