package mkvs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/ckpt-project/ckpt/conformance/reference"
	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/writelog"
)

var testNamespace = common.NewTestNamespaceFromSeed([]byte("mkvs"), 0)

// model is a tree's contents, as a map.
type model map[string][]byte

// sortedKeys lists the keys in order.
func (m model) sortedKeys() []string { return slices.Sorted(maps.Keys(m)) }

// root computes the root hash with none of the code under test.
func (m model) root() hash.Hash {
	c := make(reference.Content, len(m))
	for key, value := range m {
		c[key] = string(value)
	}
	return reference.Build(c).RootHash()
}

// checkContents holds everything that an iterator gives against the model.
func (m model) checkContents(ctx context.Context, tree mkvs.KeyValueTree) error {
	it := tree.NewIterator(ctx)
	defer it.Close()
	keys := m.sortedKeys()
	n := 0
	for it.Rewind(); it.Valid(); it.Next() {
		if n >= len(keys) || string(it.Key()) != keys[n] || !bytes.Equal(it.Value(), m[keys[n]]) {
			return fmt.Errorf("entry %d is %x=%x, want those of %x", n, it.Key(), it.Value(), keys)
		}
		n++
	}
	if it.Err() != nil {
		return it.Err()
	}
	if n != len(keys) {
		return fmt.Errorf("%d entries, want %d", n, len(keys))
	}
	return nil
}

// drawKey draws keys of which many are prefixes of each other or differ late.
func drawKey(t *rapid.T) []byte {
	n := rapid.IntRange(0, 5).Draw(t, "length")
	key := make([]byte, n)
	for i := range key {
		key[i] = rapid.SampledFrom([]byte{0x00, 0x01, 0x7f, 0x80, 0xff, 'a'}).Draw(t, "byte")
	}
	return key
}

func drawValue(t *rapid.T, embedBytes int) []byte {
	n := rapid.SampledFrom([]int{0, 1, 5, max(0, embedBytes-10), embedBytes - 7, embedBytes, embedBytes + 9}).Draw(t, "size")
	return bytes.Repeat([]byte{rapid.Byte().Draw(t, "fill")}, max(n, 0))
}

// history drives a tree on a database and a model with the same random operations.
type history struct {
	ctx   context.Context
	ndb   db.NodeDB
	opts  []mkvs.Option
	embed int

	tree      *mkvs.Tree
	root      node.Root
	version   uint64
	now, base model
	touched   map[string]bool
	// committed is told of each commit.
	committed func(old, new node.Root) error
}

func (h *history) step(t *rapid.T) {
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	switch op := rapid.IntRange(0, 19).Draw(t, "operation"); {
	case op < 8:
		key, value := drawKey(t), drawValue(t, h.embed)
		must(h.tree.Insert(h.ctx, key, value))
		h.now[string(key)] = bytes.Clone(value)
		h.touched[string(key)] = true
		for i := range value {
			value[i]++ // the tree has its own copy
		}
	case op < 13:
		key := drawKey(t)
		if keys := h.now.sortedKeys(); len(keys) > 0 && rapid.Bool().Draw(t, "existing") {
			key = []byte(rapid.SampledFrom(keys).Draw(t, "key"))
		}
		value, err := h.tree.RemoveExisting(h.ctx, key)
		must(err)
		want, there := h.now[string(key)]
		if (value != nil) != there || !bytes.Equal(value, want) {
			t.Fatalf("removed %x of %x, want %x", value, key, want)
		}
		if there {
			h.touched[string(key)] = true
		}
		delete(h.now, string(key))
	case op < 15:
		key := drawKey(t)
		value, err := h.tree.Get(h.ctx, key)
		must(err)
		want, there := h.now[string(key)]
		if (value != nil) != there || !bytes.Equal(value, want) {
			t.Fatalf("got %x of %x, want %x", value, key, want)
		}
	case op < 16:
		must(h.now.checkContents(h.ctx, h.tree))
	case op < 17:
		h.seek(t)
	default:
		h.commit(t, rapid.Bool().Draw(t, "reopen"))
	}
}

func (h *history) seek(t *rapid.T) {
	key := drawKey(t)
	it := h.tree.NewIterator(h.ctx)
	defer it.Close()
	keys := h.now.sortedKeys()
	at, _ := slices.BinarySearch(keys, string(key))
	it.Seek(key)
	for range 3 {
		switch {
		case it.Err() != nil:
			t.Fatal(it.Err())
		case it.Valid() != (at < len(keys)):
			t.Fatalf("after seek of %x: valid %v, want key %d of %x", key, it.Valid(), at, keys)
		case it.Valid() && (string(it.Key()) != keys[at] || !bytes.Equal(it.Value(), h.now[keys[at]])):
			t.Fatalf("after seek of %x: %x, want %x", key, it.Key(), keys[at])
		}
		it.Next()
		at++
	}
}

func (h *history) commit(t *rapid.T, reopen bool) {
	version := h.version + 1
	log, got, err := h.tree.Commit(h.ctx, testNamespace, version)
	if err != nil {
		t.Fatalf("commit version %d: %v", version, err)
	}
	if want := h.now.root(); got != want {
		t.Fatalf("root %s, want %s of %x", got, want, h.now)
	}
	h.checkLog(t, log)
	old := h.root
	h.root = node.Root{Namespace: testNamespace, Version: version, Type: node.RootTypeState, Hash: got}
	h.version = version
	h.base, h.touched = maps.Clone(h.now), map[string]bool{}
	if h.committed != nil {
		if err := h.committed(old, h.root); err != nil {
			t.Fatal(err)
		}
	}
	if reopen && h.ndb != nil {
		h.tree.Close()
		h.tree = mkvs.NewWithRoot(h.ndb, h.root, h.opts...)
	}
}

// checkLog holds a write log against what was done since the last commit.
func (h *history) checkLog(t *rapid.T, log writelog.WriteLog) {
	want := writelog.WriteLog{}
	for _, key := range slices.Sorted(maps.Keys(h.touched)) {
		value, there := h.now[key]
		_, before := h.base[key]
		switch {
		case there:
			want = append(want, writelog.LogEntry{Key: []byte(key), Value: value})
		case before:
			want = append(want, writelog.LogEntry{Key: []byte(key)})
		}
	}
	same := func(a, b writelog.LogEntry) bool {
		return bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value) && (a.Value == nil) == (b.Value == nil)
	}
	if !slices.EqualFunc(log, want, same) {
		t.Fatalf("write log %x, want %x", log, want)
	}
}

func newHistory(ctx context.Context, ndb db.NodeDB, embed int, opts ...mkvs.Option) *history {
	return &history{
		ctx: ctx, ndb: ndb, embed: embed, opts: opts,
		tree: mkvs.New(ndb, node.RootTypeState, opts...),
		now:  model{}, base: model{}, touched: map[string]bool{},
	}
}

func (h *history) run(t *rapid.T) {
	for range rapid.IntRange(1, 60).Draw(t, "operations") {
		h.step(t)
	}
	h.commit(t, true)
	if err := h.now.checkContents(h.ctx, h.tree); err != nil {
		t.Fatal(err)
	}
}

func TestHistoryInMemory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		newHistory(context.Background(), nil, db.DefaultEmbedBytes).run(t)
	})
}

func TestHistoryStrict(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ndb := newStrictDB()
		ndb.info.EmbedBytes = rapid.SampledFrom([]int{0, 12, db.DefaultEmbedBytes}).Draw(t, "embed")
		ndb.briefPaths = rapid.Bool().Draw(t, "brief")
		h := newHistory(context.Background(), ndb, ndb.info.EmbedBytes,
			mkvs.WithCapacity(rapid.SampledFrom([]int{0, 1, 5, 100}).Draw(t, "capacity")), mkvs.WithVerifyReads(),
			mkvs.WithRunChanges(rapid.SampledFrom([]int{1, 2, 1000}).Draw(t, "changes in a run")))
		h.run(t)
		for v := range h.version {
			for root := range ndb.roots {
				if root.Version == v+1 {
					if _, err := ndb.reachable(root); err != nil {
						t.Fatalf("%s: %v", root, err)
					}
				}
			}
		}
	})
}

// After any failure the tree is as it was, and goes on.
func TestHistoryWithFailures(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		ndb := newStrictDB()
		ndb.info.EmbedBytes = 12
		tree := mkvs.New(ndb, node.RootTypeState, mkvs.WithCapacity(2),
			mkvs.WithRunChanges(rapid.SampledFrom([]int{1, 2, 1000}).Draw(t, "changes in a run")))
		now := model{}
		version := uint64(0)
		for range rapid.IntRange(1, 60).Draw(t, "operations") {
			left := rapid.IntRange(0, 12).Draw(t, "fail after")
			ndb.fail = func(string) error {
				if left--; left < 0 {
					return errInjected
				}
				return nil
			}
			key := drawKey(t)
			var err error
			switch op := rapid.IntRange(0, 9).Draw(t, "operation"); {
			case op < 4:
				value := drawValue(t, 12)
				if err = tree.Insert(ctx, key, value); err == nil {
					now[string(key)] = value
				}
			case op < 7:
				if err = tree.Remove(ctx, key); err == nil {
					delete(now, string(key))
				}
			case op < 8:
				err = now.checkContents(ctx, tree)
			default:
				if _, _, err = tree.Commit(ctx, testNamespace, version+1); err == nil {
					version++
				}
			}
			if err != nil && !errors.Is(err, errInjected) {
				t.Fatal(err)
			}
			ndb.fail = nil
			if rapid.Bool().Draw(t, "look") {
				if err := now.checkContents(ctx, tree); err != nil {
					t.Fatal(err)
				}
			}
		}
		_, got, err := tree.Commit(ctx, testNamespace, version+1)
		if err != nil || got != now.root() {
			t.Fatalf("root %s, %v, want %s", got, err, now.root())
		}
	})
}

// The root depends on what the tree holds, not on how it came to hold it.
func TestHistoryIndependence(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keys := rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) string { return string(drawKey(t)) }), 0, 30, rapid.ID[string]).Draw(t, "keys")
		n := rapid.IntRange(0, len(keys)).Draw(t, "kept")
		var roots []hash.Hash
		for _, order := range [][]string{
			rapid.Permutation(keys[:n]).Draw(t, "first"),
			rapid.Permutation(keys).Draw(t, "second"),
		} {
			tree := mkvs.New(nil, node.RootTypeState)
			for _, key := range order {
				if err := tree.Insert(context.Background(), []byte(key), []byte("value of "+key)); err != nil {
					t.Fatal(err)
				}
			}
			for _, key := range keys[n:] {
				if err := tree.Remove(context.Background(), []byte(key)); err != nil {
					t.Fatal(err)
				}
			}
			_, root, err := tree.Commit(context.Background(), testNamespace, 1)
			if err != nil {
				t.Fatal(err)
			}
			roots = append(roots, root)
		}
		if roots[0] != roots[1] {
			t.Fatalf("roots %s and %s", roots[0], roots[1])
		}
	})
}
