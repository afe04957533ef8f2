package plugin

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	pb "github.com/ckpt-project/ckpt/framework/plugin/proto"
)

// smallLayout has memory for two walks.
var smallLayout = sharedLayout{rings: 2, slots: 2, slotBytes: bulkFrameBytes}

// TestTurns has a backend's ring used by walks of which the host has given some up.
func TestTurns(t *testing.T) {
	m := newBackendMemory(smallLayout, make([]byte, smallLayout.bytes()))
	enter := func(index uint32, turn uint64) *backendRing {
		t.Helper()
		r, err := m.enter(index, turn)
		if err != nil {
			t.Errorf("turn %d of ring %d: %v", turn, index, err)
		}
		return r
	}
	first := enter(1, 1)
	if first == nil {
		t.Fatal("the first turn has no ring")
	}
	if other := enter(0, 1); other == nil {
		t.Error("the other ring is in use")
	}
	if enter(1, 3) != nil {
		t.Error("two walks have a ring at once")
	}
	first.leave()
	for _, late := range []uint64{0, 1, 2, 3} {
		if r, err := m.enter(1, late); r != nil || !errors.Is(err, ErrProtocol) {
			t.Errorf("turn %d comes after turn 3: %v, %v", late, r, err)
		}
	}
	if enter(1, 4) == nil {
		t.Error("a turn has no ring when the one before has ended")
	}
	for _, index := range []uint32{2, 1 << 31} {
		if _, err := m.enter(index, 1); !errors.Is(err, ErrProtocol) {
			t.Errorf("ring %d: %v", index, err)
		}
	}
	if _, err := (*backendMemory)(nil).enter(0, 1); !errors.Is(err, ErrProtocol) {
		t.Error("a ring of no memory:", err)
	}
}

// TestLending has more walks than rings, and memory that is closed under them.
func TestLending(t *testing.T) {
	unmapped := 0
	m := newHostMemory(smallLayout, make([]byte, smallLayout.bytes()), func() error { unmapped++; return nil })
	one, two := m.lend(), m.lend()
	if one == nil || two == nil || one.index == two.index || m.lend() != nil {
		t.Fatalf("lends %v and %v, and more", one, two)
	}
	turn := two.turn
	m.giveBack(two)
	if again := m.lend(); again == nil || again.index != two.index || again.turn <= turn {
		t.Errorf("lends %+v after turn %d", again, turn)
	}
	m.giveBack(two)
	m.close()
	if m.lend() != nil || unmapped != 0 {
		t.Errorf("memory in use was unmapped %d times, or lends", unmapped)
	}
	m.giveBack(one)
	m.close()
	if unmapped != 1 {
		t.Errorf("memory that nobody uses was unmapped %d times", unmapped)
	}

	var none *hostMemory
	none.close()
	if none.lend() != nil {
		t.Error("memory that isn't there lends")
	}
}

// FuzzOffer has a backend told of memory in every way.
func FuzzOffer(f *testing.F) {
	f.Add(sharedOffer{descriptor: 3, inode: 1 << 40, layout: ourLayout}.String())
	for _, text := range []string{"", "3", "3:1:4:8", "3:1:0:8:262144", "3:1:4:8:262143", "3:1:4:8:1048577", "3:1:1048576:1048576:262144", "-1:-1:-1:-1:-1", "3:1:4:8:262144:9"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		o, err := parseOffer(text)
		if err != nil {
			return
		}
		if o.layout.bytes() <= 0 || o.layout.bytes() > maxSharedBytes || o.layout.slotBytes < bulkFrameBytes {
			t.Errorf("%q: takes %+v", text, o.layout)
		}
		if again, err := parseOffer(o.String()); err != nil || again != o {
			t.Errorf("%q: %+v, and then %+v, %v", text, o, again, err)
		}
	})
}

// sharingLiar has memory in which it says there is more than can be.
type sharingLiar struct {
	pb.UnimplementedNodeDBServer
	bytes uint32
}

func (l *sharingLiar) Session(_ *pb.SessionRequest, s grpc.ServerStreamingServer[pb.SessionEvent]) error {
	if err := s.Send(&pb.SessionEvent{Minor: protocolMinor, SharedMemory: true}); err != nil {
		return err
	}
	<-s.Context().Done()
	return nil
}

func (l *sharingLiar) Open(_ context.Context, r *pb.OpenRequest) (*pb.OpenResponse, error) {
	return &pb.OpenResponse{Namespace: r.Namespace}, nil
}

func (l *sharingLiar) Close(context.Context, *pb.HandleRequest) (*pb.Empty, error) {
	return &pb.Empty{}, nil
}

func (l *sharingLiar) SharedWalk(s sharedWalkStream) error {
	for range smallLayout.slots - 1 { // so that it is about the last one
		if err := s.Send(&pb.SharedFrame{}); err != nil {
			return err
		}
	}
	return s.Send(&pb.SharedFrame{Bytes: l.bytes})
}

// TestSharingLiar walks a backend that lies about what is in a slot.
func TestSharingLiar(t *testing.T) {
	for _, n := range []uint32{bulkFrameBytes + 1, 1 << 31, 1<<32 - 1} {
		ndb, m := openSharing(t, &sharingLiar{bytes: n})
		root := node.Root{Namespace: sharingNamespace, Version: 1, Type: node.RootTypeState, Hash: hash.NewFromBytes([]byte("a"))}
		entries, failure := 0, error(nil)
		for _, err := range ndb.Walk(context.Background(), root, node.RootPosition()) {
			if failure = err; err == nil {
				entries++
			}
		}
		if !errors.Is(failure, ErrProtocol) || !strings.Contains(failure.Error(), "in a slot") || entries != 0 {
			t.Errorf("%d bytes in a slot: %d entries, %v", n, entries, failure)
		}
		if m.lent != 0 {
			t.Error("the walk has kept its ring")
		}
	}
}

var sharingNamespace = common.NewTestNamespaceFromSeed([]byte("shared memory"), 0)

// openSharing opens a database of a server that says that it shares memory.
func openSharing(t *testing.T, server pb.NodeDBServer) (db.NodeDB, *hostMemory) {
	t.Helper()
	transport := grpc.NewServer(ServerOptions()...)
	pb.RegisterNodeDBServer(transport, server)
	address := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", address)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- transport.Serve(listener) }()
	conn, err := grpc.NewClient("unix:"+address, append(DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	m := newHostMemory(smallLayout, make([]byte, smallLayout.bytes()), func() error { return nil })
	c, err := connect(context.Background(), conn, m, func() string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(context.Background()); err != nil {
			t.Error(err)
		}
		conn.Close()
		transport.Stop()
		<-served
	})
	ndb, err := c.Open(context.Background(), &db.Config{Dir: t.TempDir(), Namespace: sharingNamespace})
	if err != nil {
		t.Fatal(err)
	}
	return ndb, m
}
