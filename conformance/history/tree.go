package history

import (
	"bytes"
	"maps"
	"slices"

	"github.com/ckpt-project/ckpt/conformance/reference"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/writelog"
)

// openTree is a tree that is being changed, while other things happen to its database.
type openTree struct {
	*mkvs.Tree
	base    *root
	version uint64 // that it will be committed as
	now     reference.Content
	touched map[string]bool
	logs    bool
}

// openTree opens a tree at a root that can have descendants, or an empty one.
func (r *run) openTree() {
	var opts []mkvs.Option
	opts = append(opts, mkvs.WithCapacity(draw(r, []int{0, 1, 5, 1000}, "capacity")))
	if r.chance(2, "verify reads") {
		opts = append(opts, mkvs.WithVerifyReads())
	}
	t := &openTree{touched: map[string]bool{}, logs: !r.chance(6, "without a write log")}
	if !t.logs {
		opts = append(opts, mkvs.WithoutWriteLog())
	}
	bases := r.bases()
	if len(bases) > 0 && !r.chance(5, "begin empty") {
		t.base = draw(r, bases, "base")
		t.version = t.base.Version + 1
		t.Tree = mkvs.NewWithRoot(r.ndb, t.base.Root, opts...)
	} else {
		t.version = r.next() + uint64(r.index(3, "versions ahead"))
		typ := draw(r, []node.RootType{stateType, stateType, ioType}, "type")
		t.base = nothing(typ, t.version)
		t.Tree = mkvs.New(r.ndb, typ, opts...)
		if r.chance(2, "from the version before") {
			t.base = nothing(typ, t.version-1)
			t.Tree = mkvs.NewWithRoot(r.ndb, t.base.Root, opts...)
		}
	}
	t.now = t.base.content.With()
	r.tree = t
}

// closeTree gives the open tree up.
func (r *run) closeTree() {
	if r.tree != nil {
		r.tree.Close()
		r.tree = nil
	}
}

// usable says whether the open tree's base is still there.
func (r *run) usable() bool { return r.there(baseOf(r.tree.base)) }

// baseOf is what the model says that a root made from base was made from.
func baseOf(base *root) *root {
	if base.IsEmpty() {
		return nil
	}
	return base
}

// change changes the open tree, and reads from it.
func (r *run) change() bool {
	if r.tree == nil {
		r.openTree()
	}
	t := r.tree
	for _, e := range r.edits(t.now) {
		value, there := t.now[e.key]
		var err error
		switch {
		case !e.remove:
			given := []byte(e.value)
			err = t.Insert(r.ctx, []byte(e.key), given)
			clear(given) // the tree has its own copy
		case r.rng.IntN(2) == 0:
			err = t.Remove(r.ctx, []byte(e.key))
		default:
			var removed []byte
			removed, err = t.RemoveExisting(r.ctx, []byte(e.key))
			if err == nil && ((removed != nil) != there || string(removed) != value) {
				r.Fatalf("removed %.40x of key %x, want %.40x (%t)", removed, e.key, value, there)
			}
		}
		if r.treeEnded(err) {
			return true
		}
		if !e.remove || there {
			t.touched[e.key] = true
		}
		t.now = apply(t.now, []edit{e})
	}
	for range 3 {
		key := r.someKey(t.now)
		got, err := t.Get(r.ctx, []byte(key))
		if r.treeEnded(err) {
			return true
		}
		if want, has := t.now[key]; (got != nil) != has || string(got) != want {
			r.Fatalf("tree at %s: key %x is %.40x, want %.40x (%t)", t.base.Root, key, got, want, has)
		}
	}
	if r.rng.IntN(3) == 0 {
		err := iterate(r, t, t.now)
		if r.treeEnded(err) {
			return true
		}
	}
	return true
}

// someKey is a key of a content, or one beside it.
func (r *run) someKey(c reference.Content) string {
	keys := c.Keys()
	if len(keys) == 0 || r.rng.IntN(5) == 0 {
		return string([]byte{byte(r.rng.Uint32()), byte(r.rng.Uint32())})
	}
	key := keys[r.rng.IntN(len(keys))]
	switch r.rng.IntN(5) {
	case 0:
		return key + "\x00"
	case 1:
		return key[:len(key)/2]
	}
	return key
}

// treeEnded fails the history for an error of the open tree, but for one whose base has gone: that ends.
func (r *run) treeEnded(err error) bool {
	r.Helper()
	if err == nil {
		return false
	}
	if r.usable() {
		r.Fatalf("tree at %s: %v", r.tree.base.Root, err)
	}
	want := []error{db.ErrRootNotFound, db.ErrVersionPruned, db.ErrVersionNotFound}
	if r.has(r.tree.base.Root) { // the same one, restored
		want = append(want, db.ErrNodeNotFound)
	}
	r.refused("a tree whose root has gone", err, want...)
	r.closeTree()
	return true
}

// iterate compares all that a tree holds, from some key on.
func iterate(r *run, t mkvs.KeyValueTree, want reference.Content) error {
	r.Helper()
	it := t.NewIterator(r.ctx)
	defer it.Close()
	keys := want.Keys()
	if r.rng.IntN(2) == 0 {
		it.Rewind()
	} else {
		from := r.someKey(want)
		at, _ := slices.BinarySearch(keys, from)
		keys = keys[at:]
		it.Seek([]byte(from))
	}
	for ; it.Valid(); it.Next() {
		if len(keys) == 0 || string(it.Key()) != keys[0] || string(it.Value()) != want[keys[0]] {
			r.Fatalf("iterator is at %x = %.40x, want those of %.10x", []byte(it.Key()), it.Value(), keys)
		}
		keys = keys[1:]
	}
	if it.Err() == nil && len(keys) > 0 {
		r.Fatalf("iterator ends before %d keys, the first %x", len(keys), keys[0])
	}
	return it.Err()
}

// commit commits the open tree.
func (r *run) commit() bool {
	if r.tree == nil {
		r.change()
	}
	t := r.tree
	if t == nil {
		return true
	}
	version, typ := t.version, t.RootType()
	switch wrongly := r.index(8, "wrongly"); {
	case wrongly == 0 && !t.base.IsEmpty():
		_, _, err := t.Commit(r.ctx, namespace, version+1)
		r.refused("a commit of a version too far", err, db.ErrRootMustFollowOld, db.ErrAlreadyFinalized, db.ErrVersionPruned, db.ErrRootNotFound)
		_, _, err = t.Commit(r.ctx, namespace, t.base.Version)
		if err != nil { // none where nothing was changed: that root is there
			r.refused("a commit of the base's version", err, db.ErrRootMustFollowOld, db.ErrAlreadyFinalized, db.ErrVersionPruned, db.ErrRootNotFound)
		} else if hash := reference.Build(t.now).RootHash(); hash != t.base.Hash {
			r.Fatalf("a tree at %s was committed as another root %s of the same version", t.base.Root, hash)
		} else {
			t.touched = map[string]bool{}
		}
	case wrongly == 1 && r.usable():
		_, err := t.CommitKnown(r.ctx, node.Root{Namespace: namespace, Version: version, Type: typ, Hash: hash.Sum([]byte("another"))})
		r.refused("a commit of a root known wrongly", err, mkvs.ErrKnownRootMismatch)
	}
	log, got, err := t.Commit(r.ctx, namespace, version)
	if r.any && version <= r.latest || !r.usable() {
		r.refused("a commit whose version or base is not to be had", err,
			db.ErrAlreadyFinalized, db.ErrRootMustFollowOld, db.ErrVersionPruned, db.ErrRootNotFound, db.ErrVersionNotFound)
		r.closeTree()
		return true
	}
	r.must(err)
	next := &root{
		Root:    node.Root{Namespace: namespace, Version: version, Type: typ, Hash: got},
		content: t.now, top: reference.Build(t.now), base: baseOf(t.base), parent: t.base.Root, logs: logKept,
	}
	if want := next.top.RootHash(); got != want {
		r.Fatalf("commit of version %d has hash %s, want %s", version, got, want)
	}
	if t.logs {
		next.log = t.log()
		if diff := compareLogs(log, next.log); diff != "" {
			r.Fatalf("commit of %s returns a write log: %s", next.Root, diff)
		}
	} else if got != t.base.Hash {
		next.logs = logNone
	}
	next = r.committed(next, t.base)
	if typ == ioType || r.chance(3, "done") {
		r.closeTree()
		return true
	}
	t.base, t.version, t.now, t.touched = next, version+1, next.content.With(), map[string]bool{}
	return true
}

// log is the write log that the tree should return.
func (t *openTree) log() (log writelog.WriteLog) {
	for _, key := range slices.Sorted(maps.Keys(t.touched)) {
		value, there := t.now[key]
		_, before := t.base.content[key]
		switch {
		case there:
			log = append(log, writelog.LogEntry{Key: []byte(key), Value: []byte(value)})
		case before:
			log = append(log, writelog.LogEntry{Key: []byte(key)})
		}
	}
	return log
}

// committed notes a candidate, and returns what the model has of it: that which was there before, if there
// was one.
func (r *run) committed(next, base *root) *root {
	if before := r.candidates[next.Root]; before != nil {
		return before
	}
	r.adopt(next)
	old := base.top.ByPosition()
	next.top.All(func(n *reference.Node) {
		if n.Embedded || n.Address.Version == next.Version {
			return
		}
		if o := old[string(n.Position)]; o == nil || o.Embedded || o.Address != n.Address || o.Hash != n.Hash {
			r.Fatalf("%s has an entry of version %s at %s, where %s has none like it", next.Root, n.Address, n.Position, base.Root)
		}
	})
	r.add(next)
	return next
}

// adopt finds out where the database has stored a tree's nodes, which is its choice: which of them, and
// with which records, is not.
func (r *run) adopt(t *root) {
	r.Helper()
	nodes := t.top.ByPosition()
	t.top.All(func(n *reference.Node) { n.Embedded = true })
	for e, err := range r.ndb.Walk(r.ctx, t.Root, nil) {
		r.must(err)
		n := nodes[string(e.Position)]
		if n == nil || !n.Embedded {
			r.Fatalf("%s: an entry at position %s, where no node is, or twice", t.Root, e.Position)
		}
		n.Address, n.Embedded = e.Address, false
	}
	t.top.All(func(n *reference.Node) {
		if n.Embedded && (n.Parent == nil || !n.Small(r.embed)) {
			r.Fatalf("%s: no entry at position %s", t.Root, n.Position)
		}
	})
	r.walked(t, nil, t.top.Stored())
}

// compareLogs says how two write logs differ.
func compareLogs(got, want writelog.WriteLog) string {
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			return "it ends before key " + string(want[i].Key)
		case i >= len(want):
			return "it goes on with key " + string(got[i].Key)
		case !bytes.Equal(got[i].Key, want[i].Key) || !bytes.Equal(got[i].Value, want[i].Value) || got[i].Type() != want[i].Type():
			return "it has key " + string(got[i].Key) + " for key " + string(want[i].Key) + ", or another value"
		}
	}
	return ""
}
