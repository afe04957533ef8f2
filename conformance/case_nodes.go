package conformance

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/ckpt-project/ckpt/conformance/reference"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

func rootAddresses(e *env) {
	ndb := e.open()
	first, second := e.twoVersions(ndb)
	third := e.commit(ndb, second, 3, second.content) // nothing has changed
	if third.top.Address != second.top.Address {
		e.Fatalf("the model gives an unchanged root a new address")
	}
	e.readable(ndb, third)
	e.finalize(ndb, third)
	for _, t := range []*tree{first, second, third} {
		address, err := ndb.RootAddress(e.ctx, t.root)
		e.check(err)
		if address != t.top.Address {
			e.Errorf("%s is at %s, want %s", t.root, address, t.top.Address)
		}
	}
}

func singleNodes(e *env) {
	ndb := e.open()
	first, second := e.twoVersions(ndb)
	for _, t := range []*tree{first, second} {
		t.top.All(func(n *reference.Node) {
			record, err := ndb.GetNode(e.ctx, t.root, n.Address, n.Position)
			if n.Embedded {
				e.is("GetNode of an embedded leaf", err, db.ErrNodeNotFound)
				return
			}
			if err != nil || !bytes.Equal(record, n.Record()) {
				e.Errorf("GetNode(%s, %s) = %.40x, %v; want %.40x", n.Address, n.Position, record, err, n.Record())
			}
		})
		for _, wrong := range []struct {
			address  node.Address
			position node.Position
		}{
			{node.Address{Version: 100}, t.top.Position},
			{node.Address{Version: t.top.Address.Version, Candidate: t.top.Address.Candidate + 1}, t.top.Position},
			{t.top.Address, node.NewPosition(node.Key("no node is there"), 100)},
		} {
			_, err := ndb.GetNode(e.ctx, t.root, wrong.address, wrong.position)
			e.is(fmt.Sprintf("GetNode(%s, %s)", wrong.address, wrong.position), err, db.ErrNodeNotFound)
		}
	}
}

// pathTo compares the path from a node to a key with the model's.
func (e *env) pathTo(ndb db.NodeDB, t *tree, from *reference.Node, key node.Key) {
	e.Helper()
	got, err := ndb.GetPath(e.ctx, t.root, from.Address, from.Depth, key)
	if err != nil {
		e.Errorf("GetPath(%s, %s, %d, %.40x): %v", t.root, from.Address, from.Depth, []byte(key), err)
		return
	}
	agree, off := from.Path(key)
	if off != nil && len(got) == len(agree)+1 {
		agree = append(agree, off)
	}
	var want []db.Entry
	for _, n := range agree {
		want = append(want, n.Entry())
	}
	e.same(t.root, got, want)
}

// someKeys are keys in and beside a content.
func someKeys(c content) (keys []node.Key) {
	for _, key := range c.Keys() {
		k := node.Key(key)
		keys = append(keys, k, append(bytes.Clone(k), 0), append(bytes.Clone(k), 0xff))
		if len(k) > 0 {
			other := bytes.Clone(k)
			other[len(k)/2] ^= 0x10
			keys = append(keys, k[:len(k)-1], other)
		}
	}
	return append(keys, node.Key{}, node.Key("no such key"), node.Key{0xff, 0xff, 0xff})
}

func paths(e *env) {
	ndb := e.open()
	first, second := e.twoVersions(ndb)
	third := e.commit(ndb, second, 3, second.content.With("candidates", "too"))
	for _, t := range []*tree{first, second, third} {
		for _, key := range someKeys(t.content) {
			e.pathTo(ndb, t, t.top, key)
		}
	}
	one := e.commit(ndb, second, 3, content{"only": "one"}) // the root is a leaf
	for _, key := range someKeys(one.content) {
		e.pathTo(ndb, one, one.top, key)
	}
}

func pathsFromWithin(e *env) {
	ndb := e.open()
	_, second := e.twoVersions(ndb)
	second.top.All(func(n *reference.Node) {
		if n.Embedded {
			return
		}
		e.pathTo(ndb, second, n, n.Some)
		for _, key := range []node.Key{append(bytes.Clone(n.Some), 'x'), n.Some[:(n.Depth+7)/8]} {
			e.pathTo(ndb, second, n, key)
		}
	})
	_, err := ndb.GetPath(e.ctx, second.root, second.top.Address, 25, node.Key("abc"))
	e.refused("GetPath from below the key", err)
	_, err = ndb.GetPath(e.ctx, second.root, node.Address{Version: 77}, 0, node.Key("abc"))
	e.is("GetPath from a node that is not there", err, db.ErrNodeNotFound)
}

// pathsAtOnce reads many paths in one call, from the root and from the nodes within, and compares them with
// the same read one by one. A database need not have that call.
func pathsAtOnce(e *env) {
	ndb := e.open()
	_, second := e.twoVersions(ndb)
	keys := someKeys(second.content)
	slices.SortFunc(keys, func(a, b node.Key) int { return bytes.Compare(a, b) })
	fromRoot := []db.PathStart{}
	for _, key := range keys { // some of them twice
		fromRoot = append(fromRoot, db.PathStart{Address: second.top.Address, Key: key})
	}
	within := map[node.Depth][]db.PathStart{}
	second.top.All(func(n *reference.Node) { // in the order of their keys
		if n.Embedded || n.Parent == nil {
			return
		}
		level := node.Depth(0) // nodes of one level don't lie below each other
		for up := n.Parent; up != nil; up = up.Parent {
			level++
		}
		for _, key := range []node.Key{n.Some, append(bytes.Clone(n.Some), 'x')} {
			within[level] = append(within[level], db.PathStart{Address: n.Address, Depth: n.Depth, Key: key})
		}
	})
	all := [][]db.PathStart{{}, fromRoot, fromRoot[:1]}
	for _, starts := range within {
		all = append(all, starts)
	}
	for _, starts := range all {
		got, err := db.Collect(db.GetPaths(e.ctx, ndb, second.root, starts))
		if err != nil {
			e.Errorf("GetPaths(%s) of %d starts: %v", second.root, len(starts), err)
			continue
		}
		want, err := db.Collect(db.GetPaths(e.ctx, struct{ db.NodeDB }{ndb}, second.root, starts))
		e.check(err)
		e.same(second.root, got, want)
	}
	lost := append(fromRoot[:1:1], db.PathStart{Address: node.Address{Version: 77}, Key: node.Key("\xff\xff\xff\xff")})
	_, err := db.Collect(db.GetPaths(e.ctx, ndb, second.root, lost))
	e.is("GetPaths with a node that is not there", err, db.ErrNodeNotFound)
	_, err = db.Collect(db.GetPaths(e.ctx, ndb, second.root, []db.PathStart{{Address: second.top.Address, Depth: 25, Key: node.Key("abc")}}))
	e.refused("GetPaths from below the key", err)
	unknown := second.root
	unknown.Hash[0] ^= 1
	_, err = db.Collect(db.GetPaths(e.ctx, ndb, unknown, fromRoot[:1]))
	e.is("GetPaths of a root that is not there", err, db.ErrRootNotFound)
}

// pathsThatLabelsEnd looks up keys that leave the tree within a label, where their further bits lead to
// positions at which the version has no node, or one of another way.
func pathsThatLabelsEnd(e *env) {
	ndb := e.open()
	c := content{}
	stem := strings.Repeat("\x0f", 20)
	for i := range 40 {
		c[stem+fmt.Sprintf("%02d", i)+strings.Repeat("z", 5)] = strings.Repeat("v", 600)
		c[fmt.Sprintf("other %02d", i)] = strings.Repeat("v", 600)
	}
	t := e.version(ndb, empty(stateType, 0), 1, c)
	for i, key := range t.content.Keys() {
		if i%4 != 0 { // each bit of a key is a path
			continue
		}
		for at := range len(key) * 8 {
			k := node.Key(bytes.Clone([]byte(key)))
			k.SetBit(node.Depth(at), !k.GetBit(node.Depth(at)))
			e.pathTo(ndb, t, t.top, k)
			if e.Failed() {
				return
			}
		}
	}
}

func wholeWalk(e *env) {
	ndb := e.open()
	for i, c := range []content{{}, {"": ""}, {"only": "one"}, {"": "", "\x00": "", "\x00\x00": ""}, newRandom(6).content(500)} {
		e.readable(ndb, e.commit(ndb, empty(stateType, 0), 1, c))
		e.readable(ndb, e.commit(ndb, empty(ioType, uint64(10+i)), uint64(10+i), c))
	}
	t := empty(stateType, 0)
	r := newRandom(7)
	for v := uint64(1); v < 25; v++ { // a tree whose nodes were written by many versions
		t = e.version(ndb, t, v, r.change(t.content, 25))
	}
	e.readable(ndb, t)
}

func walkFrom(e *env) {
	ndb := e.open()
	_, t := e.twoVersions(ndb)
	entries := t.top.Entries()
	from := func(position node.Position, bits node.Depth, path node.Key) {
		e.Helper()
		var want []db.Entry
		for _, entry := range entries {
			entryPath, entryBits, err := entry.Position.Bits()
			e.check(err)
			above := entryBits < bits && entryPath.CommonPrefixLen(entryBits, path, bits) == entryBits
			if above || entry.Position.Compare(position) >= 0 {
				want = append(want, entry)
			}
		}
		got, err := e.walked(ndb, t.root, position)
		e.check(err)
		e.same(t.root, got, want)
	}
	for _, n := range t.top.List() { // embedded leaves, too: their parents come
		from(n.Position, n.Depth, n.Some)
	}
	for _, path := range []node.Key{node.Key("key"), node.Key("no such key"), {0}, {0xff, 0xff}} {
		for bits := node.Depth(1); bits <= path.BitLength(); bits += 3 {
			from(node.NewPosition(path, bits), bits, path)
		}
	}
}

func walkLeft(e *env) {
	ndb := e.open()
	_, t := e.twoVersions(ndb)
	entries := t.top.Entries()
	for n := 1; n <= len(entries); n += 5 {
		var got []db.Entry
		for entry, err := range ndb.Walk(e.ctx, t.root, nil) {
			e.check(err)
			got = append(got, db.Entry{Address: entry.Address, Position: bytes.Clone(entry.Position), Record: bytes.Clone(entry.Record)})
			if len(got) == n {
				break
			}
		}
		e.same(t.root, got, entries[:n])
	}
	e.version(ndb, t, 3, t.content.With("nothing", "is locked"))
	e.check(ndb.Prune(e.ctx, 1))
}

// deepTree has keys that are prefixes of each other, up to the longest that there can be.
func deepTree(e *env) {
	ndb := e.open()
	long := strings.Repeat("\x5a", node.MaxKeyBytes)
	c := content{}
	for n := 0; n <= node.MaxKeyBytes; n += 31 {
		c[long[:n]] = "value"
	}
	c[long] = strings.Repeat("large", 200)
	first := e.version(ndb, empty(stateType, 0), 1, c)
	e.readable(ndb, first)
	for _, key := range []string{"", long[:31], long[:4000], long[:8000], long, long[:len(long)-1] + "\x5b"} {
		e.pathTo(ndb, first, first.top, node.Key(key))
	}
	second := e.version(ndb, first, 2, c.With(long, "changed"))
	e.readable(ndb, second)
	e.check(ndb.Prune(e.ctx, 1))
	e.readable(ndb, second)
}

func nodesOfPrunedVersion(e *env) {
	ndb := e.open()
	first, second := e.twoVersions(ndb)
	e.check(ndb.Prune(e.ctx, 1))
	shared := 0
	second.top.All(func(n *reference.Node) {
		if n.Embedded || n.Address.Version != 1 {
			return
		}
		shared++
		record, err := ndb.GetNode(e.ctx, second.root, n.Address, n.Position)
		if err != nil || !bytes.Equal(record, n.Record()) {
			e.Errorf("a node that version 2 shares with version 1: %v", err)
		}
		_, err = ndb.GetNode(e.ctx, first.root, n.Address, n.Position)
		e.is("GetNode for a root that was pruned", err, db.ErrVersionPruned)
		_, err = ndb.GetPath(e.ctx, first.root, n.Address, n.Depth, n.Some)
		e.is("GetPath for a root that was pruned", err, db.ErrVersionPruned)
	})
	if shared == 0 {
		e.Fatalf("the versions share nothing")
	}
}
