package kvdb_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/ckpt-project/ckpt/conformance/reference"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// nested are keys that are prefixes of each other: one node below the other.
func nested(step int, twigs bool) reference.Content {
	data := make(reference.Content)
	key := bytes.Repeat([]byte{0xa5}, node.MaxKeyBytes)
	for n := 0; n <= node.MaxKeyBytes; n += step {
		data[string(key[:n])] = fmt.Sprint(n)
		if twigs && n > 0 {
			twig := bytes.Clone(key[:n])
			twig[n-1] ^= 1
			data[string(twig)] = fmt.Sprint(-n)
		}
	}
	return data
}

func TestDeepTree(t *testing.T) {
	f := newFixture(t, nil)
	f.store.alone = true
	step := 7
	if testing.Short() {
		step = 97
	}
	a := f.commit(nothing(1, node.RootTypeState), 1, nested(step, true))
	f.finalize(a)
	data := nested(step, false)
	data[""] = "changed"
	data[string(bytes.Repeat([]byte{0xa5}, node.MaxKeyBytes))] = "changed, too"
	b := f.commit(a, 2, data)
	f.finalize(b)
	m := newModel()
	m.any, m.earliest, m.latest = true, 1, 2
	m.final[1] = map[node.RootType]*mroot{node.RootTypeState: a}
	m.final[2] = map[node.RootType]*mroot{node.RootTypeState: b}
	check(f.ctx, t, f.rng, f.ndb, m)
	path, err := f.ndb.GetPath(f.ctx, b.root, b.tree.Address, 0, bytes.Repeat([]byte{0xa5}, node.MaxKeyBytes))
	must(t, err)
	if len(path) < node.MaxKeyBytes/step {
		t.Fatalf("the way to the deepest key has %d nodes", len(path))
	}
	must(t, f.ndb.Prune(f.ctx, 1))
	m.prune()
	check(f.ctx, t, f.rng, f.ndb, m)
	checkExact(f.ctx, t, f.ndb, m)

	r, chunks := f.restoring(5, a.data, 5)
	f.writeAll(r, chunks)
	must(t, f.ndb.CompleteRoot(f.ctx, r.root))
	restored(r.tree, chunks, f.addressOf(r))
	f.finalize(r)
	m.finalize([]*mroot{r})
	check(f.ctx, t, f.rng, f.ndb, m)
	must(t, f.ndb.Prune(f.ctx, 2))
	m.final, m.earliest = map[uint64]map[node.RootType]*mroot{5: m.final[5]}, 5
	checkExact(f.ctx, t, f.ndb, m)
}

// A tree that grew over more versions than a walk stands at at once.
func TestWalkOverManyVersions(t *testing.T) {
	f := newFixture(t, nil)
	f.store.alone = true
	old := f.commit(nothing(1, node.RootTypeState), 1, randomContents(f.rng, 3000))
	f.finalize(old)
	for v := uint64(2); v < 150; v++ {
		data := make(reference.Content)
		for k, value := range old.data {
			data[k] = value
		}
		for k, value := range randomContents(f.rng, 15) {
			data[k] = value
		}
		old = f.commit(old, v, data)
		f.finalize(old)
		must(t, f.ndb.Prune(f.ctx, v-1))
	}
	addresses := make(map[node.Address]bool)
	for _, n := range old.tree.Stored() {
		addresses[n.Address] = true
	}
	if len(addresses) < 100 {
		t.Fatalf("the tree is of %d versions only", len(addresses))
	}
	for range 5 {
		checkRoot(f.ctx, t, f.rng, f.ndb, old)
	}
}

// A walk holds no snapshot while its entries are taken, goes on after other versions are pruned, and
// says so when its own is.
func TestWalkWhileTheDatabaseChanges(t *testing.T) {
	f := newFixture(t, nil)
	f.store.alone = true
	data := make(reference.Content)
	for i := range 6000 {
		data[fmt.Sprintf("%08d", i*7919%100000)] = string(bytes.Repeat([]byte{'x'}, 600))
	}
	first := f.commit(nothing(1, node.RootTypeState), 1, data)
	f.finalize(first)
	second := f.commit(first, 2, reference.Content{"a": "b"})
	f.finalize(second)
	want, i := first.tree.Stored(), 0
	last, next := second, uint64(3)
	for e, err := range f.ndb.Walk(f.ctx, first.root, nil) {
		must(t, err)
		if !reference.SameEntry(e, want[i].Entry()) {
			t.Fatalf("entry %d is not what it should be", i)
		}
		if i++; i%1000 == 0 {
			last = f.commit(last, next, reference.Content{"a": fmt.Sprint(next)})
			f.finalize(last)
			next++
		}
	}
	if i != len(want) {
		t.Fatalf("walk ends after %d entries of %d", i, len(want))
	}

	i = 0
	var end error
	for e, err := range f.ndb.Walk(f.ctx, first.root, nil) {
		if end = err; err != nil {
			break
		}
		if !reference.SameEntry(e, want[i].Entry()) {
			t.Fatalf("entry %d is not what it should be", i)
		}
		if i++; i == 1 {
			must(t, f.ndb.Prune(f.ctx, 1))
			must(t, f.ndb.Compact(f.ctx, nil))
		}
	}
	wantErr(t, end, db.ErrVersionPruned)

	for range f.ndb.Walk(f.ctx, last.root, nil) {
		break
	}
	end = nil
	for _, err := range f.ndb.Walk(f.ctx, second.root, nil) {
		must(t, f.ndb.Close(f.ctx))
		end = err
	}
	if end != nil { // it had been read whole before
		wantErr(t, end, db.ErrClosed)
	}
}
