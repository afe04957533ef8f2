package mkvs_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"testing"

	"pgregory.net/rapid"

	"github.com/ckpt-project/ckpt/framework/mkvs"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// An overlay looks like what lies below with the changes made, and leaves that alone until it is
// committed. Overlays can lie on overlays.
func TestOverlayHistory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		ndb := newStrictDB()
		tree := mkvs.New(ndb, node.RootTypeState)
		layers := []mkvs.KeyValueTree{tree}
		models := []model{{}}
		for range rapid.IntRange(1, 60).Draw(t, "operations") {
			top := len(layers) - 1
			kv, now := layers[top], models[top]
			key := drawKey(t)
			var err error
			switch op := rapid.IntRange(0, 19).Draw(t, "operation"); {
			case op < 6:
				value := drawValue(t, 20)
				if err = kv.Insert(ctx, key, value); err == nil {
					now[string(key)] = bytes.Clone(value)
				}
				for i := range value {
					value[i]++
				}
			case op < 9:
				if err = kv.Remove(ctx, key); err == nil {
					delete(now, string(key))
				}
			case op < 12:
				var value []byte
				if value, err = kv.RemoveExisting(ctx, key); err == nil {
					if want, there := now[string(key)]; (value != nil) != there || !bytes.Equal(value, want) {
						t.Fatalf("removed %x of %x, want %x", value, key, want)
					}
					delete(now, string(key))
				}
			case op < 15:
				var value []byte
				if value, err = kv.Get(ctx, key); err == nil {
					if want, there := now[string(key)]; (value != nil) != there || !bytes.Equal(value, want) {
						t.Fatalf("got %x of %x, want %x", value, key, want)
					}
				}
			case op < 17:
				if len(layers) < 4 {
					layers = append(layers, mkvs.NewOverlay(kv))
					models = append(models, maps.Clone(now))
				}
			default:
				if top > 0 {
					o := kv.(*mkvs.Overlay)
					if rapid.Bool().Draw(t, "commit") {
						err = o.Commit(ctx)
						models[top-1] = maps.Clone(now)
					}
					if rapid.Bool().Draw(t, "close") {
						o.Close()
						layers, models = layers[:top], models[:top]
					}
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			for i := range layers {
				if err := models[i].checkContents(ctx, layers[i]); err != nil {
					t.Fatalf("layer %d: %v", i, err)
				}
			}
		}
		_, root, err := tree.Commit(ctx, testNamespace, 1)
		if want := models[0].root(); err != nil || root != want {
			t.Fatalf("root %s, %v, want %s", root, err, want)
		}
	})
}

func TestOverlayCommitFails(t *testing.T) {
	ndb := newStrictDB()
	tree := mkvs.New(ndb, node.RootTypeState)
	insert(t, tree, "a", "1", "b", "2", "c", "3")
	_, root := commit(t, tree, 1)
	tree = mkvs.NewWithRoot(ndb, root)
	o := mkvs.NewOverlay(tree)
	insert(t, o, "a", "x", "d", "4")
	remove(t, o, "b")
	ndb.fail = func(string) error { return errInjected }
	if err := o.Commit(t.Context()); !errors.Is(err, errInjected) {
		t.Fatalf("committed: %v", err)
	}
	ndb.fail = nil
	if got := contents(t, o); got != "a=x c=3 d=4" {
		t.Errorf("the overlay holds %q", got)
	}
	if err := o.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := contents(t, tree); got != "a=x c=3 d=4" {
		t.Errorf("the tree holds %q", got)
	}
	o.Close()
	if err := o.Commit(t.Context()); !errors.Is(err, mkvs.ErrClosed) {
		t.Errorf("committed after Close: %v", err)
	}
	if it := o.NewIterator(t.Context()); true {
		it.Rewind()
		if !errors.Is(it.Err(), mkvs.ErrClosed) {
			t.Errorf("iterated after Close: %v", it.Err())
		}
		it.Close()
	}
}
