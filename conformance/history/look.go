package history

import (
	"bytes"
	"errors"
	"slices"

	"pgregory.net/rapid"

	"github.com/ckpt-project/ckpt/conformance/reference"
	"github.com/ckpt-project/ckpt/framework/mkvs"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/writelog"
)

// lookEvery is after how many steps all roots are compared, and not just one.
const lookEvery = 8

// look compares the database with the model.
func (r *run) look(*rapid.T) {
	if r.rng == nil {
		return // nothing has happened yet
	}
	if r.step%lookEvery == 0 {
		r.lookAtAll()
		return
	}
	r.compareLists()
	if all := r.all(); len(all) > 0 {
		r.readable(all[r.rng.IntN(len(all))])
	}
}

// lookAtAll compares everything.
func (r *run) lookAtAll() {
	r.compareLists()
	for _, t := range r.all() {
		r.readable(t)
	}
}

// compareLists compares what the database says that it holds.
func (r *run) compareLists() {
	latest, any, err := r.ndb.GetLatestVersion(r.ctx)
	r.must(err)
	earliest, any2, err := r.ndb.GetEarliestVersion(r.ctx)
	r.must(err)
	if any != r.any || any2 != r.any || any && (latest != r.latest || earliest != r.earliest) {
		r.Fatalf("versions %d (%t) to %d (%t), want %d to %d (%t)", earliest, any2, latest, any, r.earliest, r.latest, r.any)
	}
	r.compareRootLists()
	r.compareInsert()
	r.comparePins()
	for _, name := range r.gone {
		if r.has(name) {
			continue // it was made again
		}
		has, err := r.ndb.HasRoot(r.ctx, name)
		switch {
		case has:
			r.Fatalf("%s should have gone, and is there", name)
		case err != nil:
			r.refused("HasRoot", err, db.ErrVersionPruned)
		}
		_, err = r.ndb.RootAddress(r.ctx, name)
		r.refused("RootAddress of a root that has gone", err, db.ErrRootNotFound, db.ErrVersionPruned, db.ErrVersionNotFound)
	}
}

// compareRootLists compares the roots of all versions that have any, and of some that have none.
func (r *run) compareRootLists() {
	last := r.latest + 4
	pending := r.pending()
	if len(pending) > 0 {
		last = max(last, pending[len(pending)-1].Version+1)
	}
	all := names(r.all())
	for v := r.earliest; v <= last; v++ {
		got, err := r.ndb.GetRootsForVersion(r.ctx, v)
		r.must(err)
		want := slices.DeleteFunc(slices.Clone(all), func(n node.Root) bool { return n.Version != v })
		if !r.any || v > r.latest {
			// Whether a candidate that is empty is in the list is not said: it is there anyway.
			got = slices.DeleteFunc(got, func(n node.Root) bool { return n.IsEmpty() && r.candidates[n] != nil })
			want = slices.DeleteFunc(want, func(n node.Root) bool { return n.IsEmpty() })
		}
		if !slices.Equal(got, want) {
			r.Fatalf("version %d has roots %v, want %v", v, got, want)
		}
	}
	if r.any && r.earliest > 0 {
		if roots, err := r.ndb.GetRootsForVersion(r.ctx, r.earliest-1); err != nil {
			r.refused("the roots of a version that was pruned", err, db.ErrVersionPruned)
		} else if len(roots) > 0 {
			r.Fatalf("version %d was pruned, and has roots %v", r.earliest-1, roots)
		}
	}
}

// readable compares all that can be asked about a root.
func (r *run) readable(t *root) {
	r.Helper()
	has, err := r.ndb.HasRoot(r.ctx, t.Root)
	r.must(err)
	if !has {
		r.Fatalf("%s is not there", t.Root)
	}
	address, err := r.ndb.RootAddress(r.ctx, t.Root)
	r.must(err)
	if address != t.top.RootAddress() {
		r.Fatalf("%s is at %s, want %s", t.Root, address, t.top.RootAddress())
	}
	stored := t.top.Stored()
	r.walked(t, nil, stored)
	r.readTree(t)
	r.compareLog(t)
	if t.top == nil {
		return
	}

	n := stored[r.rng.IntN(len(stored))]
	record, err := r.ndb.GetNode(r.ctx, t.Root, n.Address, n.Position)
	r.must(err)
	if !bytes.Equal(record, n.Record()) {
		r.Fatalf("%s: another record at %s", t.Root, n.Position)
	}
	from := n.Position
	if bits, depth, _ := from.Bits(); depth > 0 && r.rng.IntN(2) == 0 { // perhaps one that no node has
		depth = node.Depth(r.rng.IntN(int(depth))) + 1
		bits = bits.Slice(0, depth)
		bits.SetBit(depth-1, r.rng.IntN(2) == 0)
		from = node.NewPosition(bits, depth)
	}
	r.walked(t, from, t.top.From(from))
	for range 3 {
		r.path(t, t.top, node.Key(r.someKey(t.content)))
	}
	r.path(t, n, n.Some)
}

// walked compares a walk from a position on.
func (r *run) walked(t *root, from node.Position, want []*reference.Node) {
	r.Helper()
	i := 0
	for e, err := range r.ndb.Walk(r.ctx, t.Root, from) {
		r.must(err)
		if i >= len(want) {
			r.Fatalf("%s: the walk from %s goes on after %d entries", t.Root, from, i)
		}
		if w := want[i].Entry(); !reference.SameEntry(e, w) {
			r.Fatalf("%s: entry %d of the walk from %s is %s at %s, want %s at %s (records equal: %t)", t.Root, i, from,
				e.Position, e.Address, w.Position, w.Address, bytes.Equal(e.Record, w.Record))
		}
		i++
	}
	if i != len(want) {
		r.Fatalf("%s: the walk from %s ends after %d of %d entries", t.Root, from, i, len(want))
	}
}

// path compares the path from a node to a key.
func (r *run) path(t *root, from *reference.Node, key node.Key) {
	r.Helper()
	got, err := r.ndb.GetPath(r.ctx, t.Root, from.Address, from.Depth, key)
	r.must(err)
	want, off := from.Path(key)
	if off != nil && len(got) == len(want)+1 {
		want = append(want, off)
	}
	same := func(e db.Entry, n *reference.Node) bool { return reference.SameEntry(e, n.Entry()) }
	if !slices.EqualFunc(got, want, same) {
		r.Fatalf("%s: the path from %s to key %x has %d entries, not the %d that it should", t.Root, from.Position, []byte(key), len(got), len(want))
	}
}

// readTree compares what a tree makes of a root.
func (r *run) readTree(t *root) {
	r.Helper()
	tree := mkvs.NewWithRoot(r.ndb, t.Root, mkvs.WithVerifyReads())
	defer tree.Close()
	for range 3 {
		key := r.someKey(t.content)
		got, err := tree.Get(r.ctx, []byte(key))
		r.must(err)
		if want, has := t.content[key]; (got != nil) != has || string(got) != want {
			r.Fatalf("%s: key %x is %.40x, want %.40x (%t)", t.Root, key, got, want, has)
		}
	}
	r.must(iterate(r, tree, t.content))
}

// compareLog compares the write log that leads to a root.
func (r *run) compareLog(t *root) {
	r.Helper()
	start := t.parent
	switch {
	case t.logs == logUnknown:
		return
	case start.IsEmpty():
		start.Version = t.Version
	}
	var log writelog.WriteLog
	var err error
	for entry, e := range r.ndb.GetWriteLog(r.ctx, start, t.Root) {
		if err = e; err != nil {
			break
		}
		copied := writelog.LogEntry{Key: bytes.Clone(entry.Key), Value: bytes.Clone(entry.Value)}
		log = append(log, copied)
	}
	switch {
	case errors.Is(err, db.ErrVersionPruned):
		if !r.any || start.Version >= r.earliest {
			r.Fatalf("write log from %s to %s: %v", start, t.Root, err)
		}
	case t.logs == logNone || !r.logs:
		r.refused("a write log that was not kept", err, db.ErrWriteLogNotFound)
	default:
		r.must(err)
		if diff := compareLogs(log, t.log); diff != "" {
			r.Fatalf("write log from %s to %s: %s", start, t.Root, diff)
		}
	}
}
