package mkvs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/ckpt-project/ckpt/conformance/vectors"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/writelog"
)

func insert(t testing.TB, tree mkvs.KeyValueTree, pairs ...string) {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if err := tree.Insert(t.Context(), []byte(pairs[i]), []byte(pairs[i+1])); err != nil {
			t.Fatal(err)
		}
	}
}

func remove(t testing.TB, tree mkvs.KeyValueTree, keys ...string) {
	t.Helper()
	for _, key := range keys {
		if err := tree.Remove(t.Context(), []byte(key)); err != nil {
			t.Fatal(err)
		}
	}
}

func commit(t testing.TB, tree *mkvs.Tree, version uint64) (writelog.WriteLog, node.Root) {
	t.Helper()
	log, h, err := tree.Commit(t.Context(), testNamespace, version)
	if err != nil {
		t.Fatal(err)
	}
	return log, node.Root{Namespace: testNamespace, Version: version, Type: tree.RootType(), Hash: h}
}

// contents lists what a tree holds, as "key=value" with spaces between.
func contents(t testing.TB, tree mkvs.KeyValueTree, opts ...mkvs.IteratorOption) string {
	t.Helper()
	it := tree.NewIterator(t.Context(), opts...)
	defer it.Close()
	var out []string
	for it.Rewind(); it.Valid(); it.Next() {
		out = append(out, string(it.Key())+"="+string(it.Value()))
	}
	if it.Err() != nil {
		t.Fatal(it.Err())
	}
	return strings.Join(out, " ")
}

// distinctVectors returns the known answers that differ in what the tree holds, with at most so many
// entries.
func distinctVectors(most uint64) []vectors.Vector {
	seen := map[string]bool{}
	return slices.DeleteFunc(vectors.All(), func(v vectors.Vector) bool {
		id := fmt.Sprint(v.Kind, v.Seed, v.N, v.RemoveEvery)
		again := seen[id]
		seen[id] = true
		return again || v.N > most
	})
}

// The known answers' roots come out in memory.
func TestVectors(t *testing.T) {
	for _, v := range distinctVectors(100_000) {
		t.Run(v.Name(), func(t *testing.T) {
			t.Parallel()
			tree := mkvs.New(nil, node.RootTypeState, mkvs.WithoutWriteLog())
			for i := range v.N {
				key, value := v.DataSet().Entry(i)
				if err := tree.Insert(t.Context(), key, value); err != nil {
					t.Fatal(err)
				}
			}
			_, root := commit(t, tree, 1)
			for _, key := range v.RemovedKeys() {
				if err := tree.Remove(t.Context(), key); err != nil {
					t.Fatal(err)
				}
			}
			if v.RemoveEvery > 0 {
				_, root = commit(t, tree, 2)
			}
			if root.Hash != v.Root {
				t.Errorf("root %s, want %s", root.Hash, v.Root)
			}
		})
	}
}

func TestEmptyValuesAndKeys(t *testing.T) {
	ndb := newStrictDB()
	tree := mkvs.New(ndb, node.RootTypeState)
	if err := tree.Insert(t.Context(), nil, nil); err != nil {
		t.Fatal(err)
	}
	insert(t, tree, "a", "")
	_, root := commit(t, tree, 1)
	for _, tree := range []*mkvs.Tree{tree, mkvs.NewWithRoot(ndb, root)} {
		for _, key := range []string{"", "a"} {
			if value, err := tree.Get(t.Context(), []byte(key)); err != nil || value == nil || len(value) != 0 {
				t.Errorf("value of %q: %v, %v", key, value, err)
			}
		}
		if value, err := tree.Get(t.Context(), []byte("b")); err != nil || value != nil {
			t.Errorf("value of an absent key: %v, %v", value, err)
		}
		if value, err := tree.Get(t.Context(), make([]byte, node.MaxKeyBytes+1)); err != nil || value != nil {
			t.Errorf("value of a key longer than any: %v, %v", value, err)
		}
		if value, err := tree.RemoveExisting(t.Context(), make([]byte, 1<<17)); err != nil || value != nil {
			t.Errorf("removed a key longer than any: %v, %v", value, err)
		}
	}
}

// The tree has copies of its own.
func TestInsertCopies(t *testing.T) {
	tree := mkvs.New(nil, node.RootTypeState)
	key, value := []byte("key"), []byte("value")
	if err := tree.Insert(t.Context(), key, value); err != nil {
		t.Fatal(err)
	}
	copy(key, "xxx")
	copy(value, "xxxxx")
	if got := contents(t, tree); got != "key=value" {
		t.Errorf("the tree holds %q", got)
	}
	log, _ := commit(t, tree, 1)
	if len(log) != 1 || string(log[0].Key) != "key" || string(log[0].Value) != "value" {
		t.Errorf("write log %s", log)
	}
}

func TestLimits(t *testing.T) {
	small := newStrictDB()
	small.info.MaxKeyBytes, small.info.MaxValueBytes = 4, 6
	for _, c := range []struct {
		tree       mkvs.KeyValueTree
		key, value int
	}{
		{mkvs.New(nil, node.RootTypeState), node.MaxKeyBytes, db.DefaultMaxValueBytes},
		{mkvs.New(newStrictDB(), node.RootTypeState), node.MaxKeyBytes, db.DefaultMaxValueBytes},
		{mkvs.New(small, node.RootTypeState), 4, 6},
		{mkvs.NewOverlay(mkvs.NewOverlay(mkvs.New(small, node.RootTypeState))), 4, 6},
	} {
		if err := c.tree.Insert(t.Context(), make([]byte, c.key), make([]byte, c.value)); err != nil {
			t.Error(err)
		}
		for name, err := range map[string]error{
			"MaxKeyBytes":   c.tree.Insert(t.Context(), make([]byte, c.key+1), nil),
			"MaxValueBytes": c.tree.Insert(t.Context(), []byte("k"), make([]byte, c.value+1)),
		} {
			if !errors.Is(err, db.ErrLimitExceeded) || !strings.Contains(err.Error(), name) {
				t.Errorf("%T, beyond %s: %v", c.tree, name, err)
			}
		}
		if value, err := c.tree.Get(t.Context(), []byte("k")); value != nil || err != nil {
			t.Errorf("%T holds what it refused: %v", c.tree, err)
		}
	}
}

func TestWriteLog(t *testing.T) {
	ndb := newStrictDB()
	tree := mkvs.New(ndb, node.RootTypeState)
	insert(t, tree, "b", "1", "a", "1", "c", "1", "b", "2")
	remove(t, tree, "c", "never there")
	log, root1 := commit(t, tree, 1)
	if got := fmt.Sprintf("%s", log); got != "[{a 1} {b 2}]" {
		t.Errorf("first write log %s", got)
	}
	remove(t, tree, "a")
	insert(t, tree, "d", "", "a2", "x")
	remove(t, tree, "a2")
	log, root2 := commit(t, tree, 2)
	if len(log) != 2 || string(log[0].Key) != "a" || log[0].Value != nil || string(log[1].Key) != "d" || log[1].Value == nil {
		t.Errorf("second write log %s", log)
	}
	if stored := fmt.Sprintf("%v", ndb.logs[root2]); stored != fmt.Sprintf("%v", log) {
		t.Errorf("stored write log %s, want %s", stored, log)
	}

	// Applied elsewhere it leads to the same roots.
	other := mkvs.New(nil, node.RootTypeState)
	for v, root := range []node.Root{root1, root2} {
		if err := other.ApplyWriteLog(t.Context(), ndb.GetWriteLog(t.Context(), node.Root{}, root)); err != nil {
			t.Fatal(err)
		}
		if _, err := other.CommitKnown(t.Context(), root); err != nil {
			t.Errorf("version %d: %v", v+1, err)
		}
	}
	if err := other.ApplyWriteLog(t.Context(), func(yield func(writelog.LogEntry, error) bool) {
		_ = yield(writelog.LogEntry{Key: []byte("e"), Value: []byte("1")}, nil) && yield(writelog.LogEntry{}, errInjected)
	}); !errors.Is(err, errInjected) {
		t.Errorf("applied a write log that failed: %v", err)
	}
	if got := contents(t, other); got != "b=2 d= e=1" {
		t.Errorf("the tree holds %q", got)
	}

	silent := mkvs.New(ndb, node.RootTypeState, mkvs.WithoutWriteLog())
	insert(t, silent, "k", "v")
	if log, root := commit(t, silent, 1); log != nil || len(ndb.logs[root]) != 0 {
		t.Errorf("write log %s of a tree without", log)
	}
}

func TestCommitKnown(t *testing.T) {
	ndb := newStrictDB()
	tree := mkvs.New(ndb, node.RootTypeState)
	insert(t, tree, "a", "1")
	right := node.Root{Namespace: testNamespace, Version: 1, Type: node.RootTypeState, Hash: node.LeafHash([]byte("a"), []byte("1"))}
	wrong := right
	wrong.Hash[0] ^= 1
	io := right
	io.Type = node.RootTypeIO
	for _, root := range []node.Root{wrong, io} {
		if _, err := tree.CommitKnown(t.Context(), root); !errors.Is(err, mkvs.ErrKnownRootMismatch) {
			t.Errorf("committed as %s: %v", root, err)
		}
	}
	if ndb.calls["NewBatch"] != 0 {
		t.Error("something was written")
	}
	if log, err := tree.CommitKnown(t.Context(), right); err != nil || len(log) != 1 {
		t.Errorf("write log %s, %v", log, err)
	}
}

// What is unchanged, or was changed back, is not written again.
func TestCommitUnchanged(t *testing.T) {
	ndb := newStrictDB()
	tree := mkvs.New(ndb, node.RootTypeState)
	insert(t, tree, "a", "1", "b", "2", "ab", "3")
	_, root := commit(t, tree, 1)
	stored := len(ndb.entries)
	for version := uint64(2); version < 5; version++ {
		switch version {
		case 3:
			insert(t, tree, "a", "1", "ac", "4")
			remove(t, tree, "ac", "ad")
		case 4:
			tree = mkvs.NewWithRoot(ndb, root)
		}
		_, next := commit(t, tree, version)
		if next.Hash != root.Hash || len(ndb.entries) != stored || ndb.roots[next] != (node.Address{Version: 1}) {
			t.Errorf("version %d: root %s at %s, %d entries", version, next, ndb.roots[next], len(ndb.entries))
		}
		root = next
		if got := contents(t, tree); got != "a=1 ab=3 b=2" {
			t.Errorf("version %d holds %q", version, got)
		}
	}
	batches := ndb.calls["NewBatch"]
	if _, again := commit(t, tree, root.Version); again != root || ndb.calls["NewBatch"] != batches {
		t.Errorf("the same version committed again: %s", again)
	}
	insert(t, tree, "c", "5")
	if _, _, err := tree.Commit(t.Context(), testNamespace, root.Version); !errors.Is(err, db.ErrRootMustFollowOld) {
		t.Errorf("another root of the same version: %v", err)
	}
	commit(t, tree, root.Version+1)
}

func TestCommitEmpty(t *testing.T) {
	ndb := newStrictDB()
	tree := mkvs.New(ndb, node.RootTypeState)
	if log, root := commit(t, tree, 7); !root.IsEmpty() || len(log) != 0 {
		t.Errorf("root %s, write log %s", root, log)
	}
	insert(t, tree, "a", "1")
	commit(t, tree, 8)
	remove(t, tree, "a")
	if _, root := commit(t, tree, 9); !root.IsEmpty() {
		t.Errorf("root %s", root)
	}
	insert(t, tree, "a", "1")
	_, root := commit(t, tree, 10)
	if got := contents(t, mkvs.NewWithRoot(ndb, root)); got != "a=1" {
		t.Errorf("the tree holds %q", got)
	}
}

// An IO root is made from nothing, and nothing is made from it.
func TestIO(t *testing.T) {
	ndb := newStrictDB()
	for version := uint64(1); version < 3; version++ {
		tree := mkvs.New(ndb, node.RootTypeIO)
		insert(t, tree, "in", "1", "out", "2")
		_, root := commit(t, tree, version)
		if root.Type != node.RootTypeIO || ndb.roots[root] != (node.Address{Version: version}) {
			t.Errorf("root %s at %s", root, ndb.roots[root])
		}
		if got := contents(t, mkvs.NewWithRoot(ndb, root)); got != "in=1 out=2" {
			t.Errorf("the tree holds %q", got)
		}
		insert(t, tree, "more", "3")
		if _, _, err := tree.Commit(t.Context(), testNamespace, version+1); !errors.Is(err, db.ErrRootMustFollowOld) {
			t.Errorf("a descendant of an IO root: %v", err)
		}
	}
}

func TestRootNotFound(t *testing.T) {
	root := node.Root{Namespace: testNamespace, Version: 1, Type: node.RootTypeState, Hash: hash.Sum([]byte("x"))}
	for _, ndb := range []db.NodeDB{nil, newStrictDB()} {
		tree := mkvs.NewWithRoot(ndb, root)
		it := tree.NewIterator(t.Context())
		defer it.Close()
		it.Rewind()
		_, get := tree.Get(t.Context(), []byte("a"))
		_, _, commit := tree.Commit(t.Context(), testNamespace, 2)
		for name, err := range map[string]error{
			"Get": get, "Commit": commit, "Iterator": it.Err(),
			"Insert": tree.Insert(t.Context(), []byte("a"), nil),
			"Remove": tree.Remove(t.Context(), []byte("a")),
		} {
			if !errors.Is(err, db.ErrRootNotFound) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestClosedAndCancelled(t *testing.T) {
	closed := mkvs.New(newStrictDB(), node.RootTypeIO)
	iterator := closed.NewIterator(t.Context())
	insert(t, closed, "a", "1", "b", "2")
	iterator.Rewind()
	closed.Close()
	closed.Close()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	live := mkvs.New(newStrictDB(), node.RootTypeIO)
	insert(t, live, "a", "1")
	for _, c := range []struct {
		ctx  context.Context
		tree *mkvs.Tree
		want error
	}{{t.Context(), closed, mkvs.ErrClosed}, {ended, live, context.Canceled}} {
		overlay := mkvs.NewOverlay(c.tree)
		it := c.tree.NewIterator(c.ctx)
		it.Rewind()
		_, get := c.tree.Get(c.ctx, []byte("a"))
		_, over := overlay.Get(c.ctx, []byte("a"))
		_, _, commit := c.tree.Commit(c.ctx, testNamespace, 1)
		_, prove := c.tree.Prove(c.ctx, 0, []byte("a"))
		for name, err := range map[string]error{
			"Get": get, "Overlay.Get": over, "Commit": commit, "Prove": prove, "Iterator": it.Err(),
			"Insert": c.tree.Insert(c.ctx, []byte("a"), []byte("2")), "Remove": c.tree.Remove(c.ctx, []byte("a")),
		} {
			if !errors.Is(err, c.want) {
				t.Errorf("%s: %v, want %v", name, err, c.want)
			}
		}
		it.Close()
	}
	if got := contents(t, live); got != "a=1" {
		t.Errorf("the tree holds %q", got)
	}
	if iterator.Next(); iterator.Valid() || !errors.Is(iterator.Err(), mkvs.ErrClosed) {
		t.Errorf("an iterator goes on over a closed tree: %v", iterator.Err())
	}
	if closed.RootType() != node.RootTypeIO {
		t.Errorf("root type %s", closed.RootType())
	}
}

// A lookup asks the database once, and the second one not at all.
func TestReadsAreFew(t *testing.T) {
	ndb := newStrictDB()
	tree := mkvs.New(ndb, node.RootTypeState)
	now := model{}
	for i := range 500 {
		key := fmt.Sprintf("key %d", i*i)
		now[key] = bytes.Repeat([]byte("v"), i*3)
		insert(t, tree, key, string(now[key]))
	}
	_, root := commit(t, tree, 1)
	tree = mkvs.NewWithRoot(ndb, root)
	for _, want := range []map[string]int{
		{"RootAddress": 1, "GetPath": 1, "GetNode": 0},
		{"RootAddress": 0, "GetPath": 0, "GetNode": 0},
	} {
		clear(ndb.calls)
		if value, err := tree.Get(t.Context(), []byte("key 10000")); err != nil || len(value) != 300 {
			t.Fatalf("%d bytes, %v", len(value), err)
		}
		for name, n := range want {
			if ndb.calls[name] != n {
				t.Errorf("%d calls of %s, want %d", ndb.calls[name], name, n)
			}
		}
	}
	clear(ndb.calls)
	if err := now.checkContents(t.Context(), tree); err != nil {
		t.Fatal(err)
	}
	if ndb.calls["Walk"] != 1 || ndb.calls["GetNode"]+ndb.calls["GetPath"] != 0 {
		t.Errorf("calls for an iteration: %v", ndb.calls)
	}
	it := tree.NewIterator(t.Context())
	defer it.Close()
	clear(ndb.calls)
	for it.Seek(node.Key("key 20")); it.Valid() && bytes.HasPrefix(it.Key(), []byte("key 20")); it.Next() {
	}
	if ndb.calls["Walk"] != 1 || ndb.calls["step"] > 100 {
		t.Errorf("calls for a short iteration: %v", ndb.calls)
	}
}

// What is read is checked, as far as that costs no hash, and wholly where that is asked for.
func TestDamage(t *testing.T) {
	build := func() (*strictDB, node.Root) {
		ndb := newStrictDB()
		ndb.info.EmbedBytes = 10
		tree := mkvs.New(ndb, node.RootTypeState)
		insert(t, tree, "a", "1", "ab", "22222222222222222222", "ac", "3", "b", "4", "abc", "5")
		_, root := commit(t, tree, 1)
		return ndb, root
	}
	pristine, root := build()
	flips := 0
	for id, record := range pristine.entries {
		for bit := range len(record) * 8 {
			damaged := bytes.Clone(record)
			damaged[bit/8] ^= 0x80 >> (bit % 8)
			ndb := newStrictDB()
			ndb.roots[root] = pristine.roots[root]
			for other, r := range pristine.entries {
				ndb.entries[other] = r
			}
			ndb.entries[id] = damaged
			for _, verify := range []bool{false, true} {
				var opts []mkvs.Option
				if verify {
					opts = append(opts, mkvs.WithVerifyReads())
				}
				tree := mkvs.NewWithRoot(ndb, root, opts...)
				var err error
				for _, key := range []string{"", "a", "ab", "abc", "ac", "b"} {
					_, e := tree.Get(t.Context(), []byte(key))
					err = errors.Join(err, e)
					err = errors.Join(err, mkvs.NewWithRoot(ndb, root, opts...).Remove(t.Context(), []byte(key)))
				}
				// A child's address is no part of a hash, but leads nowhere when it is wrong.
				if verify {
					flips++
					if !errors.Is(err, db.ErrCorrupted) && !errors.Is(err, db.ErrNodeNotFound) {
						t.Errorf("%x: %x, read as %x: %v", id.position, record, damaged, err)
					}
				}
			}
		}
	}
	if flips == 0 {
		t.Error("nothing was damaged")
	}
}

// misleadingDB says that everything was written by another version.
type misleadingDB struct{ *strictDB }

func (m misleadingDB) GetPath(ctx context.Context, root node.Root, address node.Address, depth node.Depth, key node.Key) ([]db.Entry, error) {
	path, err := m.strictDB.GetPath(ctx, root, address, depth, key)
	for i := range path {
		path[i].Address.Version++
	}
	return path, err
}

func (m misleadingDB) Walk(ctx context.Context, root node.Root, from node.Position) iter.Seq2[db.Entry, error] {
	return func(yield func(db.Entry, error) bool) {
		for e, err := range m.strictDB.Walk(ctx, root, from) {
			e.Address.Version++
			if !yield(e, err) {
				return
			}
		}
	}
}

// A node of another version, and a leaf that belongs elsewhere, are noticed without hashing anything.
func TestMisplaced(t *testing.T) {
	ndb := newStrictDB()
	ndb.info.EmbedBytes = 10
	tree := mkvs.New(ndb, node.RootTypeState)
	keys := []string{"a", "ab", "abc", "ac", "b", "ba", "bb"}
	for i, key := range keys {
		insert(t, tree, key, strings.Repeat("v", i*5))
	}
	_, root := commit(t, tree, 1)
	check := func(what string, ndb db.NodeDB) {
		t.Helper()
		var lookups error
		for _, key := range keys {
			_, err := mkvs.NewWithRoot(ndb, root).Get(t.Context(), []byte(key))
			lookups = errors.Join(lookups, err)
		}
		it := mkvs.NewWithRoot(ndb, root).NewIterator(t.Context())
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
		}
		for how, err := range map[string]error{"looked up": lookups, "iterated": it.Err()} {
			if !errors.Is(err, db.ErrCorrupted) && !errors.Is(err, db.ErrNodeNotFound) {
				t.Errorf("%s, %s: %v", what, how, err)
			}
		}
	}
	check("another version", misleadingDB{ndb})
	// A leaf whose key is another's, in each of the places that a leaf can have.
	replaced := 0
	for id, record := range ndb.entries {
		for _, key := range keys {
			leaf := node.AppendLeaf(nil, []byte(key), nil)[:3+len(key)]
			at := bytes.Index(record, leaf)
			if at < 0 {
				continue
			}
			replaced++
			other := newStrictDB()
			other.roots, other.entries = ndb.roots, maps.Clone(ndb.entries)
			other.entries[id] = bytes.Clone(record)
			other.entries[id][at+3] ^= 0x10
			other.unchecked = true
			check(fmt.Sprintf("leaf %q", key), other)
		}
	}
	if replaced != len(keys) {
		t.Errorf("%d leaves, want %d", replaced, len(keys))
	}
}

// A write log that is only stored is the one that is returned otherwise.
func TestWriteLogStored(t *testing.T) {
	for _, opts := range [][]mkvs.Option{nil, {mkvs.WithCapacity(20), mkvs.WithRunChanges(5)}} {
		returned, stored := newStrictDB(), newStrictDB()
		one := mkvs.New(returned, node.RootTypeState, opts...)
		other := mkvs.New(stored, node.RootTypeState, append(opts, mkvs.WithWriteLogStored())...)
		for version := uint64(1); version <= 3; version++ {
			for i := range uint64(100) {
				key := fmt.Sprint(i * version)
				for _, tree := range []*mkvs.Tree{one, other} {
					if version == 2 && i%3 == 0 || version == 3 && i == 99 {
						remove(t, tree, key)
					} else {
						insert(t, tree, key, fmt.Sprint(i, version))
					}
				}
			}
			log, root := commit(t, one, version)
			none, same := commit(t, other, version)
			if none != nil || root != same {
				t.Fatalf("%d changes returned, root %s, want %s", len(none), same, root)
			}
			if len(log) == 0 || fmt.Sprint(stored.logs[root]) != fmt.Sprint(log) || fmt.Sprint(returned.logs[root]) != fmt.Sprint(log) {
				t.Errorf("version %d: %d changes stored, want %d", version, len(stored.logs[root]), len(log))
			}
		}
	}
}
