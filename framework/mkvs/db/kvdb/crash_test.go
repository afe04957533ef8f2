package kvdb_test

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// copyOf is what a history should be if the step that follows has not happened.
func (h *life) copyOf() *life {
	c := &life{rng: h.rng, store: h.store, ndb: h.ndb, m: h.m.clone()}
	if h.insert != nil {
		c.insert = &tinsert{version: h.insert.version}
		for _, tr := range h.insert.roots {
			copied := *tr
			copied.done = maps.Clone(tr.done)
			c.insert.roots = append(c.insert.roots, &copied)
		}
	}
	return c
}

// TestCrashes lets the store crash at each of its writes, before and after it is done, in the course of
// a history, opens the database again, and wants what was done to be there, what was not begun not to
// be, what was under way to be there wholly or not at all, and nothing else to be stored.
//
// The histories are as many as CKPT_CRASH_HISTORIES says.
func TestCrashes(t *testing.T) {
	histories := 4
	if testing.Short() {
		histories = 1
	}
	if s := os.Getenv("CKPT_CRASH_HISTORIES"); s != "" {
		var err error
		if histories, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	for seed := range uint64(histories) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			for at := 1; crashOnce(t, seed, at); at++ {
			}
		})
	}
}

// crashOnce replays a history up to a crash. It says whether there was one.
func crashOnce(t *testing.T, seed uint64, at int) bool {
	ctx := t.Context()
	h := newLife(t, t, seed, int(seed)%len(limitSets))
	h.store.crashAt, h.store.crashAfter = at+h.store.applies, at%2 == 0
	names := slices.Sorted(maps.Keys(steps))
	script := rand.New(rand.NewPCG(seed, 2))
	for range 60 {
		name := names[script.IntN(len(names))]
		h.rng = rand.New(rand.NewPCG(seed, script.Uint64()))
		err := steps[name](h, ctx, t)
		if !h.store.crashed {
			must(t, err)
			continue
		}
		if err != nil && !errors.Is(err, errCrashed) {
			t.Fatalf("%s: %v", name, err)
		}
		h.store.reboot()
		ndb, openErr := openDB(ctx, h.store, nil)
		if openErr != nil {
			t.Fatalf("write %d, %s: opening: %v", at, name, openErr)
		}
		h.ndb = ndb
		if !h.looksLike(ctx, t) { // then it can only be as it was before
			if err == nil {
				t.Fatalf("write %d, %s: what was done is not there", at, name)
			}
			h.before.ndb, h.before.rng = h.ndb, h.rng
			if h = h.before; !h.looksLike(ctx, t) {
				t.Fatalf("write %d, %s: the database is neither as before nor as after it", at, name)
			}
		}
		t.Logf("write %d crashed (%v), in %s", at, h.store.crashAfter, name)
		check(ctx, t, h.rng, h.ndb, h.m)
		h.checkInsert(ctx, t)
		h.end(ctx, t)
		return true
	}
	h.store.crashAt = 0
	h.end(ctx, t)
	return false
}

// looksLike says whether the database has the versions, roots and the insert that it should have.
func (h *life) looksLike(ctx context.Context, t *testing.T) bool {
	latest, any, err := h.ndb.GetLatestVersion(ctx)
	must(t, err)
	earliest, _, err := h.ndb.GetEarliestVersion(ctx)
	must(t, err)
	if any != h.m.any || any && (latest != h.m.latest || earliest != h.m.earliest) {
		return false
	}
	want := make(map[string]bool)
	for _, r := range h.m.all() {
		want[r.name()] = true
	}
	n := 0
	for v := range h.m.latest + 20 {
		roots, err := h.ndb.GetRootsForVersion(ctx, v)
		if errors.Is(err, db.ErrVersionPruned) {
			continue
		}
		must(t, err)
		n += len(roots)
		for _, r := range roots {
			if !want[r.String()] {
				return false
			}
		}
	}
	if n != len(want) {
		return false
	}
	mp, err := h.ndb.Multipart(ctx)
	must(t, err)
	if mp == nil || h.insert == nil {
		return mp == nil && h.insert == nil
	}
	if mp.Version != h.insert.version || len(mp.Roots) != len(h.insert.roots) {
		return false
	}
	for i, got := range mp.Roots {
		want := h.insert.roots[i]
		if got.Root != want.r.root || len(got.Done) != len(want.done) || got.Complete != want.complete {
			return false
		}
	}
	return true
}
