package conformance

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/plugin"
	pb "github.com/ckpt-project/ckpt/framework/plugin/proto"
)

// The sizes at which something about the wire changes: a stream's first frame, the frames after it, the
// largest one, what gRPC takes if nobody says otherwise, and what a message may have.
const (
	firstFrame   = 16 << 10
	usualFrame   = 256 << 10
	largestFrame = 1 << 20
	usualMessage = 4 << 20
	maxMessage   = 64 << 20
	// restorersTag is the longest tag that a checkpoint's restorer gives a root.
	restorersTag = 1 << 20
)

// recordsAroundFrames has values just below, at and above the sizes of frames and messages.
func recordsAroundFrames(e *env) {
	ndb := e.open()
	c := content{}
	for _, size := range []int{firstFrame, usualFrame, largestFrame, usualMessage} {
		for _, off := range []int{-64, -1, 0, 1} {
			if size == usualMessage && off != 0 && off != 1 {
				continue
			}
			if n := size + off; n <= ndb.Info().MaxValueBytes {
				c[fmt.Sprintf("value of %d bytes", n)] = strings.Repeat(string(rune('a'+len(c))), n)
			}
		}
	}
	t := e.version(ndb, empty(stateType, 0), 1, c)
	e.readable(ndb, t)
	for _, entry := range t.top.Entries() {
		record, err := ndb.GetNode(e.ctx, t.root, entry.Address, entry.Position)
		if err != nil || !bytes.Equal(record, entry.Record) {
			e.Errorf("GetNode of a record of %d bytes: %d bytes, %v", len(entry.Record), len(record), err)
		}
	}
	for _, key := range c.Keys() {
		e.pathTo(ndb, t, t.top, node.Key(key))
	}
	restored := newEnv(e.trial, e.h)
	restored.restore(restored.open(), newSource(stateType, 5, c, 4))
}

// noSharedMemory is recordsAroundFrames where walks go through the connection as everything else does.
func noSharedMemory(e *env) {
	program := *e.h.Program
	program.NoSharedMemory = true
	h := program.Harness()
	h.Settings = e.h.Settings
	recordsAroundFrames(newEnv(e.trial, h))
}

// largestValue has a value as large as a message may be, and one that is larger than any may be.
func largestValue(e *env) {
	e.cfg.MaxValueBytes = maxMessage
	ndb := e.open()
	limit := ndb.Info().MaxValueBytes
	if limit > maxMessage {
		limit = maxMessage
	}
	t := e.version(ndb, empty(stateType, 0), 1, content{"largest": strings.Repeat("v", limit), "small": "one"})
	e.readable(ndb, t)

	w := e.begin(ndb, t, 2, content{"small": strings.Repeat("v", ndb.Info().MaxValueBytes+1)})
	err := w.putAll(e)
	if err == nil {
		err = w.batch.Commit(e.ctx, w.new.root, w.rootAddress())
	}
	e.is("a value beyond the limit", err, db.ErrLimitExceeded)
	e.check(w.batch.Abort(e.ctx))
	e.roots(ndb, 2)
	e.version(ndb, t, 2, content{"small": "again"})
}

// longWriteLog has a write log of many messages, with some long values.
func longWriteLog(e *env) {
	ndb := e.open()
	c := numbered(8000, "a change, and it has a value that takes some room")
	for i, n := range []int{usualFrame, largestFrame + 1, usualMessage + 1} {
		c[fmt.Sprintf("large %d", i)] = strings.Repeat("v", n)
	}
	first := e.version(ndb, empty(stateType, 0), 1, c)
	next := c.With("another", "one")
	for i := range 4000 {
		delete(next, fmt.Sprintf("key %d", 4*i*i)) // those that there are
	}
	second := e.version(ndb, first, 2, next)
	if !ndb.Info().Capabilities.WriteLogs {
		_, err := e.readLog(ndb, first.root, second.root)
		e.is("a write log that is not kept", err, db.ErrWriteLogNotFound)
		return
	}
	e.log(ndb, emptyRootOf(stateType, 1), first.root, content{}.Log(c))
	e.log(ndb, first.root, second.root, c.Log(next))
}

// longPath has a way to a key with more nodes and bytes than one message takes.
func longPath(e *env) {
	ndb := e.open()
	long := strings.Repeat("\x5a", 1200)
	c := content{}
	for n := range len(long) {
		c[long[:n+1]] = strings.Repeat("v", usualMessage/1000)
	}
	t := e.version(ndb, empty(stateType, 0), 1, c)
	e.pathTo(ndb, t, t.top, node.Key(long))
	e.pathTo(ndb, t, t.top, node.Key(long[:600]+"\x5b"))
	e.readable(ndb, t)
}

// hugeTags tells of roots with tags that don't fit into a message, one by one or together.
func hugeTags(e *env) {
	ndb := e.open()
	tag := func(n int) []byte {
		b := make([]byte, n)
		for i := 0; i+8 <= n; i += 4096 {
			binary.BigEndian.PutUint64(b[i:], uint64(i))
		}
		return b
	}
	e.check(ndb.StartMultipart(e.ctx, 5))
	state, io := unknownRootOf(stateType, 5), unknownRootOf(ioType, 5)
	e.is("a tag that no message can hold", ndb.AddMultipartRoot(e.ctx, state, 3, tag(maxMessage+1)), db.ErrLimitExceeded)
	if m := e.multipart(ndb, 5); len(m.Roots) != 0 {
		e.Errorf("a root with a tag that no message can hold was told of")
	}
	e.check(ndb.AddMultipartRoot(e.ctx, state, 3, tag(restorersTag))) // as long as those of restorers can be
	if m := e.multipart(ndb, 5); len(m.Roots) != 1 || !bytes.Equal(m.Roots[0].Tag, tag(restorersTag)) {
		e.Errorf("a tag of %d bytes is not told as it was given", restorersTag)
	}
	e.check(ndb.AbortRoot(e.ctx, state))
	for i, n := range []int{usualMessage + 1, 33 << 20} {
		root := []node.Root{state, io}[i]
		if err := ndb.AddMultipartRoot(e.ctx, root, 3, tag(n)); err != nil { // the database may take less
			e.is(fmt.Sprintf("a tag of %d bytes", n), err, db.ErrLimitExceeded)
			e.check(ndb.AddMultipartRoot(e.ctx, root, 3, nil))
			continue
		}
		if m := e.multipart(ndb, 5); len(m.Roots) != i+1 || !bytes.Equal(m.Roots[i].Tag, tag(n)) {
			e.Errorf("a tag of %d bytes is not told as it was given", n)
		}
	}
	e.check(ndb.AbortRoot(e.ctx, state))
	if err := ndb.AddMultipartRoot(e.ctx, state, 3, tag(33<<20)); err == nil {
		if _, err = ndb.Multipart(e.ctx); err != nil { // together they are too much
			e.is("tags that no message can hold", err, db.ErrLimitExceeded)
		}
	} else {
		e.is("another tag", err, db.ErrLimitExceeded)
	}
	e.check(ndb.AbortMultipart(e.ctx))
	e.noMultipart(ndb)
	e.restore(ndb, newSource(stateType, 5, newRandom(80).content(20), 2))
}

// wireDeadline is how long a call may take that has nothing to do.
const wireDeadline = 20 * time.Second

// refusedByWire fails the case where a call over the bare wire was taken, or ended otherwise than by the
// backend's saying so.
func (e *env) refusedByWire(what string, err error, want error) {
	e.Helper()
	s, ok := status.FromError(err)
	if err == nil || !ok {
		e.Errorf("%s: %v, want it refused", what, err)
		return
	}
	if s.Code() == codes.Unavailable {
		e.Errorf("%s: nobody is left to refuse it: %v", what, err)
		return
	}
	for _, d := range s.Details() {
		detail, ok := d.(*pb.ErrorDetail)
		if !ok {
			continue
		}
		if want == nil {
			return
		}
		module, code, _ := errors.Code(want)
		for _, identity := range detail.Identities {
			if identity.Module == module && identity.Code == code {
				return
			}
		}
	}
	if want != nil {
		e.Errorf("%s: error %v, want %q", what, err, want)
	}
}

// rawRoot is a root as the wire has it.
func rawRoot(r node.Root) *pb.Root {
	return &pb.Root{Namespace: r.Namespace[:], Version: r.Version, Type: uint32(r.Type), Hash: r.Hash[:]}
}

// stream is what a call gives that is answered with several messages.
type stream[T any] interface{ Recv() (*T, error) }

// ends reads a stream to its end.
func ends[T any, S stream[T]](s S, err error) error {
	for err == nil {
		_, err = s.Recv()
	}
	return err
}

// rawCalls are all calls of the wire that take a handle.
func rawCalls(rpc pb.NodeDBClient, handle uint64, r *pb.Root) map[string]func(ctx context.Context) error {
	h := &pb.HandleRequest{Handle: handle}
	v := &pb.VersionRequest{Handle: handle, Version: 1}
	root := &pb.RootRequest{Handle: handle, Root: r}
	return map[string]func(ctx context.Context) error{
		"Close":              func(ctx context.Context) error { _, err := rpc.Close(ctx, h); return err },
		"GetLatestVersion":   func(ctx context.Context) error { _, err := rpc.GetLatestVersion(ctx, h); return err },
		"GetEarliestVersion": func(ctx context.Context) error { _, err := rpc.GetEarliestVersion(ctx, h); return err },
		"GetRootsForVersion": func(ctx context.Context) error { _, err := rpc.GetRootsForVersion(ctx, v); return err },
		"HasRoot":            func(ctx context.Context) error { _, err := rpc.HasRoot(ctx, root); return err },
		"RootAddress":        func(ctx context.Context) error { _, err := rpc.RootAddress(ctx, root); return err },
		"GetNode": func(ctx context.Context) error {
			return ends(rpc.GetNode(ctx, &pb.GetNodeRequest{Handle: handle, Root: r, Address: &pb.Address{Version: 1}, Position: node.RootPosition()}))
		},
		"GetPath": func(ctx context.Context) error {
			return ends(rpc.GetPath(ctx, &pb.GetPathRequest{Handle: handle, Root: r, Address: &pb.Address{Version: 1}, Key: []byte("key")}))
		},
		"GetPaths": func(ctx context.Context) error {
			starts := []*pb.PathStart{{Address: &pb.Address{Version: 1}, Key: []byte("key")}}
			return ends(rpc.GetPaths(ctx, &pb.GetPathsRequest{Handle: handle, Root: r, Starts: starts}))
		},
		"Walk": func(ctx context.Context) error {
			return ends(rpc.Walk(ctx, &pb.WalkRequest{Handle: handle, Root: r}))
		},
		"SharedWalk": func(ctx context.Context) error {
			return sharedWalk(ctx, rpc, &pb.SharedWalkRequest{Walk: &pb.WalkRequest{Handle: handle, Root: r}})
		},
		"GetWriteLog": func(ctx context.Context) error {
			return ends(rpc.GetWriteLog(ctx, &pb.GetWriteLogRequest{Handle: handle, Start: r, End: r}))
		},
		"Finalize": func(ctx context.Context) error {
			_, err := rpc.Finalize(ctx, &pb.FinalizeRequest{Handle: handle, Roots: []*pb.Root{r}})
			return err
		},
		"Pins":  func(ctx context.Context) error { _, err := rpc.Pins(ctx, h); return err },
		"Prune": func(ctx context.Context) error { _, err := rpc.Prune(ctx, v); return err },
		"PruneBefore": func(ctx context.Context) error {
			_, err := rpc.PruneBefore(ctx, v)
			return err
		},
		"CollectGarbage": func(ctx context.Context) error { return ends(rpc.CollectGarbage(ctx, h)) },
		"StartMultipart": func(ctx context.Context) error { _, err := rpc.StartMultipart(ctx, v); return err },
		"Multipart":      func(ctx context.Context) error { _, err := rpc.Multipart(ctx, h); return err },
		"AddMultipartRoot": func(ctx context.Context) error {
			_, err := rpc.AddMultipartRoot(ctx, &pb.AddMultipartRootRequest{Handle: handle, Root: r, Chunks: 1})
			return err
		},
		"CompleteRoot":   func(ctx context.Context) error { _, err := rpc.CompleteRoot(ctx, root); return err },
		"AbortRoot":      func(ctx context.Context) error { _, err := rpc.AbortRoot(ctx, root); return err },
		"AbortMultipart": func(ctx context.Context) error { _, err := rpc.AbortMultipart(ctx, h); return err },
		"Size":           func(ctx context.Context) error { _, err := rpc.Size(ctx, h); return err },
		"Compact":        func(ctx context.Context) error { return ends(rpc.Compact(ctx, h)) },
		"Check": func(ctx context.Context) error {
			return ends(rpc.Check(ctx, &pb.CheckRequest{Handle: handle}))
		},
		"Sync": func(ctx context.Context) error { _, err := rpc.Sync(ctx, h); return err },
		"Pin": func(ctx context.Context) error {
			s, err := rpc.Pin(ctx)
			if err == nil {
				err = s.Send(&pb.PinRequest{Handle: handle, Version: 1, Owner: "a test"})
			}
			return ends(s, err)
		},
		"WriteBatch": func(ctx context.Context) error {
			begin := &pb.BeginBatch{Handle: handle, OldRoot: r, Version: 2}
			s, err := rpc.WriteBatch(ctx)
			if err == nil {
				err = s.Send(&pb.Frame{Data: item(1, marshalled(begin))})
			}
			return ends(s, err)
		},
		"WriteChunk": func(ctx context.Context) error {
			begin := &pb.BeginChunk{Handle: handle, Root: r}
			s, err := rpc.WriteChunk(ctx)
			if err == nil {
				err = s.Send(&pb.Frame{Data: item(1, marshalled(begin))})
			}
			return ends(s, err)
		},
	}
}

// sharedWalk asks for a walk through shared memory.
func sharedWalk(ctx context.Context, rpc pb.NodeDBClient, requests ...*pb.SharedWalkRequest) error {
	s, err := rpc.SharedWalk(ctx)
	for _, request := range requests {
		if err != nil || s.Send(request) != nil {
			break // the stream has ended, and says why when it is read
		}
	}
	return ends(s, err)
}

// item is an item of a frame: see the package proto.
func item(kind byte, payload []byte) []byte {
	return append(binary.AppendUvarint([]byte{kind}, uint64(len(payload))), payload...)
}

// marshalled is a message's bytes; the messages here always have some.
func marshalled(m proto.Message) []byte {
	b, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	return b
}

// madeUpHandles speaks the bare wire to a process, with handles and sessions that it never gave.
func madeUpHandles(e *env) {
	p := e.launch()
	ndb := e.openIn(p, e.cfg)
	_, second := e.twoVersions(ndb)
	rpc := pb.NewNodeDBClient(p.Conn())
	ctx, cancel := context.WithTimeout(e.ctx, wireDeadline)
	defer cancel()
	for _, handle := range []uint64{0, 1, 2, 1 << 63, 1<<64 - 1} {
		for name, do := range rawCalls(rpc, handle, rawRoot(second.root)) {
			err := do(ctx)
			if (name == "GetPaths" || name == "SharedWalk") && status.Code(err) == codes.Unimplemented {
				continue // a program that speaks an older minor version
			}
			e.refusedByWire(fmt.Sprintf("%s with handle %d, which nobody has", name, handle), err, db.ErrClosed)
		}
	}
	for _, session := range [][]byte{nil, {0}, []byte("nobody's session"), bytes.Repeat([]byte{0xff}, 1<<16)} {
		_, err := rpc.Open(ctx, &pb.OpenRequest{Session: session, Dir: e.TempDir() + "/db", Namespace: namespace[:], Handle: 77})
		e.refusedByWire(fmt.Sprintf("Open in a session of %d bytes, which nobody has", len(session)), err, db.ErrClosed)
	}
	e.unharmed(p, ndb, second)
}

// unharmed fails the case where a process, or a database in it, is not what it was.
func (e *env) unharmed(p *plugin.Process, ndb db.NodeDB, t *tree) {
	e.Helper()
	select {
	case <-p.Done():
		e.Fatalf("the process has ended")
	default:
	}
	e.versions(ndb, 1, t.root.Version)
	e.readable(ndb, t)
}

// rawDatabase opens a database over the bare wire, and returns its handle.
func (e *env) rawDatabase(ctx context.Context, rpc pb.NodeDBClient) uint64 {
	e.Helper()
	session, err := rpc.Session(ctx, &pb.SessionRequest{Host: "conformance"})
	e.check(err)
	event, err := session.Recv()
	e.check(err)
	const handle = 4711
	open := &pb.OpenRequest{Session: event.Session, Dir: e.TempDir() + "/db", Namespace: namespace[:], Handle: handle, Settings: e.cfg.Settings}
	none := proto.Clone(open).(*pb.OpenRequest)
	none.Handle = 0
	_, err = rpc.Open(ctx, none)
	e.refusedByWire("Open with handle 0", err, nil)
	_, err = rpc.Open(ctx, open)
	e.check(err)
	open.Dir = e.TempDir() + "/db"
	_, err = rpc.Open(ctx, open)
	e.refusedByWire("Open with a handle that is taken", err, nil)
	return handle
}

// malformedMessages speaks the bare wire to a process, and makes no sense.
func malformedMessages(e *env) {
	p := e.launch()
	ndb := e.openIn(p, e.cfg)
	_, second := e.twoVersions(ndb)
	rpc := pb.NewNodeDBClient(p.Conn())
	ctx, cancel := context.WithTimeout(e.ctx, wireDeadline)
	defer cancel()
	handle := e.rawDatabase(ctx, rpc)

	short := rawRoot(second.root)
	short.Hash = short.Hash[:31]
	strange := rawRoot(second.root)
	strange.Namespace = []byte("short")
	takesRoot := []string{"HasRoot", "RootAddress", "GetNode", "GetPath", "Walk", "GetWriteLog", "Finalize", "AddMultipartRoot", "CompleteRoot", "AbortRoot", "WriteBatch", "WriteChunk"}
	for what, root := range map[string]*pb.Root{"no root": nil, "a root with a short hash": short, "a root with a short namespace": strange} {
		calls := rawCalls(rpc, handle, root)
		for _, name := range takesRoot {
			e.refusedByWire(name+" with "+what, calls[name](ctx), nil)
		}
	}
	root := rawRoot(second.root)
	e.refusedByWire("GetNode at a position that is none", ends(rpc.GetNode(ctx, &pb.GetNodeRequest{
		Handle: handle, Root: root, Address: &pb.Address{Version: 1}, Position: bytes.Repeat([]byte{0xff}, 70_000),
	})), nil)
	e.refusedByWire("GetPath from beyond the key's end", ends(rpc.GetPath(ctx, &pb.GetPathRequest{
		Handle: handle, Root: root, Address: &pb.Address{Version: 1}, Key: []byte("key"), Depth: 1 << 31,
	})), nil)

	walk := &pb.WalkRequest{Handle: handle, Root: root}
	for what, first := range map[string]*pb.SharedWalkRequest{
		"nothing":                 {},
		"a ring that isn't there": {Walk: walk, Ring: 1 << 31, Turn: 1},
		"a turn that is none":     {Walk: walk},
	} {
		err := sharedWalk(ctx, rpc, first)
		if status.Code(err) == codes.Unimplemented {
			break // a program that speaks an older minor version
		}
		e.refusedByWire("SharedWalk of "+what, err, nil)
	}

	begin := item(1, marshalled(&pb.BeginBatch{Handle: handle, OldRoot: rawRoot(emptyRootOf(stateType, 0)), Version: 1}))
	long := append([]byte{4}, binary.AppendUvarint(nil, 1<<62)...)
	random := make([]byte, 300)
	for i, r := 0, newRandom(81); i < len(random); i++ {
		random[i] = byte(r.Uint32())
	}
	for what, frames := range map[string][][]byte{
		"nothing":                            {},
		"an empty frame":                     {nil},
		"an item of no kind":                 {item(0, nil)},
		"an item of an unknown kind":         {begin, item(99, nil)},
		"an item that is the backend's":      {begin, item(2, []byte{0, 0})},
		"an entry before the beginning":      {item(4, []byte{0, 0})},
		"two beginnings":                     {begin, begin},
		"a beginning that is none":           {item(1, []byte{0xff, 0xff, 0xff})},
		"an entry of no bytes":               {begin, item(4, nil)},
		"a position longer than its entry":   {begin, item(4, []byte{0, 0x7f, 1})},
		"an entry that never ends":           {begin, long, make([]byte, 1000)},
		"a length without an end":            {begin, bytes.Repeat([]byte{4, 0xff}, 10)},
		"a commit that is none":              {begin, item(9, []byte{0xff})},
		"a commit of nothing":                {begin, item(9, nil)},
		"a frame larger than frames are":     {begin, make([]byte, 2*largestFrame)},
		"a message larger than messages are": {begin, make([]byte, maxMessage+1)},
		"what makes no sense":                {random},
		"what makes no sense, after all":     {begin, append([]byte{99}, random...)},
	} {
		for name, method := range map[string]func(context.Context) (pb.NodeDB_WriteBatchClient, error){
			"WriteBatch": func(ctx context.Context) (pb.NodeDB_WriteBatchClient, error) { return rpc.WriteBatch(ctx) },
			"WriteChunk": func(ctx context.Context) (pb.NodeDB_WriteBatchClient, error) { return rpc.WriteChunk(ctx) },
		} {
			s, err := method(ctx)
			e.check(err)
			for _, frame := range frames {
				if s.Send(&pb.Frame{Data: frame}) != nil {
					break // the stream has ended, and says why when it is read
				}
			}
			_ = s.CloseSend() // nor is there anything to say here
			e.refusedByWire(name+" of "+what, ends(s, nil), nil)
		}
	}
	latest, err := rpc.GetLatestVersion(ctx, &pb.HandleRequest{Handle: handle})
	if err != nil || latest.Found {
		e.Errorf("the database that was spoken to has a version, or is gone: %v", err)
	}
	e.unharmed(p, ndb, second)
}
