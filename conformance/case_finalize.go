package conformance

import (
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

func finalizeRoots(e *env) {
	ndb := e.open()
	r := newRandom(20)
	s := e.commit(ndb, empty(stateType, 41), 42, r.content(50)) // any version in an empty database
	x := e.commit(ndb, empty(ioType, 42), 42, r.content(20))
	e.finalize(ndb, x, s) // in any order
	e.versions(ndb, 42, 42)
	e.roots(ndb, 42, s.root, x.root)

	s = e.version(ndb, s, 43, r.change(s.content, 10)) // a state alone
	e.roots(ndb, 43, s.root)
	x = e.commit(ndb, empty(ioType, 44), 44, r.content(20))
	kept := e.commit(ndb, s, 44, s.content) // one that hasn't changed
	e.finalize(ndb, kept, x)
	e.roots(ndb, 44, kept.root, x.root)
	e.check(ndb.Finalize(e.ctx, []node.Root{emptyRootOf(stateType, 45), emptyRootOf(ioType, 45)})) // never committed
	e.roots(ndb, 45, emptyRootOf(stateType, 45), emptyRootOf(ioType, 45))
	e.versions(ndb, 42, 45)
	e.readable(ndb, kept)
	e.readable(ndb, x)
	e.version(ndb, empty(stateType, 45), 46, r.content(20))
}

func notFinalizable(e *env) {
	ndb := e.open()
	_, second := e.twoVersions(ndb)
	third := e.commit(ndb, second, 3, second.content.With("a", "1"))
	other := e.commit(ndb, second, 3, second.content.With("b", "1"))
	fourth := e.commit(ndb, third, 4, third.content.With("c", "1"))
	x := e.commit(ndb, empty(ioType, 4), 4, content{"x": "1"})
	for _, c := range []struct {
		what  string
		roots []node.Root
		want  error // nil: any
	}{
		{"a version too far", []node.Root{fourth.root}, db.ErrVersionNotNext},
		{"an empty root of a version too far", []node.Root{emptyRootOf(stateType, 7)}, db.ErrVersionNotNext},
		{"a root that is not there", []node.Root{unknownRootOf(stateType, 3)}, db.ErrRootNotFound},
		{"a root that is not there beside one that is", []node.Root{third.root, unknownRootOf(ioType, 3)}, db.ErrRootNotFound},
		{"two of a type", []node.Root{third.root, other.root}, nil},
		{"two versions", []node.Root{third.root, x.root}, nil},
		{"no type", []node.Root{emptyRootOf(node.RootTypeInvalid, 3)}, nil},
		{"nothing", nil, nil},
	} {
		err := ndb.Finalize(e.ctx, c.roots)
		if c.want != nil {
			e.is("finalize of "+c.what, err, c.want)
		}
		e.refused("finalize of "+c.what, err)
		e.versions(ndb, 1, 2)
	}
	for _, t := range []*tree{second, third, other, fourth, x} {
		e.readable(ndb, t)
	}
	e.finalize(ndb, third)
	e.finalize(ndb, fourth, x)
	e.versions(ndb, 1, 4)
}

func parentNotFinalized(e *env) {
	ndb := e.open()
	first := e.commit(ndb, empty(stateType, 0), 1, content{"a": "1"})
	second := e.commit(ndb, first, 2, content{"a": "2"})
	e.is("finalize of a candidate's descendant", ndb.Finalize(e.ctx, []node.Root{second.root}), db.ErrNotFinalized)
	e.readable(ndb, first)
	e.readable(ndb, second)
	e.finalize(ndb, first)
	e.finalize(ndb, second)
	e.readable(ndb, second)
}

// otherCandidatesGo finalizes the second of three candidates: it and what descends from it is left.
func otherCandidatesGo(e *env) {
	ndb := e.open()
	r := newRandom(21)
	base := e.version(ndb, empty(stateType, 0), 1, r.content(80))
	var lines [3][]*tree // a candidate, its child and its grandchild
	for i := range lines {
		t := base
		for v := uint64(2); v <= 4; v++ {
			t = e.commit(ndb, t, v, r.change(t.content, 20).With("candidate", string(rune('a'+i))))
			lines[i] = append(lines[i], t)
		}
	}
	unnamed := e.commit(ndb, empty(ioType, 2), 2, content{"x": "goes with the other candidates"})
	later := e.commit(ndb, empty(ioType, 3), 3, content{"x": "descends from none of them"})

	winner := lines[1][0]
	e.finalize(ndb, winner)
	e.roots(ndb, 2, winner.root)
	e.has(ndb, unnamed.root, false)
	for i, line := range lines {
		for _, t := range line {
			if i == 1 {
				e.readable(ndb, t)
			} else {
				e.has(ndb, t.root, false)
			}
		}
	}
	e.readable(ndb, later)
	e.readable(ndb, base)
	e.check(ndb.Prune(e.ctx, 1))
	for _, t := range lines[1] {
		e.readable(ndb, t)
	}
	_, err := ndb.NewBatch(e.ctx, lines[0][0].root, 3)
	e.is("a batch that begins with a candidate that has gone", err, db.ErrRootMustFollowOld)
	e.finalize(ndb, lines[1][1], later)
	e.finalize(ndb, lines[1][2])
	e.readable(ndb, lines[1][2])
}

// committedAndRestored restores roots that candidates have, too, and that later candidates were made from.
func committedAndRestored(e *env) {
	ndb := e.open()
	r := newRandom(22)
	first := e.version(ndb, empty(stateType, 0), 1, r.content(80))
	second := e.commit(ndb, first, 2, r.change(first.content, 20))
	third := e.commit(ndb, second, 3, r.change(second.content, 20))
	fourth := e.commit(ndb, third, 4, r.change(third.content, 20))
	fifth := e.commit(ndb, fourth, 5, r.change(fourth.content, 20))
	restore := func(t *tree) {
		e.Helper()
		s := newSource(stateType, t.root.Version, t.content, 5)
		s.begin(e, ndb)
		s.writeAll(e, ndb)
		e.check(ndb.CompleteRoot(e.ctx, s.root))
		e.check(ndb.Finalize(e.ctx, []node.Root{s.root}))
	}
	restore(second) // the committed one counts
	for _, t := range []*tree{first, second, third, fourth, fifth} {
		e.readable(ndb, t)
	}
	restore(fourth) // the third isn't finalized
	e.versions(ndb, 1, 4)
	restored := e.adopt(ndb, fourth.root, fourth.content)
	e.has(ndb, third.root, false)
	e.has(ndb, fifth.root, false)
	_, err := ndb.RootAddress(e.ctx, fifth.root)
	e.is("RootAddress of a candidate that has gone", err, db.ErrRootNotFound)
	e.check(ndb.Prune(e.ctx, 1))
	e.check(ndb.Prune(e.ctx, 2))
	e.readable(ndb, restored)
	e.readable(ndb, e.version(ndb, restored, 5, fifth.content))
}

func finalizeAgain(e *env) {
	ndb := e.open()
	first, second := e.twoVersions(ndb)
	x := e.commit(ndb, empty(ioType, 3), 3, content{"x": "1"})
	third := e.commit(ndb, second, 3, second.content.With("a", "1"))
	e.finalize(ndb, third, x)
	e.finalize(ndb, x, third) // the same, in another order
	for _, roots := range [][]node.Root{
		{third.root},
		{emptyRootOf(stateType, 3)},
		{second.root},
		{first.root},
		{emptyRootOf(ioType, 1)},
	} {
		e.is("finalize again", ndb.Finalize(e.ctx, roots), db.ErrAlreadyFinalized)
	}
	e.versions(ndb, 1, 3)
	e.roots(ndb, 3, third.root, x.root)
	e.readable(ndb, third)
}
