package plugin

import (
	"context"
	"time"

	"google.golang.org/grpc"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	pb "github.com/ckpt-project/ckpt/framework/plugin/proto"
)

// The methods of the service that take one message and give one: each hands on to the database.

func (s *service) Close(ctx context.Context, r *pb.HandleRequest) (*pb.Empty, error) {
	return &pb.Empty{}, s.closeHandle(ctx, r.Handle)
}

func (s *service) GetLatestVersion(ctx context.Context, r *pb.HandleRequest) (*pb.VersionResponse, error) {
	return with(s, ctx, r.Handle, "GetLatestVersion", func(ctx context.Context, ndb db.NodeDB) (*pb.VersionResponse, error) {
		version, found, err := ndb.GetLatestVersion(ctx)
		return &pb.VersionResponse{Version: version, Found: found}, err
	})
}

func (s *service) GetEarliestVersion(ctx context.Context, r *pb.HandleRequest) (*pb.VersionResponse, error) {
	return with(s, ctx, r.Handle, "GetEarliestVersion", func(ctx context.Context, ndb db.NodeDB) (*pb.VersionResponse, error) {
		version, found, err := ndb.GetEarliestVersion(ctx)
		return &pb.VersionResponse{Version: version, Found: found}, err
	})
}

func (s *service) GetRootsForVersion(ctx context.Context, r *pb.VersionRequest) (*pb.RootsResponse, error) {
	return with(s, ctx, r.Handle, "GetRootsForVersion", func(ctx context.Context, ndb db.NodeDB) (*pb.RootsResponse, error) {
		roots, err := ndb.GetRootsForVersion(ctx, r.Version)
		return &pb.RootsResponse{Roots: toRoots(roots)}, err
	})
}

func (s *service) HasRoot(ctx context.Context, r *pb.RootRequest) (*pb.HasRootResponse, error) {
	return with(s, ctx, r.Handle, "HasRoot", func(ctx context.Context, ndb db.NodeDB) (*pb.HasRootResponse, error) {
		root, err := fromRoot(r.Root)
		if err != nil {
			return nil, err
		}
		found, err := ndb.HasRoot(ctx, root)
		return &pb.HasRootResponse{Found: found}, err
	})
}

func (s *service) RootAddress(ctx context.Context, r *pb.RootRequest) (*pb.Address, error) {
	return with(s, ctx, r.Handle, "RootAddress", func(ctx context.Context, ndb db.NodeDB) (*pb.Address, error) {
		root, err := fromRoot(r.Root)
		if err != nil {
			return nil, err
		}
		address, err := ndb.RootAddress(ctx, root)
		return toAddress(address), err
	})
}

func (s *service) Finalize(ctx context.Context, r *pb.FinalizeRequest) (*pb.Empty, error) {
	return s.run(ctx, r.Handle, "Finalize", func(ctx context.Context, ndb db.NodeDB) error {
		roots, err := fromRoots(r.Roots)
		if err != nil {
			return err
		}
		return ndb.Finalize(ctx, roots)
	})
}

func (s *service) Pins(ctx context.Context, r *pb.HandleRequest) (*pb.PinsResponse, error) {
	return with(s, ctx, r.Handle, "Pins", func(ctx context.Context, ndb db.NodeDB) (*pb.PinsResponse, error) {
		pins, err := ndb.Pins(ctx)
		return toPins(pins), err
	})
}

func (s *service) Prune(ctx context.Context, r *pb.VersionRequest) (*pb.Empty, error) {
	return s.run(ctx, r.Handle, "Prune", func(ctx context.Context, ndb db.NodeDB) error {
		return ndb.Prune(ctx, r.Version)
	})
}

func (s *service) StartMultipart(ctx context.Context, r *pb.VersionRequest) (*pb.Empty, error) {
	return s.run(ctx, r.Handle, "StartMultipart", func(ctx context.Context, ndb db.NodeDB) error {
		return ndb.StartMultipart(ctx, r.Version)
	})
}

func (s *service) Multipart(ctx context.Context, r *pb.HandleRequest) (*pb.MultipartResponse, error) {
	return with(s, ctx, r.Handle, "Multipart", func(ctx context.Context, ndb db.NodeDB) (*pb.MultipartResponse, error) {
		m, err := ndb.Multipart(ctx)
		return toMultipart(m), err
	})
}

func (s *service) AddMultipartRoot(ctx context.Context, r *pb.AddMultipartRootRequest) (*pb.Empty, error) {
	return s.run(ctx, r.Handle, "AddMultipartRoot", func(ctx context.Context, ndb db.NodeDB) error {
		root, err := fromRoot(r.Root)
		if err != nil {
			return err
		}
		return ndb.AddMultipartRoot(ctx, root, r.Chunks, r.Tag)
	})
}

func (s *service) CompleteRoot(ctx context.Context, r *pb.RootRequest) (*pb.Empty, error) {
	return s.onRoot(ctx, r, "CompleteRoot", func(ctx context.Context, ndb db.NodeDB, root node.Root) error {
		return ndb.CompleteRoot(ctx, root)
	})
}

func (s *service) AbortRoot(ctx context.Context, r *pb.RootRequest) (*pb.Empty, error) {
	return s.onRoot(ctx, r, "AbortRoot", func(ctx context.Context, ndb db.NodeDB, root node.Root) error {
		return ndb.AbortRoot(ctx, root)
	})
}

func (s *service) AbortMultipart(ctx context.Context, r *pb.HandleRequest) (*pb.Empty, error) {
	return s.run(ctx, r.Handle, "AbortMultipart", func(ctx context.Context, ndb db.NodeDB) error {
		return ndb.AbortMultipart(ctx)
	})
}

func (s *service) Size(ctx context.Context, r *pb.HandleRequest) (*pb.SizeResponse, error) {
	return with(s, ctx, r.Handle, "Size", func(ctx context.Context, ndb db.NodeDB) (*pb.SizeResponse, error) {
		size, err := ndb.Size(ctx)
		return &pb.SizeResponse{Live: size.Live, File: size.File}, err
	})
}

func (s *service) Sync(ctx context.Context, r *pb.HandleRequest) (*pb.Empty, error) {
	return s.run(ctx, r.Handle, "Sync", func(ctx context.Context, ndb db.NodeDB) error { return ndb.Sync(ctx) })
}

func (s *service) PruneBefore(ctx context.Context, r *pb.VersionRequest) (*pb.PruneBeforeResponse, error) {
	return with(s, ctx, r.Handle, "PruneBefore", func(ctx context.Context, ndb db.NodeDB) (*pb.PruneBeforeResponse, error) {
		removed, err := ndb.PruneBefore(ctx, r.Version)
		return &pb.PruneBeforeResponse{Removed: removed}, err
	})
}

// progressInterval is how often progress is sent at most.
const progressInterval = 50 * time.Millisecond

// telling returns a function that sends progress, not more often than need be.
func telling(send func(*pb.Progress) error) func(done, total int64) {
	var sent time.Time
	return func(done, total int64) {
		if now := time.Now(); done >= total || now.Sub(sent) >= progressInterval {
			sent = now
			// A stream that is broken ends the call's context; there is nothing else to do here.
			_ = send(&pb.Progress{Done: done, Total: total})
		}
	}
}

// CollectGarbage sends the progress as it goes, and its end as the stream's.
func (s *service) CollectGarbage(r *pb.HandleRequest, stream grpc.ServerStreamingServer[pb.Progress]) error {
	_, err := s.run(stream.Context(), r.Handle, "CollectGarbage", func(ctx context.Context, ndb db.NodeDB) error {
		return ndb.CollectGarbage(ctx, telling(stream.Send))
	})
	return err
}

// Compact sends the progress as it goes, and its end as the stream's.
func (s *service) Compact(r *pb.HandleRequest, stream grpc.ServerStreamingServer[pb.Progress]) error {
	_, err := s.run(stream.Context(), r.Handle, "Compact", func(ctx context.Context, ndb db.NodeDB) error {
		return ndb.Compact(ctx, telling(stream.Send))
	})
	return err
}

// Check sends the progress as it goes, and the report at the end.
func (s *service) Check(r *pb.CheckRequest, stream grpc.ServerStreamingServer[pb.CheckEvent]) error {
	_, err := s.run(stream.Context(), r.Handle, "Check", func(ctx context.Context, ndb db.NodeDB) error {
		report, err := ndb.Check(ctx, db.CheckOptions{Version: r.Version, Progress: telling(func(p *pb.Progress) error {
			return stream.Send(&pb.CheckEvent{Progress: p})
		})})
		if err != nil {
			return err
		}
		return stream.Send(&pb.CheckEvent{Report: toReport(report)})
	})
	return err
}
