package plugin_test

import (
	"context"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/plugin"
	pb "github.com/ckpt-project/ckpt/framework/plugin/proto"
)

// The service without a launched process: on any gRPC server, from any connection, and from hosts that
// don't keep to the protocol.

// serve runs a server in this process and returns its address.
func serve(t *testing.T, options ...grpc.ServerOption) string {
	t.Helper()
	return serveFactory(t, fakeFactory{"fake"}, options...)
}

// serveFactory is serve for another backend.
func serveFactory(t *testing.T, factory db.Factory, options ...grpc.ServerOption) string {
	t.Helper()
	server := plugin.NewServer(plugin.ServeOptions{Factory: factory, Version: "1"})
	transport := grpc.NewServer(options...)
	server.Register(transport)
	address := filepath.Join(runDir(t), "s")
	listener, err := net.Listen("unix", address)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- transport.Serve(listener) }()
	t.Cleanup(func() {
		transport.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if err := server.Close(testContext(t)); err != nil {
			t.Error(err)
		}
	})
	return address
}

func dial(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("unix:"+address, append(plugin.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func connect(t *testing.T, conn grpc.ClientConnInterface) *plugin.Client {
	t.Helper()
	c, err := plugin.Connect(testContext(t), conn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(testContext(t)) })
	return c
}

func openAt(t *testing.T, c *plugin.Client, dir string) db.NodeDB {
	t.Helper()
	ndb, err := c.Open(testContext(t), &db.Config{Dir: dir, Namespace: testNamespace})
	if err != nil {
		t.Fatal(err)
	}
	return ndb
}

// TestAnyServer has bulk data go through a server with our options and through one without, which then
// uses gRPC's own codec: the bytes on the wire are the same.
func TestAnyServer(t *testing.T) {
	for name, options := range map[string][]grpc.ServerOption{"ours": plugin.ServerOptions(), "plain": nil} {
		t.Run(name, func(t *testing.T) {
			ctx := testContext(t)
			ndb := openAt(t, connect(t, dial(t, serve(t, options...))), t.TempDir())
			i := -1
			for e, err := range ndb.Walk(ctx, fakeRoot(3000, "a"), node.RootPosition()) {
				if err != nil {
					t.Fatal(err)
				}
				if i >= 0 {
					requireEntry(t, uint64(i), e)
				}
				i++
			}
			b, err := ndb.NewBatch(ctx, fakeRoot(4, "old"), 5)
			if err != nil {
				t.Fatal(err)
			}
			want := newDigest()
			for i := range uint64(3000) {
				e := fakeEntry(i, entrySize(i))
				want.add("put", e.Position, e.Record)
				if err := b.Put(ctx, e.Position, e.Record); err != nil {
					t.Fatal(err)
				}
			}
			want.add("commit", []byte(node.Address{}.String()))
			root := fakeRoot(5, "")
			root.Hash = want.sum()
			if err := b.Commit(ctx, root, node.Address{}); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestSessionsAreApart has two hosts at one server: the end of one's connection closes what is its own.
func TestSessionsAreApart(t *testing.T) {
	ctx := testContext(t)
	address := serve(t, plugin.ServerOptions()...)
	conn := dial(t, address)
	one, other := connect(t, conn), connect(t, dial(t, address))
	dir := t.TempDir()
	a, b := openAt(t, one, dir), openAt(t, other, t.TempDir())
	if _, err := b.Pin(ctx, 3, "b"); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	select {
	case <-one.Lost():
	case <-ctx.Done():
		t.Fatal("the session goes on")
	}
	if _, err := a.Size(ctx); !errors.Is(err, db.ErrUnavailable) {
		t.Error(err)
	}
	eventually(t, "its database is closed", func() bool { return exists(filepath.Join(dir, "closed")) })
	if pins, err := b.Pins(ctx); err != nil || len(pins) != 1 {
		t.Error("the other's pins:", pins, err)
	}
}

func exists(path string) bool {
	matches, err := filepath.Glob(path)
	return err == nil && len(matches) == 1
}

// TestPinEndsWithSession: a pin's owner is its host's session.
func TestPinEndsWithSession(t *testing.T) {
	ctx := testContext(t)
	conn := dial(t, serve(t, plugin.ServerOptions()...))
	raw := pb.NewNodeDBClient(conn)
	handle := rawOpen(t, raw)
	pinCtx, cancel := context.WithCancel(ctx)
	pin, err := raw.Pin(pinCtx)
	if err != nil {
		t.Fatal(err)
	}
	if err := pin.Send(&pb.PinRequest{Handle: handle, Version: 4}); err != nil {
		t.Fatal(err)
	}
	if _, err := pin.Recv(); err != nil {
		t.Fatal(err)
	}
	pins := func() int {
		r, err := raw.Pins(ctx, &pb.HandleRequest{Handle: handle})
		if err != nil {
			t.Fatal(err)
		}
		return len(r.Pins)
	}
	if n := pins(); n != 1 {
		t.Fatal(n, "pins")
	}
	cancel()
	eventually(t, "the pin is released", func() bool { return pins() == 0 })
}

// rawOpen begins a session and opens a database as a foreign host would.
func rawOpen(t *testing.T, raw pb.NodeDBClient) uint64 {
	t.Helper()
	session, err := raw.Session(testContext(t), &pb.SessionRequest{Host: "foreign"})
	if err != nil {
		t.Fatal(err)
	}
	event, err := session.Recv()
	if err != nil {
		t.Fatal(err)
	}
	const handle = 1234
	for _, taken := range []bool{false, true} {
		_, err = raw.Open(testContext(t), &pb.OpenRequest{Session: event.Session, Handle: handle, Namespace: testNamespace[:]})
		if !taken && err != nil {
			t.Fatal(err)
		}
	}
	requireError(t, err, plugin.ModuleName, codeProtocol)
	return handle
}

// requireError checks that an error is the backend's own and has this identity.
func requireError(t *testing.T, err error, module string, code uint32) {
	t.Helper()
	for _, d := range status.Convert(err).Details() {
		if detail, ok := d.(*pb.ErrorDetail); ok {
			for _, identity := range detail.Identities {
				if identity.Module == module && identity.Code == code {
					return
				}
			}
		}
	}
	t.Errorf("not %s %d: %v", module, code, err)
}

const (
	codeProtocol = 3
	codeClosed   = 101
	codeSettings = 112
)

// TestForeignHosts has hosts that break the protocol: each gets an error, and nothing is left of it.
func TestForeignHosts(t *testing.T) {
	ctx := testContext(t)
	conn := dial(t, serve(t, plugin.ServerOptions()...))
	raw := pb.NewNodeDBClient(conn)
	handle := rawOpen(t, raw)

	t.Run("no session", func(t *testing.T) {
		_, err := raw.Open(ctx, &pb.OpenRequest{Session: []byte("guess"), Namespace: testNamespace[:]})
		requireError(t, err, db.ModuleName, codeClosed)
	})
	t.Run("bad config", func(t *testing.T) {
		_, err := raw.Open(ctx, &pb.OpenRequest{Namespace: []byte("short")})
		requireError(t, err, plugin.ModuleName, codeProtocol)
		_, err = raw.Open(ctx, &pb.OpenRequest{Namespace: testNamespace[:], MaxValueBytes: 1 << 40})
		requireError(t, err, db.ModuleName, codeSettings)
	})
	t.Run("no such handle", func(t *testing.T) {
		_, err := raw.GetLatestVersion(ctx, &pb.HandleRequest{Handle: handle + 1})
		requireError(t, err, db.ModuleName, codeClosed)
		_, err = raw.Close(ctx, &pb.HandleRequest{Handle: handle + 1})
		requireError(t, err, db.ModuleName, codeClosed)
		pin, err := raw.Pin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := pin.Send(&pb.PinRequest{Handle: handle + 1}); err != nil {
			t.Fatal(err)
		}
		_, err = pin.Recv()
		requireError(t, err, db.ModuleName, codeClosed)
	})
	t.Run("no root", func(t *testing.T) {
		_, err := raw.HasRoot(ctx, &pb.RootRequest{Handle: handle})
		requireError(t, err, plugin.ModuleName, codeProtocol)
		_, err = raw.HasRoot(ctx, &pb.RootRequest{Handle: handle, Root: &pb.Root{Namespace: testNamespace[:], Hash: []byte("short")}})
		requireError(t, err, plugin.ModuleName, codeProtocol)
		walk, err := raw.Walk(ctx, &pb.WalkRequest{Handle: handle})
		if err != nil {
			t.Fatal(err)
		}
		_, err = walk.Recv()
		requireError(t, err, plugin.ModuleName, codeProtocol)
	})
	t.Run("path beyond its key", func(t *testing.T) {
		root := fakeRoot(1, "a")
		path, err := raw.GetPath(ctx, &pb.GetPathRequest{
			Handle: handle, Key: []byte("k"), Depth: 9,
			Root: &pb.Root{Namespace: root.Namespace[:], Version: 1, Type: 1, Hash: root.Hash[:]},
		})
		if err != nil {
			t.Fatal(err)
		}
		_, err = path.Recv()
		requireError(t, err, db.ModuleName, 113)
		paths, err := raw.GetPaths(ctx, &pb.GetPathsRequest{
			Handle: handle, Starts: []*pb.PathStart{{Key: []byte("k")}, {Key: []byte("k"), Depth: 9}},
			Root: &pb.Root{Namespace: root.Namespace[:], Version: 1, Type: 1, Hash: root.Hash[:]},
		})
		if err != nil {
			t.Fatal(err)
		}
		_, err = paths.Recv()
		requireError(t, err, db.ModuleName, 113)
	})

	root := fakeRoot(1, "a")
	begin := "\x01" + string(rawMessage(t, &pb.BeginBatch{
		Handle: handle, Version: 2, OldRoot: &pb.Root{Namespace: root.Namespace[:], Version: 1, Type: 1, Hash: root.Hash[:]},
	}))
	for name, frames := range map[string][]string{
		"nothing":                 {},
		"an empty frame":          {""},
		"no begin":                {"\x05\x00"},
		"begin of nonsense":       {"\x01\x03abc"},
		"a begin that is too big": {"\x01\xff\xff\x7f"},
		"no commit":               {begin},
		"two begins":              {begin, begin},
		"unknown item":            {begin, "\x63\x00"},
		"put without position":    {begin, "\x04\x00"},
		"put with unknown flags":  {begin, "\x04\x03\xf0\x01\x00"},
		"commit of nonsense":      {begin, "\x09\x03abc"},
		"commit without root":     {begin, "\x09\x00"},
		"item cut short":          {begin, "\x04\x7fabc"},
		"frame that is too big":   {begin, strings.Repeat("x", 1<<20+1)},
	} {
		t.Run("batch/"+name, func(t *testing.T) {
			stream, err := raw.WriteBatch(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, data := range frames {
				if err := stream.Send(&pb.Frame{Data: []byte(data)}); err != nil && err != io.EOF {
					t.Fatal(err)
				}
			}
			if err := stream.CloseSend(); err != nil {
				t.Fatal(err)
			}
			for err == nil {
				_, err = stream.Recv()
			}
			requireError(t, err, plugin.ModuleName, codeProtocol)
		})
	}
	t.Run("batch/cut", func(t *testing.T) {
		streamCtx, cancel := context.WithCancel(ctx)
		stream, err := raw.WriteBatch(streamCtx)
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(&pb.Frame{Data: []byte(begin)}); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
		cancel()
	})
	eventually(t, "nothing is left", func() bool {
		size, err := raw.Size(ctx, &pb.HandleRequest{Handle: handle})
		if err != nil {
			t.Fatal(err)
		}
		return size.File == 0 && size.Live == 0
	})
}

// TestForeignServer connects to servers that are no backends.
func TestForeignServer(t *testing.T) {
	transport := grpc.NewServer()
	address := filepath.Join(runDir(t), "s")
	listener, err := net.Listen("unix", address)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- transport.Serve(listener) }()
	defer func() {
		transport.Stop()
		<-served
	}()
	if _, err := plugin.Connect(testContext(t), dial(t, address)); !errors.Is(err, db.ErrUnsupported) {
		t.Error("another service:", err)
	}
	if _, err := plugin.Connect(testContext(t), dial(t, address+"-not-there")); !errors.Is(err, db.ErrUnavailable) {
		t.Error("nobody there:", err)
	}
	mute, err := net.Listen("unix", address+"m")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	if _, err := plugin.Connect(within(t, 100*time.Millisecond), dial(t, address+"m")); !errors.Is(err, context.DeadlineExceeded) {
		t.Error("nobody answers:", err)
	}
}

// TestServerOfLies connects to a backend that answers nonsense: errors, no panics, no wrong answers.
func TestServerOfLies(t *testing.T) {
	transport := grpc.NewServer()
	pb.RegisterNodeDBServer(transport, liar{})
	address := filepath.Join(runDir(t), "s")
	listener, err := net.Listen("unix", address)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- transport.Serve(listener) }()
	defer func() {
		transport.Stop()
		<-served
	}()
	ctx := testContext(t)
	c, err := plugin.Connect(ctx, dial(t, address))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(ctx)
	if _, err := c.Open(ctx, &db.Config{Dir: "no info"}); !errors.Is(err, plugin.ErrProtocol) {
		t.Error("open:", err)
	}
	ndb := openAt(t, c, "x")
	root := fakeRoot(1, "a")
	if _, err := ndb.GetRootsForVersion(ctx, 1); !errors.Is(err, plugin.ErrProtocol) {
		t.Error("roots:", err)
	}
	if _, err := ndb.GetNode(ctx, root, node.Address{}, node.RootPosition()); !errors.Is(err, plugin.ErrProtocol) {
		t.Error("node:", err)
	}
	if _, err := ndb.GetPath(ctx, root, node.Address{}, 0, nil); !errors.Is(err, plugin.ErrProtocol) {
		t.Error("path:", err)
	}
	// It speaks an older minor version, and is asked for path by path.
	if _, err := db.Collect(db.GetPaths(ctx, ndb, root, make([]db.PathStart, 2))); !errors.Is(err, plugin.ErrProtocol) {
		t.Error("paths:", err)
	}
	for _, err := range ndb.Walk(ctx, root, node.RootPosition()) {
		if !errors.Is(err, plugin.ErrProtocol) {
			t.Error("walk:", err)
		}
	}
	if _, err := ndb.NewBatch(ctx, root, 2); !errors.Is(err, plugin.ErrProtocol) {
		t.Error("batch:", err)
	}
	if _, err := ndb.Multipart(ctx); !errors.Is(err, plugin.ErrProtocol) {
		t.Error("multipart:", err)
	}
	if err := ndb.Sync(ctx); !errors.Is(err, db.ErrUnsupported) {
		t.Error("sync:", err)
	}
	if err := ndb.Prune(ctx, 1); !errors.Is(err, db.ErrUnavailable) {
		t.Error("prune:", err)
	}
}

type liar struct{ pb.UnimplementedNodeDBServer }

func (liar) Session(_ *pb.SessionRequest, s grpc.ServerStreamingServer[pb.SessionEvent]) error {
	if err := s.Send(&pb.SessionEvent{}); err != nil {
		return err
	}
	<-s.Context().Done()
	return nil
}

func (liar) Open(_ context.Context, r *pb.OpenRequest) (*pb.OpenResponse, error) {
	if strings.HasSuffix(r.Dir, "no info") {
		return &pb.OpenResponse{}, nil
	}
	return &pb.OpenResponse{Namespace: r.Namespace}, nil
}

func (liar) Close(context.Context, *pb.HandleRequest) (*pb.Empty, error) { return &pb.Empty{}, nil }

func (liar) GetRootsForVersion(context.Context, *pb.VersionRequest) (*pb.RootsResponse, error) {
	return &pb.RootsResponse{Roots: []*pb.Root{{Hash: []byte("short")}}}, nil
}

func (liar) GetNode(*pb.GetNodeRequest, grpc.ServerStreamingServer[pb.Frame]) error { return nil }

func (liar) GetPath(_ *pb.GetPathRequest, s grpc.ServerStreamingServer[pb.Frame]) error {
	return s.Send(&pb.Frame{Data: []byte("\x07\x00")})
}

func (liar) Walk(_ *pb.WalkRequest, s grpc.ServerStreamingServer[pb.Frame]) error {
	return s.Send(&pb.Frame{Data: []byte("\x03\x03\x00\x00\x7f")})
}

func (liar) WriteBatch(s grpc.BidiStreamingServer[pb.Frame, pb.Frame]) error {
	return s.Send(&pb.Frame{Data: []byte("\x02\x00")})
}

func (liar) Multipart(context.Context, *pb.HandleRequest) (*pb.MultipartResponse, error) {
	return &pb.MultipartResponse{Open: true, Roots: []*pb.MultipartRoot{{Root: &pb.Root{}}}}, nil
}

func (liar) Prune(context.Context, *pb.VersionRequest) (*pb.Empty, error) {
	return nil, status.Error(codes.Internal, "no detail")
}
