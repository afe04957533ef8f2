package faulty

import (
	"bytes"
	"context"
	stderrors "errors"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/plugin"
	pb "github.com/ckpt-project/ckpt/framework/plugin/proto"
)

// The programs here serve sound databases, and speak the wire badly: what is wrong stands between gRPC and
// the service.

// WireDefects are all defects of programs that serve.
func WireDefects() []ProgramDefect { return slices.Clone(wireDefects) }

var wireDefects = []ProgramDefect{
	{
		Name: "handle-any", Clauses: clauses("DB4"),
		Wrong: "A handle that nobody has is taken for the first one.",
		grpc:  func() []grpc.ServerOption { return requests(handleAny()) },
	},
	{
		Name: "session-any", Clauses: clauses("DB4"),
		Wrong: "A database is opened for a session that nobody has.",
		grpc:  sessionAny,
	},
	{
		Name: "nonsense-kills", Clauses: clauses("DB31"),
		Wrong: "A message that makes no sense ends the program.",
		grpc:  func() []grpc.ServerOption { return answers(nonsenseKills) },
	},
	{
		Name: "nonsense-taken", Clauses: clauses("DB31"),
		Wrong: "A stream that makes no sense ends as if all of it had been taken.",
		grpc:  func() []grpc.ServerOption { return answers(nonsenseTaken) },
	},
	{
		Name: "walk-cut", Clauses: clauses("DB23"),
		Wrong: "A walk's stream ends after its first message, as if the walk were through.",
		grpc:  walkCut,
	},
	{
		Name: "unshared-walk-cut", Clauses: clauses("DB23"),
		Wrong: "The same where walks don't go through shared memory, and only there.",
		grpc:  unsharedWalkCut,
	},
	{
		Name: "turn-ignored", Clauses: clauses("DB2", "DB23"),
		Wrong: "A walk through shared memory is begun whatever its turn is.",
		grpc:  turnIgnored,
	},
	{
		Name: "ring-other", Clauses: clauses("DB2", "DB23"),
		Wrong: "A walk through shared memory uses another ring than the one that it was given.",
		grpc:  ringOther,
	},
	{
		Name: "busy-is-absent", Clauses: clauses("DB3", "DB10"),
		Wrong: "Asked for a root while another is looked for, the program says that it is not there.",
		grpc:  busyIsAbsent,
	},
	{
		Name: "pause-ends-session", Clauses: clauses("DB2"),
		Wrong: "A program that was stopped for a while takes its host for gone, and closes what that has open.",
		grpc:  pauseEndsSession,
	},
}

// serving is a server's stream that tells what comes and goes.
type serving struct {
	grpc.ServerStream
	ctx context.Context // nil means the stream's own
	// received is told of what has come, and may change it; sending of what will go.
	received, sending func(m any)
}

func (s *serving) Context() context.Context {
	if s.ctx != nil {
		return s.ctx
	}
	return s.ServerStream.Context()
}

func (s *serving) RecvMsg(m any) error {
	err := s.ServerStream.RecvMsg(m)
	if err == nil && s.received != nil {
		s.received(m)
	}
	return err
}

func (s *serving) SendMsg(m any) error {
	if s.sending != nil {
		s.sending(m)
	}
	return s.ServerStream.SendMsg(m)
}

// requests has all requests changed before they come to the service.
func requests(change func(m any)) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(func(ctx context.Context, m any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			change(m)
			return next(ctx, m)
		}),
		grpc.ChainStreamInterceptor(func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			return next(srv, &serving{ServerStream: s, received: change})
		}),
	}
}

// answers has the errors changed with which the service ends a stream.
func answers(change func(err error) error) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainStreamInterceptor(func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			return change(next(srv, s))
		}),
	}
}

// is says whether a method is meant, by the last part of its name.
func is(fullMethod, name string) bool { return strings.HasSuffix(fullMethod, "/"+name) }

// handleAny knows the handles that it was given, and takes any other for the first.
func handleAny() func(m any) {
	var mu sync.Mutex
	var known []uint64
	return func(m any) {
		request, ok := m.(interface {
			proto.Message
			GetHandle() uint64
		})
		if !ok { // it has none, or is a frame
			return
		}
		mu.Lock()
		defer mu.Unlock()
		switch handle := request.GetHandle(); {
		case slices.Contains(known, handle):
		case isOpen(m):
			known = append(known, handle)
		case len(known) > 0:
			message := request.ProtoReflect()
			message.Set(message.Descriptor().Fields().ByName("handle"), protoreflect.ValueOfUint64(known[0]))
		}
	}
}

func isOpen(m any) bool {
	_, ok := m.(*pb.OpenRequest)
	return ok
}

// sessionAny opens databases for the first session, whatever session they are said to be for.
func sessionAny() []grpc.ServerOption {
	var first atomic.Pointer[[]byte]
	return append(
		requests(func(m any) {
			if open, ok := m.(*pb.OpenRequest); ok && first.Load() != nil {
				open.Session = *first.Load()
			}
		}),
		grpc.ChainStreamInterceptor(func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			return next(srv, &serving{ServerStream: s, sending: func(m any) {
				if event, ok := m.(*pb.SessionEvent); ok {
					session := bytes.Clone(event.Session)
					first.CompareAndSwap(nil, &session)
				}
			}})
		}),
	)
}

// isNonsense says whether the service did not understand what it was sent.
func isNonsense(err error) bool {
	module, code, _ := errors.Code(plugin.ErrProtocol)
	s, _ := status.FromError(err)
	for _, d := range s.Details() {
		if detail, ok := d.(*pb.ErrorDetail); ok && slices.ContainsFunc(detail.Identities, func(i *pb.ErrorIdentity) bool {
			return i.Module == module && i.Code == code
		}) {
			return true
		}
	}
	return false
}

func nonsenseKills(err error) error {
	if isNonsense(err) {
		os.Stderr.WriteString("fatal: unexpected message\n")
		os.Exit(2)
	}
	return err
}

func nonsenseTaken(err error) error {
	if isNonsense(err) {
		return nil
	}
	return err
}

// errCut ends a walk from within.
var errCut = stderrors.New("a walk is cut")

// walkCut sends the first message of a walk and, with it, the end.
func walkCut() []grpc.ServerOption { return cut("Walk", "SharedWalk") }

func unsharedWalkCut() []grpc.ServerOption { return cut("Walk") }

// cut has streams of some methods end with their first message.
func cut(methods ...string) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainStreamInterceptor(func(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			if !slices.ContainsFunc(methods, func(name string) bool { return is(info.FullMethod, name) }) {
				return next(srv, s)
			}
			var first any
			err := next(srv, &keeping{s, func(m any) error {
				if first != nil {
					return errCut
				}
				switch m := m.(type) {
				case *pb.SharedFrame:
					first = m
				case interface{ GetData() []byte }:
					first = &pb.Frame{Data: bytes.Clone(m.GetData())} // whose memory is used again
				default:
					return errCut
				}
				return nil
			}})
			if first == nil {
				return err
			}
			return s.SendMsg(first)
		}),
	}
}

// turnIgnored gives each walk the turn that is next.
func turnIgnored() []grpc.ServerOption {
	var turn atomic.Uint64
	return requests(func(m any) {
		if r, ok := m.(*pb.SharedWalkRequest); ok {
			r.Turn = turn.Add(1)
		}
	})
}

// ringOther gives each walk the ring that is next.
func ringOther() []grpc.ServerOption {
	var walks atomic.Uint32
	return requests(func(m any) {
		if r, ok := m.(*pb.SharedWalkRequest); ok && r.Walk != nil {
			r.Ring = walks.Add(1) % 4
		}
	})
}

// keeping is a stream that keeps what it should send.
type keeping struct {
	grpc.ServerStream
	keep func(m any) error
}

func (s *keeping) SendMsg(m any) error { return s.keep(m) }

// waitingForAnother is how long busyIsAbsent looks for a root, if no other is asked for meanwhile.
const waitingForAnother = 5 * time.Second

// busyIsAbsent looks for one root at a time. Of another it says what an empty answer says.
func busyIsAbsent() []grpc.ServerOption {
	var mu sync.Mutex
	var another chan struct{} // closed when a root is asked for meanwhile; nil while none is looked for
	begin := func() <-chan struct{} {
		mu.Lock()
		defer mu.Unlock()
		if another == nil {
			another = make(chan struct{})
			return another
		}
		select {
		case <-another:
		default:
			close(another)
		}
		return nil
	}
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(func(ctx context.Context, m any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			if !is(info.FullMethod, "HasRoot") {
				return next(ctx, m)
			}
			meanwhile := begin()
			if meanwhile == nil {
				return &pb.HasRootResponse{}, nil
			}
			defer func() {
				mu.Lock()
				defer mu.Unlock()
				another = nil
			}()
			timer := time.NewTimer(waitingForAnother)
			defer timer.Stop()
			select {
			case <-meanwhile:
			case <-timer.C:
			}
			return next(ctx, m)
		}),
	}
}

const (
	// watchEvery is how often a program looks whether it was stopped, and stoppedFor how long it must have
	// been: a busy machine does not stop it for so long.
	watchEvery = 10 * time.Millisecond
	stoppedFor = 250 * time.Millisecond
)

// pauseEndsSession ends sessions when it finds that the program did not run for a while.
func pauseEndsSession() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainStreamInterceptor(func(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			if !is(info.FullMethod, "Session") {
				return next(srv, s)
			}
			ctx, cancel := context.WithCancel(s.Context())
			var watching sync.WaitGroup
			defer func() {
				cancel()
				watching.Wait()
			}()
			watching.Go(func() {
				ticker := time.NewTicker(watchEvery)
				defer ticker.Stop()
				for last := time.Now(); ; {
					select {
					case <-ctx.Done():
						return
					case <-ticker.C:
					}
					now := time.Now()
					if now.Sub(last) > stoppedFor {
						cancel()
						return
					}
					last = now
				}
			})
			return next(srv, &serving{ServerStream: s, ctx: ctx})
		}),
	}
}
