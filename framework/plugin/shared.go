package plugin

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"

	"google.golang.org/grpc"

	pb "github.com/ckpt-project/ckpt/framework/plugin/proto"
)

// Memory that host and backend share, so that a walk's frames need not go through the kernel and gRPC: the
// backend packs them where the host reads them. What is said about them goes as messages, and with these all
// that gRPC is good for: order, cancelling, errors, the end. The host copies a frame before it looks at it: what
// a backend writes later can't be what was checked.
//
// The host makes the memory for a process, and lends a ring of it to each walk. It takes the ring back when it has
// stopped reading, although the backend may not have stopped writing: it is the backend that gives no ring to two.

// sharedVariable tells the backend of the memory; see nodedb.proto.
const sharedVariable = "CKPT_BACKEND_SHARED_MEMORY"

// sharedLayout is how shared memory is divided.
type sharedLayout struct{ rings, slots, slotBytes int }

// ourLayout is the layout of memory that this side makes: room for four walks at once, of two megabytes each.
var ourLayout = sharedLayout{rings: 4, slots: 8, slotBytes: bulkFrameBytes}

// maxSharedBytes bounds what a backend maps.
const maxSharedBytes = 1 << 30

func (l sharedLayout) ringBytes() int { return l.slots * l.slotBytes }
func (l sharedLayout) bytes() int     { return l.rings * l.ringBytes() }

// check says whether memory can be divided so, and a frame of ours fits into a slot.
func (l sharedLayout) check() error {
	if l.rings < 1 || l.slots < 1 || l.slotBytes < bulkFrameBytes || l.slotBytes > maxFrameBytes ||
		l.rings > maxSharedBytes/l.slotBytes || l.slots > maxSharedBytes/l.slotBytes/l.rings {
		return fmt.Errorf("%w: shared memory of %d rings of %d slots of %d bytes", ErrProtocol, l.rings, l.slots, l.slotBytes)
	}
	return nil
}

// sharedOffer is what the variable says.
type sharedOffer struct {
	descriptor int
	inode      uint64
	layout     sharedLayout
}

func (o sharedOffer) String() string {
	return fmt.Sprintf("%d:%d:%d:%d:%d", o.descriptor, o.inode, o.layout.rings, o.layout.slots, o.layout.slotBytes)
}

func parseOffer(text string) (o sharedOffer, err error) {
	if _, err := fmt.Sscanf(text, "%d:%d:%d:%d:%d", &o.descriptor, &o.inode, &o.layout.rings, &o.layout.slots, &o.layout.slotBytes); err != nil {
		return o, fmt.Errorf("%w: %s=%q: %w", ErrProtocol, sharedVariable, cutText(text), err)
	}
	return o, o.layout.check()
}

// hostMemory is shared memory at the host's side. It is safe for concurrent use, and so is nil, which has
// no ring to lend.
type hostMemory struct {
	layout sharedLayout
	unmap  func() error

	mu     sync.Mutex
	free   []*hostRing // the one first whose last turn ended first
	lent   int
	closed bool
}

// hostRing is a ring that belongs to one walk, from lend to giveBack.
type hostRing struct {
	index uint32
	turn  uint64
	slots []byte
}

func newHostMemory(layout sharedLayout, data []byte, unmap func() error) *hostMemory {
	m := &hostMemory{layout: layout, unmap: unmap}
	for part := range slices.Chunk(data, layout.ringBytes()) {
		m.free = append(m.free, &hostRing{index: uint32(len(m.free)), slots: part})
	}
	return m
}

// lend returns a ring for a walk, nil where there is none.
func (m *hostMemory) lend() *hostRing {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed || len(m.free) == 0 {
		return nil
	}
	r := m.free[0]
	m.free = m.free[1:]
	m.lent++
	r.turn++
	return r
}

// giveBack takes a ring back whose frames nobody reads any more.
func (m *hostMemory) giveBack(r *hostRing) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.free = append(m.free, r)
	m.lent--
	m.release()
}

// close gives the memory up when all rings are back.
func (m *hostMemory) close() {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed {
		m.closed = true
		m.release()
	}
}

// release unmaps what nobody needs any more, under mu.
func (m *hostMemory) release() {
	if m.closed && m.lent == 0 {
		// It can't fail for memory that was mapped; and if so, all that is lost is some of it.
		_ = m.unmap()
		m.free = nil
	}
}

// ringReader is the host's end of a walk that has a ring.
type ringReader struct {
	memory *hostMemory
	ring   *hostRing
	stream grpc.BidiStreamingClient[pb.SharedWalkRequest, pb.SharedFrame]
	next   int
	// taken is how many slots the other side hasn't been told of.
	taken int
	// frame is the present one.
	frame *[]byte
}

var _ messageStream = (*ringReader)(nil)

// newRingReader borrows a ring, and returns nil where there is none.
func newRingReader(memory *hostMemory) *ringReader {
	if ring := memory.lend(); ring != nil {
		return &ringReader{memory: memory, ring: ring}
	}
	return nil
}

// begin begins the walk.
func (r *ringReader) begin(ctx context.Context, rpc pb.NodeDBClient, walk *pb.WalkRequest) (err error) {
	if r.stream, err = rpc.SharedWalk(ctx); err != nil {
		return err
	}
	return r.tell(&pb.SharedWalkRequest{Walk: walk, Ring: r.ring.index, Turn: r.ring.turn})
}

// tell sends a message. That the other side has ended the stream is no error: what it has to say of that is
// received next.
func (r *ringReader) tell(request *pb.SharedWalkRequest) error {
	if err := r.stream.Send(request); err != nil && err != io.EOF {
		return err
	}
	return nil
}

// SendMsg is not for who reads.
func (r *ringReader) SendMsg(any) error {
	return fmt.Errorf("%w: frame to a stream that is read", ErrProtocol)
}

// RecvMsg takes the next frame, which is in a slot or in the message itself.
func (r *ringReader) RecvMsg(m any) error {
	message, err := r.stream.Recv()
	if err != nil {
		return err
	}
	f := m.(*frame)
	if len(message.Data) > 0 {
		f.Data = message.Data
		return nil
	}
	layout := r.memory.layout
	if message.Bytes > uint32(layout.slotBytes) {
		return fmt.Errorf("%w: %d bytes in a slot of %d", ErrProtocol, message.Bytes, layout.slotBytes)
	}
	if r.frame == nil {
		r.frame = framePool.Get(layout.slotBytes)
	}
	*r.frame = (*r.frame)[:message.Bytes]
	if err := copyShared(*r.frame, r.ring.slots[r.next*layout.slotBytes:]); err != nil {
		return err
	}
	f.Data = *r.frame
	r.next = (r.next + 1) % layout.slots
	if r.taken++; 2*r.taken < layout.slots {
		return nil
	}
	taken := uint32(r.taken)
	r.taken = 0
	return r.tell(&pb.SharedWalkRequest{Taken: taken})
}

// drain waits for the end of the stream, which is over or cancelled.
func (r *ringReader) drain() {
	for {
		if _, err := r.stream.Recv(); err != nil {
			return
		}
	}
}

// close gives up the reader's buffer and its ring. nil has neither.
func (r *ringReader) close() {
	if r == nil {
		return
	}
	if r.frame != nil {
		framePool.Put(r.frame)
		r.frame = nil
	}
	r.memory.giveBack(r.ring)
}

// copyShared fills to from memory that another process can change. Its size is sealed; but what that process has
// taken out of it the system has to find anew, and where it can't, reading is a fault.
func copyShared(to, from []byte) (err error) {
	defer func() {
		if p := recover(); p != nil {
			fault, ok := p.(interface {
				runtime.Error
				Addr() uintptr
			})
			if !ok {
				panic(p)
			}
			err = fmt.Errorf("%w: memory that was shared: %w", ErrProtocol, fault)
		}
	}()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	copy(to, from)
	return nil
}

// backendMemory is shared memory at the backend's side, where it stays mapped as long as the process lives.
// nil has no rings.
type backendMemory struct {
	layout sharedLayout
	rings  []*backendRing
}

// backendRing is one ring of it.
type backendRing struct {
	slots []byte

	mu   sync.Mutex
	turn uint64 // the highest that was begun
	used bool
}

func newBackendMemory(layout sharedLayout, data []byte) *backendMemory {
	m := &backendMemory{layout: layout}
	for part := range slices.Chunk(data, layout.ringBytes()) {
		m.rings = append(m.rings, &backendRing{slots: part})
	}
	return m
}

// enter begins a turn with a ring. Where the walk of an earlier one still runs, there is no ring for this one: the
// host has cancelled that walk, but when it notices is the database's business, and may be never.
func (m *backendMemory) enter(index uint32, turn uint64) (*backendRing, error) {
	if m == nil || uint64(index) >= uint64(len(m.rings)) {
		return nil, fmt.Errorf("%w: no ring %d in shared memory", ErrProtocol, index)
	}
	r := m.rings[index]
	r.mu.Lock()
	defer r.mu.Unlock()
	if turn <= r.turn { // its host has cancelled it, and has the ring in use for something else
		return nil, fmt.Errorf("%w: turn %d of ring %d after turn %d", ErrProtocol, turn, index, r.turn)
	}
	r.turn = turn
	if r.used {
		return nil, nil
	}
	r.used = true
	return r, nil
}

// leave ends a turn.
func (r *backendRing) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used = false
}

// sharedWalkStream is the backend's end of a walk that has a ring, or should have one.
type sharedWalkStream = grpc.BidiStreamingServer[pb.SharedWalkRequest, pb.SharedFrame]

// ringFrames sends the frames of a walk through a ring.
type ringFrames struct {
	stream sharedWalkStream
	layout sharedLayout
	slots  []byte
	next   int
	// left is how many slots, from next on, have nothing in them that the host still wants.
	left int
}

func (f *ringFrames) begin(size int) ([]byte, error) {
	for f.left == 0 {
		request, err := f.stream.Recv()
		if err == io.EOF {
			err = fmt.Errorf("%w: host takes no more of a walk that goes on", ErrProtocol)
		}
		if err != nil {
			return nil, err
		}
		if request.Taken > uint32(f.layout.slots) {
			return nil, fmt.Errorf("%w: %d slots taken of %d", ErrProtocol, request.Taken, f.layout.slots)
		}
		f.left = int(request.Taken)
	}
	return f.slots[f.next*f.layout.slotBytes:][:0:size], nil
}

func (f *ringFrames) send(data []byte) error {
	f.left--
	f.next = (f.next + 1) % f.layout.slots
	return f.stream.Send(&pb.SharedFrame{Bytes: uint32(len(data))})
}

func (f *ringFrames) drop() {}

// ringlessFrames sends them in the messages.
type ringlessFrames struct {
	stream sharedWalkStream
	buf    []byte
}

func (f *ringlessFrames) begin(size int) ([]byte, error) {
	if cap(f.buf) < size {
		f.buf = make([]byte, 0, size)
	}
	return f.buf[:0:size], nil
}

func (f *ringlessFrames) send(data []byte) error {
	return f.stream.Send(&pb.SharedFrame{Data: data})
}

func (f *ringlessFrames) drop() {}
