package plugin_test

import (
	"testing"

	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// What the way through another process costs. The fake makes and digests nothing worth mentioning, so
// this is transport alone.

func BenchmarkWalk(b *testing.B) {
	ndb := openFake(b)
	ctx := testContext(b)
	root := fakeRoot(1<<40, "a")
	root.Type = benchmarkType
	b.SetBytes(benchmarkRecord)
	n := 0
	b.ResetTimer()
	for _, err := range ndb.Walk(ctx, root, node.RootPosition()) {
		if err != nil {
			b.Fatal(err)
		}
		if n++; n >= b.N {
			break
		}
	}
}

func BenchmarkPut(b *testing.B) {
	ndb := openFake(b)
	ctx := testContext(b)
	batch, err := ndb.NewBatch(ctx, fakeRoot(1, "a"), benchmarkVersion)
	if err != nil {
		b.Fatal(err)
	}
	e := fakeEntry(1, benchmarkRecord)
	b.SetBytes(benchmarkRecord)
	b.ResetTimer()
	for range b.N {
		if err := batch.Put(ctx, e.Position, e.Record); err != nil {
			b.Fatal(err)
		}
	}
	if err := batch.Commit(ctx, fakeRoot(benchmarkVersion, "a"), node.Address{}); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkGetNode(b *testing.B) {
	ndb := openFake(b)
	ctx := testContext(b)
	for b.Loop() {
		if _, err := ndb.GetNode(ctx, fakeRoot(1, "a"), node.Address{Version: benchmarkRecord}, node.RootPosition()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCall(b *testing.B) {
	ndb := openFake(b)
	ctx := testContext(b)
	for b.Loop() {
		if _, _, err := ndb.GetLatestVersion(ctx); err != nil {
			b.Fatal(err)
		}
	}
}
