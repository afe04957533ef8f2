package conformance

import (
	"slices"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// history does at random what a database is made for, for a while, and compares everything that can be
// read with a model after each step.
func history(e *env) {
	for seed := range uint64(4) {
		h := &run{env: newEnv(e.T, e.h), r: newRandom(100 + seed)}
		h.ndb = h.open()
		for range 40 {
			h.step()
			h.compare()
			if e.Failed() {
				e.Fatalf("history %d", seed)
			}
		}
		e.check(h.ndb.Close(e.ctx))
	}
}

// run is a history that is being made.
type run struct {
	*env
	r   random
	ndb db.NodeDB
	// finalized are the versions from the earliest to the latest; pending are candidates of the next.
	finalized []version
	pending   []*tree
	restoring *source
}

// version is what is finalized of a version.
type version struct {
	number uint64
	trees  []*tree // the stateType, perhaps an IO root
}

// latest returns the latest version's number and state.
func (h *run) latest() (uint64, *tree) {
	if len(h.finalized) == 0 {
		return 0, empty(stateType, 0)
	}
	v := h.finalized[len(h.finalized)-1]
	return v.number, v.trees[0]
}

func (h *run) step() {
	switch n := h.r.IntN(20); {
	case n < 8:
		h.commitOne()
	case n < 12:
		h.finalizeOne()
	case n < 15:
		h.pruneOne()
	case n < 17:
		h.restoreSome()
	case n < 18:
		h.check(h.ndb.Compact(h.ctx, nil))
	case n < 19:
		number, old := h.latest()
		w := h.begin(h.ndb, old, number+1, h.r.content(60))
		h.check(w.putAll(h.env))
		h.check(w.batch.Abort(h.ctx))
	case h.ndb.Info().Capabilities.Durable:
		h.ndb = h.reopen(h.ndb)
	}
}

func (h *run) commitOne() {
	number, old := h.latest()
	c := h.r.change(old.content, 1+h.r.IntN(60))
	if h.r.IntN(8) == 0 {
		c = content{}
	}
	t := h.commit(h.ndb, old, number+1, c)
	if t.top == nil || slices.ContainsFunc(h.pending, func(p *tree) bool { return p.root == t.root }) {
		return // there already; an empty one always is
	}
	h.pending = append(h.pending, t)
}

func (h *run) finalizeOne() {
	if len(h.pending) == 0 || h.restoring != nil {
		return
	}
	t := h.pending[h.r.IntN(len(h.pending))]
	v := version{t.root.Version, []*tree{t}}
	if h.r.IntN(2) == 0 {
		v.trees = append(v.trees, h.commit(h.ndb, empty(ioType, v.number), v.number, h.r.content(20)))
	}
	h.finalize(h.ndb, v.trees...)
	h.finalized, h.pending = append(h.finalized, v), nil
}

func (h *run) pruneOne() {
	if len(h.finalized) < 2 || h.restoring != nil {
		return
	}
	h.check(h.ndb.Prune(h.ctx, h.finalized[0].number))
	h.finalized = h.finalized[1:]
}

// restoreSome begins a restore, goes on with it, or gives it up.
func (h *run) restoreSome() {
	if h.restoring == nil {
		number, _ := h.latest()
		h.restoring = newSource(stateType, number+uint64(1+h.r.IntN(4)), h.r.content(80), 1+h.r.IntN(8))
		h.restoring.begin(h.env, h.ndb)
	}
	for i, c := range h.restoring.chunks {
		if h.r.IntN(3) > 0 {
			h.check(c.write(h.env, h.ndb, h.restoring.root, uint64(i)))
		}
	}
	s := h.restoring
	switch h.r.IntN(3) {
	case 0: // goes on later
	case 1:
		h.check(h.ndb.AbortMultipart(h.ctx))
		h.restoring = nil
	default:
		s.writeAll(h.env, h.ndb)
		h.finalized = append(h.finalized, version{s.root.Version, []*tree{s.finish(h.env, h.ndb)}})
		h.restoring, h.pending = nil, nil
	}
}

// compare reads everything.
func (h *run) compare() {
	h.Helper()
	for _, v := range h.finalized {
		var trees []*tree
		for _, t := range v.trees {
			h.readable(h.ndb, t)
			trees = append(trees, t)
		}
		h.roots(h.ndb, v.number, rootsOf(trees[0], trees...)...)
	}
	for _, t := range h.pending {
		h.readable(h.ndb, t)
	}
	if len(h.finalized) > 0 {
		h.versions(h.ndb, h.finalized[0].number, h.finalized[len(h.finalized)-1].number)
	}
}
