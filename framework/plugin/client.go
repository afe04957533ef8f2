package plugin

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/experimental"

	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	pb "github.com/ckpt-project/ckpt/framework/plugin/proto"
)

// goneWait is how long a call that failed waits to learn whether, and how, the plugin's process ended.
const goneWait = 500 * time.Millisecond

// Client is a host's connection to a Server. It is safe for concurrent use.
type Client struct {
	rpc     pb.NodeDBClient
	session *pb.SessionEvent
	// memory is what the other side shares with this one; nil where it shares none.
	memory *hostMemory
	// exited tells, after a short wait, how the other side's process ended; "" where that isn't known.
	exited func() string

	// life ends when Close is called; the session's stream and all others hang on it.
	life  context.Context
	end   context.CancelFunc
	lost  chan struct{} // closed when the session has ended
	ended sync.WaitGroup

	mu        sync.Mutex
	databases map[*database]struct{}
	closed    bool
}

// Connect begins a session with a server over an existing gRPC connection, which stays the caller's. ctx
// bounds the wait for the server's answer; the session lasts until Close.
func Connect(ctx context.Context, conn grpc.ClientConnInterface) (*Client, error) {
	return connect(ctx, conn, nil, func() string { return "" })
}

// connect is Connect with memory that the other side may have mapped.
func connect(ctx context.Context, conn grpc.ClientConnInterface, memory *hostMemory, exited func() string) (*Client, error) {
	c := &Client{
		rpc: pb.NewNodeDBClient(withCallOptions{conn}), exited: exited,
		lost: make(chan struct{}), databases: map[*database]struct{}{},
	}
	c.life, c.end = context.WithCancel(context.Background())
	stop := context.AfterFunc(ctx, c.end)
	stream, err := c.rpc.Session(c.life, &pb.SessionRequest{Host: hostName()})
	if err == nil {
		c.session, err = stream.Recv()
	}
	if !stop() || err != nil {
		c.end()
		close(c.lost)
		if err = c.failure(ctx, err); err == nil {
			err = ctx.Err()
		}
		return nil, fmt.Errorf("plugin: beginning a session: %w", err)
	}
	if c.session.SharedMemory {
		c.memory = memory
	}
	c.ended.Go(func() {
		defer close(c.lost)
		for { // events that a later minor version may send are none of ours
			if _, err := stream.Recv(); err != nil {
				return
			}
		}
	})
	return c, nil
}

// Backend returns the kind of database that the other side has, and its version.
func (c *Client) Backend() (name, version string) { return c.session.Backend, c.session.BackendVersion }

// Lost is closed when the session has ended: the other side is gone, or Close was called.
func (c *Client) Lost() <-chan struct{} { return c.lost }

// Open opens a database at the other side. Its directory is made absolute here, where relative paths have
// a meaning; its Logger is not used: the other side's messages come with its log. What it returns stays
// usable until it is closed or the session ends.
func (c *Client) Open(ctx context.Context, cfg *db.Config) (db.NodeDB, error) {
	dir := cfg.Dir
	if dir != "" {
		absolute, err := filepath.Abs(dir)
		if err != nil {
			return nil, err
		}
		dir = absolute
	}
	if err := c.usable(); err != nil {
		return nil, err
	}
	d := &database{client: c, rpc: c.rpc, handle: rand.Uint64() | 1}
	response, err := c.rpc.Open(ctx, toOpen(c.session.Session, d.handle, dir, cfg))
	if err != nil {
		if ctx.Err() != nil {
			c.giveUp(d)
		}
		return nil, c.failure(ctx, err)
	}
	if d.info, err = fromInfo(response); err != nil {
		c.giveUp(d)
		return nil, err
	}
	d.life, d.end = context.WithCancel(c.life)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed { // and the session's end closes what was opened
		d.end()
		return nil, db.ErrClosed
	}
	c.databases[d] = struct{}{}
	return d, nil
}

// giveUp has a database closed that may have been opened though its caller does not want it any more: it
// would hold its lock as long as the session lasts.
func (c *Client) giveUp(d *database) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed { // and the session's end closes it
		return
	}
	c.ended.Go(func() {
		ctx, cancel := context.WithTimeout(c.life, abortTimeout)
		defer cancel()
		// An error says most likely that it was not opened; whatever else it says, nobody is left to know.
		_, _ = c.rpc.Close(ctx, d.request())
	})
}

// Close closes all databases that are open and ends the session. ctx bounds how long that takes.
func (c *Client) Close(ctx context.Context) error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	var open []*database
	for d := range c.databases {
		open = append(open, d)
	}
	c.mu.Unlock()

	failures := make([]error, len(open))
	var closing sync.WaitGroup
	for i, d := range open {
		closing.Go(func() {
			if err := d.Close(ctx); !errors.Is(err, db.ErrClosed) {
				failures[i] = err
			}
		})
	}
	closing.Wait()
	c.end()
	c.ended.Wait()
	return errors.Join(failures...)
}

// usable says why nothing can be asked any more.
func (c *Client) usable() error {
	select {
	case <-c.lost:
		if c.life.Err() != nil {
			return db.ErrClosed
		}
		return fmt.Errorf("%w: %s", db.ErrUnavailable, c.gone())
	default:
		return nil
	}
}

// gone says in words what became of the other side.
func (c *Client) gone() string {
	if how := c.exited(); how != "" {
		return how
	}
	select {
	case <-c.lost:
		return "the session with the plugin has ended"
	default:
		return "the connection to the plugin failed"
	}
}

// failure makes of a call's error what a NodeDB returns.
func (c *Client) failure(ctx context.Context, err error) error { return fromStatus(ctx, err, c.gone) }

// forget takes a closed database off the list.
func (c *Client) forget(d *database) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.databases, d)
}

// DialOptions are the options that suit a connection to a Server; a connection without them works, too.
func DialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithDisableRetry(),
		grpc.WithInitialWindowSize(streamWindow),
		grpc.WithInitialConnWindowSize(connectionWindow),
		grpc.WithReadBufferSize(readBuffer),
		grpc.WithWriteBufferSize(writeBuffer),
		experimental.WithBufferPool(framePool),
	}
}

// What gRPC reads ahead of those who take it, and hands to the kernel and takes from it at once. With windows
// of a fixed size it does not measure the connection all the time, and says less often that it can take
// more; they bound what it holds in memory.
const (
	streamWindow     = 1 << 20
	connectionWindow = 4 << 20
	readBuffer       = 128 << 10
	writeBuffer      = 64 << 10
)

// withCallOptions adds to each call the limits and the codec that the service needs.
type withCallOptions struct{ grpc.ClientConnInterface }

var callOptions = []grpc.CallOption{
	grpc.MaxCallRecvMsgSize(maxMessageBytes),
	grpc.MaxCallSendMsgSize(maxMessageBytes),
	grpc.ForceCodecV2(codec),
}

func (c withCallOptions) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	return c.ClientConnInterface.Invoke(ctx, method, args, reply, append(opts, callOptions...)...)
}

func (c withCallOptions) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return c.ClientConnInterface.NewStream(ctx, desc, method, append(opts, callOptions...)...)
}
