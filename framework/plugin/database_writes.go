package plugin

import (
	"context"
	stderrors "errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/writelog"
	pb "github.com/ckpt-project/ckpt/framework/plugin/proto"
)

type writeRPC = grpc.BidiStreamingClient[pb.Frame, pb.Frame]

// writer is a batch or a chunk being written: items that are packed into frames, of which the other side
// speaks up only when something is wrong, or at the end. It belongs to one goroutine.
type writer struct {
	d       *database
	stream  writeRPC
	cancel  context.CancelFunc
	items   *itemWriter
	address node.Address
	scratch []byte
	// err is what ended the writer: nothing more is sent after it.
	err error
	// over says that the stream has ended, by commit, abort or err.
	over bool
}

// open begins a stream and waits for the other side's address.
func (d *database) open(ctx context.Context, method func(context.Context, ...callOption) (writeRPC, error), begin proto.Message) (*writer, error) {
	if err := d.usable(ctx); err != nil {
		return nil, err
	}
	payload, err := proto.Marshal(begin)
	if err != nil {
		return nil, err
	}
	streamCtx, cancel := context.WithCancel(d.life)
	w := &writer{d: d, cancel: cancel}
	err = w.guard(ctx, func() error {
		if w.stream, err = method(streamCtx); err != nil {
			return err
		}
		w.items = newItemWriter(&messageFrames{stream: w.stream})
		if err := w.items.item(itemBegin, nil, payload); err != nil {
			return err
		}
		if err := w.items.flush(); err != nil {
			return err
		}
		return w.readAddress()
	})
	if err != nil {
		return nil, err
	}
	return w, nil
}

func (w *writer) readAddress() error {
	items := newItemReader(w.stream, maxBeginBytes)
	defer items.close()
	kind, payload, err := items.read()
	if err != nil {
		return err
	}
	if kind != itemAddress {
		return unexpected(kind)
	}
	w.address, _, err = takeAddress(payload)
	return err
}

// guard runs f, which may wait for the other side, until ctx ends. An error ends the writer: the stream is
// cancelled, and the other side forgets what it was sent.
func (w *writer) guard(ctx context.Context, f func() error) error {
	if w.err != nil {
		return w.err
	}
	if w.over {
		return fmt.Errorf("%w: it has been committed or aborted", db.ErrMalformed)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if w.d.closed.Load() {
		return w.end(ctx, db.ErrClosed)
	}
	stop := context.AfterFunc(ctx, w.cancel)
	err := f()
	if !stop() && err == nil { // too late to matter for f, but the stream is cancelled
		err = ctx.Err()
	}
	if err != nil {
		return w.end(ctx, err)
	}
	return nil
}

// end ends the writer because of err, for which the other side may have a reason.
func (w *writer) end(ctx context.Context, err error) error {
	if stderrors.Is(err, io.EOF) && w.stream != nil { // the other side ended the stream, and says why now
		f := newFrame()
		if err = w.stream.RecvMsg(f); err == nil || err == io.EOF {
			err = fmt.Errorf("%w: stream ended early", ErrProtocol)
		}
		f.release()
	}
	if err = w.d.failure(ctx, err); !stderrors.Is(err, db.ErrClosed) && w.d.closed.Load() {
		err = db.ErrClosed
	}
	w.err = err
	w.close()
	return err
}

// close waits for the end of this side of the stream.
func (w *writer) close() {
	w.over = true
	w.cancel()
	if w.items != nil {
		w.items.drop()
	}
	if w.stream != nil {
		drain(w.stream)
	}
}

// put sends an item. Most only go to the present frame and cost no more than a copy.
func (w *writer) put(ctx context.Context, kind byte, head, tail []byte) error {
	if w.err == nil && !w.over && w.items.fits(len(head)+len(tail)) && ctx.Err() == nil && !w.d.closed.Load() {
		return w.items.item(kind, head, tail)
	}
	return w.guard(ctx, func() error { return w.items.item(kind, head, tail) })
}

// finish sends the last item and waits until the other side has done what it says.
func (w *writer) finish(ctx context.Context, kind byte, message proto.Message) error {
	payload, err := proto.Marshal(message)
	if err != nil {
		return err
	}
	err = w.guard(ctx, func() error {
		if err := w.items.item(kind, nil, payload); err != nil {
			return err
		}
		if err := w.items.flush(); err != nil {
			return err
		}
		if err := w.stream.CloseSend(); err != nil {
			return err
		}
		f := newFrame()
		defer f.release()
		switch err := w.stream.RecvMsg(f); err {
		case io.EOF:
			w.over = true
			return nil
		case nil:
			return fmt.Errorf("%w: answer to the end of a stream", ErrProtocol)
		default:
			return err
		}
	})
	if w.over {
		w.close()
	}
	return err
}

// Address is what the entries are stored under.
func (w *writer) Address() node.Address { return w.address }

// Abort ends what is not committed, and waits until the other side has. Where the stream has ended
// already, the other side has aborted on its own.
func (w *writer) Abort(ctx context.Context) error {
	if w.over {
		return nil
	}
	err := w.finish(ctx, itemAbort, &pb.Empty{})
	if err != nil {
		w.close() // which aborts at the other side just as well
	}
	return err
}

// batch is a root in the making at the other side.
type batch struct{ *writer }

func (d *database) NewBatch(ctx context.Context, oldRoot node.Root, version uint64) (db.Batch, error) {
	w, err := d.open(ctx, d.rpc.WriteBatch, &pb.BeginBatch{Handle: d.handle, OldRoot: toRoot(oldRoot), Version: version})
	if err != nil {
		return nil, err
	}
	return batch{w}, nil
}

func (b batch) Put(ctx context.Context, position node.Position, record []byte) error {
	b.scratch = appendPutHead(b.scratch[:0], false, position)
	return b.put(ctx, itemPut, b.scratch, record)
}

func (b batch) EndRun(ctx context.Context) error { return b.put(ctx, itemEndRun, nil, nil) }

func (b batch) Remove(ctx context.Context, address node.Address, position node.Position) error {
	b.scratch = appendAddress(b.scratch[:0], address)
	return b.put(ctx, itemRemove, b.scratch, position)
}

func (b batch) PutWriteLog(ctx context.Context, log writelog.WriteLog) error {
	return b.guard(ctx, func() (err error) {
		for i := range log {
			if b.scratch, err = writeChange(b.items, b.scratch, &log[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

func (b batch) Commit(ctx context.Context, root node.Root, rootAddress node.Address) error {
	return b.finish(ctx, itemCommit, &pb.CommitBatch{Root: toRoot(root), RootAddress: toAddress(rootAddress)})
}

// chunk is a chunk of a multipart insert being written at the other side.
type chunk struct{ *writer }

func (d *database) NewChunk(ctx context.Context, root node.Root, index uint64) (db.ChunkWriter, error) {
	w, err := d.open(ctx, d.rpc.WriteChunk, &pb.BeginChunk{Handle: d.handle, Root: toRoot(root), Index: index})
	if err != nil {
		return nil, err
	}
	return chunk{w}, nil
}

func (c chunk) Put(ctx context.Context, position node.Position, record []byte, whole bool) error {
	c.scratch = appendPutHead(c.scratch[:0], whole, position)
	return c.put(ctx, itemPut, c.scratch, record)
}

func (c chunk) Commit(ctx context.Context, sync bool) error {
	return c.finish(ctx, itemCommit, &pb.CommitChunk{Sync: sync})
}
