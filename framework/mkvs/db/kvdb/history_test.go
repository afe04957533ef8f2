package kvdb_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/ckpt-project/ckpt/backends/memory"
	"github.com/ckpt-project/ckpt/conformance"
	"github.com/ckpt-project/ckpt/conformance/history"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// TestHistories runs the histories that every backend goes through on stores with all kinds of limits,
// whose snapshots are strict. At the end of each, what is stored is what can be reached, entry by entry.
func TestHistories(t *testing.T) {
	for i, limits := range limitSets {
		t.Run(fmt.Sprintf("limits %d", i), func(t *testing.T) {
			var mu sync.Mutex
			stores := make(map[string]*lastingStore) // by directory
			open := func(ctx context.Context, cfg *db.Config) (db.NodeDB, error) {
				mu.Lock()
				defer mu.Unlock()
				store := stores[cfg.Dir]
				if store == nil {
					inner, err := memory.OpenStore(ctx, &db.Config{})
					if err != nil {
						return nil, err
					}
					store = &lastingStore{Store: inner, limits: limits}
					store.limits.Durable = true
					stores[cfg.Dir] = store
				}
				return kvdb.Open(ctx, store, cfg, kvdb.Options{Backend: "test", BackendVersion: "1", Compact: true})
			}
			history.Run(t, history.Harness{
				Harness:   conformance.Harness{Open: open},
				Histories: 10,
				AtEnd: func(ctx context.Context, ndb db.NodeDB, reached map[node.RootType][]db.Entry) error {
					mu.Lock()
					clear(stores) // the history's own is open, and nobody needs the others
					mu.Unlock()
					return storedIsReached(ctx, ndb, reached)
				},
			})
		})
	}
}

// storedIsReached compares all live entries with those that can be reached, and looks for what inserts left.
func storedIsReached(ctx context.Context, ndb db.NodeDB, reached map[node.RootType][]db.Entry) error {
	live, err := kvdb.LiveEntries(ctx, ndb)
	if err != nil {
		return err
	}
	want := make(map[string]bool)
	for t, entries := range reached {
		for _, e := range entries {
			want[kvdb.EntryName(t, e.Address, e.Position)] = true
		}
	}
	for name := range live {
		if !want[name] {
			return fmt.Errorf("%s is stored, but not reached", name)
		}
	}
	for name := range want {
		if !live[name] {
			return fmt.Errorf("%s is reached, but not stored", name)
		}
	}
	counts, err := kvdb.KindCounts(ctx, ndb)
	if err != nil {
		return err
	}
	for kind, n := range counts {
		if kind>>4 >= 6 && kind>>4 != 0xa {
			return fmt.Errorf("%d keys of kind %02x are left of restores", n, kind)
		}
	}
	return nil
}
