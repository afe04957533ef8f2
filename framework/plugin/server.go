package plugin

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/experimental"

	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	pb "github.com/ckpt-project/ckpt/framework/plugin/proto"
)

// sessionCloseTimeout bounds how long the databases of a session that ended are being closed.
const sessionCloseTimeout = time.Minute

// Server serves databases of one kind to hosts, on any gRPC server that it is registered with. What a
// host opened is closed when its session ends. It is safe for concurrent use.
type Server struct{ service *service }

// NewServer makes a server for databases of opts.Factory. Whoever runs its gRPC server should make that
// with ServerOptions, and closes the Server when the gRPC server has stopped.
func NewServer(opts ServeOptions) *Server { return &Server{newService(opts)} }

// Register adds the service to a gRPC server.
func (s *Server) Register(r grpc.ServiceRegistrar) { pb.RegisterNodeDBServer(r, s.service) }

// Close ends all sessions and waits until their databases are closed, or ctx ends.
func (s *Server) Close(ctx context.Context) error { return s.service.shutdown(ctx) }

// ServerOptions are the options that a gRPC server needs to take all that hosts send, fast.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxMessageBytes),
		grpc.MaxSendMsgSize(maxMessageBytes),
		grpc.ForceServerCodecV2(codec),
		grpc.InitialWindowSize(streamWindow),
		grpc.InitialConnWindowSize(connectionWindow),
		grpc.ReadBufferSize(readBuffer),
		grpc.WriteBufferSize(writeBuffer),
		experimental.BufferPool(framePool),
	}
}

// service is the gRPC service: sessions, the handles that they opened, and (in server_*.go) the methods.
type service struct {
	pb.UnimplementedNodeDBServer

	opts ServeOptions
	log  hclog.Logger
	// memory is what this process shares with its host; nil where it shares none.
	memory *backendMemory
	// onSession is told when a session begins and ends; nil where nobody wants to know.
	onSession func(begins bool)

	// closing ends all sessions.
	closing context.Context
	end     context.CancelFunc

	mu       sync.Mutex
	sessions map[string]*session
	handles  map[uint64]*handle
	ended    bool
	running  sync.WaitGroup // of sessions
}

// session is what one host opened.
type session struct {
	ctx     context.Context
	handles map[uint64]*handle // under service.mu
}

func newService(opts ServeOptions) *service {
	s := &service{opts: opts, log: opts.logger(), sessions: map[string]*session{}, handles: map[uint64]*handle{}}
	s.closing, s.end = context.WithCancel(context.Background())
	return s
}

// shutdown ends all sessions and waits until their databases are closed, or ctx ends.
func (s *service) shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.end()
	done := make(chan struct{})
	go func() {
		s.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("plugin: closing databases: %w", ctx.Err())
	}
}

// Session runs as long as a host is there, then closes what it opened.
func (s *service) Session(request *pb.SessionRequest, stream grpc.ServerStreamingServer[pb.SessionEvent]) error {
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return toStatus(err)
	}
	current := &session{ctx: stream.Context(), handles: map[uint64]*handle{}}
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return toStatus(db.ErrClosed)
	}
	s.running.Add(1)
	s.sessions[string(id)] = current
	s.mu.Unlock()
	defer s.running.Done()

	if s.onSession != nil {
		s.onSession(true)
	}
	s.log.Debug("session begins", "host", cutText(request.Host))
	err := stream.Send(&pb.SessionEvent{
		Session: id, Minor: protocolMinor, Backend: s.opts.Factory.Name(), BackendVersion: s.opts.Version,
		SharedMemory: s.memory != nil,
	})
	if err == nil {
		select {
		case <-stream.Context().Done():
		case <-s.closing.Done():
		}
	}
	s.log.Debug("session ends", "host", cutText(request.Host))
	if s.onSession != nil {
		s.onSession(false)
	}
	s.endSession(string(id), current)
	return err
}

// endSession closes what a session opened, all at once.
func (s *service) endSession(id string, ended *session) {
	s.mu.Lock()
	delete(s.sessions, id)
	handles := ended.handles
	ended.handles = nil
	for handleID := range handles {
		delete(s.handles, handleID)
	}
	s.mu.Unlock()

	ctx, cancel := context.WithTimeout(context.Background(), sessionCloseTimeout)
	defer cancel()
	var closing sync.WaitGroup
	for _, h := range handles {
		closing.Go(func() {
			if err := h.close(ctx); err != nil {
				s.log.Error("closing a database at the end of its session", "error", err)
			}
		})
	}
	closing.Wait()
}

// Open opens a database for a session.
func (s *service) Open(ctx context.Context, r *pb.OpenRequest) (*pb.OpenResponse, error) {
	cfg, err := fromOpen(r)
	if err != nil {
		return nil, toStatus(err)
	}
	cfg.Logger = s.log
	s.mu.Lock()
	owner := s.sessions[string(r.Session)]
	if owner != nil {
		s.running.Add(1) // so that Close waits for what is being opened
	}
	s.mu.Unlock()
	if owner == nil {
		return nil, toStatus(fmt.Errorf("%w: no such session", db.ErrClosed))
	}
	defer s.running.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(owner.ctx, cancel)()
	defer context.AfterFunc(s.closing, cancel)()

	var h *handle
	err = guard(s.log, "Open", func() error {
		ndb, err := s.opts.Factory.New(ctx, cfg)
		if err == nil {
			h = newHandle(ndb, s.log)
		}
		return err
	})
	if err != nil {
		return nil, toStatus(err)
	}
	err = s.adopt(owner, r.Handle, h)
	if err == nil && ctx.Err() != nil { // nobody will get the answer
		s.forget(r.Handle)
		err = ctx.Err()
	}
	if err != nil {
		closeCtx, cancel := context.WithTimeout(context.Background(), sessionCloseTimeout)
		defer cancel()
		if closeErr := h.close(closeCtx); closeErr != nil && !errors.Is(closeErr, db.ErrClosed) {
			s.log.Error("closing a database that nobody wants any more", "error", closeErr)
		}
		return nil, toStatus(err)
	}
	return toInfo(h.info), nil
}

// adopt gives a handle the id that the host chose.
func (s *service) adopt(owner *session, id uint64, h *handle) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if owner.handles == nil {
		return fmt.Errorf("%w: session has ended", db.ErrClosed)
	}
	if _, taken := s.handles[id]; taken || id == 0 {
		return fmt.Errorf("%w: handle %d is taken", ErrProtocol, id)
	}
	owner.handles[id], s.handles[id] = h, h
	return nil
}

func (s *service) forget(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.handles, id)
	for _, owner := range s.sessions {
		delete(owner.handles, id)
	}
}

// handle finds a handle.
func (s *service) handle(id uint64) (*handle, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.handles[id]; h != nil {
		return h, nil
	}
	return nil, toStatus(fmt.Errorf("%w: no such handle", db.ErrClosed))
}

// closeHandle closes a database. When it fails because the caller's time is up, the session's end does it.
func (s *service) closeHandle(ctx context.Context, id uint64) error {
	h, err := s.handle(id)
	if err != nil {
		return err
	}
	err = h.close(ctx)
	if h.isClosed() {
		s.forget(id)
	}
	return toStatus(err)
}

// with runs a method of a handle's database and returns what it gives.
func with[T any](s *service, ctx context.Context, id uint64, method string, f func(context.Context, db.NodeDB) (T, error)) (T, error) {
	var result, none T
	h, err := s.handle(id)
	if err != nil {
		return none, err
	}
	err = h.call(ctx, method, func(ctx context.Context) (err error) {
		result, err = f(ctx, h.ndb)
		return err
	})
	if err != nil {
		return none, err
	}
	return result, nil
}

// run is with for methods that give nothing.
func (s *service) run(ctx context.Context, id uint64, method string, f func(context.Context, db.NodeDB) error) (*pb.Empty, error) {
	return with(s, ctx, id, method, func(ctx context.Context, ndb db.NodeDB) (*pb.Empty, error) {
		return &pb.Empty{}, f(ctx, ndb)
	})
}

// onRoot is run for methods that take a root.
func (s *service) onRoot(ctx context.Context, r *pb.RootRequest, method string, f func(context.Context, db.NodeDB, node.Root) error) (*pb.Empty, error) {
	root, err := fromRoot(r.Root)
	if err != nil {
		return nil, toStatus(err)
	}
	return s.run(ctx, r.Handle, method, func(ctx context.Context, ndb db.NodeDB) error { return f(ctx, ndb, root) })
}
