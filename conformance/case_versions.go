package conformance

import (
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

func emptyRoot(e *env) {
	ndb := e.open()
	if _, any, err := ndb.GetLatestVersion(e.ctx); any || err != nil {
		e.Errorf("a new database has a latest version (%t), or %v", any, err)
	}
	if _, any, err := ndb.GetEarliestVersion(e.ctx); any || err != nil {
		e.Errorf("a new database has an earliest version (%t), or %v", any, err)
	}
	e.readable(ndb, empty(stateType, 0))
	e.readable(ndb, empty(ioType, 7))
	e.roots(ndb, 7)
	e.twoVersions(ndb)
	for _, v := range []uint64{1, 2, 3, 100} {
		e.readable(ndb, empty(stateType, v))
		e.readable(ndb, empty(ioType, v))
	}
	e.check(ndb.Prune(e.ctx, 1))
	for _, c := range calls(emptyRootOf(stateType, 1)) {
		if c.root && !c.changes && c.name != "GetWriteLog" {
			e.is(c.name+" of the empty root of a version that was pruned", c.do(e.ctx, ndb), db.ErrVersionPruned)
		}
	}
}

func unknownRoot(e *env) {
	ndb := e.open()
	_, second := e.twoVersions(ndb)
	asIO := second.root
	asIO.Type = ioType
	later := second.root
	later.Version++
	for _, root := range []node.Root{unknownRootOf(stateType, 2), unknownRootOf(stateType, 3), unknownRootOf(ioType, 100), asIO, later} {
		e.has(ndb, root, false)
		for _, c := range calls(root) {
			switch c.name {
			case "RootAddress", "GetNode", "GetPath", "GetPaths", "Walk":
				e.is(c.name, c.do(e.ctx, ndb), db.ErrRootNotFound)
			}
		}
	}
}

func prunedVersion(e *env) {
	ndb := e.open()
	first, second := e.twoVersions(ndb)
	e.check(ndb.Prune(e.ctx, 1))
	e.versions(ndb, 2, 2)
	for _, root := range []node.Root{first.root, unknownRootOf(stateType, 1), unknownRootOf(ioType, 0)} {
		for _, c := range calls(root) {
			switch c.name {
			case "GetRootsForVersion", "HasRoot", "RootAddress", "GetNode", "GetPath", "GetPaths", "Walk", "GetWriteLog", "Pin":
				e.is(c.name, c.do(e.ctx, ndb), db.ErrVersionPruned)
			}
		}
	}
	e.readable(ndb, second)
}

func versionsInGap(e *env) {
	ndb := e.open()
	first, second := e.twoVersions(ndb)
	r := newRandom(5)
	tenth := e.restore(ndb, newSource(stateType, 10, r.content(80), 4))
	e.versions(ndb, 1, 10)
	e.readable(ndb, first)
	e.readable(ndb, second)
	for _, v := range []uint64{3, 9} {
		e.roots(ndb, v)
		_, err := ndb.RootAddress(e.ctx, unknownRootOf(stateType, v))
		e.is("RootAddress", err, db.ErrRootNotFound)
		_, err = ndb.Pin(e.ctx, v, "a test")
		e.is("Pin", err, db.ErrVersionNotFound)
		_, err = ndb.NewBatch(e.ctx, emptyRootOf(stateType, v-1), v)
		e.is("NewBatch", err, db.ErrAlreadyFinalized)
	}
	e.is("StartMultipart", ndb.StartMultipart(e.ctx, 5), db.ErrInvalidMultipartVersion)

	// Versions go on above it, and what is below goes by and by.
	eleventh := e.version(ndb, tenth, 11, r.change(tenth.content, 30))
	e.check(ndb.Prune(e.ctx, 1))
	e.readable(ndb, second)
	e.check(ndb.Prune(e.ctx, 2))
	e.versions(ndb, 10, 11)
	e.readable(ndb, tenth)
	e.check(ndb.Prune(e.ctx, 10))
	e.readable(ndb, eleventh)
	_, err := ndb.GetRootsForVersion(e.ctx, 9)
	e.is("GetRootsForVersion", err, db.ErrVersionPruned)
}

func oneRootOfEachType(e *env) {
	ndb := e.open()
	a := e.commit(ndb, empty(stateType, 0), 1, content{"a": "1"})
	b := e.commit(ndb, empty(stateType, 0), 1, content{"b": "1"})
	x := e.commit(ndb, empty(ioType, 1), 1, content{"a": "1"})
	both := []node.Root{a.root, b.root}
	if string(b.root.Hash[:]) < string(a.root.Hash[:]) {
		both = []node.Root{b.root, a.root}
	}
	e.roots(ndb, 1, append(both, x.root)...)
	e.refused("finalize of two states of one version", ndb.Finalize(e.ctx, []node.Root{a.root, b.root}))
	e.finalize(ndb, x, a)
	e.roots(ndb, 1, a.root, x.root)
	e.readable(ndb, a)
	e.readable(ndb, x)
	e.has(ndb, b.root, false)
}

func ioRootsStandAlone(e *env) {
	ndb := e.open()
	s := e.commit(ndb, empty(stateType, 0), 1, content{"a": "1", "b": "2"})
	x := e.commit(ndb, empty(ioType, 1), 1, content{"in": "1", "out": "2"})
	_, err := ndb.NewBatch(e.ctx, x.root, 2)
	e.is("an IO batch that begins with an IO root", err, db.ErrRootMustFollowOld)
	e.finalize(ndb, s, x)
	_, err = ndb.NewBatch(e.ctx, x.root, 2)
	e.is("an IO batch that begins with an IO root", err, db.ErrRootMustFollowOld)

	s2 := e.commit(ndb, s, 2, s.content.With("c", "3"))
	x2 := e.commit(ndb, empty(ioType, 2), 2, content{"in": "1", "out": "3"})
	e.finalize(ndb, s2, x2)
	e.readable(ndb, x)
	e.check(ndb.Prune(e.ctx, 1))
	_, err = ndb.HasRoot(e.ctx, x.root)
	e.is("HasRoot", err, db.ErrVersionPruned)
	e.readable(ndb, s2)
	e.readable(ndb, x2)
}
