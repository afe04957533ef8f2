package history

import (
	"github.com/ckpt-project/ckpt/conformance/reference"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// finalizeNext finalizes candidates of the next version, or any where there is no version yet.
func (r *run) finalizeNext() bool {
	version := r.next()
	if pending := r.pending(); !r.any && len(pending) > 0 {
		version = draw(r, pending, "of the version of").Version
	}
	if r.insert != nil && r.insert.version < version {
		return false // the insert has to come to an end first
	}
	var states, ios []*root
	for _, c := range r.pending() {
		switch {
		case c.Version != version || !r.parentFinal(c):
		case c.Type == ioType:
			ios = append(ios, c)
		default:
			states = append(states, c)
		}
	}
	var roots []*root
	switch {
	case len(states) > 0 && !r.chance(6, "no state"):
		roots = append(roots, draw(r, states, "state"))
	case r.chance(2, "an empty state"):
		roots = append(roots, r.bare(stateType, version))
	}
	switch {
	case len(ios) > 0 && !r.chance(4, "no IO"):
		roots = append(roots, draw(r, ios, "IO"))
	case r.chance(4, "an empty IO"):
		roots = append(roots, r.bare(ioType, version))
	}
	if len(roots) == 0 {
		return false
	}
	r.rng.Shuffle(len(roots), func(i, j int) { roots[i], roots[j] = roots[j], roots[i] })
	r.must(r.ndb.Finalize(r.ctx, names(roots)))
	r.finalized(roots)
	return true
}

// bare is the empty root of a version, which needs no commit: that which was committed where there is one
// that counts.
func (r *run) bare(t node.RootType, version uint64) *root {
	bare := nothing(t, version)
	if c := r.candidates[bare.Root]; c != nil && r.parentFinal(c) {
		return c
	}
	return bare
}

func names(roots []*root) (names []node.Root) {
	for _, r := range roots {
		names = append(names, r.Root)
	}
	return names
}

// finalized notes what was finalized.
func (r *run) finalized(roots []*root) {
	ended := r.insert != nil && r.insert.version == roots[0].Version
	for i, t := range roots {
		x := r.restoring(t.Root)
		switch c := r.candidates[t.Root]; {
		case x == nil || !x.complete:
		case c != nil && r.parentFinal(c):
			roots[i] = c
		default:
			roots[i] = &root{Root: x.name, content: x.content, top: reference.Build(x.content), parent: emptyRoot(t.Type, t.Version)}
			r.settleRestored(roots[i])
		}
	}
	r.model.finalize(roots)
	if ended {
		r.must(r.restorer.AbortRestore(r.ctx)) // where one was going, it has nothing left to abort
	}
}

// finalizeAgain finalizes the latest version again.
func (r *run) finalizeAgain() bool {
	if !r.any {
		return false
	}
	var roots []*root
	for t := stateType; t <= node.RootTypeMax; t++ {
		if root := r.final[r.latest][t]; root != nil {
			roots = append(roots, root)
		}
	}
	r.must(r.ndb.Finalize(r.ctx, names(roots)))
	return true
}

// finalizeWrongly tries to finalize what can't be.
func (r *run) finalizeWrongly() bool {
	try := func(what string, want error, roots ...node.Root) {
		r.Helper()
		r.refused("finalize of "+what, r.ndb.Finalize(r.ctx, roots), want)
	}
	unknown := func(version uint64) node.Root {
		return node.Root{Namespace: namespace, Version: version, Type: stateType, Hash: hash.Sum([]byte("nobody's"))}
	}
	if r.any {
		try("another root of the latest", db.ErrAlreadyFinalized, unknown(r.latest))
		old := draw(r, r.finals(), "old")
		if old.Version < r.latest {
			try("an older version", db.ErrAlreadyFinalized, old.Root)
		}
		if len(r.final[r.latest]) == 2 {
			try("a part of the latest", db.ErrAlreadyFinalized, r.final[r.latest][stateType].Root)
		}
	}
	if r.insert != nil { // its version is one that can be finalized
		for _, root := range r.insert.roots {
			if !root.complete && r.candidates[root.name] == nil && !root.name.IsEmpty() {
				try("what is not restored yet", db.ErrNotComplete, root.name)
			}
		}
		return true
	}
	try("a root that is not there", db.ErrRootNotFound, unknown(r.next()))
	if r.any {
		try("a version too far", db.ErrVersionNotNext, emptyRoot(stateType, r.latest+2))
	}
	for _, c := range r.pending() {
		switch tooFar := r.any && c.Version > r.latest+1; {
		case tooFar:
			try("a later version", db.ErrVersionNotNext, c.Root)
		case !r.parentFinal(c) && !c.IsEmpty():
			try("what descends from a candidate", db.ErrNotFinalized, c.Root)
		}
	}
	return true
}
