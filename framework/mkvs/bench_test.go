package mkvs_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/ckpt-project/ckpt/backends/memory"
	"github.com/ckpt-project/ckpt/conformance/vectors"
	"github.com/ckpt-project/ckpt/framework/mkvs"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

const benchEntries = 50_000

func benchPairs() []vectors.Pair {
	set := vectors.DataSet{Kind: "uniform", Seed: 1, N: benchEntries}
	pairs := make([]vectors.Pair, set.N)
	for i := range pairs {
		pairs[i].Key, pairs[i].Value = set.Entry(uint64(i))
	}
	return pairs
}

func insertAll(b *testing.B, tree *mkvs.Tree, pairs []vectors.Pair) {
	for _, p := range pairs {
		if err := tree.Insert(b.Context(), p.Key, p.Value); err != nil {
			b.Fatal(err)
		}
	}
}

func perKey(b *testing.B, keys int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(keys), "ns/key")
}

func openBench(b *testing.B) db.NodeDB {
	ndb, err := openDB(b.Context(), memory.New(), db.Config{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { ndb.Close(context.Background()) })
	return ndb
}

// BenchmarkInsert is what changes cost until they are wanted in the nodes.
func BenchmarkInsert(b *testing.B) {
	pairs := benchPairs()
	b.ReportAllocs()
	for b.Loop() {
		insertAll(b, mkvs.New(nil, node.RootTypeState), pairs)
	}
	perKey(b, len(pairs))
}

// BenchmarkApply is a tree in memory: its nodes are made, and hashed, and stay.
func BenchmarkApply(b *testing.B) {
	pairs := benchPairs()
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		tree := mkvs.New(nil, node.RootTypeState)
		insertAll(b, tree, pairs)
		b.StartTimer()
		commit(b, tree, 1)
	}
	perKey(b, len(pairs))
}

// BenchmarkBulkLoad is a first version, in random order, from the first Insert until it is finalized.
func BenchmarkBulkLoad(b *testing.B) {
	pairs := benchPairs()
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		ndb := openBench(b)
		b.StartTimer()
		tree := mkvs.New(ndb, node.RootTypeState)
		insertAll(b, tree, pairs)
		_, root := commit(b, tree, 1)
		if err := ndb.Finalize(b.Context(), []node.Root{root}); err != nil {
			b.Fatal(err)
		}
	}
	perKey(b, len(pairs))
}

// stored commits the pairs and returns where.
func stored(b *testing.B, pairs []vectors.Pair) (db.NodeDB, node.Root) {
	ndb := openBench(b)
	tree := mkvs.New(ndb, node.RootTypeState)
	insertAll(b, tree, pairs)
	_, root := commit(b, tree, 1)
	if err := ndb.Finalize(b.Context(), []node.Root{root}); err != nil {
		b.Fatal(err)
	}
	return ndb, root
}

func BenchmarkIterate(b *testing.B) {
	pairs := benchPairs()
	ndb, root := stored(b, pairs)
	b.ReportAllocs()
	for b.Loop() {
		it := mkvs.NewWithRoot(ndb, root).NewIterator(b.Context())
		n := 0
		for it.Rewind(); it.Valid(); it.Next() {
			n++
		}
		if it.Close(); it.Err() != nil || n != len(pairs) {
			b.Fatal(n, it.Err())
		}
	}
	perKey(b, len(pairs))
}

func BenchmarkWalk(b *testing.B) {
	ndb, root := stored(b, benchPairs())
	for b.Loop() {
		for _, err := range ndb.Walk(b.Context(), root, node.RootPosition()) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	perKey(b, benchEntries)
}

func BenchmarkGetCold(b *testing.B) {
	pairs := benchPairs()
	ndb, root := stored(b, pairs)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if value, err := mkvs.NewWithRoot(ndb, root).Get(b.Context(), pairs[i%len(pairs)].Key); err != nil || value == nil {
			b.Fatal(err)
		}
		i++
	}
}

func BenchmarkGetWarm(b *testing.B) {
	pairs := benchPairs()
	ndb, root := stored(b, pairs)
	tree := mkvs.NewWithRoot(ndb, root, mkvs.WithCapacity(0))
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if value, err := tree.Get(b.Context(), pairs[i%len(pairs)].Key); err != nil || value == nil {
			b.Fatal(err)
		}
		i++
	}
}

// BenchmarkUpdate is a version with so many changes, on a tree that keeps part of its nodes in memory, and on
// one that has read nothing yet.
func BenchmarkUpdate(b *testing.B) {
	pairs := benchPairs()
	for _, cold := range []bool{false, true} {
		for _, changes := range []int{10, 100, 1000} {
			b.Run(fmt.Sprintf("cold=%v/changes=%d", cold, changes), func(b *testing.B) { benchUpdate(b, pairs, cold, changes) })
		}
	}
}

func benchUpdate(b *testing.B, pairs []vectors.Pair, cold bool, changes int) {
	ndb, root := stored(b, pairs)
	tree := mkvs.NewWithRoot(ndb, root, mkvs.WithCapacity(50_000))
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		if cold {
			tree = mkvs.NewWithRoot(ndb, root)
		}
		for range changes {
			p := pairs[i*7919%len(pairs)]
			if err := tree.Insert(b.Context(), p.Key, append(p.Value, byte(root.Version))); err != nil {
				b.Fatal(err)
			}
			i++
		}
		_, root = commit(b, tree, root.Version+1)
		if err := ndb.Finalize(b.Context(), []node.Root{root}); err != nil {
			b.Fatal(err)
		}
	}
	perKey(b, changes)
}
