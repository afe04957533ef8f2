package plugin

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	pb "github.com/ckpt-project/ckpt/framework/plugin/proto"
)

// pipe is a stream whose frames go through a codec, as through a connection, and can be cut anew in
// between.
type pipe struct {
	frames [][]byte // encoded pb.Frame messages
	sizes  []int    // of the data
	pieces []int    // the sizes of the pieces, in turn, that a frame is received in; none: it is one
}

func (p *pipe) SendMsg(m any) error {
	p.sizes = append(p.sizes, len(m.(*frame).Data))
	encoded, err := codec.Marshal(m)
	if err != nil {
		return err
	}
	p.frames = append(p.frames, encoded.Materialize())
	encoded.Free()
	return nil
}

func (p *pipe) RecvMsg(m any) error {
	if len(p.frames) == 0 {
		return io.EOF
	}
	// The transport hands over pieces, in buffers that it uses again when nobody refers to them.
	b := p.frames[0]
	p.frames = p.frames[1:]
	var pieces mem.BufferSlice
	for i := 0; len(b) > 0; i++ {
		n := len(b)
		if len(p.pieces) > 0 {
			n = min(n, p.pieces[i%len(p.pieces)])
		}
		piece := bytes.Clone(b[:n])
		pieces, b = append(pieces, mem.NewBuffer(&piece, spoiler{})), b[n:]
	}
	defer pieces.Free()
	return codec.Unmarshal(pieces, m)
}

// spoiler spoils what a buffer holds when it is given back.
type spoiler struct{}

func (spoiler) Get(n int) *[]byte { b := make([]byte, n); return &b }

func (spoiler) Put(b *[]byte) {
	for i := range *b {
		(*b)[i] = 0xee
	}
}

// in is the same frames, received in pieces.
func (p *pipe) in(pieces ...int) *pipe { return &pipe{frames: p.frames, pieces: pieces} }

// data is all data of all frames.
func (p *pipe) data(t testing.TB) (all []byte) {
	for _, encoded := range p.frames {
		var f pb.Frame // as somebody reads it who has only the .proto file
		if err := proto.Unmarshal(encoded, &f); err != nil {
			t.Fatal(err)
		}
		all = append(all, f.Data...)
	}
	return all
}

// cutAnew is the same data in frames of the given sizes, in turn.
func cutAnew(t testing.TB, data []byte, sizes ...int) *pipe {
	p := &pipe{}
	for i := 0; len(data) > 0; i++ {
		n := min(sizes[i%len(sizes)], len(data))
		encoded, err := proto.Marshal(&pb.Frame{Data: data[:n]})
		if err != nil {
			t.Fatal(err)
		}
		p.frames, data = append(p.frames, encoded), data[n:]
	}
	return p
}

type testItem struct {
	kind    byte
	payload []byte
}

func randomItems(seed uint64, n int) []testItem {
	r := rand.New(rand.NewPCG(seed, 1))
	items := make([]testItem, n)
	for i := range items {
		size := r.IntN(200)
		switch r.IntN(100) {
		case 0:
			size = r.IntN(3 << 20)
		case 1, 2, 3:
			size = r.IntN(300 << 10)
		case 4:
			size = 0
		}
		payload := make([]byte, size)
		for k := range payload {
			payload[k] = byte(r.Uint32())
		}
		items[i] = testItem{byte(i), payload}
	}
	return items
}

func writeItems(t testing.TB, items []testItem) *pipe {
	p := &pipe{}
	w := newItemWriter(&messageFrames{stream: p})
	for _, item := range items {
		half := len(item.payload) / 2
		if err := w.item(item.kind, item.payload[:half], item.payload[half:]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.flush(); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestFrames(t *testing.T) {
	items := randomItems(1, 1000)
	p := writeItems(t, items)
	for i, size := range p.sizes {
		if size == 0 || size > maxFrameBytes {
			t.Errorf("frame %d has %d bytes", i, size)
		}
	}
	if p.sizes[0] > firstFrameBytes+64 {
		t.Errorf("first frame has %d bytes", p.sizes[0])
	}
	data := p.data(t)
	for name, p := range map[string]*pipe{
		"as written": p, "one frame a megabyte": cutAnew(t, data, maxFrameBytes),
		"pieces of the transport's size": p.in(16 << 10), "pieces of any size": p.in(5, 70000, 300, 1, 9000, 2, 1, 1),
	} {
		t.Run(name, func(t *testing.T) { requireItems(t, p, items) })
	}
}

func requireItems(t *testing.T, p *pipe, items []testItem) {
	t.Helper()
	p = p.in(p.pieces...)
	r := newItemReader(p, 4<<20)
	defer r.close()
	var owned [][]byte
	for i, want := range items {
		kind, payload, err := r.read()
		if err != nil {
			t.Fatalf("item %d: %v", i, err)
		}
		if kind != want.kind || !bytes.Equal(payload, want.payload) {
			t.Fatalf("item %d: kind %d, %d bytes; want %d, %d bytes", i, kind, len(payload), want.kind, len(want.payload))
		}
		owned = append(owned, r.own(payload[:len(payload):len(payload)]))
	}
	if _, _, err := r.read(); err != io.EOF {
		t.Errorf("after the last: %v", err)
	}
	for i, want := range items {
		if !bytes.Equal(owned[i], want.payload) {
			t.Fatalf("item %d changed after it was read", i)
		}
	}
}

// TestPayloadInManyFrames has payloads that go on in frames of any size; heads lie whole in one.
func TestPayloadInManyFrames(t *testing.T) {
	var items []testItem
	p := &pipe{}
	for i := range 50 {
		item := testItem{7, bytes.Repeat([]byte{byte(i)}, 1000+i)}
		items = append(items, item)
		one := writeItems(t, []testItem{item})
		p.frames = append(p.frames, cutAnew(t, one.data(t), 3, 1, 50).frames...)
	}
	requireItems(t, p, items)
	requireItems(t, p.in(1), items)
	requireItems(t, p.in(2, 3, 20), items)
}

func TestMalformedItems(t *testing.T) {
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"length cut short":     {[]byte{itemNode, 0x80}, ErrProtocol},
		"no length":            {[]byte{itemNode}, ErrProtocol},
		"length of 11 bytes":   {append([]byte{itemNode}, bytes.Repeat([]byte{0xff}, 11)...), ErrProtocol},
		"payload cut short":    {[]byte{itemNode, 5, 1, 2}, ErrProtocol},
		"longer than allowed":  {[]byte{itemNode, 0xff, 0xff, 0xff, 0xff, 0x0f}, db.ErrLimitExceeded},
		"longer than anything": {append([]byte{itemNode}, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1), db.ErrLimitExceeded},
		"too large a frame":    {make([]byte, maxFrameBytes+1), ErrProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			r := newItemReader(cutAnew(t, c.data, 2<<20), 1<<20)
			defer r.close()
			if _, _, err := r.read(); !errors.Is(err, c.want) {
				t.Error(err)
			}
		})
	}
}

// TestPromisedLength has a payload of a gigabyte promised and three bytes sent: no memory is taken for it.
func TestPromisedLength(t *testing.T) {
	r := newItemReader(cutAnew(t, []byte{itemNode, 0x80, 0x80, 0x80, 0x80, 0x04, 1, 2, 3}, 100), 2<<30)
	defer r.close()
	if _, _, err := r.read(); !errors.Is(err, ErrProtocol) {
		t.Error(err)
	}
	if cap(r.long) > 4096 {
		t.Errorf("took %d bytes", cap(r.long))
	}
}

// FuzzItems feeds bytes as the items of a stream: no panic, no more memory than was sent, and what is
// taken apart is put together the same.
func FuzzItems(f *testing.F) {
	p := &pipe{}
	w := newItemWriter(&messageFrames{stream: p})
	e := db.Entry{Position: []byte{0}, Record: []byte("record")}
	if _, err := writeEntry(w, nil, &e); err != nil {
		f.Fatal(err)
	}
	if err := w.item(itemPut, appendPutHead(nil, true, []byte{0}), []byte("record")); err != nil {
		f.Fatal(err)
	}
	if err := w.item(itemSet, []byte("\x03key"), []byte("value")); err != nil {
		f.Fatal(err)
	}
	if err := w.flush(); err != nil {
		f.Fatal(err)
	}
	f.Add(p.data(f), 10)
	f.Fuzz(func(t *testing.T, data []byte, size int) {
		if size <= 0 || size > 1<<20 {
			return
		}
		r := newItemReader(cutAnew(t, data, size).in(size/3+1, 1, 20), 1<<20)
		defer r.close()
		for {
			kind, payload, err := r.read()
			if err != nil {
				return
			}
			switch kind {
			case itemNode:
				e, err := parseNode(payload)
				if err != nil {
					continue
				}
				again, err := parseNode(append(appendNodeHead(nil, e.Address, e.Position), e.Record...))
				if err != nil || fmt.Sprint(again) != fmt.Sprint(e) {
					t.Fatalf("%v, then %v, %v", e, again, err)
				}
			case itemPut:
				whole, position, record, err := parsePut(payload)
				if err != nil {
					continue
				}
				whole2, position2, record2, err := parsePut(append(appendPutHead(nil, whole, position), record...))
				if err != nil || whole != whole2 || !bytes.Equal(position, position2) || !bytes.Equal(record, record2) {
					t.Fatal("put", err)
				}
			case itemSet, itemDelete:
				if e, err := parseChange(kind, payload); err == nil && (e.Value == nil) != (kind == itemDelete) {
					t.Fatal("an empty value is not a removal")
				}
			}
		}
	})
}

func TestRuns(t *testing.T) {
	for _, indices := range [][]uint64{nil, {0}, {5}, {0, 1, 2}, {1, 3, 5}, {0, 1, 7, 8, 9, 1 << 40}} {
		got, err := fromRuns(toRuns(indices))
		if err != nil || fmt.Sprint(got) != fmt.Sprint(indices) {
			t.Errorf("%v became %v, %v", indices, got, err)
		}
	}
	for _, runs := range [][]uint64{{1}, {0, 1 << 62}, {0, maxDone, 0, 1}} {
		if _, err := fromRuns(runs); !errors.Is(err, ErrProtocol) {
			t.Errorf("%v: %v", runs, err)
		}
	}
}

// Benchmarks of packing alone: what a node costs beside the transport.
func BenchmarkItems(b *testing.B) {
	record := make([]byte, 150)
	position := []byte{1, 2, 3, 4}
	b.SetBytes(int64(len(record)))
	w := newItemWriter(&messageFrames{stream: &recycler{}})
	var head []byte
	var err error
	for b.Loop() {
		if head, err = writeEntry(w, head, &db.Entry{Position: position, Record: record}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadItems(b *testing.B) {
	p := &pipe{}
	w := newItemWriter(&messageFrames{stream: p})
	e := &db.Entry{Address: node.Address{Version: 1}, Position: []byte{1, 2, 3, 4}, Record: make([]byte, 150)}
	const items = 10000
	var head []byte
	var err error
	for range items {
		if head, err = writeEntry(w, head, e); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.flush(); err != nil {
		b.Fatal(err)
	}
	var frames []mem.BufferSlice
	for _, encoded := range p.frames {
		var pieces mem.BufferSlice
		for piece := range slices.Chunk(encoded, 16<<10) {
			pieces = append(pieces, mem.SliceBuffer(piece))
		}
		frames = append(frames, pieces)
	}
	b.SetBytes(int64(len(e.Record)))
	for n := 0; n < b.N; n += items {
		stream := &received{frames}
		r := newItemReader(stream, 1<<20)
		for {
			_, payload, err := r.read()
			if err == io.EOF {
				break
			}
			if err == nil {
				_, err = parseNode(payload)
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}

// received is a stream of frames that have come.
type received struct{ frames []mem.BufferSlice }

func (*received) SendMsg(any) error { return io.ErrClosedPipe }

func (r *received) RecvMsg(m any) error {
	if len(r.frames) == 0 {
		return io.EOF
	}
	next := r.frames[0]
	r.frames = r.frames[1:]
	return codec.Unmarshal(next, m)
}

// recycler takes frames and gives their buffers back at once.
type recycler struct{}

func (recycler) SendMsg(m any) error {
	encoded, err := codec.Marshal(m)
	encoded.Free()
	return err
}

func (recycler) RecvMsg(any) error { return io.EOF }
