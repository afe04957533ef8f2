package kvdb

import (
	"bytes"
	"context"
	"fmt"

	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// CompleteRoot checks that a root of the multipart insert is whole, and packs its spine into blocks.
// What was done before it was broken off is done again, with the same outcome.
func (d *DB) CompleteRoot(ctx context.Context, root node.Root) error {
	if err := d.beginWrite(ctx); err != nil {
		return err
	}
	defer d.end()
	ir, err := d.insertRoot(&root)
	if err != nil {
		return err
	}
	if err := d.take(ctx, d.completing); err != nil {
		return err
	}
	defer give(d.completing)
	d.mu.Lock()
	complete, marks := ir.complete, uint64(len(ir.marks))
	d.mu.Unlock()
	if complete {
		return d.current(ir)
	}
	if marks != ir.chunks {
		return fmt.Errorf("%w: %d of %d chunks of %s are there", db.ErrNotComplete, marks, ir.chunks, root)
	}
	c := &completion{
		d: d, ir: ir, out: part{limits: &d.limits}, path: make(node.Key, node.MaxKeyBytes+1),
		blocks: node.Address{Version: root.Version, Candidate: ir.candidate},
		spine:  node.Address{Version: root.Version, Candidate: ir.candidate | spineBit},
	}
	return c.run(ctx)
}

// completion goes over the spine of a root, from the root node down, in pre-order.
type completion struct {
	d  *DB
	ir *insertRoot
	// blocks and spine are the addresses of nodes that chunks hold whole, and of the others once packed.
	blocks, spine node.Address

	out     part
	packer  packer
	entries arena
	record  []byte
	// stack holds the spine's nodes to visit; path is as in walk.
	stack []pending
	path  node.Key
	root  node.Address

	s      kv.Snapshot
	finder *finder
}

func (c *completion) run(ctx context.Context) error {
	if err := c.withSnapshot(ctx, func() error { return c.begin() }); err != nil {
		return err
	}
	for len(c.stack) > 0 {
		if err := c.d.carryOn(ctx); err != nil {
			return err
		}
		if err := c.withSnapshot(ctx, func() error { return c.visitSome(ctx) }); err != nil {
			return err
		}
		if len(c.stack) > 0 {
			if err := c.write(ctx); err != nil {
				return err
			}
		}
	}
	if c.mustWrite() {
		if err := c.write(ctx); err != nil {
			return err
		}
	}
	if err := c.putBlock(); err != nil {
		return err
	}
	return c.finish(ctx)
}

func (c *completion) withSnapshot(ctx context.Context, f func() error) (err error) {
	if c.s, err = c.d.snapshot(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, storeError(c.s.Close())) }()
	c.finder = newFinder(c.s, c.ir.typ, c.blocks)
	defer func() { err = errors.Join(err, c.finder.close()) }()
	return f()
}

// begin checks the chunks' claims and looks the root's node up.
func (c *completion) begin() error {
	if err := overlapping(c.s, c.blocks.Version, c.ir); err != nil || c.ir.hash.IsEmpty() {
		return err
	}
	var err error
	c.root, err = c.lookup(node.RootPosition(), c.ir.hash)
	if err == nil && c.root == c.spine {
		c.stack = append(c.stack, pending{address: c.root})
	}
	return err
}

// lookup returns where a node is or will be: in the blocks, which count, or in the spine.
func (c *completion) lookup(p node.Position, want hash.Hash) (node.Address, error) {
	record, err := c.finder.find(p)
	if err != nil {
		return node.Address{}, err
	}
	at := c.blocks
	if record == nil {
		if record, err = c.raw(p); err != nil {
			return at, err
		}
		at = c.spine
	}
	if record == nil {
		return at, fmt.Errorf("%w: the node at %s is missing", db.ErrNotComplete, p)
	}
	r, err := parse(record, c.blocks, p)
	if err != nil {
		return at, err
	}
	if h := r.ComputeHash(); h != want {
		return at, fmt.Errorf("%w: the node at %s has hash %s, not %s", db.ErrNotComplete, p, h, want)
	}
	return at, nil
}

// raw returns the record of a node in the raw spine, nil where it is not there.
func (c *completion) raw(p node.Position) ([]byte, error) {
	key := nodeKey(kindSpine, c.ir.typ, c.blocks, p)
	value, err := getOrNil(c.s, key)
	if err != nil || value == nil {
		return nil, err
	}
	f, ok := unseal(key, value)
	if !ok {
		return nil, &db.CorruptedError{Version: c.blocks.Version, Position: bytes.Clone(p), Reason: "restored node's checksum is wrong"}
	}
	return f.b, nil
}

// visitSome visits nodes until there is enough to write.
func (c *completion) visitSome(ctx context.Context) error {
	for len(c.stack) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		if c.mustWrite() { // a visit adds a block at most: the one that was gathered before
			return nil
		}
		if err := c.visit(); err != nil {
			return err
		}
	}
	return nil
}

// visit packs a node of the spine, with its children where they really are.
func (c *completion) visit() error {
	n := c.stack[len(c.stack)-1]
	c.stack = c.stack[:len(c.stack)-1]
	if n.depth > 0 {
		c.path.SetBit(n.depth-1, n.last)
	}
	p := node.NewPosition(c.path, n.depth)
	record, err := c.raw(p)
	if err != nil {
		return err
	}
	r, err := parse(record, c.blocks, p)
	if err != nil {
		return err
	}
	end, err := endOf(r.LabelBitLength, n.depth, c.blocks, p)
	if err != nil {
		return err
	}
	c.path.CopyBits(end-r.LabelBitLength, r.Label, r.LabelBitLength)
	for side := node.Right; side >= node.Left; side-- {
		child := &r.Children[side]
		if !child.Present {
			continue
		}
		if child.Embedded != nil || end == node.MaxDepth {
			return &db.CorruptedError{Version: c.blocks.Version, Position: p, Reason: "restored node can't be a partial one"}
		}
		c.path.SetBit(end, side == node.Right)
		if child.Address, err = c.lookup(node.NewPosition(c.path, end+1), child.Hash); err != nil {
			return err
		}
		if child.Address == c.spine {
			c.stack = append(c.stack, pending{address: c.spine, depth: end + 1, last: side == node.Right})
		}
	}
	return c.pack(p, &r)
}

func (c *completion) pack(p node.Position, r *node.Record) error {
	// The entry is made in scratch memory: putBlock gives up that of the entries gathered so far.
	c.record = node.AppendInternalRecord(c.record[:0], r.Encoding, c.spine, &r.Children)
	if !c.packer.fits(entry{p, c.record}) {
		if err := c.putBlock(); err != nil {
			return err
		}
	}
	k := len(p)
	b := c.entries.keep(append(append(c.entries.grow(k+len(c.record)), p...), c.record...))
	c.packer.add(entry{node.Position(b[:k:k]), b[k:]})
	return nil
}

// mustWrite says whether the block that was gathered has to wait for the next write.
func (c *completion) mustWrite() bool {
	return len(c.packer.entries) > 0 && c.out.full(1, blockRoom(c.packer.entries))
}

// write writes what there is, as long as the root is part of the insert.
func (c *completion) write(ctx context.Context) error {
	return c.d.write(ctx, &c.out, false, func() error { return c.d.current(c.ir) })
}

// putBlock stores the block that was gathered.
func (c *completion) putBlock() error {
	if len(c.packer.entries) == 0 {
		return nil
	}
	err := c.out.putBlock(c.ir.typ, c.spine, c.packer.entries, c.packer.shared)
	c.packer.reset()
	c.entries.reset()
	return err
}

// finish says that the root is complete.
func (c *completion) finish(ctx context.Context) error {
	d := c.d
	if c.out.full(1, prefixSize+256) {
		if err := c.write(ctx); err != nil {
			return err
		}
	}
	if err := d.take(ctx, d.turn); err != nil {
		return err
	}
	defer give(d.turn)
	if err := d.current(c.ir); err != nil {
		return err
	}
	done := *c.ir
	done.complete, done.address = true, c.root
	key := prefixKey(kindInsertRoot, c.ir.typ, c.blocks)
	c.out.batch.Put(key, done.encode(key, false))
	if err := d.apply(ctx, &c.out.batch, true); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c.ir.complete, c.ir.address = true, c.root
	return nil
}
