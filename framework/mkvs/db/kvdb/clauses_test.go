package kvdb_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ckpt-project/ckpt/conformance/reference"
	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/writelog"
)

// fixture is an open database and a source of trees.
type fixture struct {
	*testing.T
	ctx   context.Context
	rng   *rand.Rand
	store *lastingStore
	ndb   db.NodeDB
}

func newFixture(t *testing.T, change func(*db.Config)) *fixture {
	f := &fixture{T: t, ctx: t.Context(), rng: rand.New(rand.NewPCG(9, 9)), store: newLastingStore(t)}
	var err error
	f.ndb, err = openDB(f.ctx, f.store, change)
	must(t, err)
	t.Cleanup(func() {
		if err := f.ndb.Close(context.Background()); err != nil && !errors.Is(err, db.ErrClosed) {
			t.Error(err)
		}
	})
	return f
}

func (f *fixture) reopen(change func(*db.Config)) {
	f.Helper()
	must(f, f.ndb.Close(f.ctx))
	var err error
	f.ndb, err = openDB(f.ctx, f.store, change)
	must(f, err)
}

func (f *fixture) commit(old *mroot, version uint64, data reference.Content) *mroot {
	f.Helper()
	r, err := commit(f.ctx, f, f.rng, f.ndb, old, version, data)
	must(f, err)
	return r
}

func (f *fixture) finalize(roots ...*mroot) {
	f.Helper()
	names := make([]node.Root, 0, len(roots))
	for _, r := range roots {
		names = append(names, r.root)
	}
	must(f, f.ndb.Finalize(f.ctx, names))
}

// chain commits and finalizes versions from to to, each from the one before.
func (f *fixture) chain(from, to uint64) (roots []*mroot) {
	f.Helper()
	old := nothing(from, node.RootTypeState)
	for v := from; v <= to; v++ {
		r := f.commit(old, v, randomContents(f.rng, 50))
		f.finalize(r)
		roots, old = append(roots, r), r
	}
	return roots
}

// nothing is the empty root.
func nothing(version uint64, t node.RootType) *mroot {
	return &mroot{root: emptyRoot(version, t), data: reference.Content{}}
}

func firstErr[T any](seq func(func(T, error) bool)) error {
	for _, err := range seq {
		if err != nil {
			return err
		}
	}
	return nil
}

func TestEmptyRoots(t *testing.T) {
	f := newFixture(t, nil)
	for _, v := range []uint64{0, 5} {
		root := emptyRoot(v, node.RootTypeState)
		has, err := f.ndb.HasRoot(f.ctx, root)
		must(t, err)
		at, err := f.ndb.RootAddress(f.ctx, root)
		must(t, err)
		if !has || at != (node.Address{}) {
			t.Fatalf("empty root is there: %v, at %v", has, at)
		}
		checkWalk(f.ctx, t, f.ndb, root, nil, nil)
	}
	roots := f.chain(3, 5)
	must(t, f.ndb.Prune(f.ctx, 3))
	_, err := f.ndb.HasRoot(f.ctx, emptyRoot(3, node.RootTypeIO))
	wantErr(t, err, db.ErrVersionPruned)
	// Committed, and finalized without being committed.
	e := f.commit(roots[2], 6, reference.Content{})
	f.finalize(e)
	must(t, f.ndb.Finalize(f.ctx, []node.Root{emptyRoot(7, node.RootTypeState), emptyRoot(7, node.RootTypeIO)}))
	got, err := f.ndb.GetRootsForVersion(f.ctx, 7)
	must(t, err)
	if len(got) != 2 || !got[0].IsEmpty() || !got[1].IsEmpty() {
		t.Fatalf("roots of version 7 are %v", got)
	}
	for v := uint64(4); v < 7; v++ {
		must(t, f.ndb.Prune(f.ctx, v))
	}
	checkExact(f.ctx, t, f.ndb, newModel())
}

func TestNewBatchRefuses(t *testing.T) {
	f := newFixture(t, nil)
	roots := f.chain(3, 4)
	foreign := roots[1].root
	foreign.Namespace[31] ^= 1
	unknown := roots[1].root
	unknown.Hash[0] ^= 1
	io := f.commit(nothing(5, node.RootTypeIO), 5, reference.Content{"a": "b"})
	for _, c := range []struct {
		name    string
		old     node.Root
		version uint64
		want    error
	}{
		{"another namespace", foreign, 5, db.ErrBadNamespace},
		{"finalized", roots[0].root, 4, db.ErrAlreadyFinalized},
		{"long finalized", emptyRoot(3, node.RootTypeState), 3, db.ErrAlreadyFinalized},
		{"skips a version", roots[1].root, 6, db.ErrRootMustFollowOld},
		{"old root is not the latest", roots[0].root, 5, db.ErrRootMustFollowOld},
		{"unknown old root", unknown, 5, db.ErrRootMustFollowOld},
		{"same version", f.commit(roots[1], 5, reference.Content{"x": "y"}).root, 5, db.ErrRootMustFollowOld},
		{"empty, but too far", emptyRoot(5, node.RootTypeState), 7, db.ErrRootMustFollowOld},
		{"from an IO root", io.root, 6, db.ErrRootMustFollowOld},
		{"no type", emptyRoot(5, node.RootTypeInvalid), 5, db.ErrMalformed},
	} {
		_, err := f.ndb.NewBatch(f.ctx, c.old, c.version)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	// From an empty root, any version above the latest is taken.
	b, err := f.ndb.NewBatch(f.ctx, emptyRoot(90, node.RootTypeState), 90)
	must(t, err)
	must(t, b.Abort(f.ctx))
}

func TestBatchRefuses(t *testing.T) {
	f := newFixture(t, func(c *db.Config) { c.MaxKeyBytes, c.MaxValueBytes = 100, 1000 })
	root := f.chain(1, 1)[0]
	b, err := f.ndb.NewBatch(f.ctx, root.root, 2)
	must(t, err)
	leaf := func(key, value string) []byte {
		return node.AppendLeafRecord(nil, node.AppendLeaf(nil, []byte(key), []byte(value)))
	}
	p := node.NewPosition(node.Key{0x80}, 3)
	wantErr(t, b.Put(f.ctx, p, []byte{1, 2, 3}), db.ErrMalformed)
	wantErr(t, b.Put(f.ctx, node.Position{255}, leaf("k", "v")), db.ErrMalformed)
	wantErr(t, b.Put(f.ctx, p, append(leaf("k", "v"), 0)), db.ErrMalformed)
	wantErr(t, b.Put(f.ctx, p, leaf(string(make([]byte, 101)), "v")), db.ErrLimitExceeded)
	wantErr(t, b.Put(f.ctx, p, leaf("k", string(make([]byte, 1001)))), db.ErrLimitExceeded)
	long := [2]node.Child{{Present: true, Embedded: node.AppendLeaf(nil, []byte("a"), make([]byte, 600))}, {Present: true}}
	inner := append(node.AppendInternalHead(nil, node.Key{0x80}, 1), node.PrefixNilNode)
	wantErr(t, b.Put(f.ctx, p, node.AppendInternalRecord(nil, inner, b.Address(), &long)), db.ErrMalformed)
	must(t, b.Put(f.ctx, p, leaf("k", "v")))
	wantErr(t, b.Put(f.ctx, p, leaf("k", "v")), db.ErrMalformed)
	wantErr(t, b.Put(f.ctx, node.RootPosition(), leaf("k", "v")), db.ErrMalformed)
	wantErr(t, b.Remove(f.ctx, node.Address{Version: 2}, p), db.ErrMalformed)
	wantErr(t, b.Remove(f.ctx, node.Address{Version: 1}, node.Position{1, 2}), db.ErrMalformed)
	wantErr(t, b.PutWriteLog(f.ctx, writelog.WriteLog{{Key: []byte("b")}, {Key: []byte("a")}}), db.ErrMalformed)

	name := root.root
	name.Version = 2
	wantErr(t, b.Commit(f.ctx, root.root, b.Address()), db.ErrRootMustFollowOld)
	name.Type = node.RootTypeIO
	wantErr(t, b.Commit(f.ctx, name, b.Address()), db.ErrRootMustFollowOld)
	name.Type = node.RootTypeState
	wantErr(t, b.Commit(f.ctx, name, b.Address()), db.ErrMalformed)       // no root node was put
	wantErr(t, b.Commit(f.ctx, name, root.tree.Address), db.ErrMalformed) // the old root, and an entry
	wantErr(t, b.Commit(f.ctx, name, node.Address{Version: 1, Candidate: 9}), db.ErrMalformed)
	must(t, b.Abort(f.ctx))
	must(t, b.Abort(f.ctx))
	wantErr(t, b.Put(f.ctx, p, leaf("k", "v")), db.ErrMalformed)

	// A root's node with another hash.
	b, err = f.ndb.NewBatch(f.ctx, root.root, 2)
	must(t, err)
	must(t, b.Put(f.ctx, node.RootPosition(), leaf("k", "v")))
	wantErr(t, b.Commit(f.ctx, name, b.Address()), db.ErrMalformed)
	name.Hash = node.LeafHash([]byte("k"), []byte("v"))
	must(t, b.Commit(f.ctx, name, b.Address()))
	must(t, b.Abort(f.ctx))
	if has, err := f.ndb.HasRoot(f.ctx, name); !has || err != nil {
		t.Fatalf("abort after commit: root is there: %v, %v", has, err)
	}
}

func TestRunsMustNotOverlap(t *testing.T) {
	f := newFixture(t, nil)
	b, err := f.ndb.NewBatch(f.ctx, emptyRoot(0, node.RootTypeState), 1)
	must(t, err)
	record := node.AppendLeafRecord(nil, node.AppendLeaf(nil, []byte("k"), []byte("v")))
	put := func(bits ...byte) {
		for _, c := range bits {
			must(t, b.Put(f.ctx, node.NewPosition(node.Key{c}, 8), record))
		}
		must(t, b.EndRun(f.ctx))
	}
	put(10, 30)
	put(20)
	root := emptyRoot(1, node.RootTypeState)
	must(t, b.Put(f.ctx, node.RootPosition(), record))
	root.Hash = node.LeafHash([]byte("k"), []byte("v"))
	wantErr(t, b.Commit(f.ctx, root, b.Address()), db.ErrMalformed)
	must(t, b.Abort(f.ctx))
}

func TestUnchangedRoot(t *testing.T) {
	f := newFixture(t, nil)
	first := f.chain(1, 1)[0]
	for v := uint64(2); v < 5; v++ {
		r := f.commit(first, v, first.data)
		f.finalize(r)
		if at, err := f.ndb.RootAddress(f.ctx, r.root); err != nil || at != first.tree.Address {
			t.Fatalf("unchanged root is at %s (%v)", at, err)
		}
		first = r
		must(t, f.ndb.Prune(f.ctx, v-1))
	}
	m := newModel()
	m.any, m.earliest, m.latest = true, 4, 4
	m.final[4] = map[node.RootType]*mroot{node.RootTypeState: first}
	check(f.ctx, t, f.rng, f.ndb, m)
	checkExact(f.ctx, t, f.ndb, m)
}

func TestCommitTwice(t *testing.T) {
	f := newFixture(t, nil)
	data := randomContents(f.rng, 50)
	a := f.commit(nothing(1, node.RootTypeState), 1, data)
	f.commit(nothing(1, node.RootTypeState), 1, data)
	m := newModel()
	m.candidates[a.name()] = a
	check(f.ctx, t, f.rng, f.ndb, m)
	checkExact(f.ctx, t, f.ndb, m)
	// One that is finalized meanwhile is no error either; another is.
	b, err := f.ndb.NewBatch(f.ctx, emptyRoot(1, node.RootTypeState), 1)
	must(t, err)
	other, err := f.ndb.NewBatch(f.ctx, emptyRoot(1, node.RootTypeState), 1)
	must(t, err)
	f.finalize(a)
	for _, n := range fresh(data, b.Address()).Stored() {
		must(t, b.Put(f.ctx, n.Position, n.Record()))
	}
	must(t, b.Commit(f.ctx, a.root, b.Address()))
	record := node.AppendLeafRecord(nil, node.AppendLeaf(nil, []byte("k"), []byte("v")))
	must(t, other.Put(f.ctx, node.RootPosition(), record))
	root := emptyRoot(1, node.RootTypeState)
	root.Hash = node.LeafHash([]byte("k"), []byte("v"))
	wantErr(t, other.Commit(f.ctx, root, other.Address()), db.ErrAlreadyFinalized)
	must(t, other.Abort(f.ctx))
	m.finalize([]*mroot{a})
	checkExact(f.ctx, t, f.ndb, m)
}

func TestOldRootGoesMeanwhile(t *testing.T) {
	f := newFixture(t, nil)
	a := f.commit(nothing(1, node.RootTypeState), 1, reference.Content{"a": "1"})
	loser := f.commit(nothing(1, node.RootTypeState), 1, reference.Content{"a": "2"})
	b, err := f.ndb.NewBatch(f.ctx, loser.root, 2)
	must(t, err)
	f.finalize(a)
	record := node.AppendLeafRecord(nil, node.AppendLeaf(nil, []byte("k"), []byte("v")))
	must(t, b.Put(f.ctx, node.RootPosition(), record))
	root := emptyRoot(2, node.RootTypeState)
	root.Hash = node.LeafHash([]byte("k"), []byte("v"))
	wantErr(t, b.Commit(f.ctx, root, b.Address()), db.ErrRootMustFollowOld)
	must(t, b.Abort(f.ctx))
	_, err = f.ndb.RootAddress(f.ctx, loser.root)
	wantErr(t, err, db.ErrRootNotFound)
}

func TestFinalizeRefuses(t *testing.T) {
	f := newFixture(t, nil)
	a := f.commit(nothing(5, node.RootTypeState), 5, reference.Content{"a": "1"})
	other := f.commit(nothing(5, node.RootTypeState), 5, reference.Content{"a": "2"})
	next := f.commit(a, 6, reference.Content{"a": "3"})
	wantErr(t, f.ndb.Finalize(f.ctx, []node.Root{next.root}), db.ErrNotFinalized)
	wantErr(t, f.ndb.Finalize(f.ctx, nil), db.ErrMalformed)
	wantErr(t, f.ndb.Finalize(f.ctx, []node.Root{a.root, other.root}), db.ErrMalformed)
	wantErr(t, f.ndb.Finalize(f.ctx, []node.Root{a.root, emptyRoot(6, node.RootTypeIO)}), db.ErrMalformed)
	foreign := a.root
	foreign.Namespace[31] ^= 1
	wantErr(t, f.ndb.Finalize(f.ctx, []node.Root{foreign}), db.ErrBadNamespace)
	unknown := a.root
	unknown.Hash[0] ^= 1
	wantErr(t, f.ndb.Finalize(f.ctx, []node.Root{unknown}), db.ErrRootNotFound)
	f.finalize(a)
	f.finalize(a)
	wantErr(t, f.ndb.Finalize(f.ctx, []node.Root{other.root}), db.ErrAlreadyFinalized)
	wantErr(t, f.ndb.Finalize(f.ctx, []node.Root{a.root, emptyRoot(5, node.RootTypeIO)}), db.ErrAlreadyFinalized)
	wantErr(t, f.ndb.Finalize(f.ctx, []node.Root{emptyRoot(7, node.RootTypeState)}), db.ErrVersionNotNext)
	wantErr(t, f.ndb.Finalize(f.ctx, []node.Root{emptyRoot(4, node.RootTypeState)}), db.ErrAlreadyFinalized)
	f.finalize(next)
	wantErr(t, f.ndb.Finalize(f.ctx, []node.Root{a.root}), db.ErrAlreadyFinalized)
}

func TestReadsRefuse(t *testing.T) {
	f := newFixture(t, nil)
	roots := f.chain(1, 3)
	must(t, f.ndb.Prune(f.ctx, 1))
	foreign := roots[2].root
	foreign.Namespace[31] ^= 1
	unknown := roots[2].root
	unknown.Hash[0] ^= 1
	above := roots[2].root
	above.Version = 9
	for _, c := range []struct {
		name string
		root node.Root
		want error
	}{
		{"pruned", roots[0].root, db.ErrVersionPruned},
		{"another namespace", foreign, db.ErrBadNamespace},
		{"unknown", unknown, db.ErrRootNotFound},
		{"above", above, db.ErrRootNotFound},
	} {
		_, err := f.ndb.RootAddress(f.ctx, c.root)
		wantErr(t, err, c.want)
		_, err = f.ndb.GetNode(f.ctx, c.root, roots[2].tree.Address, roots[2].tree.Position)
		wantErr(t, err, c.want)
		_, err = f.ndb.GetPath(f.ctx, c.root, roots[2].tree.Address, 0, node.Key("a"))
		wantErr(t, err, c.want)
		wantErr(t, firstErr(f.ndb.Walk(f.ctx, c.root, nil)), c.want)
		wantErr(t, firstErr(f.ndb.GetWriteLog(f.ctx, roots[1].root, c.root)), c.want)
	}
	if roots, err := f.ndb.GetRootsForVersion(f.ctx, 9); err != nil || len(roots) != 0 {
		t.Fatalf("version 9 has roots %v (%v)", roots, err)
	}
	_, err := f.ndb.GetRootsForVersion(f.ctx, 1)
	wantErr(t, err, db.ErrVersionPruned)

	r := roots[2]
	_, err = f.ndb.GetNode(f.ctx, r.root, node.Address{Version: 3, Candidate: 5}, r.tree.Position)
	wantErr(t, err, db.ErrNodeNotFound)
	_, err = f.ndb.GetNode(f.ctx, r.root, node.Address{Version: 4}, r.tree.Position)
	wantErr(t, err, db.ErrNodeNotFound)
	_, err = f.ndb.GetNode(f.ctx, r.root, r.tree.Address, node.NewPosition(node.Key{1, 2, 3, 4, 5, 6, 7, 8}, 60))
	wantErr(t, err, db.ErrNodeNotFound)
	_, err = f.ndb.GetNode(f.ctx, r.root, r.tree.Address, node.Position{})
	wantErr(t, err, db.ErrMalformed)
	_, err = f.ndb.GetPath(f.ctx, r.root, r.tree.Address, 9, node.Key("a"))
	wantErr(t, err, db.ErrMalformed)
	wantErr(t, firstErr(f.ndb.Walk(f.ctx, r.root, node.Position{255})), db.ErrMalformed)
	wantErr(t, firstErr(f.ndb.GetWriteLog(f.ctx, roots[2].root, roots[2].root)), db.ErrWriteLogNotFound)
	wantErr(t, firstErr(f.ndb.GetWriteLog(f.ctx, roots[0].root, roots[1].root)), db.ErrVersionPruned)
}

func TestWriteLogsAreLeftOutWhenAsked(t *testing.T) {
	f := newFixture(t, func(c *db.Config) { c.DiscardWriteLogs = true })
	r := f.chain(1, 1)[0]
	wantErr(t, firstErr(f.ndb.GetWriteLog(f.ctx, emptyRoot(1, node.RootTypeState), r.root)), db.ErrWriteLogNotFound)
	if f.ndb.Info().Capabilities.WriteLogs {
		t.Fatal("Info says that write logs are kept")
	}
}

func TestPins(t *testing.T) {
	f := newFixture(t, nil)
	_, err := f.ndb.Pin(f.ctx, 1, "x")
	wantErr(t, err, db.ErrVersionNotFound)
	roots := f.chain(1, 3)
	f.commit(roots[2], 4, reference.Content{"a": "b"})
	must(t, f.ndb.Prune(f.ctx, 1))
	_, err = f.ndb.Pin(f.ctx, 1, "x")
	wantErr(t, err, db.ErrVersionPruned)
	_, err = f.ndb.Pin(f.ctx, 4, "x")
	wantErr(t, err, db.ErrNotFinalized)
	_, err = f.ndb.Pin(f.ctx, 5, "x")
	wantErr(t, err, db.ErrVersionNotFound)
	a, err := f.ndb.Pin(f.ctx, 2, "a")
	must(t, err)
	b, err := f.ndb.Pin(f.ctx, 2, "b")
	must(t, err)
	wantErr(t, f.ndb.Prune(f.ctx, 2), db.ErrVersionPinned)
	pins, err := f.ndb.Pins(f.ctx)
	must(t, err)
	if len(pins) != 2 || pins[0].Version != 2 || pins[0].Since.IsZero() || pins[0].Owner+pins[1].Owner != "ab" {
		t.Fatalf("pins are %v", pins)
	}
	must(t, a.Release(f.ctx))
	must(t, a.Release(f.ctx))
	wantErr(t, f.ndb.Prune(f.ctx, 2), db.ErrVersionPinned)
	must(t, b.Release(f.ctx))
	must(t, f.ndb.Prune(f.ctx, 2))
	if b.Version() != 2 {
		t.Fatal("the pin has forgotten its version")
	}
}

func TestPruneRefuses(t *testing.T) {
	f := newFixture(t, nil)
	wantErr(t, f.ndb.Prune(f.ctx, 1), db.ErrVersionNotFound)
	f.chain(1, 3)
	wantErr(t, f.ndb.Prune(f.ctx, 2), db.ErrNotEarliest)
	wantErr(t, f.ndb.Prune(f.ctx, 3), db.ErrCannotPruneLatestVersion)
	wantErr(t, f.ndb.Prune(f.ctx, 9), db.ErrNotEarliest)
	must(t, f.ndb.StartMultipart(f.ctx, 7))
	wantErr(t, f.ndb.Prune(f.ctx, 1), db.ErrMultipartInProgress)
	must(t, f.ndb.AbortMultipart(f.ctx))
	must(t, f.ndb.Prune(f.ctx, 1))
	wantErr(t, f.ndb.Prune(f.ctx, 1), db.ErrVersionPruned)
	must(t, f.ndb.Prune(f.ctx, 2))
	wantErr(t, f.ndb.Prune(f.ctx, 3), db.ErrCannotPruneLatestVersion)
}

func TestOpenRefuses(t *testing.T) {
	f := newFixture(t, nil)
	f.chain(1, 2)
	must(t, f.ndb.Close(f.ctx))
	open := func(change func(*db.Config)) error {
		ndb, err := openDB(f.ctx, f.store, change)
		if err == nil {
			must(t, ndb.Close(f.ctx))
		}
		return err
	}
	wantErr(t, open(func(c *db.Config) { c.Namespace = common.Namespace{} }), db.ErrBadNamespace)
	must(t, open(nil))

	var b kv.Batch
	stamp := []byte("ckpt-kvdb\x03 whatever another format has")
	sum := crc32.Checksum(append([]byte{0}, stamp...), crc32.MakeTable(crc32.Castagnoli))
	b.Put([]byte{0}, binary.LittleEndian.AppendUint32(stamp, sum))
	must(t, f.store.Apply(f.ctx, &b, true))
	wantErr(t, open(nil), db.ErrFormatVersion)
	b.Put([]byte{0}, stamp)
	must(t, f.store.Apply(f.ctx, &b, true))
	wantErr(t, open(nil), db.ErrCorrupted)
	b.Put([]byte{0}, []byte("another program's"))
	must(t, f.store.Apply(f.ctx, &b, true))
	wantErr(t, open(nil), db.ErrForeign)
	b.Delete([]byte{0})
	must(t, f.store.Apply(f.ctx, &b, true))
	wantErr(t, open(nil), db.ErrForeign)
}

func TestOpenWithNarrowLimits(t *testing.T) {
	store := newLastingStore(t)
	store.limits.KeyBytes, store.limits.ValueBytes = 1000, 1<<20
	ndb, err := openDB(t.Context(), store, nil)
	must(t, err)
	info := ndb.Info()
	if info.MaxKeyBytes < 800 || info.MaxKeyBytes > 870 || info.MaxValueBytes < 1000000 || info.MaxValueBytes >= 1<<20 {
		t.Fatalf("limits are %d and %d", info.MaxKeyBytes, info.MaxValueBytes)
	}
	// What the limits allow can be stored.
	key, value := bytes.Repeat([]byte{0xff}, info.MaxKeyBytes), make([]byte, info.MaxValueBytes)
	data := reference.Content{string(key): string(value), string(key[:info.MaxKeyBytes-1]): string(value), string(key[:info.MaxKeyBytes-2]) + "a": ""}
	r, err := commit(t.Context(), t, rand.New(rand.NewPCG(1, 1)), ndb, nothing(0, node.RootTypeState), 1, data)
	must(t, err)
	checkRoot(t.Context(), t, rand.New(rand.NewPCG(1, 1)), ndb, &mroot{root: r.root, tree: r.tree, data: data, restored: true})
	must(t, ndb.Close(t.Context()))

	store.limits.ValueBytes = 100
	_, err = openDB(t.Context(), store, nil)
	wantErr(t, err, db.ErrLimitExceeded)
}

// writesNothing fails a test that writes.
type writesNothing struct {
	*lastingStore
	t *testing.T
}

func (s writesNothing) Apply(context.Context, *kv.Batch, bool) error {
	s.t.Error("a database that is open for reading only writes")
	return kv.ErrReadOnly
}

func TestReadOnly(t *testing.T) {
	f := newFixture(t, nil)
	roots := f.chain(1, 3)
	must(t, f.ndb.Prune(f.ctx, 1))
	left := f.commit(roots[2], 4, reference.Content{"a": "b"})
	must(t, f.ndb.StartMultipart(f.ctx, 9))
	wantErr(t, f.ndb.AddMultipartRoot(f.ctx, roots[0].root, 1, nil), db.ErrInvalidMultipartVersion)
	must(t, f.ndb.Close(f.ctx))

	ndb, err := openDB(f.ctx, writesNothing{f.store, t}, func(c *db.Config) { c.ReadOnly = true })
	must(t, err)
	m := newModel()
	m.any, m.earliest, m.latest = true, 2, 3
	for _, r := range roots[1:] {
		m.final[r.root.Version] = map[node.RootType]*mroot{node.RootTypeState: r}
	}
	m.candidates[left.name()] = left
	check(f.ctx, t, f.rng, ndb, m)
	_, err = ndb.NewBatch(f.ctx, roots[2].root, 4)
	_, chunkErr := ndb.NewChunk(f.ctx, left.root, 0)
	for _, err := range []error{
		err, chunkErr, ndb.Finalize(f.ctx, []node.Root{left.root}), ndb.Prune(f.ctx, 2), ndb.StartMultipart(f.ctx, 9),
		ndb.AddMultipartRoot(f.ctx, left.root, 1, nil), ndb.CompleteRoot(f.ctx, left.root), ndb.AbortRoot(f.ctx, left.root),
		ndb.AbortMultipart(f.ctx), ndb.Compact(f.ctx, nil),
	} {
		wantErr(t, err, db.ErrReadOnly)
	}
	p, err := ndb.Pin(f.ctx, 2, "a reader")
	must(t, err)
	must(t, p.Release(f.ctx))
	must(t, ndb.Sync(f.ctx))
	if _, err := ndb.Size(f.ctx); err != nil {
		t.Fatal(err)
	}
	must(t, ndb.Close(f.ctx))
	f.reopenAfter()
}

// reopenAfter opens the database again, for the fixture to close.
func (f *fixture) reopenAfter() {
	var err error
	f.ndb, err = openDB(f.ctx, f.store, nil)
	must(f, err)
}

func TestClosed(t *testing.T) {
	f := newFixture(t, nil)
	r := f.chain(1, 1)[0]
	b, err := f.ndb.NewBatch(f.ctx, r.root, 2)
	must(t, err)
	pin, err := f.ndb.Pin(f.ctx, 1, "x")
	must(t, err)
	must(t, f.ndb.StartMultipart(f.ctx, 5))
	restored := emptyRoot(5, node.RootTypeState)
	must(t, f.ndb.AddMultipartRoot(f.ctx, restored, 1, nil))
	c, err := f.ndb.NewChunk(f.ctx, restored, 0)
	must(t, err)
	must(t, f.ndb.Close(f.ctx))
	_, _, latestErr := f.ndb.GetLatestVersion(f.ctx)
	_, _, earliestErr := f.ndb.GetEarliestVersion(f.ctx)
	_, rootsErr := f.ndb.GetRootsForVersion(f.ctx, 1)
	_, hasErr := f.ndb.HasRoot(f.ctx, r.root)
	_, addressErr := f.ndb.RootAddress(f.ctx, r.root)
	_, nodeErr := f.ndb.GetNode(f.ctx, r.root, r.tree.Address, r.tree.Position)
	_, pathErr := f.ndb.GetPath(f.ctx, r.root, r.tree.Address, 0, node.Key("a"))
	_, batchErr := f.ndb.NewBatch(f.ctx, r.root, 2)
	_, pinErr := f.ndb.Pin(f.ctx, 1, "x")
	_, pinsErr := f.ndb.Pins(f.ctx)
	_, multipartErr := f.ndb.Multipart(f.ctx)
	_, chunkErr := f.ndb.NewChunk(f.ctx, restored, 0)
	_, sizeErr := f.ndb.Size(f.ctx)
	record := node.AppendLeafRecord(nil, node.AppendLeaf(nil, []byte("k"), []byte("v")))
	for i, err := range []error{
		latestErr, earliestErr, rootsErr, hasErr, addressErr, nodeErr, pathErr, batchErr, pinErr, pinsErr, multipartErr, chunkErr, sizeErr,
		firstErr(f.ndb.Walk(f.ctx, r.root, nil)), firstErr(f.ndb.GetWriteLog(f.ctx, r.parent, r.root)),
		f.ndb.Finalize(f.ctx, []node.Root{r.root}), f.ndb.Prune(f.ctx, 1), f.ndb.StartMultipart(f.ctx, 5),
		f.ndb.AddMultipartRoot(f.ctx, restored, 1, nil), f.ndb.CompleteRoot(f.ctx, restored), f.ndb.AbortRoot(f.ctx, restored),
		f.ndb.AbortMultipart(f.ctx), f.ndb.Compact(f.ctx, nil), f.ndb.Sync(f.ctx), f.ndb.Close(f.ctx),
		b.Put(f.ctx, node.RootPosition(), record), b.EndRun(f.ctx), b.Remove(f.ctx, r.tree.Address, r.tree.Position),
		b.PutWriteLog(f.ctx, nil), b.Commit(f.ctx, emptyRoot(2, node.RootTypeState), node.Address{}), b.Abort(f.ctx),
		c.Put(f.ctx, node.RootPosition(), record, true), c.Commit(f.ctx, true), pin.Release(f.ctx),
	} {
		if !errors.Is(err, db.ErrClosed) {
			t.Errorf("call %d after Close: %v", i, err)
		}
	}
	// Pins and unfinished batches are gone with it.
	f.reopenAfter()
	if pins, err := f.ndb.Pins(f.ctx); err != nil || len(pins) != 0 {
		t.Fatalf("pins are %v (%v)", pins, err)
	}
}

// Many paths are read in parts: what comes of it is the same, and what was not yet asked for is not read.
func TestPathsInParts(t *testing.T) {
	f := newFixture(t, nil)
	data := reference.Content{}
	for i := range 100 {
		data[fmt.Sprintf("%03d", i)] = strings.Repeat(string(rune('a'+i%26)), 100_000)
	}
	r := f.commit(nothing(1, node.RootTypeState), 1, data)
	f.finalize(r)
	var starts []db.PathStart
	for _, key := range slices.Sorted(maps.Keys(data)) {
		starts = append(starts, db.PathStart{Address: r.tree.Address, Key: node.Key(key)})
	}
	got, err := db.Collect(db.GetPaths(f.ctx, f.ndb, r.root, starts))
	must(t, err)
	want, err := db.Collect(db.GetPaths(f.ctx, struct{ db.NodeDB }{f.ndb}, r.root, starts))
	must(t, err)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%d entries read in parts, %d path by path", len(got), len(want))
	}

	bytes := 0
	for e, readErr := range db.GetPaths(f.ctx, f.ndb, r.root, starts) {
		if bytes == 0 {
			must(t, f.ndb.Close(f.ctx))
		}
		bytes += len(e.Record)
		err = readErr
	}
	wantErr(t, err, db.ErrClosed)
	if bytes > 2<<20 {
		t.Errorf("%d bytes had been read when the first entry was yielded", bytes)
	}
	f.reopenAfter()
}

func TestDoneContexts(t *testing.T) {
	f := newFixture(t, nil)
	r := f.chain(1, 2)[1]
	ctx, cancel := context.WithCancel(f.ctx)
	cancel()
	late, cancelLate := context.WithDeadline(f.ctx, time.Unix(0, 0))
	defer cancelLate()
	for _, c := range []struct {
		ctx  context.Context
		want error
	}{{ctx, context.Canceled}, {late, context.DeadlineExceeded}} {
		_, nodeErr := f.ndb.GetNode(c.ctx, r.root, r.tree.Address, r.tree.Position)
		_, batchErr := f.ndb.NewBatch(c.ctx, r.root, 3)
		for _, err := range []error{
			nodeErr, batchErr, firstErr(f.ndb.Walk(c.ctx, r.root, nil)), f.ndb.Prune(c.ctx, 1),
			f.ndb.Finalize(c.ctx, []node.Root{r.root}), f.ndb.StartMultipart(c.ctx, 7),
		} {
			wantErr(t, err, c.want)
		}
	}
	if has, err := f.ndb.HasRoot(f.ctx, r.root); !has || err != nil {
		t.Fatalf("after cancelled calls: %v, %v", has, err)
	}
}

func TestHashOfNothingIsNoNode(t *testing.T) {
	f := newFixture(t, nil)
	root := emptyRoot(1, node.RootTypeState)
	_, err := f.ndb.GetNode(f.ctx, root, node.Address{}, node.RootPosition())
	wantErr(t, err, db.ErrNodeNotFound)
	_, err = f.ndb.GetPath(f.ctx, root, node.Address{}, 0, node.Key("a"))
	wantErr(t, err, db.ErrNodeNotFound)
	if root.Hash != hash.EmptyHash {
		t.Fatal("the test is about the empty root")
	}
}
