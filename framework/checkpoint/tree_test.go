package checkpoint

import (
	"context"
	"errors"
	"iter"
	"slices"
	"testing"

	"github.com/ckpt-project/ckpt/conformance/reference"
	"github.com/ckpt-project/ckpt/conformance/vectors"
	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// treeDB is a NodeDB that holds one tree, built by definition, and can be read only.
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
	content := make(reference.Content, len(pairs))
	for _, p := range pairs {
		content[string(p.Key)] = string(p.Value)
	}
	top := reference.Build(content)
	reference.Settle(top, nil, node.Address{Version: version}, embed)
	d := &treeDB{embed: embed, entries: top.Entries()}
	d.root = node.Root{Namespace: testNamespace(t), Version: version, Type: node.RootTypeState, Hash: top.RootHash()}
	return d
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
