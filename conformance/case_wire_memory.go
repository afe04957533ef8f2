package conformance

import (
	"context"
	"fmt"
	"io"
	"strings"

	"google.golang.org/grpc"

	"github.com/ckpt-project/ckpt/framework/plugin"
	pb "github.com/ckpt-project/ckpt/framework/plugin/proto"
)

// handleSeen is a connection that knows the handle of the last database that was opened through it.
type handleSeen struct {
	grpc.ClientConnInterface
	handle uint64
}

func (c *handleSeen) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	if r, ok := args.(*pb.OpenRequest); ok {
		c.handle = r.Handle
	}
	return c.ClientConnInterface.Invoke(ctx, method, args, reply, opts...)
}

// ringsAndTurns speaks the bare wire to a process, as a host does that has cancelled walks and uses their rings for
// others.
func ringsAndTurns(e *env) {
	p := e.launch()
	conn := &handleSeen{ClientConnInterface: p.Conn()}
	client, err := plugin.Connect(e.ctx, conn)
	e.check(err)
	ctx, cancel := context.WithTimeout(e.ctx, wireDeadline)
	defer cancel() // and with it a session, at whose end a process ends
	defer func() {
		if err := client.Close(ctx); err != nil {
			e.Errorf("close: %v", err)
		}
	}()
	ndb, err := client.Open(e.ctx, &e.cfg)
	e.check(err)
	c, size := content{}, 0
	for size < 4*ringBytes { // so that a walk whose frames nobody takes stays where it is
		value := strings.Repeat("v", min(128<<10, ndb.Info().MaxValueBytes))
		c[fmt.Sprintf("key %d", len(c))] = value
		size += len(value)
	}
	t := e.version(ndb, empty(stateType, 0), 1, c)

	rpc := pb.NewNodeDBClient(p.Conn())
	session, err := rpc.Session(ctx, &pb.SessionRequest{Host: "conformance"})
	e.check(err)
	event, err := session.Recv()
	e.check(err)
	walk := &pb.WalkRequest{Handle: conn.handle, Root: rawRoot(t.root)}
	begin := func(ctx context.Context, ring uint32, turn uint64) pb.NodeDB_SharedWalkClient {
		e.Helper()
		s, err := rpc.SharedWalk(ctx)
		e.check(err)
		// Who knows no such call ends it before it has come: that is told when it is read.
		if err := s.Send(&pb.SharedWalkRequest{Walk: walk, Ring: ring, Turn: turn}); err != io.EOF {
			e.check(err)
		}
		return s
	}

	walks, cancelWalks := context.WithCancel(ctx)
	defer cancelWalks()
	if !event.SharedMemory { // nobody has to
		e.Logf("the program shares no memory")
		_, err := begin(walks, 1, 1).Recv()
		e.refusedByWire("a walk through memory that is not shared", err, nil)
		e.readable(ndb, t)
		return
	}

	// The first walk has the ring as long as it goes on, which it does when nobody takes anything.
	firstCtx, cancelFirst := context.WithCancel(walks)
	defer cancelFirst()
	frame, err := begin(firstCtx, 1, 5).Recv()
	e.check(err)
	if frame.Bytes == 0 {
		e.Errorf("a walk whose ring is free does not use it")
	}
	got := 0
	for second := begin(walks, 1, 6); ; got += len(frame.Data) {
		if frame, err = second.Recv(); err != nil {
			break
		}
		if frame.Bytes > 0 {
			e.Fatalf("two walks use a ring at once")
		}
	}
	if err != io.EOF || got < size {
		e.Errorf("a walk whose ring another one uses ends after %d bytes of at least %d: %v", got, size, err)
	}
	cancelFirst()
	for _, turn := range []uint64{0, 4, 5, 6} {
		_, err := begin(walks, 1, turn).Recv()
		e.refusedByWire(fmt.Sprintf("turn %d after turn 6", turn), err, nil)
	}

	e.refusedByWire("a host that takes more than there is", sharedWalk(walks, rpc,
		&pb.SharedWalkRequest{Walk: walk, Ring: 2, Turn: 1}, &pb.SharedWalkRequest{Taken: 1 << 31}), nil)
	over := begin(walks, 3, 1)
	e.check(over.CloseSend())
	e.refusedByWire("a host that takes no more", ends(over, nil), nil)

	got = 0
	for sound := begin(walks, 0, 1); ; {
		if frame, err = sound.Recv(); err != nil {
			break
		}
		got += int(frame.Bytes)
		_ = sound.Send(&pb.SharedWalkRequest{Taken: 1}) // an error says that the stream has ended: it is told next
	}
	if err != io.EOF || got < size {
		e.Errorf("a walk ends after %d bytes of at least %d: %v", got, size, err)
	}
	e.readable(ndb, t)
}

// ringBytes is how much of a walk a host takes into memory that it shares.
const ringBytes = 2 << 20
