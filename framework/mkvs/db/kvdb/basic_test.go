package kvdb_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/ckpt-project/ckpt/conformance/reference"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

func randomContents(rng *rand.Rand, n int) reference.Content {
	c := make(reference.Content)
	for range n {
		key := make([]byte, rng.IntN(6))
		for i := range key {
			key[i] = byte(rng.Uint32())
		}
		c[string(key)] = fmt.Sprintf("%0*d", rng.IntN(40), rng.IntN(1000))
	}
	return c
}

// fresh is a tree that is stored at an address, every node of it.
func fresh(c reference.Content, a node.Address) *reference.Node {
	top := reference.Build(c)
	reference.Settle(top, nil, a, db.DefaultEmbedBytes)
	return top
}

func TestCommitFinalizeRead(t *testing.T) {
	ctx, rng := t.Context(), rand.New(rand.NewPCG(1, 1))
	store := newLastingStore(t)
	ndb, err := openDB(ctx, store, nil)
	must(t, err)
	m := newModel()
	old := &mroot{root: emptyRoot(0, node.RootTypeState), data: reference.Content{}}
	versions := uint64(25)
	if testing.Short() {
		versions = 10
	}
	for version := uint64(1); version < versions; version++ {
		data := randomContents(rng, 300)
		for k, v := range old.data {
			if rng.IntN(8) > 0 {
				data[k] = v
			}
		}
		r, err := commit(ctx, t, rng, ndb, old, version, data)
		must(t, err)
		m.candidates[r.name()] = r
		check(ctx, t, rng, ndb, m)
		must(t, ndb.Finalize(ctx, []node.Root{r.root}))
		m.finalize([]*mroot{r})
		check(ctx, t, rng, ndb, m)
		if version > 4 {
			must(t, ndb.Prune(ctx, m.earliest))
			m.prune()
		}
		if version%7 == 0 {
			checkExact(ctx, t, ndb, m)
			must(t, ndb.Close(ctx))
			ndb, err = openDB(ctx, store, nil)
			must(t, err)
		}
		old = r
	}
	check(ctx, t, rng, ndb, m)
	checkExact(ctx, t, ndb, m)
	must(t, ndb.Close(ctx))
}
