package kvdb_test

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/ckpt-project/ckpt/conformance/reference"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// format1 returns a store as the program wrote it when the format had version 1 (testdata/format1.txt.gz: a
// key and its value a line), and what is in it: two finalized versions, an IO root and a candidate.
func format1(t *testing.T) (*lastingStore, *model) {
	file, err := os.Open("testdata/format1.txt.gz")
	must(t, err)
	defer file.Close()
	unpacked, err := gzip.NewReader(file)
	must(t, err)
	store := newLastingStore(t)
	var b kv.Batch
	lines := bufio.NewScanner(unpacked)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), " ")
		k, err := hex.DecodeString(key)
		must(t, err)
		v, err := hex.DecodeString(value)
		must(t, err)
		b.Put(k, v)
	}
	must(t, lines.Err())
	must(t, store.Store.Apply(t.Context(), &b, true))

	one := reference.Content{"": "of no key", "a": "1", "ab": "", "b": "two"}
	for i := range 1000 {
		one[fmt.Sprintf("key %04d", i)] = fmt.Sprintf("the value of key %d, long enough for several parts", i)
	}
	two := maps.Clone(one)
	delete(two, "a")
	delete(two, "key 0007")
	two["b"], two["c"] = "three", ""
	m := newModel()
	add := func(version uint64, typ node.RootType, root string, old *mroot, data reference.Content) *mroot {
		r := &mroot{root: emptyRoot(version, typ), data: data, parent: old.root}
		must(t, r.root.Hash.UnmarshalText([]byte(root)))
		r.tree = reference.Build(data)
		reference.Settle(r.tree, old.tree, node.Address{Version: version}, db.DefaultEmbedBytes)
		r.log = old.data.Log(data)
		return r
	}
	none := func(t node.RootType) *mroot {
		return &mroot{root: node.Root{Namespace: testNamespace, Type: t, Hash: hash.EmptyHash}, data: reference.Content{}}
	}
	r1 := add(1, node.RootTypeState, "47511c9917d1a1f95674470b583fa97afb21a694b908747fa5ee5d58acaec2e7", none(node.RootTypeState), one)
	r2 := add(2, node.RootTypeState, "934b8430665bc762cb09a1332dff2cf7866c5f2a0f0065dfe89c06c8e8c513b9", r1, two)
	io := add(2, node.RootTypeIO, "3eb1271ee7abf5a696bf6204e0a8cc20aea914b0bf10470607cec3a468bb6689", none(node.RootTypeIO), reference.Content{"in": "put"})
	r3 := add(3, node.RootTypeState, "0dbfbd9db4710bbb79834411087c7c3c685fa06d22973abb4b68c35e911baeda", r2, reference.Content{"candidate": "x", "b": "three"})
	m.finalize([]*mroot{r1})
	m.finalize([]*mroot{r2, io})
	m.candidates[r3.name()] = r3
	return store, m
}

func migrating(c *db.Config) { c.Migrate = true }

func TestOlderFormatIsNamedWithItsMigration(t *testing.T) {
	store, _ := format1(t)
	for _, readOnly := range []bool{false, true} {
		_, err := openDB(t.Context(), store, func(c *db.Config) { c.ReadOnly = readOnly })
		wantErr(t, err, db.ErrFormatVersion)
		if !strings.Contains(err.Error(), "ckpt-host db migrate") {
			t.Errorf("the error does not name the command: %v", err)
		}
	}
	_, err := openDB(t.Context(), store, func(c *db.Config) { c.ReadOnly, c.Migrate = true, true })
	wantErr(t, err, db.ErrReadOnly)
}

// Wherever a migration ends, the next one goes on, and nothing is missing in the end.
func TestMigration(t *testing.T) {
	ctx, rng := t.Context(), rand.New(rand.NewPCG(2, 2))
	for crash := 1; ; crash++ {
		store, m := format1(t)
		store.limits.BatchBytes, store.limits.PreferredBatchBytes = 80<<10, 1<<10 // a part a write
		store.crashAt, store.crashAfter = crash, crash%2 == 0
		ndb, err := openDB(ctx, store, migrating)
		crashed := errors.Is(err, errCrashed)
		if crashed {
			store.reboot()
			ndb, err = openDB(ctx, store, migrating)
		}
		must(t, err)
		check(ctx, t, rng, ndb, m)
		checkExact(ctx, t, ndb, m)
		counts, err := kvdb.KindCounts(ctx, ndb)
		must(t, err)
		for kind := range counts {
			if kind>>4 == 5 {
				t.Fatalf("write logs of the old format are left")
			}
		}
		must(t, ndb.Close(ctx))
		// It is one of the present format now.
		ndb, err = openDB(ctx, store, nil)
		must(t, err)
		check(ctx, t, rng, ndb, m)
		must(t, ndb.Close(context.Background()))
		if !crashed {
			if crash < 4 {
				t.Fatalf("only %d writes: no migration was broken off in the middle", crash-1)
			}
			return
		}
	}
}
