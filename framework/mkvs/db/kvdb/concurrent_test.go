package kvdb_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/ckpt-project/ckpt/conformance/reference"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		println(err.Error())
		code = 1
	}
	os.Exit(code)
}

// One goroutine makes versions, another prunes what is not pinned, others read: whatever they are told
// of is right, or gone.
// TestPinOfWhatIsPrunedMeanwhile pins a version that is pruned, and removed from the store, between the first look
// at it and the second: it was there, and is told as pruned.
func TestPinOfWhatIsPrunedMeanwhile(t *testing.T) {
	f := newFixture(t, nil)
	f.chain(1, 5)
	f.reopen(nil) // so that nothing is known from memory
	f.store.beforeSnapshot = func() {
		removed, err := f.ndb.PruneBefore(f.ctx, 4)
		if err == nil {
			err = f.ndb.CollectGarbage(f.ctx, nil)
		}
		if err != nil || removed != 3 {
			t.Error(removed, err)
		}
	}
	_, err := f.ndb.Pin(f.ctx, 2, "reader")
	wantErr(t, err, db.ErrVersionPruned)
	if f.store.beforeSnapshot != nil {
		t.Error("nothing was pruned meanwhile")
	}
}

func TestReadersWhileVersionsComeAndGo(t *testing.T) {
	f := newFixture(t, nil)
	const versions = 60
	var mu sync.Mutex
	var known []*mroot
	var done atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		defer done.Store(true)
		old := nothing(0, node.RootTypeState)
		for v := uint64(1); v <= versions; v++ {
			data := make(reference.Content)
			for k, value := range old.data {
				if f.rng.IntN(10) > 0 {
					data[k] = value
				}
			}
			for k, value := range randomContents(f.rng, 100) {
				data[k] = value
			}
			r, err := commit(f.ctx, f, f.rng, f.ndb, old, v, data)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			known = append(known, r)
			mu.Unlock()
			if err := f.ndb.Finalize(f.ctx, []node.Root{r.root}); err != nil {
				t.Error(err)
				return
			}
			old = r
		}
	})
	wg.Go(func() {
		rng := rand.New(rand.NewPCG(1, 2))
		for !done.Load() {
			earliest, any, err := f.ndb.GetEarliestVersion(f.ctx)
			if err != nil {
				t.Error(err)
				return
			}
			if latest, _, _ := f.ndb.GetLatestVersion(f.ctx); !any || latest < earliest+5 {
				continue
			}
			if err := f.ndb.Prune(f.ctx, earliest); err != nil && !errors.Is(err, db.ErrVersionPinned) {
				t.Error(err)
				return
			}
			if rng.IntN(4) == 0 {
				if err := f.ndb.Compact(f.ctx, nil); err != nil {
					t.Error(err)
				}
			}
		}
	})
	for i := range uint64(2) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(i, 3))
			for !done.Load() {
				mu.Lock()
				n := len(known)
				var r *mroot
				if n > 0 {
					r = known[max(0, n-1-rng.IntN(8))]
				}
				mu.Unlock()
				if r == nil {
					continue
				}
				pin, err := f.ndb.Pin(f.ctx, r.root.Version, "reader")
				if err == nil { // then it is there until the pin is released
					checkWalk(f.ctx, t, f.ndb, r.root, nil, r.tree.Stored())
					if err := pin.Release(f.ctx); err != nil {
						t.Error(err)
					}
					continue
				}
				if !errors.Is(err, db.ErrVersionPruned) && !errors.Is(err, db.ErrNotFinalized) {
					t.Error(err)
				}
				want := r.tree.Stored()
				at := 0
				for e, err := range f.ndb.Walk(context.Background(), r.root, nil) {
					if errors.Is(err, db.ErrVersionPruned) {
						break
					}
					if err != nil || !reference.SameEntry(e, want[at].Entry()) {
						t.Errorf("entry %d is wrong: %v", at, err)
						break
					}
					at++
				}
			}
		})
	}
	wg.Wait()
	m := newModel()
	m.any = true
	m.earliest, _, _ = f.ndb.GetEarliestVersion(f.ctx)
	m.latest = versions
	for _, r := range known {
		if r.root.Version >= m.earliest {
			m.final[r.root.Version] = map[node.RootType]*mroot{node.RootTypeState: r}
		}
	}
	checkExact(f.ctx, t, f.ndb, m)
}

// Close waits for the calls in progress.
func TestCloseWhileCalled(t *testing.T) {
	for range 10 {
		f := newFixture(t, nil)
		r := f.chain(1, 3)[2]
		var wg sync.WaitGroup
		begun := make(chan struct{}, 4)
		for range 4 {
			wg.Go(func() {
				for first := true; ; first = false {
					err := firstErr(f.ndb.Walk(context.Background(), r.root, nil))
					if first {
						begun <- struct{}{}
					}
					if errors.Is(err, db.ErrClosed) {
						return
					}
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		for range 4 {
			<-begun
		}
		must(t, f.ndb.Close(f.ctx))
		if n := f.store.open.Load(); n != 0 {
			t.Errorf("%d snapshots are open after Close", n)
		}
		wg.Wait()
	}
}
