package mkvs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/ckpt-project/ckpt/framework/mkvs"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

func TestIteratorStandsNowhere(t *testing.T) {
	tree := mkvs.New(nil, node.RootTypeState)
	insert(t, tree, "a", "1")
	for _, kv := range []mkvs.KeyValueTree{tree, mkvs.NewOverlay(tree)} {
		it := kv.NewIterator(t.Context())
		check := func(when string) {
			t.Helper()
			if it.Valid() || it.Key() != nil || it.Value() != nil || it.Err() != nil {
				t.Errorf("%T %s: %v %x=%x, %v", it, when, it.Valid(), it.Key(), it.Value(), it.Err())
			}
		}
		check("before the first seek")
		it.Next()
		check("after that and Next")
		it.Seek(node.Key("b"))
		check("behind the last key")
		it.Rewind()
		if !it.Valid() || string(it.Key()) != "a" || string(it.Value()) != "1" {
			t.Errorf("%T after Rewind: %q", it, it.Key())
		}
		it.Next()
		check("at the end")
		it.Next()
		check("beyond the end")
		it.Rewind()
		it.Close()
		check("closed")
		it.Close()
		it.Next()
		check("closed, after Next")
	}
}

func TestIteratorPrefix(t *testing.T) {
	ndb := newStrictDB()
	tree := mkvs.New(ndb, node.RootTypeState)
	insert(t, tree, "", "0", "a", "1", "aa", "2", "ab", "3", "abc", "4", "abd", "5", "ac", "6", "b", "7")
	_, root := commit(t, tree, 1)
	overlay := mkvs.NewOverlay(tree)
	insert(t, overlay, "abcd", "x", "zz", "x", "a0", "x")
	remove(t, overlay, "ab", "abd", "b")
	for _, c := range []struct{ prefix, want, wantOverlay string }{
		{"ab", "ab=3 abc=4 abd=5", "abc=4 abcd=x"},
		{"abc", "abc=4", "abc=4 abcd=x"},
		{"abcd", "", "abcd=x"},
		{"abd", "abd=5", ""},
		{"b", "b=7", ""},
		{"c", "", ""},
		{"z", "", "zz=x"},
	} {
		for _, tree := range []*mkvs.Tree{tree, mkvs.NewWithRoot(ndb, root)} {
			if got := contents(t, tree, mkvs.WithPrefix([]byte(c.prefix))); got != c.want {
				t.Errorf("prefix %q: %q, want %q", c.prefix, got, c.want)
			}
		}
		if got := contents(t, overlay, mkvs.WithPrefix([]byte(c.prefix))); got != c.wantOverlay {
			t.Errorf("overlay, prefix %q: %q, want %q", c.prefix, got, c.wantOverlay)
		}
	}
	it := tree.NewIterator(t.Context(), mkvs.WithPrefix([]byte("ab")))
	defer it.Close()
	for seek, want := range map[string]string{"": "ab", "abb": "abc", "abd": "abd", "abe": "", "b": ""} {
		if it.Seek(node.Key(seek)); string(it.Key()) != want {
			t.Errorf("seek of %q: %q, want %q", seek, it.Key(), want)
		}
	}
}

// A key longer than any in a tree can be sought, and an iterator goes on behind the longest key.
func TestIteratorLongKeys(t *testing.T) {
	longest := bytes.Repeat([]byte{'k'}, node.MaxKeyBytes)
	tree := mkvs.New(nil, node.RootTypeState)
	insert(t, tree, string(longest), "1", "l", "2")
	it := tree.NewIterator(t.Context())
	defer it.Close()
	for _, key := range [][]byte{longest, append(bytes.Clone(longest), 0), bytes.Repeat([]byte{'k'}, 1<<17)} {
		it.Seek(key)
		if want := 1 + min(1, len(key)-len(longest)); string(it.Value()) != fmt.Sprint(want) {
			t.Errorf("seek of %d bytes: value %q, want %d", len(key), it.Value(), want)
		}
	}
	it.Seek(longest)
	insert(t, tree, "a", "3")
	if it.Next(); string(it.Key()) != "l" {
		t.Errorf("behind the longest key comes %q", it.Key())
	}
}

// While it goes over what changes, an iterator always goes to the least key that is there now and greater
// than its present one.
func TestIterateWhileChanging(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		ndb := newStrictDB()
		ndb.info.EmbedBytes = 12
		tree := mkvs.New(ndb, node.RootTypeState, mkvs.WithCapacity(4),
			mkvs.WithRunChanges(rapid.SampledFrom([]int{1, 1000}).Draw(t, "changes in a run")))
		var kv mkvs.KeyValueTree = tree
		now := model{}
		version := uint64(0)
		change := func() {
			key := drawKey(t)
			var err error
			switch rapid.IntRange(0, 4).Draw(t, "change") {
			case 0, 1:
				now[string(key)] = drawValue(t, 12)
				err = kv.Insert(ctx, key, now[string(key)])
			case 2:
				delete(now, string(key))
				err = kv.Remove(ctx, key)
			case 3:
				if o, ok := kv.(*mkvs.Overlay); ok {
					err = o.Commit(ctx)
				}
			default:
				version++
				_, _, err = tree.Commit(ctx, testNamespace, version)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		for range rapid.IntRange(0, 30).Draw(t, "before") {
			change()
		}
		if rapid.Bool().Draw(t, "overlay") {
			kv = mkvs.NewOverlay(tree)
		}
		it := kv.NewIterator(ctx)
		defer it.Close()
		at := drawKey(t)
		it.Seek(at)
		after := false
		for range 50 {
			want, found := "", false
			for _, key := range now.sortedKeys() {
				if key > string(at) || key == string(at) && !after {
					want, found = key, true
					break
				}
			}
			if it.Err() != nil {
				t.Fatal(it.Err())
			}
			if it.Valid() != found || found && (string(it.Key()) != want || !bytes.Equal(it.Value(), now[want])) {
				t.Fatalf("after %x: %v, %x, want %x", at, it.Valid(), it.Key(), want)
			}
			if !found {
				return
			}
			at, after = bytes.Clone(it.Key()), true
			if rapid.Bool().Draw(t, "change now") {
				change()
			}
			it.Next()
		}
	})
}

func TestIteratorError(t *testing.T) {
	ndb := newStrictDB()
	ndb.info.EmbedBytes = 0
	tree := mkvs.New(ndb, node.RootTypeState)
	insert(t, tree, "a", "1", "b", "2", "c", "3", "d", "4")
	_, root := commit(t, tree, 1)
	for _, overlay := range []bool{false, true} {
		tree = mkvs.NewWithRoot(ndb, root)
		var kv mkvs.KeyValueTree = tree
		if overlay {
			kv = mkvs.NewOverlay(tree)
			insert(t, kv, "bb", "x")
		}
		ndb.fail = nil
		it := kv.NewIterator(t.Context())
		it.Rewind()
		it.Next()
		ndb.fail = func(call string) error { return errInjected }
		for range 4 {
			it.Next()
		}
		if it.Valid() || !errors.Is(it.Err(), errInjected) {
			t.Errorf("%T: valid %v, %v", it, it.Valid(), it.Err())
		}
		ndb.fail = nil
		if it.Rewind(); !it.Valid() || it.Err() != nil {
			t.Errorf("%T after the failure: valid %v, %v", it, it.Valid(), it.Err())
		}
		it.Close()
	}
}

// An iteration over a tree of which some is changed reads in bulk all the same.
func TestIterateDirtyTree(t *testing.T) {
	ndb := newStrictDB()
	tree := mkvs.New(ndb, node.RootTypeState)
	now := model{}
	put := func(key, value string) {
		now[key] = []byte(value)
		insert(t, tree, key, value)
	}
	for i := range 2000 {
		put(fmt.Sprint(i), "v")
	}
	_, root := commit(t, tree, 1)
	tree = mkvs.NewWithRoot(ndb, root)
	for i := 0; i < 2000; i += 100 {
		put(fmt.Sprint(i), "changed")
		put(fmt.Sprint(i, "new"), strings.Repeat("new", 300))
		delete(now, fmt.Sprint(i+50))
		remove(t, tree, fmt.Sprint(i+50))
	}
	if _, err := tree.Prove(t.Context(), 0); err != nil { // reads what the changes need
		t.Fatal(err)
	}
	clear(ndb.calls)
	if err := now.checkContents(t.Context(), tree); err != nil {
		t.Fatal(err)
	}
	if ndb.calls["Walk"] > 5 || ndb.calls["GetNode"]+ndb.calls["GetPath"] > 0 {
		t.Errorf("calls for an iteration: %v", ndb.calls)
	}
}

// What comes next is looked for again when it was removed, added or changed meanwhile.
func TestIteratorSeesChanges(t *testing.T) {
	base := mkvs.New(nil, node.RootTypeState)
	for _, kv := range []mkvs.KeyValueTree{base, mkvs.NewOverlay(base)} {
		insert(t, kv, "a", "1", "c", "3", "d", "4", "e", "5")
		it := kv.NewIterator(t.Context())
		it.Rewind()
		remove(t, kv, "c")
		if it.Next(); string(it.Key()) != "d" {
			t.Errorf("%T: after a removal comes %q", it, it.Key())
		}
		insert(t, kv, "dd", "new")
		if it.Next(); string(it.Key()) != "dd" {
			t.Errorf("%T: after an insertion comes %q", it, it.Key())
		}
		insert(t, kv, "e", "changed")
		if it.Next(); string(it.Value()) != "changed" {
			t.Errorf("%T: after a change comes %q", it, it.Value())
		}
		it.Close()
	}
}
