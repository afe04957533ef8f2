package plugin

import (
	"context"
	stderrors "errors"
	"fmt"
	"io"
	"sync/atomic"

	"google.golang.org/grpc"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	pb "github.com/ckpt-project/ckpt/framework/plugin/proto"
)

// database is a NodeDB at the other side.
type database struct {
	client *Client
	rpc    pb.NodeDBClient
	handle uint64
	info   db.Info

	// life ends when the database is closed or its client is; every stream hangs on it.
	life   context.Context
	end    context.CancelFunc
	closed atomic.Bool
}

var (
	_ db.NodeDB      = (*database)(nil)
	_ db.PathsReader = (*database)(nil)
)

// usable says why nothing can be asked: before a call, so that what is gone is not asked at all.
func (d *database) usable(ctx context.Context) error {
	if d.closed.Load() {
		return db.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return d.client.usable()
}

// failure makes of a call's error what a NodeDB returns.
func (d *database) failure(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if d.closed.Load() && ctx.Err() == nil {
		return db.ErrClosed
	}
	return d.client.failure(ctx, err)
}

// ask makes a call that takes one message and gives one.
func ask[Request, Response any](d *database, ctx context.Context, request Request,
	method func(context.Context, Request, ...callOption) (Response, error),
) (Response, error) {
	var none Response
	if err := d.usable(ctx); err != nil {
		return none, err
	}
	response, err := method(ctx, request)
	if err != nil {
		return none, d.failure(ctx, err)
	}
	return response, nil
}

func (d *database) request() *pb.HandleRequest { return &pb.HandleRequest{Handle: d.handle} }

func (d *database) versionRequest(version uint64) *pb.VersionRequest {
	return &pb.VersionRequest{Handle: d.handle, Version: version}
}

func (d *database) rootRequest(root node.Root) *pb.RootRequest {
	return &pb.RootRequest{Handle: d.handle, Root: toRoot(root)}
}

func (d *database) Info() db.Info { return d.info }

func (d *database) GetLatestVersion(ctx context.Context) (uint64, bool, error) {
	r, err := ask(d, ctx, d.request(), d.rpc.GetLatestVersion)
	return r.GetVersion(), r.GetFound(), err
}

func (d *database) GetEarliestVersion(ctx context.Context) (uint64, bool, error) {
	r, err := ask(d, ctx, d.request(), d.rpc.GetEarliestVersion)
	return r.GetVersion(), r.GetFound(), err
}

func (d *database) GetRootsForVersion(ctx context.Context, version uint64) ([]node.Root, error) {
	r, err := ask(d, ctx, d.versionRequest(version), d.rpc.GetRootsForVersion)
	if err != nil {
		return nil, err
	}
	return fromRoots(r.Roots)
}

func (d *database) HasRoot(ctx context.Context, root node.Root) (bool, error) {
	r, err := ask(d, ctx, d.rootRequest(root), d.rpc.HasRoot)
	return r.GetFound(), err
}

func (d *database) RootAddress(ctx context.Context, root node.Root) (node.Address, error) {
	r, err := ask(d, ctx, d.rootRequest(root), d.rpc.RootAddress)
	if err != nil {
		return node.Address{}, err
	}
	return fromAddress(r)
}

func (d *database) Finalize(ctx context.Context, roots []node.Root) error {
	_, err := ask(d, ctx, &pb.FinalizeRequest{Handle: d.handle, Roots: toRoots(roots)}, d.rpc.Finalize)
	return err
}

func (d *database) Pins(ctx context.Context) ([]db.PinInfo, error) {
	r, err := ask(d, ctx, d.request(), d.rpc.Pins)
	if err != nil {
		return nil, err
	}
	return fromPins(r), nil
}

func (d *database) Prune(ctx context.Context, version uint64) error {
	_, err := ask(d, ctx, d.versionRequest(version), d.rpc.Prune)
	return err
}

func (d *database) StartMultipart(ctx context.Context, version uint64) error {
	_, err := ask(d, ctx, d.versionRequest(version), d.rpc.StartMultipart)
	return err
}

func (d *database) Multipart(ctx context.Context) (*db.Multipart, error) {
	r, err := ask(d, ctx, d.request(), d.rpc.Multipart)
	if err != nil {
		return nil, err
	}
	return fromMultipart(r)
}

func (d *database) AddMultipartRoot(ctx context.Context, root node.Root, chunks uint64, tag []byte) error {
	_, err := ask(d, ctx, &pb.AddMultipartRootRequest{Handle: d.handle, Root: toRoot(root), Chunks: chunks, Tag: tag}, d.rpc.AddMultipartRoot)
	return err
}

func (d *database) CompleteRoot(ctx context.Context, root node.Root) error {
	_, err := ask(d, ctx, d.rootRequest(root), d.rpc.CompleteRoot)
	return err
}

func (d *database) AbortRoot(ctx context.Context, root node.Root) error {
	_, err := ask(d, ctx, d.rootRequest(root), d.rpc.AbortRoot)
	return err
}

func (d *database) AbortMultipart(ctx context.Context) error {
	_, err := ask(d, ctx, d.request(), d.rpc.AbortMultipart)
	return err
}

func (d *database) Size(ctx context.Context) (db.Size, error) {
	r, err := ask(d, ctx, d.request(), d.rpc.Size)
	return db.Size{Live: r.GetLive(), File: r.GetFile()}, err
}

func (d *database) PruneBefore(ctx context.Context, version uint64) (uint64, error) {
	r, err := ask(d, ctx, d.versionRequest(version), d.rpc.PruneBefore)
	return r.GetRemoved(), err
}

func (d *database) CollectGarbage(ctx context.Context, progress func(done, total int64)) error {
	return follow(d, ctx, d.request(), d.rpc.CollectGarbage, tell(progress))
}

func (d *database) Compact(ctx context.Context, progress func(done, total int64)) error {
	return follow(d, ctx, d.request(), d.rpc.Compact, tell(progress))
}

func (d *database) Check(ctx context.Context, opts db.CheckOptions) (report *db.CheckReport, err error) {
	progress := tell(opts.Progress)
	request := &pb.CheckRequest{Handle: d.handle, Version: opts.Version}
	err = follow(d, ctx, request, d.rpc.Check, func(event *pb.CheckEvent) {
		if event.Progress != nil {
			progress(event.Progress)
		}
		if event.Report != nil {
			report = fromReport(event.Report)
		}
	})
	if err == nil && report == nil {
		err = fmt.Errorf("%w: a check that ended without a report", ErrProtocol)
	}
	if err != nil {
		return nil, err
	}
	return report, nil
}

// tell hands progress on to a function that may be nil.
func tell(progress func(done, total int64)) func(*pb.Progress) {
	return func(p *pb.Progress) {
		if progress != nil {
			progress(p.Done, p.Total)
		}
	}
}

// follow makes a call that is answered with events until it is done.
func follow[Request, Event any](d *database, ctx context.Context, request Request,
	method func(context.Context, Request, ...callOption) (grpc.ServerStreamingClient[Event], error), event func(*Event),
) error {
	if err := d.usable(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := method(ctx, request)
	if err != nil {
		return d.failure(ctx, err)
	}
	for {
		e, err := stream.Recv()
		if stderrors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return d.failure(ctx, err)
		}
		event(e)
	}
}

func (d *database) Sync(ctx context.Context) error {
	_, err := ask(d, ctx, d.request(), d.rpc.Sync)
	return err
}

// Close ends this side's streams first, so that the other side does not wait for them, and then has the
// database closed. After it the database counts as closed here, also where the other side failed to.
func (d *database) Close(ctx context.Context) error {
	if d.closed.Swap(true) {
		return db.ErrClosed
	}
	d.end()
	d.client.forget(d)
	if err := d.client.usable(); err != nil {
		return fmt.Errorf("plugin: database was not closed cleanly: %w", err)
	}
	if _, err := d.rpc.Close(ctx, d.request()); err != nil {
		return d.client.failure(ctx, err)
	}
	return nil
}
