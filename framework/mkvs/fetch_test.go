package mkvs_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ckpt-project/ckpt/framework/mkvs"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// pathsDB is a strictDB that reads many paths in one call. change, where it is set, changes what it gives.
type pathsDB struct {
	*strictDB
	change    func(entries []db.Entry) []db.Entry
	one, many atomic.Int64 // calls
}

func (d *pathsDB) GetPath(ctx context.Context, root node.Root, address node.Address, depth node.Depth, key node.Key) ([]db.Entry, error) {
	d.one.Add(1)
	return d.strictDB.GetPath(ctx, root, address, depth, key)
}

func (d *pathsDB) GetPaths(ctx context.Context, root node.Root, starts []db.PathStart) iter.Seq2[db.Entry, error] {
	d.many.Add(1)
	return func(yield func(db.Entry, error) bool) {
		entries, err := db.Collect(db.GetPaths(ctx, d.strictDB, root, starts))
		if err = errors.Join(d.call(ctx, "GetPaths"), err); err != nil {
			yield(db.Entry{}, err)
			return
		}
		if d.change != nil {
			entries = d.change(entries)
		}
		for _, e := range entries {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// fetched is a stored tree of 6,000 entries, opened anew, and its contents.
func fetched(t *testing.T, opts []mkvs.Option) (*pathsDB, *mkvs.Tree, model, *rand.Rand) {
	t.Helper()
	rng := rand.New(rand.NewPCG(11, 12))
	ndb := &pathsDB{strictDB: newStrictDB()}
	ndb.info.EmbedBytes = 40
	tree, now := mkvs.New(ndb, node.RootTypeState), model{}
	randomChanges(t, rng, tree, now, 6000)
	_, root := commit(t, tree, 1)
	return ndb, mkvs.NewWithRoot(ndb, root, opts...), now, rng
}

// A commit reads what its changes lead to in few calls, also where it keeps nothing of what it reads, and
// comes to what the definition says.
func TestCommitReadsPathsAtOnce(t *testing.T) {
	for name, opts := range map[string][]mkvs.Option{
		"kept":     nil,
		"streamed": {mkvs.WithCapacity(300), mkvs.WithRunChanges(400)},
	} {
		t.Run(name, func(t *testing.T) {
			ndb, tree, now, rng := fetched(t, opts)
			randomChanges(t, rng, tree, now, 1000)
			_, root := commit(t, tree, 2)
			if want := now.root(); root.Hash != want {
				t.Fatalf("root %s, want %s", root.Hash, want)
			}
			// Some 2,200 changes, 256 to a call at most; the nodes above are read one by one.
			if many, one := ndb.many.Load(), ndb.one.Load(); many < 8 || many > 64 || one > 64 {
				t.Errorf("%d calls of GetPaths, %d of GetPath", many, one)
			}
			if err := now.checkContents(t.Context(), tree); err != nil {
				t.Error(err)
			}
		})
	}
}

// Entries that no path leads to are damage, and those that are left out are read when they are come to.
func TestFetchOfOtherEntries(t *testing.T) {
	ndb, tree, now, rng := fetched(t, nil)
	randomChanges(t, rng, tree, now, 1000)
	ndb.change = func(entries []db.Entry) []db.Entry {
		return append(entries, db.Entry{Address: node.Address{Version: 1}, Position: node.RootPosition()})
	}
	if _, _, err := tree.Commit(t.Context(), testNamespace, 2); !errors.Is(err, db.ErrCorrupted) {
		t.Errorf("an entry too many: %v", err)
	}
	ndb.change = func(entries []db.Entry) []db.Entry { return entries[:len(entries)/2] }
	_, root := commit(t, tree, 2)
	if want := now.root(); root.Hash != want {
		t.Errorf("root %s, want %s", root.Hash, want)
	}
	ndb.change = nil
	if err := now.checkContents(t.Context(), tree); err != nil {
		t.Error(err)
	}
}

// A commit whose reading fails leaves the tree as it was.
func TestFetchFails(t *testing.T) {
	ndb, tree, now, rng := fetched(t, nil)
	randomChanges(t, rng, tree, now, 1000)
	ndb.fail = func(call string) error {
		if call == "GetPaths" {
			return fmt.Errorf("planted: %w", errInjected)
		}
		return nil
	}
	if _, _, err := tree.Commit(t.Context(), testNamespace, 2); !errors.Is(err, errInjected) {
		t.Errorf("got %v", err)
	}
	ndb.fail = nil
	if _, root := commit(t, tree, 2); root.Hash != now.root() {
		t.Errorf("root %s, want %s", root.Hash, now.root())
	}
}

// Keys can be so long that those of one subtree are more than go with one call.
func TestFetchOfLongKeys(t *testing.T) {
	pad := strings.Repeat("k", 4000)
	for name, opts := range map[string][]mkvs.Option{
		"kept":     nil,
		"streamed": {mkvs.WithCapacity(10), mkvs.WithRunChanges(20)},
	} {
		t.Run(name, func(t *testing.T) {
			ndb, now := &pathsDB{strictDB: newStrictDB()}, model{}
			tree := mkvs.New(ndb, node.RootTypeState)
			change := func(value string) {
				for i := range 200 {
					key := fmt.Sprintf("%03d", i) + pad
					now[key] = []byte(value)
					insert(t, tree, key, value)
				}
			}
			change("before")
			_, root := commit(t, tree, 1)
			tree = mkvs.NewWithRoot(ndb, root, opts...)
			change("after")
			if _, root = commit(t, tree, 2); root.Hash != now.root() {
				t.Errorf("root %s, want %s", root.Hash, now.root())
			}
			// 800 KB of keys.
			if many, one := ndb.many.Load(), ndb.one.Load(); many != 4 || one > 0 {
				t.Errorf("%d calls of GetPaths, %d of GetPath", many, one)
			}
		})
	}
}
