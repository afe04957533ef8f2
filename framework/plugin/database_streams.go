package plugin

import (
	"context"
	stderrors "errors"
	"fmt"
	"io"
	"iter"
	"sync"

	"google.golang.org/grpc"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/writelog"
	pb "github.com/ckpt-project/ckpt/framework/plugin/proto"
)

type callOption = grpc.CallOption

// maxPathEntries is how many nodes there can be on the way to a key.
const maxPathEntries = int(node.MaxDepth) + 2

// asking returns what begins a stream of frames that answers a request.
func asking[Request any](
	method func(context.Context, Request, ...callOption) (grpc.ServerStreamingClient[pb.Frame], error), request Request,
) func(context.Context) (messageStream, error) {
	return func(ctx context.Context) (messageStream, error) { return method(ctx, request) }
}

// receive begins a stream of items and hands each to take, which says whether to go on. Leaving early
// cancels the stream. It returns when nothing of the stream is left on this side.
func receive(d *database, ctx context.Context, begin func(context.Context) (messageStream, error),
	take func(items *itemReader, kind byte, payload []byte) (more bool, err error),
) error {
	if err := d.usable(ctx); err != nil {
		return err
	}
	streamCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(d.life, cancel)()
	stream, err := begin(streamCtx)
	if err != nil {
		return d.failure(ctx, err)
	}
	items := newItemReader(stream, maxPayload(d.info))
	defer func() {
		cancel()
		drain(stream)
		items.close()
	}()
	for {
		kind, payload, err := items.read()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return d.failure(ctx, err)
		}
		if more, err := take(items, kind, payload); !more || err != nil {
			return err
		}
	}
}

// drain waits for the end of a stream that is over or cancelled.
func drain(stream messageStream) {
	if r, ok := stream.(*ringReader); ok {
		r.drain()
		return
	}
	f := newFrame()
	for stream.RecvMsg(f) == nil {
		f.release()
	}
}

// unexpected says that an item has no business where it came.
func unexpected(kind byte) error {
	return fmt.Errorf("%w: item of kind %d where none is expected", ErrProtocol, kind)
}

func (d *database) GetNode(ctx context.Context, root node.Root, address node.Address, position node.Position) (record []byte, err error) {
	request := &pb.GetNodeRequest{Handle: d.handle, Root: toRoot(root), Address: toAddress(address), Position: position}
	err = receive(d, ctx, asking(d.rpc.GetNode, request), func(items *itemReader, kind byte, payload []byte) (bool, error) {
		if kind != itemNode || record != nil {
			return false, unexpected(kind)
		}
		entry, err := parseNode(payload)
		if err != nil {
			return false, err
		}
		record = items.own(entry.Record)
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	if record == nil {
		return nil, fmt.Errorf("%w: no node and no error", ErrProtocol)
	}
	return record, nil
}

func (d *database) GetPath(ctx context.Context, root node.Root, address node.Address, depth node.Depth, key node.Key) ([]db.Entry, error) {
	request := &pb.GetPathRequest{Handle: d.handle, Root: toRoot(root), Address: toAddress(address), Depth: uint32(depth), Key: key}
	return db.Collect(receiveEntries(d, ctx, asking(d.rpc.GetPath, request), maxPathEntries))
}

// GetPaths is one call where the other side knows it, and one for each path where that is older.
func (d *database) GetPaths(ctx context.Context, root node.Root, starts []db.PathStart) iter.Seq2[db.Entry, error] {
	if d.client.session.Minor < minorPaths {
		return db.GetPaths(ctx, struct{ db.NodeDB }{d}, root, starts)
	}
	request := &pb.GetPathsRequest{Handle: d.handle, Root: toRoot(root), Starts: make([]*pb.PathStart, len(starts))}
	for i := range starts {
		s := &starts[i]
		request.Starts[i] = &pb.PathStart{Address: toAddress(s.Address), Depth: uint32(s.Depth), Key: s.Key}
	}
	return receiveEntries(d, ctx, asking(d.rpc.GetPaths, request), len(starts)*maxPathEntries)
}

// receiveEntries asks for nodes, at most so many, and yields them.
func receiveEntries(d *database, ctx context.Context, begin func(context.Context) (messageStream, error), most int) iter.Seq2[db.Entry, error] {
	return func(yield func(db.Entry, error) bool) {
		got, left := 0, false
		err := receive(d, ctx, begin, func(items *itemReader, kind byte, payload []byte) (bool, error) {
			if kind != itemNode || got == most {
				return false, unexpected(kind)
			}
			entry, err := parseNode(payload)
			if err != nil {
				return false, err
			}
			entry.Position, entry.Record = append(node.Position(nil), entry.Position...), items.own(entry.Record)
			got++
			left = !yield(entry, nil)
			return !left, nil
		})
		if err != nil && !left {
			yield(db.Entry{}, err)
		}
	}
}

func (d *database) Walk(ctx context.Context, root node.Root, from node.Position) iter.Seq2[db.Entry, error] {
	return func(yield func(db.Entry, error) bool) {
		request := &pb.WalkRequest{Handle: d.handle, Root: toRoot(root), Position: from}
		var reader *ringReader
		defer func() { reader.close() }()
		begin := func(ctx context.Context) (messageStream, error) {
			if reader = newRingReader(d.client.memory); reader == nil {
				return d.rpc.Walk(ctx, request)
			}
			return reader, reader.begin(ctx, d.rpc, request)
		}
		left := false
		err := receive(d, ctx, begin, func(_ *itemReader, kind byte, payload []byte) (bool, error) {
			if kind != itemNode {
				return false, unexpected(kind)
			}
			entry, err := parseNode(payload)
			if err != nil {
				return false, err
			}
			left = !yield(entry, nil)
			return !left, nil
		})
		if err != nil && !left {
			yield(db.Entry{}, err)
		}
	}
}

func (d *database) GetWriteLog(ctx context.Context, start, end node.Root) iter.Seq2[writelog.LogEntry, error] {
	return func(yield func(writelog.LogEntry, error) bool) {
		request := &pb.GetWriteLogRequest{Handle: d.handle, Start: toRoot(start), End: toRoot(end)}
		left := false
		err := receive(d, ctx, asking(d.rpc.GetWriteLog, request), func(items *itemReader, kind byte, payload []byte) (bool, error) {
			if kind != itemSet && kind != itemDelete {
				return false, unexpected(kind)
			}
			change, err := parseChange(kind, payload)
			if err != nil {
				return false, err
			}
			change.Key = append(make([]byte, 0, len(change.Key)), change.Key...)
			if change.Value != nil {
				change.Value = items.own(change.Value)
			}
			left = !yield(change, nil)
			return !left, nil
		})
		if err != nil && !left {
			yield(writelog.LogEntry{}, err)
		}
	}
}

// pin is a pin at the other side. It is a stream, so that nothing is left of it when this side goes.
type pin struct {
	d       *database
	version uint64
	stream  grpc.BidiStreamingClient[pb.PinRequest, pb.Empty]
	cancel  context.CancelFunc

	mu       sync.Mutex
	released bool
}

func (d *database) Pin(ctx context.Context, version uint64, owner string) (db.Pin, error) {
	if err := d.usable(ctx); err != nil {
		return nil, err
	}
	streamCtx, cancel := context.WithCancel(d.life)
	stop := context.AfterFunc(ctx, cancel)
	stream, err := d.rpc.Pin(streamCtx)
	if err == nil {
		if err = stream.Send(&pb.PinRequest{Handle: d.handle, Version: version, Owner: cutText(owner)}); err == nil || stderrors.Is(err, io.EOF) {
			_, err = stream.Recv()
		}
	}
	if stopped := stop(); err == nil && !stopped {
		err = ctx.Err()
	}
	if err != nil {
		cancel()
		if stream != nil {
			drain(stream)
		}
		return nil, d.failure(ctx, err)
	}
	return &pin{d: d, version: version, stream: stream, cancel: cancel}, nil
}

func (p *pin) Version() uint64 { return p.version }

func (p *pin) Release(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.released {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	p.released = true
	defer p.cancel()
	defer context.AfterFunc(ctx, p.cancel)()
	err := p.stream.CloseSend()
	if err == nil {
		if _, err = p.stream.Recv(); stderrors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("%w: answer to the release of a pin", ErrProtocol)
		}
	}
	return p.d.failure(ctx, err)
}
