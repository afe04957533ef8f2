package kvdb_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/ckpt-project/ckpt/conformance/reference"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// life is a database and what it should hold.
type life struct {
	rng    *rand.Rand
	store  *lastingStore
	ndb    db.NodeDB
	m      *model
	insert *tinsert
	// before is what the model was before the last operation that was tried.
	before *life
}

// op tries an operation and, where it has succeeded, tells the model. Where the store crashed it may
// have: then the model says so, and before that it has not.
func (h *life) op(do func() error, effect func()) error {
	h.before = h.copyOf()
	err := do()
	if err == nil || errors.Is(err, errCrashed) {
		effect()
	}
	return err
}

// tinsert is the multipart insert that is open.
type tinsert struct {
	version uint64
	roots   []*trestore
}

type trestore struct {
	r        *mroot
	chunks   []reference.Chunk
	done     map[int]bool
	at       node.Address
	complete bool
}

func (h *life) change(c reference.Content) reference.Content {
	c = maps.Clone(c)
	keys := slices.Sorted(maps.Keys(c))
	for range h.rng.IntN(4) {
		if len(keys) > 0 {
			delete(c, keys[h.rng.IntN(len(keys))])
		}
	}
	if h.rng.IntN(20) == 0 {
		clear(c)
	}
	more := randomContents(h.rng, h.rng.IntN(12))
	for _, k := range more.Keys() {
		v := more[k]
		if h.rng.IntN(30) == 0 { // leaves that are not embedded, and blocks of their own
			v = fmt.Sprintf("%0*d", 400+h.rng.IntN(6000), 7)
		}
		c[k] = v
	}
	return c
}

// pick returns one of some roots.
func pick[T any](rng *rand.Rand, from []T) (out T, ok bool) {
	if len(from) == 0 {
		return out, false
	}
	return from[rng.IntN(len(from))], true
}

// bases are the roots that a new one can be made from.
func (h *life) bases() (out []*mroot) {
	for _, r := range h.m.all() {
		if r.root.Type == node.RootTypeState && !(h.m.any && r.root.Version < h.m.latest) {
			out = append(out, r)
		}
	}
	return out
}

func (h *life) commit(ctx context.Context, t tester) error {
	old, ok := pick(h.rng, h.bases())
	version := uint64(0)
	switch typ := node.RootTypeState; {
	case !ok || h.rng.IntN(5) == 0:
		if h.rng.IntN(2) == 0 {
			typ = node.RootTypeIO
		}
		version = h.m.latest + 1 + uint64(h.rng.IntN(3))
		old = &mroot{root: emptyRoot(version-uint64(h.rng.IntN(2)), typ), data: reference.Content{}}
	default:
		version = old.root.Version + 1
	}
	data := h.change(old.data)
	var r *mroot
	return h.op(func() (err error) {
		r, err = commit(ctx, t, h.rng, h.ndb, old, version, data)
		return err
	}, func() {
		if r != nil && h.m.candidates[r.name()] == nil {
			h.m.candidates[r.name()] = r
		}
	})
}

// abandon begins a batch and does not commit it.
func (h *life) abandon(ctx context.Context, _ tester) error {
	version := h.m.latest + 1
	return h.op(func() error {
		b, err := h.ndb.NewBatch(ctx, emptyRoot(version, node.RootTypeState), version)
		if err != nil {
			return err
		}
		tree := fresh(randomContents(h.rng, 50), b.Address())
		for _, n := range tree.Stored() {
			if err := b.Put(ctx, n.Position, n.Record()); err != nil {
				return err
			}
		}
		if h.rng.IntN(2) == 0 {
			return b.Abort(ctx)
		}
		return nil
	}, func() {})
}

func (h *life) finalize(ctx context.Context, _ tester) error {
	var states, ios []*mroot
	version := h.m.latest + 1
	if r, ok := pick(h.rng, h.m.all()); ok && !h.m.any {
		version = r.root.Version
	}
	if h.insert != nil && h.insert.version < version {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(h.m.candidates)) {
		r := h.m.candidates[name]
		switch {
		case r.root.Version != version:
		case r.root.Type == node.RootTypeIO:
			ios = append(ios, r)
		case r.parent.IsEmpty() || h.m.any && h.m.get(r.parent) != nil:
			states = append(states, r)
		}
	}
	var roots []*mroot
	if r, ok := pick(h.rng, states); ok {
		roots = append(roots, r)
	} else if h.rng.IntN(2) == 0 {
		roots = append(roots, h.bare(version, node.RootTypeState))
	}
	if r, ok := pick(h.rng, ios); ok {
		roots = append(roots, r)
	}
	if len(roots) == 0 {
		return nil
	}
	return h.finalizeRoots(ctx, roots)
}

// bare is an empty root that was not committed.
func (h *life) bare(version uint64, t node.RootType) *mroot {
	r := &mroot{root: emptyRoot(version, t), data: reference.Content{}, restored: true}
	if c := h.m.candidates[r.name()]; c != nil && (c.parent.IsEmpty() || h.m.any && h.m.get(c.parent) != nil) {
		return c
	}
	return r
}

func (h *life) finalizeRoots(ctx context.Context, roots []*mroot) error {
	names := make([]node.Root, 0, len(roots))
	for _, r := range roots {
		names = append(names, r.root)
	}
	return h.op(func() error { return h.ndb.Finalize(ctx, names) }, func() {
		if h.insert != nil && h.insert.version == names[0].Version {
			h.insert = nil
		}
		h.m.finalize(roots)
	})
}

func (h *life) prune(ctx context.Context, t tester) error {
	if !h.m.any || h.m.earliest == h.m.latest {
		return nil
	}
	if h.insert != nil {
		wantErr(t, h.ndb.Prune(ctx, h.m.earliest), db.ErrMultipartInProgress)
		return nil
	}
	if h.rng.IntN(3) > 0 {
		return h.op(func() error { return h.ndb.Prune(ctx, h.m.earliest) }, h.m.prune)
	}
	below := h.m.earliest + uint64(h.rng.IntN(int(h.m.latest-h.m.earliest)+1))
	there := uint64(0)
	for v := range h.m.final {
		if v < below {
			there++
		}
	}
	return h.op(func() error {
		removed, err := h.ndb.PruneBefore(ctx, below)
		if err == nil && removed != there {
			t.Fatalf("PruneBefore(%d) removed %d versions of %d", below, removed, there)
		}
		return err
	}, func() { h.m.pruneBefore(below) })
}

func (h *life) collect(ctx context.Context, _ tester) error {
	return h.op(func() error { return h.ndb.CollectGarbage(ctx, nil) }, func() {})
}

func (h *life) compact(ctx context.Context, _ tester) error {
	return h.op(func() error { return h.ndb.Compact(ctx, nil) }, func() {})
}

func (h *life) reopen(ctx context.Context, t tester) (err error) {
	if h.rng.IntN(3) > 0 { // as after a kill, otherwise: nobody closed it
		must(t, h.ndb.Close(ctx))
	}
	return h.op(func() error {
		h.ndb, err = openDB(ctx, h.store, nil)
		return err
	}, func() {})
}

func (h *life) startRestore(ctx context.Context, _ tester) error {
	if h.insert == nil {
		version := h.m.latest + 1 + uint64(h.rng.IntN(4))
		if err := h.op(func() error { return h.ndb.StartMultipart(ctx, version) }, func() {
			h.insert = &tinsert{version: version}
		}); err != nil {
			return err
		}
	}
	typ := node.RootTypeState
	if h.rng.IntN(3) == 0 {
		typ = node.RootTypeIO
	}
	data := h.change(randomContents(h.rng, h.rng.IntN(60)))
	tree := reference.Build(data)
	r := &mroot{root: emptyRoot(h.insert.version, typ), data: data, tree: tree, restored: true}
	r.root.Hash = tree.RootHash()
	for _, other := range h.insert.roots {
		if other.r.root == r.root {
			return nil
		}
	}
	chunks := cut(h.rng, tree, 1+h.rng.IntN(8))
	return h.op(func() error {
		return h.ndb.AddMultipartRoot(ctx, r.root, uint64(len(chunks)), []byte(r.root.String()))
	}, func() {
		h.insert.roots = append(h.insert.roots, &trestore{r: r, chunks: chunks, done: make(map[int]bool)})
	})
}

func (h *life) restoreChunk(ctx context.Context, _ tester) error {
	if h.insert == nil {
		return nil
	}
	tr, ok := pick(h.rng, h.insert.roots)
	if !ok {
		return nil
	}
	for range 1 + h.rng.IntN(5) {
		i := h.rng.IntN(len(tr.chunks))
		if h.rng.IntN(4) > 0 {
			if err := h.writeChunk(ctx, tr, i); err != nil {
				return err
			}
			continue
		}
		if err := h.op(func() error { // begun, and not ended
			w, err := h.ndb.NewChunk(ctx, tr.r.root, uint64(i))
			if err != nil {
				return err
			}
			return tr.chunks[i].Put(ctx, w, db.DefaultEmbedBytes)
		}, func() {}); err != nil {
			return err
		}
	}
	return nil
}

func (h *life) writeChunk(ctx context.Context, tr *trestore, i int) error {
	return h.op(func() error {
		w, err := h.ndb.NewChunk(ctx, tr.r.root, uint64(i))
		if err != nil {
			return err
		}
		tr.at = w.Address()
		return writeChunk(ctx, h.ndb, tr.r.root, &tr.chunks[i], i)
	}, func() { tr.done[i] = true })
}

func (h *life) completeRoot(ctx context.Context, t tester) error {
	if h.insert == nil {
		return nil
	}
	tr, ok := pick(h.rng, h.insert.roots)
	if !ok {
		return nil
	}
	if h.rng.IntN(2) == 0 {
		for i := range tr.chunks {
			if !tr.done[i] {
				if err := h.writeChunk(ctx, tr, i); err != nil {
					return err
				}
			}
		}
	}
	if len(tr.done) < len(tr.chunks) {
		wantErr(t, h.ndb.CompleteRoot(ctx, tr.r.root), db.ErrNotComplete)
		return nil
	}
	return h.op(func() error { return h.ndb.CompleteRoot(ctx, tr.r.root) }, func() {
		restored(tr.r.tree, tr.chunks, tr.at)
		tr.complete = true
	})
}

func (h *life) abortRestore(ctx context.Context, _ tester) error {
	if h.insert == nil || h.rng.IntN(3) > 0 {
		return nil
	}
	if i := h.rng.IntN(len(h.insert.roots) + 1); i < len(h.insert.roots) {
		return h.op(func() error { return h.ndb.AbortRoot(ctx, h.insert.roots[i].r.root) }, func() {
			h.insert.roots = slices.Delete(h.insert.roots, i, i+1)
		})
	}
	return h.op(func() error { return h.ndb.AbortMultipart(ctx) }, func() { h.insert = nil })
}

func (h *life) finalizeRestore(ctx context.Context, _ tester) error {
	if h.insert == nil {
		return nil
	}
	var roots []*mroot
	for _, tr := range h.insert.roots {
		if tr.complete && !slices.ContainsFunc(roots, func(r *mroot) bool { return r.root.Type == tr.r.root.Type }) {
			roots = append(roots, tr.r)
		}
	}
	if len(roots) == 0 {
		return nil
	}
	return h.finalizeRoots(ctx, roots)
}

// checkInsert compares what the database says of the open multipart insert.
func (h *life) checkInsert(ctx context.Context, t tester) {
	mp, err := h.ndb.Multipart(ctx)
	must(t, err)
	if (mp == nil) != (h.insert == nil) {
		t.Fatalf("multipart insert is %v, want %v", mp, h.insert)
	}
	if mp == nil {
		return
	}
	if mp.Version != h.insert.version || len(mp.Roots) != len(h.insert.roots) {
		t.Fatalf("multipart insert of version %d has %d roots, want %d of %d", mp.Version, len(mp.Roots), len(h.insert.roots), h.insert.version)
	}
	for i, got := range mp.Roots {
		want := h.insert.roots[i]
		var done []uint64
		for i := range want.chunks {
			if want.done[i] {
				done = append(done, uint64(i))
			}
		}
		if got.Root != want.r.root || got.Chunks != uint64(len(want.chunks)) || string(got.Tag) != got.Root.String() ||
			got.Complete != want.complete || !slices.Equal(got.Done, done) {
			t.Fatalf("multipart root is %v, want %s of %d chunks, %v done, complete %v", got, want.r.root, len(want.chunks), done, want.complete)
		}
	}
}

// steps are what can happen to a database.
var steps = map[string]func(h *life, ctx context.Context, t tester) error{
	"commit":          (*life).commit,
	"commitMore":      (*life).commit,
	"commitStillMore": (*life).commit,
	"abandon":         (*life).abandon,
	"finalize":        (*life).finalize,
	"finalizeMore":    (*life).finalize,
	"prune":           (*life).prune,
	"collect":         (*life).collect,
	"compact":         (*life).compact,
	"reopen":          (*life).reopen,
	"startRestore":    (*life).startRestore,
	"restoreChunk":    (*life).restoreChunk,
	"completeRoot":    (*life).completeRoot,
	"abortRestore":    (*life).abortRestore,
	"finalizeRestore": (*life).finalizeRestore,
}

// limitSets are stores with more or less narrow limits.
var limitSets = []kv.Limits{
	{},
	{PreferredBatchBytes: 20_000},
	{BatchOps: 6},
	{BatchOps: 40, PreferredBatchBytes: 8000},
}

func newLife(tb testing.TB, t tester, seed uint64, limits int) *life {
	h := &life{rng: rand.New(rand.NewPCG(seed, 1)), store: newLastingStore(tb), m: newModel()}
	h.store.limits = limitSets[limits]
	h.store.limits.Durable, h.store.alone = true, true
	var err error
	h.ndb, err = openDB(context.Background(), h.store, nil)
	must(t, err)
	return h
}

// end ends all unfinished work and looks for what it may have left behind.
func (h *life) end(ctx context.Context, t tester) {
	t.Helper()
	must(t, h.ndb.AbortMultipart(ctx))
	must(t, h.ndb.Close(ctx))
	var err error
	h.ndb, err = openDB(ctx, h.store, nil)
	must(t, err)
	check(ctx, t, h.rng, h.ndb, h.m)
	checkExact(ctx, t, h.ndb, h.m)
	counts, err := kvdb.KindCounts(ctx, h.ndb)
	must(t, err)
	for kind, n := range counts {
		if kind>>4 >= 6 && kind>>4 != 0xa {
			t.Fatalf("%d keys of kind %02x are left of restores", n, kind)
		}
	}
	if n := h.store.open.Load(); n != 0 {
		t.Fatalf("%d snapshots are open", n)
	}
	if kindCandidates := counts[0x11] + counts[0x12]; kindCandidates != len(h.m.candidates) {
		t.Fatalf("%d candidates are stored, want %d", kindCandidates, len(h.m.candidates))
	}
	if counts[0x03] != len(h.m.final) {
		t.Fatalf("%d versions are stored, want %d", counts[0x03], len(h.m.final))
	}
	must(t, h.ndb.Close(ctx))
}
