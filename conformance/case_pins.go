package conformance

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

func (e *env) pin(ndb db.NodeDB, version uint64, owner string) db.Pin {
	e.Helper()
	pin, err := ndb.Pin(e.ctx, version, owner)
	e.check(err)
	if pin.Version() != version {
		e.Errorf("a pin of version %d says that it is one of %d", version, pin.Version())
	}
	return pin
}

// pinned fails the case where the pins in force are not those of these versions.
func (e *env) pinned(ndb db.NodeDB, want ...uint64) {
	e.Helper()
	infos, err := ndb.Pins(e.ctx)
	e.check(err)
	var got []uint64
	for _, info := range infos {
		got = append(got, info.Version)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		e.Errorf("pins of versions %d, want %d", got, want)
	}
}

func pins(e *env) {
	ndb := e.open()
	first, second := e.twoVersions(ndb)
	third := e.version(ndb, second, 3, second.content.With("a", "1"))
	e.pinned(ndb)
	before := time.Now()
	one, same, later := e.pin(ndb, 1, "somebody"), e.pin(ndb, 1, "somebody else"), e.pin(ndb, 2, "a third")
	e.pinned(ndb, 1, 1, 2)
	infos, err := ndb.Pins(e.ctx)
	e.check(err)
	owners := map[string]bool{}
	for _, info := range infos {
		owners[info.Owner] = true
		if info.Since.Before(before.Add(-time.Minute)) || info.Since.After(time.Now().Add(time.Minute)) {
			e.Errorf("a pin is in force since %s", info.Since)
		}
	}
	for _, owner := range []string{"somebody", "somebody else", "a third"} {
		if !owners[owner] {
			e.Errorf("no pin of %q", owner)
		}
	}
	e.is("prune of a pinned version", ndb.Prune(e.ctx, 1), db.ErrVersionPinned)
	e.check(one.Release(e.ctx))
	e.check(one.Release(e.ctx)) // does nothing
	e.pinned(ndb, 1, 2)
	e.is("prune of a pinned version", ndb.Prune(e.ctx, 1), db.ErrVersionPinned)
	e.readable(ndb, first)
	e.check(same.Release(e.ctx))
	e.check(ndb.Prune(e.ctx, 1))
	e.is("prune of a pinned version", ndb.Prune(e.ctx, 2), db.ErrVersionPinned)
	e.readable(ndb, second)
	e.check(later.Release(e.ctx))
	e.check(ndb.Prune(e.ctx, 2))
	e.pinned(ndb)
	e.readable(ndb, third)
}

func notPinnable(e *env) {
	ndb := e.open()
	_, err := ndb.Pin(e.ctx, 1, "a test")
	e.is("a pin in an empty database", err, db.ErrNotFinalized, db.ErrVersionNotFound)
	_, second := e.twoVersions(ndb)
	e.commit(ndb, second, 3, content{"a": "candidate"})
	_, err = ndb.Pin(e.ctx, 3, "a test")
	e.is("a pin of a candidate's version", err, db.ErrNotFinalized, db.ErrVersionNotFound)
	_, err = ndb.Pin(e.ctx, 100, "a test")
	e.is("a pin of no version", err, db.ErrNotFinalized, db.ErrVersionNotFound)
	e.check(ndb.Prune(e.ctx, 1))
	_, err = ndb.Pin(e.ctx, 1, "a test")
	e.is("a pin of a version that was pruned", err, db.ErrVersionPruned)
	e.pinned(ndb)
}

func pinsNotStored(e *env) {
	ndb := e.open()
	_, second := e.twoVersions(ndb)
	e.pin(ndb, 1, "a test")
	ndb = e.reopen(ndb)
	e.pinned(ndb)
	e.check(ndb.Prune(e.ctx, 1))
	e.readable(ndb, second)
}

func pruneVersions(e *env) {
	ndb := e.open()
	r := newRandom(30)
	const last = 40
	states, ios := map[uint64]*tree{}, map[uint64]*tree{}
	t := empty(stateType, 0)
	earliest := uint64(1)
	for v := uint64(1); v <= last; v++ {
		t = e.commit(ndb, t, v, r.change(t.content, 25))
		states[v], ios[v] = t, e.commit(ndb, empty(ioType, v), v, r.content(10))
		e.finalize(ndb, states[v], ios[v])
		for earliest+uint64(r.IntN(10)) < v { // in strides
			e.check(ndb.Prune(e.ctx, earliest))
			earliest++
		}
		e.versions(ndb, earliest, v)
		for _, some := range []uint64{earliest, (earliest + v) / 2, v} {
			e.readable(ndb, states[some])
			e.readable(ndb, ios[some])
		}
	}
	for ; earliest < last; earliest++ {
		e.check(ndb.Prune(e.ctx, earliest))
	}
	e.check(ndb.Compact(e.ctx, nil))
	e.versions(ndb, last, last)
	e.readable(ndb, states[last])
	e.readable(ndb, ios[last])
	if ndb.Info().Capabilities.Durable {
		ndb = e.reopen(ndb)
		e.versions(ndb, last, last)
		e.readable(ndb, states[last])
		_, err := ndb.HasRoot(e.ctx, states[last-1].root)
		e.is("HasRoot", err, db.ErrVersionPruned)
	}
}

func notPrunable(e *env) {
	ndb := e.open()
	e.refused("prune in an empty database", ndb.Prune(e.ctx, 1))
	first, second := e.twoVersions(ndb)
	e.is("prune of another than the earliest", ndb.Prune(e.ctx, 2), db.ErrNotEarliest, db.ErrCannotPruneLatestVersion)
	third := e.version(ndb, second, 3, second.content.With("a", "1"))
	e.is("prune of another than the earliest", ndb.Prune(e.ctx, 2), db.ErrNotEarliest)
	e.is("prune of no version", ndb.Prune(e.ctx, 100), db.ErrNotEarliest)
	e.check(ndb.StartMultipart(e.ctx, 10))
	e.is("prune during a multipart insert", ndb.Prune(e.ctx, 1), db.ErrMultipartInProgress)
	e.check(ndb.AbortMultipart(e.ctx))
	e.readable(ndb, first)
	e.check(ndb.Prune(e.ctx, 1))
	e.is("prune of what was pruned", ndb.Prune(e.ctx, 1), db.ErrNotEarliest, db.ErrVersionPruned)
	e.check(ndb.Prune(e.ctx, 2))
	e.is("prune of the latest", ndb.Prune(e.ctx, 3), db.ErrCannotPruneLatestVersion)
	e.readable(ndb, third)
}

func pruneBefore(e *env) {
	ndb := e.open()
	r := newRandom(31)
	trees := map[uint64]*tree{}
	t := empty(stateType, 6)
	for v := uint64(7); v <= 40; v++ {
		t = e.version(ndb, t, v, r.change(t.content, 15))
		trees[v] = t
	}
	removes := func(below, want uint64) {
		e.Helper()
		removed, err := ndb.PruneBefore(e.ctx, below)
		e.check(err)
		if removed != want {
			e.Errorf("PruneBefore(%d) removed %d versions, want %d", below, removed, want)
		}
	}
	removes(0, 0)
	removes(7, 0)
	removes(8, 1)
	removes(20, 12)
	removes(15, 0)
	e.versions(ndb, 20, 40)
	_, err := ndb.HasRoot(e.ctx, trees[19].root)
	e.is("a root that was pruned", err, db.ErrVersionPruned)

	refused := func(what string, below uint64, want error) {
		e.Helper()
		_, err := ndb.PruneBefore(e.ctx, below)
		e.is(what, err, want)
		e.versions(ndb, 20, 40)
	}
	refused("prune of the latest with all others", 41, db.ErrCannotPruneLatestVersion)
	pin := e.pin(ndb, 30, "a test")
	refused("prune of a pinned version with others", 31, db.ErrVersionPinned)
	e.check(ndb.StartMultipart(e.ctx, 50))
	refused("prune during a multipart insert", 25, db.ErrMultipartInProgress)
	e.check(ndb.AbortMultipart(e.ctx))
	removes(30, 10)
	e.readable(ndb, trees[30])
	e.check(pin.Release(e.ctx))
	removes(40, 10)
	e.versions(ndb, 40, 40)
	e.readable(ndb, trees[40])
	if ndb.Info().Capabilities.Durable {
		ndb = e.reopen(ndb)
		e.versions(ndb, 40, 40)
		e.readable(ndb, trees[40])
	}
}

func collectGarbage(e *env) {
	e.cfg.GarbageRate = -1 // only when asked
	ndb := e.open()
	r := newRandom(32)
	t := empty(stateType, 0)
	for v := uint64(1); v <= 60; v++ {
		c := content{}
		for i := range 20 {
			c[fmt.Sprintf("key %d", i)] = fmt.Sprintf("%d %02000d", v, r.IntN(1000))
		}
		t = e.version(ndb, t, v, c)
	}
	_, err := ndb.PruneBefore(e.ctx, 60)
	e.check(err)
	// collect returns how many versions are free of those that were due.
	collect := func(ctx context.Context, each func(done int64)) (last, due int64, err error) {
		e.Helper()
		last = -1
		err = ndb.CollectGarbage(ctx, func(done, total int64) {
			if done < last || done > total {
				e.Errorf("progress of %d of %d after %d", done, total, last)
			}
			last, due = done, total
			each(done)
		})
		return last, due, err
	}
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	_, due, err := collect(ctx, func(done int64) {
		if done > 0 {
			cancel()
		}
	})
	if due != 59 {
		e.Errorf("%d versions are due to be collected, want 59", due)
	}
	if err != nil { // it may have been through
		e.is("a collection that is broken off", err, context.Canceled)
	}
	e.readable(ndb, t)
	nothing := func(int64) {}
	done, due, err := collect(e.ctx, nothing) // goes on
	e.check(err)
	if done < due || due >= 59 {
		e.Errorf("a collection that goes on has freed %d of %d versions", done, due)
	}
	e.readable(ndb, t)
	if done, due, err = collect(e.ctx, nothing); err != nil || done > 0 || due > 0 {
		e.Errorf("when nothing is due a collection has freed %d of %d versions, or %v", done, due, err)
	}
	e.check(ndb.Compact(e.ctx, nil))
	after, err := ndb.Size(e.ctx)
	e.check(err)
	if after.Live > 1<<20 { // a version has 40 kB of values, 60 have 2.4 MB
		e.Errorf("%d bytes are live after all but 40,000 were pruned", after.Live)
	}
	e.readable(ndb, e.version(ndb, t, 61, t.content.With("after", "all")))
}
