package kvdb_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/ckpt-project/ckpt/backends/memory"
	"github.com/ckpt-project/ckpt/conformance/reference"
	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/writelog"
)

var testNamespace = common.NewTestNamespaceFromSeed([]byte("kvdb"), 0)

// errCrashed is what a store says after its crash.
var errCrashed = errors.New("test store: crashed")

// lastingStore is a store whose data outlives its being closed, whose limits can be set, and which can
// crash.
type lastingStore struct {
	kv.Store
	limits kv.Limits
	// applies counts. At the one numbered crashAt (0: never), the store crashes: it does what it was asked
	// to where crashAfter says so, and says errCrashed from then on.
	applies, crashAt int
	crashAfter       bool
	crashed          bool
	// open counts the snapshots that are open. Where alone says that one goroutine uses the database, there
	// must be none when something is applied.
	open  atomic.Int32
	alone bool
	// mostOpen is the largest number of them. onApply is called after each write, and may be nil.
	mostOpen atomic.Int32
	onApply  func()
	// beforeSnapshot is called once, before the next snapshot is taken, and may be nil.
	beforeSnapshot func()
}

func newLastingStore(t testing.TB) *lastingStore {
	s, err := memory.OpenStore(t.Context(), &db.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return &lastingStore{Store: s, limits: s.Limits()}
}

func (s *lastingStore) Limits() kv.Limits { return s.limits }
func (s *lastingStore) Close() error      { return nil }

func (s *lastingStore) Apply(ctx context.Context, b *kv.Batch, sync bool) error {
	if s.crashed {
		return errCrashed
	}
	if n := s.open.Load(); s.alone && n != 0 {
		return fmt.Errorf("test store: applied while %d snapshots are open", n)
	}
	if s.limits.BatchOps > 0 && b.Len() > s.limits.BatchOps || s.limits.BatchBytes > 0 && b.Bytes() > s.limits.BatchBytes {
		return fmt.Errorf("%w: %d operations, %d bytes", kv.ErrLimitExceeded, b.Len(), b.Bytes())
	}
	if s.applies++; s.applies == s.crashAt {
		s.crashed = true
		if !s.crashAfter {
			return errCrashed
		}
		if err := s.Store.Apply(ctx, b, sync); err != nil {
			return err
		}
		return errCrashed
	}
	if s.onApply != nil {
		defer s.onApply()
	}
	return s.Store.Apply(ctx, b, sync)
}

// reboot ends a crash.
func (s *lastingStore) reboot() { s.crashed, s.crashAt = false, 0 }

// tester is what the tests need of testing.T and rapid.T.
type tester interface {
	Helper()
	Fatalf(format string, args ...any)
}

func openDB(ctx context.Context, store kv.Store, change func(*db.Config)) (db.NodeDB, error) {
	cfg := &db.Config{Namespace: testNamespace, GarbageRate: -1} // nothing goes on by itself
	if change != nil {
		change(cfg)
	}
	return kvdb.Open(ctx, store, cfg, kvdb.Options{Backend: "test", BackendVersion: "1", Compact: true})
}

func must(t tester, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v", err)
	}
}

func wantErr(t tester, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}

// mroot is a root as the model knows it.
type mroot struct {
	root   node.Root
	data   reference.Content
	tree   *reference.Node
	parent node.Root
	// log says that the database has its write log.
	log writelog.WriteLog
	// restored roots have no write log.
	restored bool
}

func (r *mroot) name() string { return r.root.String() }

// model is what the database should hold.
type model struct {
	any              bool
	earliest, latest uint64
	final            map[uint64]map[node.RootType]*mroot
	candidates       map[string]*mroot
}

func newModel() *model {
	return &model{final: make(map[uint64]map[node.RootType]*mroot), candidates: make(map[string]*mroot)}
}

func (m *model) clone() *model {
	return &model{m.any, m.earliest, m.latest, maps.Clone(m.final), maps.Clone(m.candidates)}
}

func emptyRoot(version uint64, t node.RootType) node.Root {
	return node.Root{Namespace: testNamespace, Version: version, Type: t, Hash: hash.EmptyHash}
}

// get returns a root that can be read, nil where there is none.
func (m *model) get(root node.Root) *mroot {
	if m.any && root.Version <= m.latest {
		if r := m.final[root.Version][root.Type]; r != nil && r.root == root {
			return r
		}
		return nil
	}
	return m.candidates[root.String()]
}

// all are all roots that are there.
func (m *model) all() (out []*mroot) {
	for v := m.earliest; m.any && v <= m.latest; v++ {
		for _, t := range []node.RootType{node.RootTypeState, node.RootTypeIO} {
			if r := m.final[v][t]; r != nil {
				out = append(out, r)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.candidates)) {
		out = append(out, m.candidates[name])
	}
	return out
}

// finalize does to the model what Finalize does.
func (m *model) finalize(roots []*mroot) {
	v := roots[0].root.Version
	if !m.any {
		m.any, m.earliest = true, v
	}
	m.latest = v
	m.final[v] = make(map[node.RootType]*mroot)
	for _, r := range roots {
		m.final[v][r.root.Type] = r
	}
	for again := true; again; {
		again = false
		for name, r := range m.candidates {
			ok := r.root.Version > v
			if ok && !r.parent.IsEmpty() {
				ok = m.get(r.parent) != nil
			}
			if !ok {
				delete(m.candidates, name)
				again = true
			}
		}
	}
}

// pruneBefore prunes all versions below one.
func (m *model) pruneBefore(version uint64) {
	for m.earliest < version {
		m.prune()
	}
}

func (m *model) prune() {
	delete(m.final, m.earliest)
	for m.earliest++; m.final[m.earliest] == nil; m.earliest++ {
	}
}

// commit makes a batch of the changes from one root to new reference.Content and commits it.
func commit(ctx context.Context, t tester, rng *rand.Rand, ndb db.NodeDB, old *mroot, version uint64, data reference.Content) (*mroot, error) {
	t.Helper()
	b, err := ndb.NewBatch(ctx, old.root, version)
	if err != nil {
		return nil, err
	}
	r := &mroot{
		root: node.Root{Namespace: testNamespace, Version: version, Type: old.root.Type}, data: data, parent: old.root,
	}
	r.tree = reference.Build(data)
	r.root.Hash = r.tree.RootHash()
	fresh, removed := reference.Settle(r.tree, old.tree, b.Address(), db.DefaultEmbedBytes)
	var cuts [][]*reference.Node
	for len(fresh) > 0 {
		n := 1 + rng.IntN(len(fresh))
		cuts, fresh = append(cuts, fresh[:n]), fresh[n:]
	}
	rng.Shuffle(len(cuts), func(i, j int) { cuts[i], cuts[j] = cuts[j], cuts[i] })
	for _, run := range cuts {
		for _, n := range run {
			if err := b.Put(ctx, n.Position, n.Record()); err != nil {
				return r, errors.Join(err, b.Abort(ctx))
			}
		}
		if err := b.EndRun(ctx); err != nil {
			return r, errors.Join(err, b.Abort(ctx))
		}
	}
	for _, n := range removed {
		if err := b.Remove(ctx, n.Address, n.Position); err != nil {
			return r, errors.Join(err, b.Abort(ctx))
		}
	}
	r.log = old.data.Log(data)
	if err := b.PutWriteLog(ctx, r.log); err != nil {
		return r, errors.Join(err, b.Abort(ctx))
	}
	if err := b.Commit(ctx, r.root, r.tree.RootAddress()); err != nil {
		return r, errors.Join(err, b.Abort(ctx))
	}
	return r, nil
}

// check compares everything that can be asked with the model.
func check(ctx context.Context, t tester, rng *rand.Rand, ndb db.NodeDB, m *model) {
	t.Helper()
	latest, any, err := ndb.GetLatestVersion(ctx)
	must(t, err)
	earliest, _, err := ndb.GetEarliestVersion(ctx)
	must(t, err)
	if any != m.any || any && (latest != m.latest || earliest != m.earliest) {
		t.Fatalf("versions %d to %d (%v), want %d to %d (%v)", earliest, latest, any, m.earliest, m.latest, m.any)
	}
	byVersion := make(map[uint64][]node.Root)
	all := m.all()
	for i, r := range all {
		byVersion[r.root.Version] = append(byVersion[r.root.Version], r.root)
		if i < 2 || i > len(all)-2 || rng.IntN(len(all)) < 3 { // some of them, if there are many
			checkRoot(ctx, t, rng, ndb, r)
		}
	}
	for v, want := range byVersion {
		slices.SortFunc(want, func(a, b node.Root) int {
			if a.Type != b.Type {
				return int(a.Type) - int(b.Type)
			}
			return bytes.Compare(a.Hash[:], b.Hash[:])
		})
		got, err := ndb.GetRootsForVersion(ctx, v)
		must(t, err)
		if !slices.Equal(got, want) {
			t.Fatalf("version %d has roots %v, want %v", v, got, want)
		}
	}
}

func checkRoot(ctx context.Context, t tester, rng *rand.Rand, ndb db.NodeDB, r *mroot) {
	t.Helper()
	has, err := ndb.HasRoot(ctx, r.root)
	must(t, err)
	if !has {
		t.Fatalf("%s is not there", r.root)
	}
	want := r.tree.Stored()
	checkWalk(ctx, t, ndb, r.root, nil, want)
	if r.tree == nil {
		return
	}
	at, err := ndb.RootAddress(ctx, r.root)
	must(t, err)
	if at != r.tree.Address {
		t.Fatalf("%s is at %s, want %s", r.root, at, r.tree.Address)
	}
	n := want[rng.IntN(len(want))]
	record, err := ndb.GetNode(ctx, r.root, n.Address, n.Position)
	must(t, err)
	if !bytes.Equal(record, n.Record()) {
		t.Fatalf("%s: another record at %s", r.root, n.Position)
	}
	// From the middle: what is on the way to the position, then everything from there on.
	from := n.Position
	if bits, depth, _ := from.Bits(); depth > 0 && rng.IntN(2) == 0 { // perhaps one that no node has
		depth = node.Depth(rng.IntN(int(depth))) + 1
		bits = bits.Slice(0, depth)
		bits.SetBit(depth-1, rng.IntN(2) == 0)
		from = node.NewPosition(bits, depth)
	}
	checkWalk(ctx, t, ndb, r.root, from, r.tree.From(from))
	for range 3 {
		key := []byte{byte(rng.Uint32()), byte(rng.Uint32())}
		if keys := slices.Sorted(maps.Keys(r.data)); rng.IntN(3) > 0 {
			key = []byte(keys[rng.IntN(len(keys))])
		}
		checkPath(ctx, t, ndb, r, key)
	}
	if !r.restored {
		start := r.parent
		if start.IsEmpty() {
			start.Version = r.root.Version
		}
		checkLog(ctx, t, ndb, start, r)
	}
}

func checkWalk(ctx context.Context, t tester, ndb db.NodeDB, root node.Root, from node.Position, want []*reference.Node) {
	t.Helper()
	i := 0
	for e, err := range ndb.Walk(ctx, root, from) {
		must(t, err)
		if i >= len(want) {
			t.Fatalf("%s from %s: walk goes on after %d entries", root, from, len(want))
		}
		if w := want[i].Entry(); !reference.SameEntry(e, w) {
			t.Fatalf("%s from %s: entry %d is %s at %s, want %s at %s (records equal: %v)", root, from, i,
				e.Position, e.Address, w.Position, w.Address, bytes.Equal(e.Record, w.Record))
		}
		i++
	}
	if i != len(want) {
		t.Fatalf("%s from %s: walk ends after %d entries of %d", root, from, i, len(want))
	}
}

// checkPath looks a key up with nothing but what the database returns.
func checkPath(ctx context.Context, t tester, ndb db.NodeDB, r *mroot, key []byte) {
	t.Helper()
	path, err := ndb.GetPath(ctx, r.root, r.tree.Address, 0, key)
	must(t, err)
	value, found := "", false
	nodes := r.tree.ByPosition()
	for i, e := range path {
		n := nodes[string(e.Position)]
		if n == nil || n.Embedded || !reference.SameEntry(e, n.Entry()) {
			t.Fatalf("%s: path to %x: entry %d is not what is at %s", r.root, key, i, e.Position)
		}
	}
	last, err := node.ParseRecord(path[len(path)-1].Record, path[len(path)-1].Address)
	must(t, err)
	leaves := [][2][]byte{{last.Key, last.Value}}
	if !last.Leaf {
		leaves = [][2][]byte{}
		if last.OwnLeaf != nil {
			leaves = append(leaves, [2][]byte{last.OwnKey, last.OwnValue})
		}
		for side := range last.Children {
			if e := last.Children[side].Embedded; e != nil {
				c, _, err := node.ParseCompactV0(e)
				must(t, err)
				leaves = append(leaves, [2][]byte{c.Key, c.Value})
			}
		}
	}
	for _, l := range leaves {
		if bytes.Equal(l[0], key) {
			value, found = string(l[1]), true
		}
	}
	if want, has := r.data[string(key)]; has != found || want != value {
		t.Fatalf("%s: key %x is %q (%v), want %q (%v)", r.root, key, value, found, want, has)
	}
}

func checkLog(ctx context.Context, t tester, ndb db.NodeDB, start node.Root, r *mroot) {
	t.Helper()
	i := 0
	for e, err := range ndb.GetWriteLog(ctx, start, r.root) {
		if errors.Is(err, db.ErrVersionPruned) {
			return
		}
		must(t, err)
		if i >= len(r.log) || !bytes.Equal(e.Key, r.log[i].Key) || !bytes.Equal(e.Value, r.log[i].Value) || e.Type() != r.log[i].Type() {
			t.Fatalf("%s: write log's change %d is wrong", r.root, i)
		}
		i++
	}
	if i != len(r.log) {
		t.Fatalf("%s: write log has %d changes, want %d", r.root, i, len(r.log))
	}
}

// checkSound has the database check itself.
func checkSound(ctx context.Context, t tester, ndb db.NodeDB, m *model) {
	t.Helper()
	report, err := ndb.Check(ctx, db.CheckOptions{})
	must(t, err)
	// A model that knows of no root is one of a database of empty roots.
	if roots := uint64(len(m.all())); !report.OK() || roots > 0 && report.Roots != roots {
		t.Fatalf("the check found %d roots of %d, %d nodes that nothing reaches, and %v", report.Roots, roots, report.Unreachable, report.Problems)
	}
}

// checkExact compares what is stored, after everything due was freed, with what is reached.
func checkExact(ctx context.Context, t tester, ndb db.NodeDB, m *model) {
	t.Helper()
	checkSound(ctx, t, ndb, m) // while garbage lists are still to be applied
	must(t, ndb.Compact(ctx, nil))
	checkSound(ctx, t, ndb, m)
	for _, r := range m.all() {
		checkWalk(ctx, t, ndb, r.root, nil, r.tree.Stored())
	}
	live, err := kvdb.LiveEntries(ctx, ndb)
	must(t, err)
	want := make(map[string]bool)
	for _, r := range m.all() {
		for _, n := range r.tree.Stored() {
			want[kvdb.EntryName(r.root.Type, n.Address, n.Position)] = true
		}
	}
	for name := range live {
		if !want[name] {
			t.Fatalf("%s is stored, but not reached", name)
		}
	}
	for name := range want {
		if !live[name] {
			t.Fatalf("%s is reached, but not stored", name)
		}
	}
}
