package mkvs_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/ckpt-project/ckpt/framework/mkvs"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/writelog"
)

// builtRoot is the name of what builders make in tests.
var builtRoot = node.Root{Namespace: testNamespace, Version: 1, Type: node.RootTypeState}

// build commits a model's entries by a builder.
func build(ctx context.Context, ndb db.NodeDB, m model, atOnce int, opts ...mkvs.Option) (node.Root, error) {
	b, err := mkvs.NewBuilder(ctx, ndb, builtRoot, opts...)
	if err != nil {
		return node.Root{}, err
	}
	defer b.Close()
	mkvs.SetBuilderChanges(b, atOnce)
	for _, key := range m.sortedKeys() {
		if err := b.Add([]byte(key), m[key]); err != nil {
			return node.Root{}, err
		}
	}
	return b.Commit()
}

// entriesLike fails where two databases differ in what was put into them.
func entriesLike(t interface{ Fatalf(string, ...any) }, got, want *strictDB) {
	if !maps.EqualFunc(got.entries, want.entries, func(a, b []byte) bool { return string(a) == string(b) }) {
		t.Fatalf("%d entries were put, and they are not the tree's %d", len(got.entries), len(want.entries))
	}
}

// A builder makes the root, the records and the write log that a tree makes of the same entries, whatever
// their keys, however many it takes at once, and whatever is sent when.
func TestBuilderIsLikeTree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := model{}
		key := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 0x7f, 0x80, 0xff}), 0, 6)
		for range rapid.IntRange(0, 120).Draw(t, "entries") {
			m[string(key.Draw(t, "key"))] = rapid.SliceOfN(rapid.Byte(), 0, 60).Draw(t, "value")
		}
		opts := []mkvs.Option{mkvs.WithRunChanges(rapid.SampledFrom([]int{1, 3, 20, 2048}).Draw(t, "changes in a run"))}
		open := func() *strictDB {
			ndb := newStrictDB()
			ndb.info.EmbedBytes = 40
			return ndb
		}
		want, got := open(), open()
		tree := mkvs.New(want, node.RootTypeState)
		for key, value := range m {
			if err := tree.Insert(context.Background(), []byte(key), value); err != nil {
				t.Fatal(err)
			}
		}
		log, h, err := tree.Commit(context.Background(), testNamespace, 1)
		if err != nil {
			t.Fatal(err)
		}
		root, err := build(context.Background(), got, m, rapid.IntRange(1, 130).Draw(t, "at once"), opts...)
		if err != nil {
			t.Fatal(err)
		}
		if root.Hash != h || root.Version != 1 {
			t.Fatalf("root %s, want %s", root, h)
		}
		entriesLike(t, got, want)
		if fmt.Sprint(got.logs[root]) != fmt.Sprint(log) {
			t.Fatalf("%d changes on the write log, want %d", len(got.logs[root]), len(log))
		}
	})
}

// Many entries, whose nodes several goroutines make.
func TestBuilderOfMany(t *testing.T) {
	manyWorkers(t)
	rng := rand.New(rand.NewPCG(5, 6))
	m := model{}
	for range 30_000 {
		key := fmt.Append(nil, rng.Uint64())
		m[string(key[:1+rng.IntN(len(key))])] = make([]byte, rng.IntN(30))
	}
	want, got := newStrictDB(), newStrictDB()
	tree := mkvs.New(want, node.RootTypeState)
	for key, value := range m {
		insert(t, tree, key, string(value))
	}
	_, root := commit(t, tree, 1)
	built, err := build(t.Context(), got, m, 7000, mkvs.WithRunChanges(300))
	if err != nil {
		t.Fatal(err)
	}
	if built != root {
		t.Fatalf("root %s, want %s", built, root)
	}
	entriesLike(t, got, want)
}

// The memory of what was added is used again only when nobody has it any more.
func TestBuilderUsesMemoryAgain(t *testing.T) {
	m := model{}
	for i := range 2400 {
		m[fmt.Sprintf("%06d", i)] = []byte(fmt.Sprintf("%05000d", i))
	}
	want, got := newStrictDB(), newStrictDB()
	tree := mkvs.New(want, node.RootTypeState)
	for key, value := range m {
		insert(t, tree, key, string(value))
	}
	log, root := commit(t, tree, 1)
	built, err := build(t.Context(), got, m, 600, mkvs.WithRunChanges(100)) // 3 MB at once
	if err != nil || built != root {
		t.Fatalf("root %s, want %s: %v", built, root, err)
	}
	entriesLike(t, got, want)
	if !reflect.DeepEqual(got.logs[root], log) {
		t.Error("the write log is another")
	}
	unlogged := newStrictDB()
	if built, err = build(t.Context(), unlogged, m, 600, mkvs.WithRunChanges(100), mkvs.WithoutWriteLog()); err != nil || built != root {
		t.Fatalf("without a write log: root %s, want %s: %v", built, root, err)
	}
	entriesLike(t, unlogged, want)
}

// What is refused changes nothing.
func TestBuilderRefuses(t *testing.T) {
	ndb := newStrictDB()
	ndb.info.MaxKeyBytes, ndb.info.MaxValueBytes = 5, 10
	b, err := mkvs.NewBuilder(t.Context(), ndb, builtRoot)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for _, c := range []struct {
		key, value string
		want       error
	}{
		{"", "", nil},
		{"", "", mkvs.ErrNotAscending},
		{"b", "1", nil},
		{"b", "2", mkvs.ErrNotAscending},
		{"a", "2", mkvs.ErrNotAscending},
		{"cccccc", "", db.ErrLimitExceeded},
		{"c", "01234567890", db.ErrLimitExceeded},
		{"bb", "3", nil},
	} {
		if err := b.Add([]byte(c.key), []byte(c.value)); !errors.Is(err, c.want) {
			t.Errorf("%q: %v, want %v", c.key, err, c.want)
		}
	}
	root, err := b.Commit()
	if err != nil {
		t.Fatal(err)
	}
	if want := (model{"": nil, "b": []byte("1"), "bb": []byte("3")}).root(); root.Hash != want {
		t.Errorf("root %s, want %s", root, want)
	}
	if err := b.Add([]byte("d"), nil); !errors.Is(err, mkvs.ErrClosed) {
		t.Errorf("after the commit: %v", err)
	}
	if _, err := b.Commit(); !errors.Is(err, mkvs.ErrClosed) {
		t.Errorf("committed again: %v", err)
	}
}

// A builder that fails, at whatever call, or whose context ends, says why, leaves no goroutine behind, and
// nothing in the database.
func TestBuilderFails(t *testing.T) {
	manyWorkers(t)
	m := model{}
	for i := range 3000 {
		m[fmt.Sprintf("%05d", i)] = []byte("value")
	}
	for _, call := range []string{"NewBatch", "Put", "EndRun", "PutWriteLog", "Commit", "cancel"} {
		for _, after := range []int{0, 10} {
			t.Run(fmt.Sprintf("%s after %d", call, after), func(t *testing.T) {
				defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
				ndb := newStrictDB()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				seen := 0
				ndb.fail = func(c string) error {
					if c != call && call != "cancel" {
						return nil
					}
					if seen++; seen <= after {
						return nil
					}
					if call == "cancel" {
						cancel()
						return nil
					}
					return errInjected
				}
				want := errInjected
				if call == "cancel" {
					want = context.Canceled
				}
				_, err := build(ctx, ndb, m, 100, mkvs.WithRunChanges(30))
				if seen > after && !errors.Is(err, want) || seen <= after && err != nil {
					t.Fatalf("built after %d of %d calls: %v", after, seen, err)
				}
				if err != nil && len(ndb.roots) > 0 {
					t.Error("there is a root")
				}
			})
		}
	}
}

// A builder whose commit failed says so again, and can be closed.
func TestBuilderFailedToCommit(t *testing.T) {
	ndb := newStrictDB()
	b, err := mkvs.NewBuilder(t.Context(), ndb, builtRoot)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.Add([]byte("key"), []byte("value")); err != nil {
		t.Fatal(err)
	}
	ndb.fail = func(call string) error {
		if call == "Commit" {
			return errInjected
		}
		return nil
	}
	for range 2 {
		if _, err := b.Commit(); !errors.Is(err, errInjected) {
			t.Errorf("committed: %v", err)
		}
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

// heldDB is a database whose batches take nothing until it is let go.
type heldDB struct {
	*strictDB
	held chan struct{}
}

type heldBatch struct {
	db.Batch
	held chan struct{}
}

func (d *heldDB) NewBatch(ctx context.Context, oldRoot node.Root, version uint64) (db.Batch, error) {
	b, err := d.strictDB.NewBatch(ctx, oldRoot, version)
	return &heldBatch{b, d.held}, err
}

func (b *heldBatch) Put(ctx context.Context, position node.Position, record []byte) error {
	<-b.held
	return b.Batch.Put(ctx, position, record)
}

func (b *heldBatch) PutWriteLog(ctx context.Context, log writelog.WriteLog) error {
	<-b.held
	return b.Batch.PutWriteLog(ctx, log)
}

// TestBuilderWaitsForTheDatabase checks that a builder of large values does not take more and more of them into
// memory while the database takes none.
func TestBuilderWaitsForTheDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ndb := &heldDB{newStrictDB(), make(chan struct{})}
		b, err := mkvs.NewBuilder(t.Context(), ndb, builtRoot)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		var added atomic.Int64
		value := make([]byte, 1<<20)
		ended := make(chan error, 1)
		go func() {
			for i := range 250 {
				if err := b.Add(fmt.Appendf(nil, "%06d", i), value); err != nil {
					ended <- err
					return
				}
				added.Add(int64(len(value)))
			}
			_, err := b.Commit()
			ended <- err
		}()
		synctest.Wait()
		// What is being added, what nodes are made of, what is ready, and what is held.
		if n := added.Load(); n > 32<<20 || n < 16<<20 {
			t.Errorf("%d MiB were added while the database took nothing", n>>20)
		}
		close(ndb.held)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
