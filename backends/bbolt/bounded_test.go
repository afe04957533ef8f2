package bbolt_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/ckpt-project/ckpt/backends/bbolt"
	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/mkvs"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// Walks, checks and the freeing of space take the memory that the configuration lets them, with far more
// data than that.
func TestMemoryIsBounded(t *testing.T) {
	const (
		memory  = db.MinMemoryBytes
		entries = 60_000
		value   = 250
		// slack is what the engine, a transaction of a part, and everything else takes besides.
		slack = 4 << 20
	)
	ctx := t.Context()
	ns := common.NewTestNamespaceFromSeed([]byte("bounded"), 0)
	ndb, err := bbolt.New().New(ctx, &db.Config{
		Dir: filepath.Join(t.TempDir(), "db"), Namespace: ns, MemoryBytes: memory, GarbageRate: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer ndb.Close(context.Background())

	root := node.Root{Namespace: ns, Type: node.RootTypeState}
	root.Hash.Empty()
	version := func(change func(tree *mkvs.Tree, i uint64) error, n uint64) {
		t.Helper()
		tree := mkvs.NewWithRoot(ndb, root)
		defer tree.Close()
		for i := range n {
			if err := change(tree, i); err != nil {
				t.Fatal(err)
			}
		}
		next := root.Version + 1
		_, h, err := tree.Commit(ctx, ns, next)
		if err != nil {
			t.Fatal(err)
		}
		root.Version, root.Hash = next, h
		if err := ndb.Finalize(ctx, []node.Root{root}); err != nil {
			t.Fatal(err)
		}
	}
	key := func(i uint64) []byte { // neighbours lie far apart
		return binary.BigEndian.AppendUint64(nil, i*0x9e3779b97f4a7c15)
	}
	version(func(tree *mkvs.Tree, i uint64) error {
		return tree.Insert(ctx, key(i), make([]byte, value))
	}, entries)
	version(func(tree *mkvs.Tree, i uint64) error { return tree.Remove(ctx, key(i)) }, entries-100)

	size, err := ndb.Size(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if size.Live < 10*memory {
		t.Fatalf("only %d bytes are stored", size.Live)
	}
	defer debug.SetGCPercent(debug.SetGCPercent(10)) // so that the heap is little more than what is in use
	runtime.GC()
	runtime.GC() // what is kept to be used again goes with the second
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	before := stats.HeapAlloc
	// Memory is looked at all the time, not just where something reports progress.
	during := func(what string, do func() error) {
		t.Helper()
		stop, peak := make(chan struct{}), make(chan uint64)
		go func() {
			in := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
			most := uint64(0)
			for tick := time.NewTicker(time.Millisecond); ; {
				metrics.Read(in)
				most = max(most, in[0].Value.Uint64())
				select {
				case <-tick.C:
				case <-stop:
					tick.Stop()
					peak <- most
					return
				}
			}
		}()
		err := do()
		close(stop)
		used := int64(<-peak) - int64(before)
		if used > memory+slack {
			t.Errorf("%s: %d bytes are in use, with %d stored and %d allowed", what, used, size.Live, memory)
		}
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}

	roots, err := ndb.GetRootsForVersion(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	during("walk", func() error {
		for _, err := range ndb.Walk(ctx, roots[0], nil) {
			if err != nil {
				return err
			}
			n++
		}
		return nil
	})
	if n < entries/2 {
		t.Errorf("%d entries walked", n)
	}
	check := func(what string) {
		t.Helper()
		during(what, func() error {
			report, err := ndb.Check(ctx, db.CheckOptions{})
			if err == nil && !report.OK() {
				err = fmt.Errorf("%+v", report)
			}
			return err
		})
	}
	check("check")
	if _, err := ndb.PruneBefore(ctx, 2); err != nil {
		t.Fatal(err)
	}
	check("check with garbage")
	during("collection", func() error { return ndb.CollectGarbage(ctx, nil) })
	check("check without garbage")
}
