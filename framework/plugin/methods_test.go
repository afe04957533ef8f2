package plugin_test

import (
	"context"
	"fmt"
	"io"
	"iter"
	"reflect"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/writelog"
	"github.com/ckpt-project/ckpt/framework/plugin"
)

// Every method through a real process: what goes in comes out at the backend, and the other way round.

func TestInfo(t *testing.T) {
	p := launch(t, "fake")
	if name, version := p.Backend(); name != "fake" || version != "1.0-test" {
		t.Errorf("backend %q, version %q", name, version)
	}
	ndb := open(t, p, func(c *db.Config) {
		c.ReadOnly, c.DiscardWriteLogs, c.MaxKeyBytes, c.MaxValueBytes = true, true, 100, 1000
		c.Settings = []byte(`{"close_millis": 1}`)
	})
	want := db.Info{
		Backend: "fake", BackendVersion: "1.2.3", Namespace: testNamespace, MaxKeyBytes: 100, MaxValueBytes: 1000,
		EmbedBytes: db.DefaultEmbedBytes, Amplification: 1.25, Capabilities: db.Capabilities{ReadOnly: true, Compact: true},
	}
	if got := ndb.Info(); got != want {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestControl(t *testing.T) {
	ctx, ndb := testContext(t), openFake(t)
	if version, found, err := ndb.GetLatestVersion(ctx); version != 1<<63 || !found || err != nil {
		t.Error("latest:", version, found, err)
	}
	if _, found, err := ndb.GetEarliestVersion(ctx); found || err != nil {
		t.Error("earliest:", found, err)
	}
	if roots, err := ndb.GetRootsForVersion(ctx, 3); err != nil || len(roots) != 3 || roots[2] != fakeRoot(3, "2") {
		t.Error("roots:", roots, err)
	}
	if roots, err := ndb.GetRootsForVersion(ctx, 0); err != nil || roots != nil {
		t.Error("no roots:", roots, err)
	}
	if found, err := ndb.HasRoot(ctx, fakeRoot(0, "a")); !found || err != nil {
		t.Error("has:", found, err)
	}
	if a, err := ndb.RootAddress(ctx, fakeRoot(7, "a")); a != (node.Address{Version: 7, Candidate: 1}) || err != nil {
		t.Error("address:", a, err)
	}
	if err := ndb.Finalize(ctx, []node.Root{fakeRoot(5, "a"), fakeRoot(5, "b")}); err != nil {
		t.Error("finalize:", err)
	}
	if err := ndb.Prune(ctx, 3); err != nil {
		t.Error("prune:", err)
	}
	if err := ndb.Prune(ctx, 4); !errors.Is(err, db.ErrNotEarliest) {
		t.Error("prune another:", err)
	}
	if n, err := ndb.PruneBefore(ctx, 3); n != 2 || err != nil {
		t.Error("prune before:", n, err)
	}
	if n, err := ndb.PruneBefore(ctx, 4); n != 0 || !errors.Is(err, db.ErrVersionPinned) {
		t.Error("prune before another:", n, err)
	}
	var collected [][2]int64
	if err := ndb.CollectGarbage(ctx, func(done, total int64) { collected = append(collected, [2]int64{done, total}) }); err != nil ||
		len(collected) == 0 || collected[len(collected)-1] != [2]int64{7, 7} {
		t.Error("collect:", err, collected)
	}
	if err := ndb.CollectGarbage(ctx, nil); err != nil {
		t.Error("collect without progress:", err)
	}
	if r, err := ndb.Check(ctx, db.CheckOptions{}); r != nil || !errors.Is(err, db.ErrUnsupported) {
		t.Error("check of everything:", r, err)
	}
	version, told := uint64(1), false
	report, err := ndb.Check(ctx, db.CheckOptions{Version: &version, Progress: func(done, total int64) { told = true }})
	want := &db.CheckReport{
		Versions: 1, Roots: 2, Records: 3, Bytes: 4, Nodes: 5, Entries: 6, Unreachable: 7, Damaged: 8,
		Problems: []*db.CorruptedError{{Version: 9, Position: node.RootPosition(), Reason: "a node"}, {Version: 10, Reason: "a list"}},
	}
	if err != nil || !told || !reflect.DeepEqual(report, want) {
		t.Errorf("check: %+v (%v), want %+v; progress told: %v", report, err, want, told)
	}
	if err := ndb.CompleteRoot(ctx, fakeRoot(1, "complete")); err != nil {
		t.Error("complete:", err)
	}
	if err := ndb.AbortRoot(ctx, fakeRoot(1, "abort")); err != nil {
		t.Error("abort root:", err)
	}
	if err := ndb.Sync(ctx); err == nil || !strings.Contains(err.Error(), io.ErrUnexpectedEOF.Error()) || errors.Is(err, db.ErrUnavailable) {
		t.Error("sync:", err)
	}
	var last [2]int64
	calls := 0
	if err := ndb.Compact(ctx, func(done, total int64) { last, calls = [2]int64{done, total}, calls+1 }); err != nil || calls == 0 || last != [2]int64{100_000, 100_000} {
		t.Error("compact:", err, calls, last)
	}
	if err := ndb.Compact(ctx, nil); err != nil {
		t.Error("compact without progress:", err)
	}
}

func TestMultipartState(t *testing.T) {
	ctx, ndb := testContext(t), openFake(t)
	if m, err := ndb.Multipart(ctx); m != nil || err != nil {
		t.Fatal("none open:", m, err)
	}
	if err := ndb.StartMultipart(ctx, 9); err != nil {
		t.Fatal(err)
	}
	tag := pattern(1, 5<<20) // more than gRPC's own limit of 4 MiB
	if err := ndb.AddMultipartRoot(ctx, fakeRoot(9, "a"), 1, tag); err != nil {
		t.Fatal(err)
	}
	if err := ndb.AddMultipartRoot(ctx, fakeRoot(9, "b"), 12, nil); err != nil {
		t.Fatal(err)
	}
	done := []uint64{0, 1, 2, 5, 9, 10}
	want := &db.Multipart{Version: 9, Roots: []db.MultipartRoot{
		{Root: fakeRoot(9, "a"), Chunks: 1, Tag: tag, Done: done, Complete: true},
		{Root: fakeRoot(9, "b"), Chunks: 12, Done: done},
	}}
	if got, err := ndb.Multipart(ctx); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %.200v, %v", got, err)
	}
	if err := ndb.AbortMultipart(ctx); err != nil {
		t.Fatal(err)
	}
	if m, err := ndb.Multipart(ctx); m != nil || err != nil {
		t.Error("after abort:", m, err)
	}
}

func TestNodes(t *testing.T) {
	ctx, ndb := testContext(t), openFake(t)
	root := fakeRoot(1, "a")
	for _, size := range []uint64{1, 100, 16 << 10, 256<<10 - 20, 256 << 10, 1 << 20, 1<<20 + 1, 64 << 20} {
		record, err := ndb.GetNode(ctx, root, node.Address{Version: size, Candidate: 65535}, node.RootPosition())
		if err != nil || string(record) != string(pattern(65535, size)) {
			t.Fatalf("node of %d bytes: %d bytes, %v", size, len(record), err)
		}
	}
	if _, err := ndb.GetNode(ctx, root, node.Address{}, node.RootPosition()); !errors.Is(err, db.ErrNodeNotFound) {
		t.Error("no node:", err)
	}

	key := node.Key(pattern(3, node.MaxKeyBytes))
	address := node.Address{Version: 2500, Candidate: 7}
	entries, err := ndb.GetPath(ctx, root, address, 9, key)
	if err != nil || len(entries) != 2501 {
		t.Fatal("path:", len(entries), err)
	}
	first := db.Entry{Address: address, Position: node.NewPosition(key, 9), Record: key}
	if !reflect.DeepEqual(entries[0], first) {
		t.Errorf("path begins with %v", entries[0])
	}
	for i, e := range entries[1:] {
		requireEntry(t, uint64(i), e)
	}
}

// Many paths come in one call, in the order in which they were asked for.
func TestPaths(t *testing.T) {
	ctx, ndb := testContext(t), openFake(t)
	root := fakeRoot(1, "a")
	if entries, err := db.Collect(db.GetPaths(ctx, ndb, root, nil)); len(entries) != 0 || err != nil {
		t.Error("no paths:", entries, err)
	}
	var starts []db.PathStart
	var want []db.Entry
	for i := range uint64(300) {
		s := db.PathStart{Address: node.Address{Version: i % 5, Candidate: 7}, Depth: node.Depth(i % 9), Key: node.Key(pattern(i, 2+i))}
		starts = append(starts, s)
		want = append(want, db.Entry{Address: s.Address, Position: node.NewPosition(s.Key, s.Depth), Record: s.Key})
		for j := range s.Address.Version {
			want = append(want, fakeEntry(j, entrySize(j)))
		}
	}
	got, err := db.Collect(db.GetPaths(ctx, ndb, root, starts))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%d entries, want %d; %v", len(got), len(want), err)
	}
	if _, isReader := ndb.(db.PathsReader); !isReader {
		t.Error("paths are read one by one")
	}
}

// longPaths opens databases whose paths are one entry each, of a megabyte.
type longPaths struct {
	fakeFactory
	read  atomic.Int64
	ended chan struct{} // closed when a call for many has ended
}

func (f *longPaths) New(ctx context.Context, cfg *db.Config) (db.NodeDB, error) {
	ndb, err := f.fakeFactory.New(ctx, cfg)
	return &longPathsDB{ndb, f}, err
}

type longPathsDB struct {
	db.NodeDB
	f *longPaths
}

func (d *longPathsDB) GetPaths(_ context.Context, _ node.Root, starts []db.PathStart) iter.Seq2[db.Entry, error] {
	return func(yield func(db.Entry, error) bool) {
		defer close(d.f.ended)
		for i := range starts {
			d.f.read.Add(1)
			if !yield(fakeEntry(uint64(i), 1<<20), nil) {
				return
			}
		}
	}
}

// Many paths are sent as they are read: where the host does not take them, no more are read.
func TestPathsAreNotGathered(t *testing.T) {
	f := &longPaths{fakeFactory: fakeFactory{"fake"}, ended: make(chan struct{})}
	c := connect(t, dial(t, serveFactory(t, f)))
	ndb := openAt(t, c, "x")
	const n = 256
	taken := 0
	for e, err := range db.GetPaths(testContext(t), ndb, fakeRoot(1, "a"), make([]db.PathStart, n)) {
		if err != nil {
			t.Fatal(err)
		}
		if len(e.Record) != 1<<20 {
			t.Errorf("a record of %d bytes", len(e.Record))
		}
		if taken++; taken == 2 {
			break
		}
	}
	<-f.ended
	if read := f.read.Load(); read >= n {
		t.Errorf("%d of %d paths were read for a host that took %d", read, n, taken)
	}
}

func requireEntry(t *testing.T, i uint64, e db.Entry) {
	t.Helper()
	want := fakeEntry(i, entrySize(i))
	if e.Address != want.Address || string(e.Position) != string(want.Position) || string(e.Record) != string(want.Record) {
		t.Fatalf("entry %d: %v %v, %d bytes", i, e.Address, e.Position, len(e.Record))
	}
}

func TestWalk(t *testing.T) {
	ctx, ndb := testContext(t), openFake(t)
	const n = 20_000
	from := node.NewPosition(node.Key{0xab}, 5)
	i := -1
	for e, err := range ndb.Walk(ctx, fakeRoot(n, "a"), from) {
		if err != nil {
			t.Fatal(err)
		}
		if i < 0 {
			if string(e.Position) != string(from) {
				t.Errorf("walks from %s", e.Position)
			}
		} else {
			requireEntry(t, uint64(i), e)
		}
		i++
	}
	if i != n {
		t.Errorf("%d entries, want %d", i, n)
	}

	// What comes before an error is seen, and the error is the last.
	root := fakeRoot(100, "a")
	root.Type = node.RootTypeIO
	seen, failed := 0, error(nil)
	for _, err := range ndb.Walk(ctx, root, from) {
		if failed != nil {
			t.Fatal("goes on after", failed)
		}
		if failed = err; err == nil {
			seen++
		}
	}
	var corrupted *db.CorruptedError
	if seen != 101 || !errors.As(failed, &corrupted) || corrupted.Version != 100 {
		t.Error("walk into damage:", seen, failed)
	}
}

func TestWalkLeftEarly(t *testing.T) {
	ctx, ndb := testContext(t), openFake(t)
	for range 50 {
		for _, err := range ndb.Walk(ctx, fakeRoot(1<<40, "a"), node.RootPosition()) {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	requireIdle(t, ndb)
}

// requireIdle waits until nothing runs in the fake and nothing that was begun is left.
func requireIdle(t *testing.T, ndb db.NodeDB) {
	t.Helper()
	eventually(t, "the backend is idle", func() bool {
		size, err := ndb.Size(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		return size == db.Size{}
	})
}

func TestWriteLog(t *testing.T) {
	ctx, ndb := testContext(t), openFake(t)
	const n = 5000
	i := uint64(0)
	var kept writelog.WriteLog
	for e, err := range ndb.GetWriteLog(ctx, fakeRoot(3, "a"), fakeRoot(3+n, "b")) {
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, e)
		i++
	}
	if i != n {
		t.Fatalf("%d changes", i)
	}
	for i, e := range kept {
		if want := fakeChange(uint64(i)); !reflect.DeepEqual(e, want) {
			t.Fatalf("change %d: %d bytes, nil %v", i, len(e.Value), e.Value == nil)
		}
	}
	for _, err := range ndb.GetWriteLog(ctx, fakeRoot(3, "a"), fakeRoot(3, "b")) {
		if !errors.Is(err, db.ErrWriteLogNotFound) {
			t.Error(err)
		}
	}
}

func TestBatch(t *testing.T) {
	ctx, ndb := testContext(t), openFake(t)
	b, err := ndb.NewBatch(ctx, fakeRoot(4, "old"), 5)
	if err != nil {
		t.Fatal(err)
	}
	if b.Address() != (node.Address{Version: 5, Candidate: 513}) {
		t.Error("address:", b.Address())
	}
	want := newDigest()
	for i := range uint64(10_000) {
		e := fakeEntry(i, entrySize(i))
		if i == 5000 {
			e.Record = pattern(0, 64<<20)
		}
		want.add("put", e.Position, e.Record)
		if err := b.Put(ctx, e.Position, e.Record); err != nil {
			t.Fatal(err)
		}
		if i%100 == 0 {
			want.add("end")
			if err := b.EndRun(ctx); err != nil {
				t.Fatal(err)
			}
			want.add("remove", []byte(e.Address.String()), e.Position)
			if err := b.Remove(ctx, e.Address, e.Position); err != nil {
				t.Fatal(err)
			}
		}
	}
	var changes writelog.WriteLog
	for i := range uint64(3000) {
		changes = append(changes, fakeChange(i))
		want.change(changes[i])
	}
	if err := b.PutWriteLog(ctx, changes); err != nil {
		t.Fatal(err)
	}
	rootAddress := node.Address{Version: 1 << 60, Candidate: 9}
	want.add("commit", []byte(rootAddress.String()))
	root := fakeRoot(5, "")
	root.Hash = want.sum()
	if err := b.Commit(ctx, root, rootAddress); err != nil {
		t.Fatal(err)
	}
	if err := b.Abort(ctx); err != nil {
		t.Error("abort after commit:", err)
	}
	requireIdle(t, ndb)
}

func TestBatchThatIsNotCommitted(t *testing.T) {
	p := launch(t, "fake")
	ndb := open(t, p)
	begin := func() (context.Context, context.CancelFunc, db.Batch) {
		ctx, cancel := context.WithCancel(testContext(t))
		b, err := ndb.NewBatch(ctx, fakeRoot(4, "old"), 5)
		if err != nil {
			t.Fatal(err)
		}
		return ctx, cancel, b
	}

	t.Run("refused", func(t *testing.T) {
		if _, err := ndb.NewBatch(testContext(t), fakeRoot(4, "old"), versionPanics); !errors.Is(err, db.ErrAlreadyFinalized) {
			t.Error(err)
		}
	})
	t.Run("aborted", func(t *testing.T) {
		ctx, cancel, b := begin()
		defer cancel()
		if err := b.Put(ctx, node.RootPosition(), []byte{1}); err != nil {
			t.Fatal(err)
		}
		if err := b.Abort(ctx); err != nil {
			t.Fatal(err)
		}
		if size, err := ndb.Size(ctx); err != nil || size.File != 0 {
			t.Error("not aborted when Abort returned:", size, err)
		}
		if err := b.Put(ctx, node.RootPosition(), []byte{1}); err == nil {
			t.Error("put after abort")
		}
	})
	t.Run("context of NewBatch ends", func(t *testing.T) { // which is that call's alone
		_, cancel, b := begin()
		cancel()
		if err := b.Put(testContext(t), node.RootPosition(), []byte{1}); err != nil {
			t.Error(err)
		}
		if err := b.Abort(testContext(t)); err != nil {
			t.Error(err)
		}
	})
	t.Run("context ends before a put", func(t *testing.T) { // which then does nothing, and the batch goes on
		ctx, cancel, b := begin()
		cancel()
		if err := b.Put(ctx, node.RootPosition(), []byte{1}); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		want := newDigest()
		want.add("commit", []byte(node.Address{}.String()))
		root := fakeRoot(5, "")
		root.Hash = want.sum()
		if err := b.Commit(testContext(t), root, node.Address{}); err != nil {
			t.Error(err)
		}
	})
	t.Run("context ends during commit", func(t *testing.T) {
		ctx, cancel, b := begin()
		time.AfterFunc(50*time.Millisecond, cancel)
		if err := b.Commit(ctx, fakeRoot(versionBlocks, ""), node.Address{}); !errors.Is(err, context.Canceled) || errors.Is(err, db.ErrUnavailable) {
			t.Error(err)
		}
		requireIdle(t, ndb)
	})
	t.Run("wrong root", func(t *testing.T) {
		ctx, cancel, b := begin()
		defer cancel()
		if err := b.Commit(ctx, fakeRoot(5, ""), node.Address{}); !errors.Is(err, db.ErrRootMustFollowOld) {
			t.Error(err)
		}
		requireIdle(t, ndb)
	})
	for _, trouble := range []struct {
		record string
		want   error
	}{{"refuse", db.ErrMalformed}, {"panic", plugin.ErrPanicked}} {
		t.Run(trouble.record, func(t *testing.T) {
			ctx, cancel, b := begin()
			defer cancel()
			if err := b.Put(ctx, node.RootPosition(), []byte(trouble.record)); err != nil {
				t.Fatal("a put that only goes to a frame:", err)
			}
			var err error
			for i := 0; i < 1000 && err == nil; i++ {
				err = b.Put(ctx, node.RootPosition(), pattern(0, 300<<10))
			}
			if !errors.Is(err, trouble.want) {
				t.Error("a later put:", err)
			}
			if err := b.Commit(ctx, fakeRoot(5, ""), node.Address{}); !errors.Is(err, trouble.want) {
				t.Error("commit:", err)
			}
			requireIdle(t, ndb)
		})
	}
	t.Run("too long a record", func(t *testing.T) {
		ctx, cancel, b := begin()
		defer cancel()
		err := b.Put(ctx, node.RootPosition(), make([]byte, 66<<20))
		if err == nil {
			err = b.Commit(ctx, fakeRoot(5, ""), node.Address{})
		}
		if !errors.Is(err, db.ErrLimitExceeded) {
			t.Error(err)
		}
		requireIdle(t, ndb)
	})
}

func TestChunk(t *testing.T) {
	ctx, ndb := testContext(t), openFake(t)
	if _, err := ndb.NewChunk(ctx, fakeRoot(1, ""), 0); !errors.Is(err, db.ErrNoMultipart) {
		t.Error(err)
	}
	want := newDigest()
	for i := range uint64(3000) {
		e := fakeEntry(i, entrySize(i))
		want.add(fmt.Sprint("put ", i%2 == 0), e.Position, e.Record)
	}
	want.add("commit true")
	root := fakeRoot(77, "")
	root.Hash = want.sum()
	c, err := ndb.NewChunk(ctx, root, 5)
	if err != nil {
		t.Fatal(err)
	}
	if c.Address() != (node.Address{Version: 77, Candidate: 513}) {
		t.Error("address:", c.Address())
	}
	for i := range uint64(3000) {
		e := fakeEntry(i, entrySize(i))
		if err := c.Put(ctx, e.Position, e.Record, i%2 == 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Commit(ctx, true); err != nil {
		t.Error(err)
	}
	if err := c.Abort(ctx); err != nil {
		t.Error("abort after commit:", err)
	}
	for range 2 {
		c, err := ndb.NewChunk(ctx, root, 5)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Abort(ctx); err != nil {
			t.Error("abort:", err)
		}
	}
	requireIdle(t, ndb)
}

func TestPins(t *testing.T) {
	ctx, ndb := testContext(t), openFake(t)
	if _, err := ndb.Pin(ctx, 0, "me"); !errors.Is(err, db.ErrVersionPruned) {
		t.Error(err)
	}
	pinCtx, cancel := context.WithCancel(ctx)
	pin, err := ndb.Pin(pinCtx, 3, "me")
	if err != nil {
		t.Fatal(err)
	}
	cancel() // the context is that of the call, not of the pin
	if pin.Version() != 3 {
		t.Error("version:", pin.Version())
	}
	want := []db.PinInfo{{Version: 3, Owner: "me", Since: time.Unix(12345, 678)}}
	if pins, err := ndb.Pins(ctx); err != nil || !reflect.DeepEqual(pins, want) {
		t.Error("pins:", pins, err)
	}
	for range 2 {
		if err := pin.Release(ctx); err != nil {
			t.Error("release:", err)
		}
		if pins, err := ndb.Pins(ctx); err != nil || len(pins) != 0 {
			t.Error("pins after release:", pins, err)
		}
	}
}

func TestErrorIdentity(t *testing.T) {
	ctx, ndb := testContext(t), openFake(t)
	has := func(version uint64) error {
		found, err := ndb.HasRoot(ctx, fakeRoot(version, "a"))
		if found {
			t.Fatalf("version %d: found", version)
		}
		if err == nil {
			t.Fatalf("version %d: no error", version)
		}
		return err
	}
	sentinels := fakeErrors(false)
	for i, want := range sentinels {
		if i == 0 {
			continue
		}
		err := has(uint64(i))
		for _, other := range sentinels[1:] {
			if is := errors.Is(err, other); is != (other == want) {
				t.Errorf("%v: errors.Is(%v) is %v", err, other, is)
			}
		}
		if text := fmt.Sprintf("asked for %s: ", fakeRoot(1, "a").Hash); !strings.HasPrefix(err.Error(), text) {
			t.Errorf("text of %v: %v", want, err)
		}
	}
	if err := has(uint64(len(sentinels) - 1)); !strings.HasSuffix(err.Error(), "only the plugin knows") {
		t.Error("text of an unknown sentinel:", err)
	}

	var corrupted *db.CorruptedError
	if err := has(1000); !errors.As(err, &corrupted) || !reflect.DeepEqual(*corrupted, db.CorruptedError{Version: 9, Position: node.Position{1, 2, 3}, Reason: "planted"}) || !errors.Is(err, db.ErrCorrupted) {
		t.Error("corrupted:", err)
	}
	if err := has(1001); !errors.As(err, &corrupted) || corrupted.Position != nil || !strings.HasPrefix(err.Error(), "wrapped: ") {
		t.Error("corrupted without position:", err)
	}
	if err := has(1002); !errors.Is(err, db.ErrNotComplete) || !errors.Is(err, db.ErrChunksOverlap) {
		t.Error("two at once:", err)
	}
	if err := has(1003); len(err.Error()) > 4<<10 || len(err.Error()) < 4000 || !utf8.ValidString(err.Error()) {
		t.Errorf("long text: %d bytes", len(err.Error()))
	}
	if err := has(1004); err.Error() != "no sentinel at all" || errors.Is(err, db.ErrUnavailable) {
		t.Error("no sentinel:", err)
	}
	if module, code, _ := errors.Code(has(3)); module != db.ModuleName || code != 3 {
		t.Error("code:", module, code)
	}
	var errno syscall.Errno
	if err := has(uint64(len(sentinels) - 2)); !errors.As(err, &errno) || errno != syscall.ENOSPC {
		t.Error("errno:", err)
	}
}
