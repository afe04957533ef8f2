package kvdb_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/ckpt-project/ckpt/conformance/reference"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// Versions that change a little here and there wear the blocks of older ones. What stays alive of them is
// packed together, with whatever a store takes in one write, and none of it is lost.
func TestWornBlocksArePacked(t *testing.T) {
	for i, limits := range limitSets {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			ctx := t.Context()
			store := newLastingStore(t)
			store.limits = limits
			store.limits.Durable = true
			ndb, err := openDB(ctx, store, nil)
			must(t, err)
			const entries, versions, kept = 2500, 80, 5
			rng := rand.New(rand.NewPCG(1, uint64(i)))
			m := newModel()
			change := func(old *mroot, v uint64, n int) {
				data := reference.Content{}
				for k, value := range old.data {
					data[k] = value
				}
				for j := range n {
					key := j
					if v > 1 {
						key = rng.IntN(entries)
					}
					data[fmt.Sprintf("%x", key*0x9e3779b1&0xffffffff)] = fmt.Sprint(v) + strings.Repeat(".", 60)
				}
				r, err := commit(ctx, t, rng, ndb, old, v, data)
				must(t, err)
				must(t, ndb.Finalize(ctx, []node.Root{r.root}))
				m.finalize([]*mroot{r})
			}
			change(&mroot{root: emptyRoot(1, node.RootTypeState), data: reference.Content{}}, 1, entries)
			for v := uint64(2); v <= versions; v++ {
				change(m.final[v-1][node.RootTypeState], v, 20)
				if v%7 == 0 {
					_, err := ndb.PruneBefore(ctx, v-kept)
					must(t, err)
					m.pruneBefore(v - kept)
					must(t, ndb.CollectGarbage(ctx, nil))
				}
			}
			checkExact(ctx, t, ndb, m)

			if narrow := limits.BatchOps > 0 || limits.BatchBytes > 0; narrow {
				return // blocks are packed as far as they go into one write
			}
			used, stored, err := kvdb.BlockBytes(ctx, ndb, 1)
			must(t, err)
			if stored == 0 || used < stored*6/10 {
				t.Errorf("%d bytes are alive of the %d that version 1 takes", used, stored)
			}
			must(t, ndb.Close(context.Background()))
		})
	}
}
