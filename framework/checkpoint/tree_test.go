package checkpoint

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sort"
	"testing"

	"github.com/ckpt-project/ckpt/conformance/vectors"
	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// treeDB is a NodeDB that holds one tree, built from sorted entries by the definition of the tree, and
// can be read only.
type treeDB struct {
	db.NodeDB
	root    node.Root
	embed   int
	entries []db.Entry // in pre-order

	pins int
}

func testNamespace(t testing.TB) (ns common.Namespace) {
	if err := ns.UnmarshalHex(vectors.Namespace); err != nil {
		t.Fatal(err)
	}
	return ns
}

func newTreeDB(t testing.TB, pairs []vectors.Pair, version uint64, embed int) *treeDB {
	d := &treeDB{embed: embed}
	h := hash.EmptyHash
	address := node.Address{Version: version}
	if len(pairs) > 0 {
		c := d.build(pairs, 0, 0, address)
		h = c.hash
		d.entries[0].Record = c.record(address)
	}
	sort.SliceStable(d.entries, func(i, j int) bool { return d.entries[i].Position.Compare(d.entries[j].Position) < 0 })
	d.root = node.Root{Namespace: testNamespace(t), Version: version, Type: node.RootTypeState, Hash: h}
	return d
}

type builtNode struct {
	leaf     bool
	encoding []byte
	hash     hash.Hash
	children [2]node.Child
}

func (b *builtNode) record(self node.Address) []byte {
	if b.leaf {
		return node.AppendLeafRecord(nil, b.encoding)
	}
	return node.AppendInternalRecord(nil, b.encoding, self, &b.children)
}

// build adds the subtree's entries, the first of which (its root's) is left for the caller to fill in or
// to drop.
func (d *treeDB) build(pairs []vectors.Pair, start, depth node.Depth, a node.Address) *builtNode {
	first, last := node.Key(pairs[0].Key), node.Key(pairs[len(pairs)-1].Key)
	at := len(d.entries)
	d.entries = append(d.entries, db.Entry{Address: a, Position: node.NewPosition(first, depth)})
	if len(pairs) == 1 {
		return &builtNode{leaf: true, encoding: node.AppendLeaf(nil, first, pairs[0].Value), hash: node.LeafHash(first, pairs[0].Value)}
	}
	end := first.CommonPrefixLen(first.BitLength(), last, last.BitLength())
	label := first.Slice(start, end)
	b := &builtNode{encoding: node.AppendInternalHead(nil, label, end-start)}
	own := hash.EmptyHash
	if first.BitLength() == end {
		own = node.LeafHash(first, pairs[0].Value)
		b.encoding = node.AppendLeaf(b.encoding, first, pairs[0].Value)
		pairs = pairs[1:]
	} else {
		b.encoding = append(b.encoding, node.PrefixNilNode)
	}
	split := sort.Search(len(pairs), func(i int) bool { return node.Key(pairs[i].Key).GetBit(end) })
	hashes := [2]hash.Hash{hash.EmptyHash, hash.EmptyHash}
	for side, part := range [2][]vectors.Pair{pairs[:split], pairs[split:]} {
		if len(part) == 0 {
			continue
		}
		mark := len(d.entries)
		c := d.build(part, end, end+1, a)
		hashes[side] = c.hash
		if c.leaf && len(c.encoding) <= d.embed {
			d.entries = d.entries[:mark]
			b.children[side] = node.Child{Present: true, Embedded: c.encoding}
		} else {
			d.entries[mark].Record = c.record(a)
			b.children[side] = node.Child{Present: true, Hash: c.hash, Address: a}
		}
	}
	b.hash = node.InternalHash(label, end-start, own, hashes[0], hashes[1])
	_ = at
	return b
}

func (d *treeDB) Info() db.Info { return db.Info{Namespace: d.root.Namespace, EmbedBytes: d.embed} }

func (d *treeDB) HasRoot(_ context.Context, root node.Root) (bool, error) { return root == d.root, nil }

func (d *treeDB) RootAddress(context.Context, node.Root) (node.Address, error) {
	return d.entries[0].Address, nil
}

func (d *treeDB) GetNode(_ context.Context, _ node.Root, _ node.Address, p node.Position) ([]byte, error) {
	i, ok := slices.BinarySearchFunc(d.entries, p, func(e db.Entry, p node.Position) int { return e.Position.Compare(p) })
	if !ok {
		return nil, db.ErrNodeNotFound
	}
	return d.entries[i].Record, nil
}

func (d *treeDB) Walk(ctx context.Context, root node.Root, from node.Position) iter.Seq2[db.Entry, error] {
	return func(yield func(db.Entry, error) bool) {
		if root != d.root {
			yield(db.Entry{}, db.ErrRootNotFound)
			return
		}
		path, bits, err := from.Bits()
		if err != nil {
			yield(db.Entry{}, err)
			return
		}
		var scratch []byte
		for _, e := range d.entries {
			if err := ctx.Err(); err != nil {
				yield(db.Entry{}, err)
				return
			}
			if e.Position.Compare(from) < 0 {
				_, n, err := e.Position.Bits()
				if err != nil || n > bits || e.Position.Compare(node.NewPosition(path, n)) != 0 {
					continue
				}
			}
			// The contract allows the memory to be used again: so it is.
			scratch = append(scratch[:0], e.Record...)
			if !yield(db.Entry{Address: e.Address, Position: e.Position, Record: scratch}, nil) {
				return
			}
			clear(scratch)
		}
	}
}

type treePin struct{ d *treeDB }

func (p treePin) Version() uint64               { return p.d.root.Version }
func (p treePin) Release(context.Context) error { p.d.pins--; return nil }

func (d *treeDB) Pin(_ context.Context, version uint64, _ string) (db.Pin, error) {
	if version != d.root.Version {
		return nil, db.ErrVersionNotFound
	}
	d.pins++
	return treePin{d}, nil
}

func (d *treeDB) checkPins(t testing.TB) {
	if d.pins != 0 {
		t.Errorf("%d pins are left", d.pins)
	}
}

var errTest = errors.New("test")
