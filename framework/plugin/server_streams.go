package plugin

import (
	"context"
	"fmt"
	"io"
	"iter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/writelog"
	pb "github.com/ckpt-project/ckpt/framework/plugin/proto"
)

// The methods of the service that send data: they read next to the database and pack what they find into
// frames. gRPC's flow control holds them back while the host does not take what was sent, or the number of slots
// in shared memory.

// send runs a method that writes items to a stream, and sends what is left when it is done.
func (s *service) send(stream grpc.ServerStream, id uint64, method string, f func(context.Context, db.NodeDB, *itemWriter) error) error {
	return s.sendFrames(stream.Context(), &messageFrames{stream: stream}, id, method, f)
}

// sendFrames is send for a stream whose frames go another way.
func (s *service) sendFrames(ctx context.Context, frames frameSender, id uint64, method string, f func(context.Context, db.NodeDB, *itemWriter) error) error {
	_, err := s.run(ctx, id, method, func(ctx context.Context, ndb db.NodeDB) error {
		w := newItemWriter(frames)
		defer w.drop()
		if err := f(ctx, ndb, w); err != nil {
			if flushErr := w.flush(); flushErr != nil {
				return fmt.Errorf("%w (and the stream broke: %w)", err, flushErr)
			}
			return err
		}
		return w.flush()
	})
	return err
}

func (s *service) GetNode(r *pb.GetNodeRequest, stream grpc.ServerStreamingServer[pb.Frame]) error {
	return s.send(stream, r.Handle, "GetNode", func(ctx context.Context, ndb db.NodeDB, w *itemWriter) error {
		root, err := fromRoot(r.Root)
		if err != nil {
			return err
		}
		address, err := fromAddress(r.Address)
		if err != nil {
			return err
		}
		record, err := ndb.GetNode(ctx, root, address, node.Position(r.Position))
		if err != nil {
			return err
		}
		return w.item(itemNode, appendNodeHead(nil, node.Address{}, nil), record)
	})
}

func (s *service) GetPath(r *pb.GetPathRequest, stream grpc.ServerStreamingServer[pb.Frame]) error {
	return s.send(stream, r.Handle, "GetPath", func(ctx context.Context, ndb db.NodeDB, w *itemWriter) error {
		root, err := fromRoot(r.Root)
		if err != nil {
			return err
		}
		address, err := fromAddress(r.Address)
		if err != nil {
			return err
		}
		if len(r.Key) > node.MaxKeyBytes || r.Depth > uint32(node.Key(r.Key).BitLength()) {
			return fmt.Errorf("%w: depth %d in a key of %d bytes", db.ErrMalformed, r.Depth, len(r.Key))
		}
		entries, err := ndb.GetPath(ctx, root, address, node.Depth(r.Depth), node.Key(r.Key))
		if err != nil {
			return err
		}
		var head []byte
		for i := range entries {
			if head, err = writeEntry(w, head, &entries[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *service) GetPaths(r *pb.GetPathsRequest, stream grpc.ServerStreamingServer[pb.Frame]) error {
	return s.send(stream, r.Handle, "GetPaths", func(ctx context.Context, ndb db.NodeDB, w *itemWriter) error {
		root, err := fromRoot(r.Root)
		if err != nil {
			return err
		}
		starts := make([]db.PathStart, len(r.Starts))
		for i, start := range r.Starts {
			if starts[i], err = fromPathStart(start); err != nil {
				return err
			}
		}
		return writeEntries(w, db.GetPaths(ctx, ndb, root, starts))
	})
}

func fromPathStart(s *pb.PathStart) (db.PathStart, error) {
	address, err := fromAddress(s.GetAddress())
	if err != nil {
		return db.PathStart{}, err
	}
	key := node.Key(s.GetKey())
	if len(key) > node.MaxKeyBytes || s.GetDepth() > uint32(key.BitLength()) {
		return db.PathStart{}, fmt.Errorf("%w: depth %d in a key of %d bytes", db.ErrMalformed, s.GetDepth(), len(key))
	}
	return db.PathStart{Address: address, Depth: node.Depth(s.GetDepth()), Key: key}, nil
}

func (s *service) Walk(r *pb.WalkRequest, stream grpc.ServerStreamingServer[pb.Frame]) error {
	return s.send(stream, r.Handle, "Walk", func(ctx context.Context, ndb db.NodeDB, w *itemWriter) error {
		return walk(ctx, ndb, r, w)
	})
}

// SharedWalk is Walk with its frames in a ring of the memory that this process shares with the host.
func (s *service) SharedWalk(stream sharedWalkStream) error {
	r, err := stream.Recv()
	if err == io.EOF {
		err = fmt.Errorf("%w: no walk", ErrProtocol)
	}
	if err != nil {
		return toStatus(err)
	}
	if _, err := s.handle(r.GetWalk().GetHandle()); err != nil { // who may not walk may not hold a ring up
		return err
	}
	ring, err := s.memory.enter(r.Ring, r.Turn)
	if err != nil {
		return toStatus(err)
	}
	var frames frameSender = &ringlessFrames{stream: stream}
	if ring != nil {
		defer ring.leave()
		layout := s.memory.layout
		frames = &ringFrames{stream: stream, layout: layout, slots: ring.slots, left: layout.slots}
	}
	return s.sendFrames(stream.Context(), frames, r.Walk.Handle, "Walk", func(ctx context.Context, ndb db.NodeDB, w *itemWriter) error {
		return walk(ctx, ndb, r.Walk, w)
	})
}

func walk(ctx context.Context, ndb db.NodeDB, r *pb.WalkRequest, w *itemWriter) error {
	root, err := fromRoot(r.Root)
	if err != nil {
		return err
	}
	return writeEntries(w, ndb.Walk(ctx, root, node.Position(r.Position)))
}

func (s *service) GetWriteLog(r *pb.GetWriteLogRequest, stream grpc.ServerStreamingServer[pb.Frame]) error {
	return s.send(stream, r.Handle, "GetWriteLog", func(ctx context.Context, ndb db.NodeDB, w *itemWriter) error {
		start, err := fromRoot(r.Start)
		if err != nil {
			return err
		}
		end, err := fromRoot(r.End)
		if err != nil {
			return err
		}
		var head []byte
		for change, err := range ndb.GetWriteLog(ctx, start, end) {
			if err != nil {
				return err
			}
			if head, err = writeChange(w, head, &change); err != nil {
				return err
			}
		}
		return nil
	})
}

// writeEntries writes entries as they are yielded, so that no more of them are in memory than the database reads ahead.
func writeEntries(w *itemWriter, entries iter.Seq2[db.Entry, error]) error {
	var head []byte
	for entry, err := range entries {
		if err != nil {
			return err
		}
		if head, err = writeEntry(w, head, &entry); err != nil {
			return err
		}
	}
	return nil
}

func writeEntry(w *itemWriter, head []byte, e *db.Entry) ([]byte, error) {
	head = appendNodeHead(head[:0], e.Address, e.Position)
	return head, w.item(itemNode, head, e.Record)
}

// readBegin reads the first item of a stream that writes, which comes before the handle is known.
func readBegin(items *itemReader, begin proto.Message) error {
	items.limit = maxBeginBytes
	kind, payload, err := items.read()
	if err != nil {
		return err
	}
	if kind != itemBegin {
		return fmt.Errorf("%w: stream begins with an item of kind %d", ErrProtocol, kind)
	}
	if err := proto.Unmarshal(payload, begin); err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return nil
}

// maxBeginBytes bounds the message that a stream begins with: ids, a root, numbers.
const maxBeginBytes = 4 << 10

// answerAddress sends a stream's address.
func answerAddress(stream messageStream, a node.Address) error {
	w := newItemWriter(&messageFrames{stream: stream})
	defer w.drop()
	if err := w.item(itemAddress, nil, appendAddress(nil, a)); err != nil {
		return err
	}
	return w.flush()
}

// broken says that a stream ended before what it wrote was committed or aborted.
func broken(err error) error {
	if err == io.EOF {
		return fmt.Errorf("%w: stream ended without commit", ErrProtocol)
	}
	return err
}

// WriteBatch takes a batch. Whatever ends the stream before the commit aborts it.
func (s *service) WriteBatch(stream grpc.BidiStreamingServer[pb.Frame, pb.Frame]) error {
	items := newItemReader(stream, 0)
	defer items.close()
	var begin pb.BeginBatch
	if err := readBegin(items, &begin); err != nil {
		return toStatus(broken(err))
	}
	h, err := s.handle(begin.Handle)
	if err != nil {
		return err
	}
	items.limit = maxPayload(h.info)
	return h.call(stream.Context(), "WriteBatch", func(ctx context.Context) error {
		oldRoot, err := fromRoot(begin.OldRoot)
		if err != nil {
			return err
		}
		batch, err := h.ndb.NewBatch(ctx, oldRoot, begin.Version)
		if err != nil {
			return err
		}
		return takeItems(ctx, h, stream, items, written{
			name:    "Batch",
			address: batch.Address(),
			apply:   func(kind byte, payload []byte) error { return applyBatchItem(ctx, batch, kind, payload) },
			commit:  func(payload []byte) error { return commitBatch(ctx, batch, payload) },
			abort:   batch.Abort,
		})
	})
}

// written is what a stream writes, a batch or a chunk.
type written struct {
	name    string
	address node.Address
	// apply takes an item that ends nothing; commit takes the one that makes the others count.
	apply  func(kind byte, payload []byte) error
	commit func(payload []byte) error
	abort  func(context.Context) error
}

// takeItems answers with the address, and takes the stream's items up to the one that ends it. Whatever
// else ends it aborts what was written.
func takeItems(ctx context.Context, h *handle, stream messageStream, items *itemReader, w written) error {
	over := false
	defer func() {
		if !over {
			abort(h, w.name+".Abort", w.abort)
		}
	}()
	if err := answerAddress(stream, w.address); err != nil {
		return err
	}
	for {
		kind, payload, err := items.read()
		if err != nil {
			return broken(err)
		}
		switch kind {
		case itemCommit:
			err := w.commit(payload)
			over = err == nil
			return err
		case itemAbort:
			err := w.abort(ctx)
			over = err == nil
			return err
		default:
			if err := w.apply(kind, payload); err != nil {
				return err
			}
		}
	}
}

// abort ends a batch or chunk whose stream is over without commit. The stream's context may be what has
// ended; what is to be done, is to be done then, too.
func abort(h *handle, method string, f func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), abortTimeout)
	defer cancel()
	if err := guard(h.logger, method, func() error { return f(ctx) }); err != nil {
		h.logger.Warn("giving up what a stream wrote", "method", method, "error", err)
	}
}

func applyBatchItem(ctx context.Context, batch db.Batch, kind byte, payload []byte) error {
	switch kind {
	case itemPut:
		_, position, record, err := parsePut(payload)
		if err != nil {
			return err
		}
		return batch.Put(ctx, position, record)
	case itemEndRun:
		return batch.EndRun(ctx)
	case itemRemove:
		address, position, err := takeAddress(payload)
		if err != nil {
			return err
		}
		return batch.Remove(ctx, address, node.Position(position))
	case itemSet, itemDelete:
		change, err := parseChange(kind, payload)
		if err != nil {
			return err
		}
		return batch.PutWriteLog(ctx, writelog.WriteLog{change})
	default:
		return fmt.Errorf("%w: item of kind %d in a batch", ErrProtocol, kind)
	}
}

func commitBatch(ctx context.Context, batch db.Batch, payload []byte) error {
	var commit pb.CommitBatch
	if err := proto.Unmarshal(payload, &commit); err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	root, err := fromRoot(commit.Root)
	if err != nil {
		return err
	}
	address, err := fromAddress(commit.RootAddress)
	if err != nil {
		return err
	}
	return batch.Commit(ctx, root, address)
}

// WriteChunk takes a chunk of a multipart insert. Whatever ends the stream before the commit aborts it.
func (s *service) WriteChunk(stream grpc.BidiStreamingServer[pb.Frame, pb.Frame]) error {
	items := newItemReader(stream, 0)
	defer items.close()
	var begin pb.BeginChunk
	if err := readBegin(items, &begin); err != nil {
		return toStatus(broken(err))
	}
	h, err := s.handle(begin.Handle)
	if err != nil {
		return err
	}
	items.limit = maxPayload(h.info)
	return h.call(stream.Context(), "WriteChunk", func(ctx context.Context) error {
		root, err := fromRoot(begin.Root)
		if err != nil {
			return err
		}
		chunk, err := h.ndb.NewChunk(ctx, root, begin.Index)
		if err != nil {
			return err
		}
		return takeItems(ctx, h, stream, items, written{
			name:    "ChunkWriter",
			address: chunk.Address(),
			apply:   func(kind byte, payload []byte) error { return applyChunkItem(ctx, chunk, kind, payload) },
			commit:  func(payload []byte) error { return commitChunk(ctx, chunk, payload) },
			abort:   chunk.Abort,
		})
	})
}

func applyChunkItem(ctx context.Context, chunk db.ChunkWriter, kind byte, payload []byte) error {
	if kind != itemPut {
		return fmt.Errorf("%w: item of kind %d in a chunk", ErrProtocol, kind)
	}
	whole, position, record, err := parsePut(payload)
	if err != nil {
		return err
	}
	return chunk.Put(ctx, position, record, whole)
}

func commitChunk(ctx context.Context, chunk db.ChunkWriter, payload []byte) error {
	var commit pb.CommitChunk
	if err := proto.Unmarshal(payload, &commit); err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return chunk.Commit(ctx, commit.Sync)
}

// brokenPinWait is how long a pin whose stream broke is held when the session goes on: a stream that
// breaks is most likely the first sign of the session's end, which then is only a moment away.
const brokenPinWait = time.Second

// Pin pins a version until the host closes its side of the stream, or the stream breaks.
func (s *service) Pin(stream grpc.BidiStreamingServer[pb.PinRequest, pb.Empty]) error {
	request, err := stream.Recv()
	if err != nil {
		return toStatus(broken(err))
	}
	h, err := s.handle(request.Handle)
	if err != nil {
		return err
	}
	var pin db.Pin
	err = h.call(stream.Context(), "Pin", func(ctx context.Context) (err error) {
		if pin, err = h.ndb.Pin(ctx, request.Version, request.Owner); err == nil {
			h.hold()
		}
		return err
	})
	if err != nil {
		return err
	}
	defer h.release()
	held := stream.Send(&pb.Empty{})
	if held == nil {
		held = awaitRelease(h, stream)
	}
	if held != nil {
		h.outlast()
	}
	ctx, cancel := context.WithTimeout(context.Background(), abortTimeout)
	defer cancel()
	err = guard(h.logger, "Release", func() error { return pin.Release(ctx) })
	return toStatus(errors.Join(held, err))
}

// awaitRelease waits until the host closes its side of a pin's stream; an error says that the pin ends in
// another way. The goroutine that reads the stream ends with the stream, which ends when its handler has
// returned.
func awaitRelease(h *handle, stream grpc.BidiStreamingServer[pb.PinRequest, pb.Empty]) error {
	closed := make(chan error, 1)
	go func() {
		_, err := stream.Recv()
		closed <- err
	}()
	select {
	case err := <-closed:
		switch err {
		case io.EOF:
			return nil
		case nil:
			return fmt.Errorf("%w: second request in a pin's stream", ErrProtocol)
		default:
			return err
		}
	case <-h.closing.Done():
		return fmt.Errorf("%w while a pin was held", db.ErrClosed)
	}
}

// outlast waits for the calls of a database that is being closed, or is about to be: what prunes must not
// see the pins of a host that has gone released before it has ended itself.
func (h *handle) outlast() {
	timer := time.NewTimer(brokenPinWait)
	defer timer.Stop()
	select {
	case <-h.closing.Done():
		<-h.idle
	case <-timer.C:
	}
}
