package history

import (
	"errors"
	"slices"

	"github.com/ckpt-project/ckpt/conformance/reference"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// base draws what a batch begins with, and its version.
func (r *run) base() (base *root, version uint64) {
	if bases := r.bases(); len(bases) > 0 && !r.chance(5, "begin empty") {
		base = draw(r, bases, "base")
		return base, base.Version + 1
	}
	version = r.next() + uint64(r.index(3, "versions ahead"))
	typ := draw(r, []node.RootType{stateType, ioType}, "type")
	return nothing(typ, version-uint64(r.index(2, "from the version before"))), version
}

// commitRecords commits a batch that was not made by a Tree: in runs of any length and order.
func (r *run) commitRecords() bool {
	base, version := r.base()
	batch, err := r.ndb.NewBatch(r.ctx, base.Root, version)
	r.must(err)
	c := apply(base.content, r.edits(base.content))
	next := &root{
		Root:    node.Root{Namespace: namespace, Version: version, Type: base.Type},
		content: c, top: reference.Build(c), base: baseOf(base), parent: base.Root, log: base.content.Log(c), logs: logKept,
	}
	next.Hash = next.top.RootHash()
	put, remove := reference.Settle(next.top, base.top, batch.Address(), r.embed)
	var runs [][]*reference.Node
	for len(put) > 0 {
		n := 1 + r.rng.IntN(len(put))
		runs, put = append(runs, put[:n]), put[n:]
	}
	r.rng.Shuffle(len(runs), func(i, j int) { runs[i], runs[j] = runs[j], runs[i] })
	for _, run := range runs {
		for _, n := range run {
			r.must(batch.Put(r.ctx, n.Position, n.Record()))
		}
		r.must(batch.EndRun(r.ctx))
	}
	for _, n := range remove {
		r.must(batch.Remove(r.ctx, n.Address, n.Position))
	}
	r.must(batch.PutWriteLog(r.ctx, next.log))
	if r.chance(6, "give it up") {
		r.must(batch.Abort(r.ctx))
		return true
	}
	r.must(batch.Commit(r.ctx, next.Root, next.top.RootAddress()))
	r.must(batch.Abort(r.ctx)) // does nothing
	if before := r.candidates[next.Root]; before != nil {
		r.readable(before)
		return true
	}
	r.add(next)
	r.readable(next)
	return true
}

// leaveBatch begins a batch and does not end it.
func (r *run) leaveBatch() bool {
	base, version := r.base()
	batch, err := r.ndb.NewBatch(r.ctx, base.Root, version)
	r.must(err)
	top := reference.Build(bulk(r.rng, 1+r.index(200, "pairs")))
	put, _ := reference.Settle(top, nil, batch.Address(), r.embed)
	for _, n := range put {
		r.must(batch.Put(r.ctx, n.Position, n.Record()))
	}
	return true
}

// beginWrongly begins batches that are to be refused.
func (r *run) beginWrongly() bool {
	try := func(what string, old node.Root, version uint64, want ...error) {
		r.Helper()
		batch, err := r.ndb.NewBatch(r.ctx, old, version)
		if err == nil {
			err = errors.Join(errors.New("it was begun"), batch.Abort(r.ctx))
		}
		r.refused("a batch from "+what, err, want...)
	}
	unknown := node.Root{Namespace: namespace, Version: r.next(), Type: stateType, Hash: hash.Sum([]byte("nobody's"))}
	try("a root that is not there", unknown, unknown.Version+1, db.ErrRootMustFollowOld)
	if r.any {
		try("nothing, in a finalized version", emptyRoot(stateType, r.latest), r.latest, db.ErrAlreadyFinalized)
		if r.latest > r.earliest {
			old := draw(r, r.finals(), "old")
			if old.Version < r.latest && !old.IsEmpty() {
				try("an older version", old.Root, r.latest+1, db.ErrRootMustFollowOld)
				try("an older version, its next", old.Root, old.Version+1, db.ErrAlreadyFinalized, db.ErrVersionNotFound)
			}
		}
	}
	if pending := r.pending(); len(pending) > 0 {
		old := draw(r, pending, "old")
		if !old.IsEmpty() {
			try("a root of the same version", old.Root, old.Version, db.ErrRootMustFollowOld)
			try("a root two versions before", old.Root, old.Version+2, db.ErrRootMustFollowOld)
			other := old.Root
			other.Namespace[0] ^= 1
			try("another namespace", other, old.Version+1, db.ErrBadNamespace)
			if old.Type == ioType {
				try("an IO root", old.Root, old.Version+1, db.ErrRootMustFollowOld)
			}
		}
	}
	gone := slices.DeleteFunc(slices.Clone(r.gone), func(name node.Root) bool { return r.has(name) || name.Type != stateType })
	if len(gone) > 0 {
		old := draw(r, gone, "old")
		try("a root that has gone", old, old.Version+1, db.ErrRootMustFollowOld, db.ErrAlreadyFinalized, db.ErrVersionPruned)
	}
	return true
}
