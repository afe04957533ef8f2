package mkvs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/ckpt-project/ckpt/framework/mkvs"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// manyWorkers makes trees use several goroutines on machines with few processors, too.
func manyWorkers(t *testing.T) {
	before := runtime.GOMAXPROCS(max(4, runtime.GOMAXPROCS(0)))
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
}

// randomChanges changes a tree and a model of it in the same way: of keys that are there every tenth is
// removed, as many are changed or set to what they are, and n keys are new.
func randomChanges(t *testing.T, rng *rand.Rand, tree *mkvs.Tree, now model, n int) {
	t.Helper()
	keys := now.sortedKeys()
	rng.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	for i, key := range keys[:len(keys)/5] {
		if i%2 == 0 {
			remove(t, tree, key)
			delete(now, key)
			continue
		}
		if i%3 > 0 {
			now[key] = fmt.Append(nil, "changed ", rng.Uint64())
		}
		insert(t, tree, key, string(now[key]))
	}
	for range n {
		key := fmt.Append(nil, rng.Uint64())
		if rng.IntN(4) == 0 { // a prefix of others
			key = key[:1+rng.IntN(4)]
		}
		now[string(key)] = bytes.Repeat([]byte{'v'}, rng.IntN(40))
		insert(t, tree, string(key), string(now[string(key)]))
	}
}

// Commits of many changes, which several goroutines apply, lead to the root that the definition says, put and
// remove what the contract says, and return and store what was changed; where the nodes stay in memory and
// where they are written at once.
func TestLargeCommits(t *testing.T) {
	manyWorkers(t)
	for _, c := range []struct {
		name string
		opts []mkvs.Option
	}{
		{"in memory", []mkvs.Option{mkvs.WithCapacity(0)}},
		{"in large runs", []mkvs.Option{mkvs.WithCapacity(500), mkvs.WithRunChanges(600)}},
		{"in small runs", []mkvs.Option{mkvs.WithCapacity(500), mkvs.WithRunChanges(20)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx := t.Context()
			rng := rand.New(rand.NewPCG(1, 2))
			ndb := newStrictDB()
			ndb.info.EmbedBytes = 40
			tree := mkvs.New(ndb, node.RootTypeState, c.opts...)
			now := model{}
			for version := uint64(1); version <= 3; version++ {
				before := now.clone()
				randomChanges(t, rng, tree, now, 6000/int(version))
				if version == 3 { // some of it applied before
					if err := now.checkContents(ctx, tree); err != nil {
						t.Fatal(err)
					}
					randomChanges(t, rng, tree, now, 1500)
				}
				log, root := commit(t, tree, version)
				if want := now.root(); root.Hash != want {
					t.Fatalf("version %d: root %s, want %s", version, root.Hash, want)
				}
				if len(log) != len(ndb.logs[root]) {
					t.Errorf("version %d: %d changes stored, want %d", version, len(ndb.logs[root]), len(log))
				}
				for _, e := range log {
					if e.Value == nil {
						delete(before, string(e.Key))
					} else {
						before[string(e.Key)] = e.Value
					}
				}
				if got := before.root(); got != root.Hash {
					t.Errorf("version %d: the write log leads to %s", version, got)
				}
				if version == 2 {
					tree = mkvs.NewWithRoot(ndb, root, append(c.opts, mkvs.WithVerifyReads())...)
				}
			}
			if err := now.checkContents(ctx, tree); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func (m model) clone() model {
	out := make(model, len(m))
	for key, value := range m {
		out[key] = value
	}
	return out
}

// A large commit that fails, at whatever call, or is cancelled, leaves the tree as it was and no goroutine
// behind, and can be made again.
func TestLargeCommitFails(t *testing.T) {
	manyWorkers(t)
	ways := map[string][]mkvs.Option{
		"kept":    {mkvs.WithCapacity(0), mkvs.WithRunChanges(10)},
		"dropped": {mkvs.WithCapacity(100), mkvs.WithRunChanges(30)},
	}
	for _, call := range []string{"NewBatch", "GetPath", "GetNode", "Put", "EndRun", "Remove", "PutWriteLog", "Commit", "cancel"} {
		for name, opts := range ways {
			t.Run(call+"/"+name, func(t *testing.T) { largeCommitFails(t, call, opts) })
		}
	}
}

func largeCommitFails(t *testing.T, call string, opts []mkvs.Option) {
	ctx := t.Context()
	rng := rand.New(rand.NewPCG(3, 4))
	ndb := newStrictDB()
	tree := mkvs.New(ndb, node.RootTypeState, opts...)
	now := model{}
	randomChanges(t, rng, tree, now, 1500)
	_, root := commit(t, tree, 1)
	tree = mkvs.NewWithRoot(ndb, root, opts...)
	randomChanges(t, rng, tree, now, 1200)
	for _, after := range []int{0, 100} {
		failing, cancel := context.WithCancel(ctx)
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
		_, _, err := tree.Commit(failing, testNamespace, 2)
		cancel()
		ndb.fail = nil
		if want := map[bool]error{true: context.Canceled, false: errInjected}[call == "cancel"]; seen > after && !errors.Is(err, want) || seen <= after && err != nil {
			t.Fatalf("committed after %d of %d calls: %v", after, seen, err)
		}
		if err == nil { // it takes no more calls than that
			return
		}
		if counted, there := mkvs.CountedInMemory(tree), mkvs.BytesInMemory(tree); counted != there {
			t.Errorf("after %d of %d calls: %d bytes in memory, and the tree takes them for %d", after, seen, there, counted)
		}
	}
	if _, root := commit(t, tree, 2); root.Hash != now.root() {
		t.Errorf("root %s, want %s", root.Hash, now.root())
	}
	if err := now.checkContents(ctx, tree); err != nil {
		t.Error(err)
	}
}

// What is set again and again does not take more memory each time.
func TestChangesAreForgotten(t *testing.T) {
	tree := mkvs.New(nil, node.RootTypeState)
	key, value := []byte("key"), make([]byte, 100_000)
	insert(t, tree, "other", "1")
	insert(t, tree, "key", "first")
	first, err := tree.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 500 {
		value[0] = byte(i)
		if err := tree.Insert(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
	}
	if n := mkvs.ChangesInMemory(tree); n > 4<<20 {
		t.Errorf("%d bytes for a value of %d", n, len(value))
	}
	if string(first) != "first" {
		t.Errorf("what was got became %q", first)
	}
	if got, err := tree.Get(t.Context(), key); err != nil || !bytes.Equal(got, value) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	if got, err := tree.Get(t.Context(), []byte("other")); err != nil || string(got) != "1" {
		t.Errorf("got %q, %v", got, err)
	}
}
