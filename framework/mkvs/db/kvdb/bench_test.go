package kvdb_test

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/ckpt-project/ckpt/backends/memory"
	"github.com/ckpt-project/ckpt/conformance/reference"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// The benchmarks are about what kvdb costs: the store is one in memory. They report entries (keys) a
// second.

const benchEntries = 100_000

func benchTree() (*mroot, []db.Entry) {
	rng := rand.New(rand.NewPCG(1, 1))
	data := make(reference.Content, benchEntries)
	for range benchEntries {
		key := make([]byte, 32)
		for i := 0; i < len(key); i += 8 {
			binary.BigEndian.PutUint64(key[i:], rng.Uint64())
		}
		data[string(key)] = string(make([]byte, rng.IntN(200)))
	}
	r := &mroot{root: emptyRoot(1, node.RootTypeState), data: data, tree: reference.Build(data)}
	r.root.Hash = r.tree.RootHash()
	reference.Settle(r.tree, nil, node.Address{Version: 1}, db.DefaultEmbedBytes)
	var entries []db.Entry
	for _, n := range r.tree.Stored() {
		entries = append(entries, n.Entry())
	}
	return r, entries
}

func benchLoad(b *testing.B, r *mroot, entries []db.Entry) db.NodeDB {
	ctx := context.Background()
	store, err := memory.OpenStore(ctx, &db.Config{})
	if err != nil {
		b.Fatal(err)
	}
	ndb, err := openDB(ctx, store, nil)
	if err != nil {
		b.Fatal(err)
	}
	batch, err := ndb.NewBatch(ctx, emptyRoot(1, node.RootTypeState), 1)
	if err != nil {
		b.Fatal(err)
	}
	for i := range entries {
		if err := batch.Put(ctx, entries[i].Position, entries[i].Record); err != nil {
			b.Fatal(err)
		}
	}
	if err := batch.Commit(ctx, r.root, batch.Address()); err != nil {
		b.Fatal(err)
	}
	if err := ndb.Finalize(ctx, []node.Root{r.root}); err != nil {
		b.Fatal(err)
	}
	return ndb
}

func reportEntries(b *testing.B, n int) {
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}

func BenchmarkBulkLoad(b *testing.B) {
	r, entries := benchTree()
	b.ResetTimer()
	for range b.N {
		if err := benchLoad(b, r, entries).Close(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
	reportEntries(b, benchEntries)
}

func BenchmarkWalk(b *testing.B) {
	r, entries := benchTree()
	ndb := benchLoad(b, r, entries)
	b.ResetTimer()
	for range b.N {
		n := 0
		for _, err := range ndb.Walk(context.Background(), r.root, nil) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != len(entries) {
			b.Fatalf("%d entries of %d", n, len(entries))
		}
	}
	reportEntries(b, benchEntries)
}

func BenchmarkLookup(b *testing.B) {
	r, entries := benchTree()
	ndb := benchLoad(b, r, entries)
	keys := make([]string, 0, len(r.data))
	for k := range r.data {
		keys = append(keys, k)
	}
	b.ResetTimer()
	for i := range b.N {
		if _, err := ndb.GetPath(context.Background(), r.root, r.tree.Address, 0, node.Key(keys[i%len(keys)])); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRestoreChunk(b *testing.B) {
	r, _ := benchTree()
	tree := r.tree
	chunk := cut(rand.New(rand.NewPCG(1, 1)), tree, 1)
	ctx := context.Background()
	type put struct {
		position node.Position
		record   []byte
	}
	at := node.Address{Version: 1}
	var puts []put
	for _, n := range chunk[0].Nodes {
		if !n.Leaf && chunk[0].Whole[n] {
			puts = append(puts, put{n.Position, n.RecordWith(at, func(k *reference.Node) node.Child {
				if k.Leaf {
					return k.ChildWithin()
				}
				return k.ChildAt(at)
			})})
		}
	}
	b.ResetTimer()
	for range b.N {
		store, err := memory.OpenStore(ctx, &db.Config{})
		if err != nil {
			b.Fatal(err)
		}
		ndb, err := openDB(ctx, store, nil)
		if err != nil {
			b.Fatal(err)
		}
		if err := ndb.StartMultipart(ctx, 1); err != nil {
			b.Fatal(err)
		}
		if err := ndb.AddMultipartRoot(ctx, r.root, 1, nil); err != nil {
			b.Fatal(err)
		}
		w, err := ndb.NewChunk(ctx, r.root, 0)
		if err != nil {
			b.Fatal(err)
		}
		for i := range puts {
			if err := w.Put(ctx, puts[i].position, puts[i].record, true); err != nil {
				b.Fatal(err)
			}
		}
		if err := w.Commit(ctx, true); err != nil {
			b.Fatal(err)
		}
	}
	reportEntries(b, len(puts))
}
