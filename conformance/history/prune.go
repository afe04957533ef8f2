package history

import (
	"fmt"
	"iter"
	"slices"

	"github.com/ckpt-project/ckpt/conformance/reference"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// pinned is a pin in force.
type pinned struct {
	db.Pin
	owner string
}

func (r *run) isPinned(version uint64) bool {
	return slices.ContainsFunc(r.pins, func(p pinned) bool { return p.Version() == version })
}

// prune prunes versions from the earliest on, as far as that goes.
func (r *run) prune() bool {
	if len(r.final) < 2 || r.insert != nil || r.isPinned(r.earliest) {
		return false
	}
	for range 1 + r.index(len(r.final)-1, "versions") {
		if r.isPinned(r.earliest) {
			break
		}
		r.must(r.ndb.Prune(r.ctx, r.earliest))
		r.model.prune()
	}
	return true
}

// pruneBefore prunes all versions below one, at once; what is pinned among them stands in the way.
func (r *run) pruneBefore() bool {
	if !r.any || r.insert != nil {
		return false
	}
	versions := r.versions()
	below := draw(r, versions, "version")
	pinned := false
	for _, v := range versions {
		pinned = pinned || v < below && r.isPinned(v)
	}
	removed, err := r.ndb.PruneBefore(r.ctx, below)
	if pinned {
		r.refused("prune below a version with a pin in the way", err, db.ErrVersionPinned)
		return true
	}
	r.must(err)
	if want := slices.Index(versions, below); removed != uint64(want) {
		r.Fatalf("PruneBefore(%d) removed %d versions, want %d", below, removed, want)
	}
	for r.earliest < below {
		r.model.prune()
	}
	return true
}

// collect frees the space of what was pruned.
func (r *run) collect() bool {
	r.must(r.ndb.CollectGarbage(r.ctx, nil))
	return true
}

// check has the database check itself.
func (r *run) check() bool {
	report, err := r.ndb.Check(r.ctx, db.CheckOptions{})
	r.must(err)
	if !report.OK() {
		r.Fatalf("the check finds %d nodes that nothing reaches, and %v", report.Unreachable, report.Problems)
	}
	return true
}

// pruneWrongly tries to prune what can't be.
func (r *run) pruneWrongly() bool {
	if !r.any {
		if err := r.ndb.Prune(r.ctx, 1); err == nil {
			r.Fatalf("a version was pruned, and there is none")
		}
		return true
	}
	versions := r.versions()
	latest := []error{db.ErrCannotPruneLatestVersion, db.ErrMultipartInProgress, db.ErrVersionPinned}
	other := []error{db.ErrNotEarliest, db.ErrMultipartInProgress, db.ErrVersionPinned}
	r.refused("prune of the latest", r.ndb.Prune(r.ctx, r.latest), append(latest, db.ErrNotEarliest)...)
	r.refused("prune of a version to come", r.ndb.Prune(r.ctx, r.latest+1), other...)
	_, err := r.ndb.PruneBefore(r.ctx, r.latest+1)
	r.refused("prune of everything", err, db.ErrCannotPruneLatestVersion, db.ErrMultipartInProgress, db.ErrVersionPinned)
	if r.earliest > 0 {
		r.refused("prune of what was pruned", r.ndb.Prune(r.ctx, r.earliest-1), append(other, db.ErrVersionPruned)...)
	}
	if len(versions) > 2 {
		v := draw(r, versions[1:len(versions)-1], "version")
		r.refused("prune of a version between", r.ndb.Prune(r.ctx, v), other...)
	}
	if len(versions) < 2 {
		return true
	}
	if r.insert != nil {
		r.refused("prune while a restore is open", r.ndb.Prune(r.ctx, r.earliest), db.ErrMultipartInProgress, db.ErrVersionPinned)
	}
	if r.isPinned(r.earliest) {
		r.refused("prune of a pinned version", r.ndb.Prune(r.ctx, r.earliest), db.ErrVersionPinned, db.ErrMultipartInProgress)
	}
	return true
}

// pin pins a version, and tries to pin those that can't be.
func (r *run) pin() bool {
	_, err := r.ndb.Pin(r.ctx, r.next(), "a history")
	r.refused("a pin of a version to come", err, db.ErrNotFinalized, db.ErrVersionNotFound)
	if !r.any {
		return true
	}
	if r.earliest > 0 {
		_, err := r.ndb.Pin(r.ctx, r.earliest-1, "a history")
		r.refused("a pin of what was pruned", err, db.ErrVersionPruned)
	}
	if len(r.pins) < 3 {
		r.pinVersion(draw(r, r.versions(), "version"))
	}
	return true
}

func (r *run) pinVersion(version uint64) db.Pin {
	owner := fmt.Sprintf("owner %d", r.step)
	pin, err := r.ndb.Pin(r.ctx, version, owner)
	r.must(err)
	if pin.Version() != version {
		r.Fatalf("a pin of version %d says that it is one of %d", version, pin.Version())
	}
	r.pins = append(r.pins, pinned{pin, owner})
	return pin
}

// release releases a pin that no walk needs.
func (r *run) release() bool {
	free := slices.DeleteFunc(slices.Clone(r.pins), func(p pinned) bool {
		return slices.ContainsFunc(r.walks, func(w *walk) bool { return w.pin == p.Pin })
	})
	if len(free) == 0 {
		return false
	}
	r.unpin(draw(r, free, "pin").Pin)
	return true
}

func (r *run) unpin(pin db.Pin) {
	r.must(pin.Release(r.ctx))
	r.must(pin.Release(r.ctx)) // does nothing
	r.pins = slices.DeleteFunc(r.pins, func(p pinned) bool { return p.Pin == pin })
}

// comparePins compares the pins in force.
func (r *run) comparePins() {
	infos, err := r.ndb.Pins(r.ctx)
	r.must(err)
	var got, want []string
	for _, info := range infos {
		got = append(got, fmt.Sprintf("%d of %s", info.Version, info.Owner))
	}
	for _, p := range r.pins {
		want = append(want, fmt.Sprintf("%d of %s", p.Version(), p.owner))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		r.Fatalf("pins %q, want %q", got, want)
	}
}

// walk is one through a pinned version, that takes its time.
type walk struct {
	pin  db.Pin
	root *root
	next func() (db.Entry, error, bool)
	stop func()
	rest []*reference.Node
}

// walk begins a walk, or goes on with one.
func (r *run) walk() bool {
	if len(r.walks) < 2 && r.any && r.chance(2, "begin") {
		t := draw(r, r.finals(), "root")
		w := &walk{pin: r.pinVersion(t.Version), root: t, rest: t.top.Stored()}
		w.next, w.stop = iter.Pull2(r.ndb.Walk(r.ctx, t.Root, nil))
		r.walks = append(r.walks, w)
	}
	if len(r.walks) == 0 {
		return false
	}
	w := draw(r, r.walks, "walk")
	for range draw(r, []int{1, 5, 1000}, "entries") {
		e, err, ok := w.next()
		r.must(err)
		if !ok && len(w.rest) == 0 {
			r.leaveWalk(w)
			return true
		}
		if !ok || len(w.rest) == 0 || !reference.SameEntry(e, w.rest[0].Entry()) {
			r.Fatalf("%s: a walk goes on with %s (%t), and has %d entries left", w.root.Root, e.Position, ok, len(w.rest))
		}
		w.rest = w.rest[1:]
	}
	if r.chance(3, "leave") {
		r.leaveWalk(w)
	}
	return true
}

func (r *run) leaveWalk(w *walk) {
	w.stop()
	r.unpin(w.pin)
	r.walks = slices.DeleteFunc(r.walks, func(o *walk) bool { return o == w })
}
