package kvdb

import (
	"bytes"
	"context"
	"fmt"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// chunk is a chunk of a multipart insert being written. Whole nodes go into blocks, the others, of
// which several chunks hold parts, one by one into the raw spine: both can be written twice.
type chunk struct {
	d       *DB
	ir      *insertRoot
	index   uint64
	address node.Address

	out     part
	packer  packer
	entries arena // of packer's entries
	last    node.Position
	mark    mark
	reach   reach
	// durable says that the chunk has its mark already: then nothing is written.
	durable bool
	done    bool
}

// NewChunk begins a chunk of a root of the multipart insert.
func (d *DB) NewChunk(ctx context.Context, root node.Root, index uint64) (db.ChunkWriter, error) {
	if err := d.beginWrite(ctx); err != nil {
		return nil, err
	}
	defer d.end()
	ir, err := d.insertRoot(&root)
	if err != nil {
		return nil, err
	}
	if index >= ir.chunks {
		return nil, fmt.Errorf("%w: chunk %d of %d", db.ErrMalformed, index, ir.chunks)
	}
	return &chunk{
		d: d, ir: ir, index: index, out: part{limits: &d.limits}, durable: d.isMarked(ir, index),
		address: node.Address{Version: root.Version, Candidate: ir.candidate},
	}, nil
}

func (d *DB) isMarked(ir *insertRoot, index uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := ir.marks[index]
	return ok
}

// Address is what the chunk's entries are stored under.
func (c *chunk) Address() node.Address { return c.address }

func (c *chunk) usable(ctx context.Context) error {
	if err := c.d.carryOn(ctx); err != nil {
		return err
	}
	if c.done {
		return fmt.Errorf("%w: the chunk has ended", db.ErrMalformed)
	}
	return nil
}

// Put adds the next entry in pre-order.
func (c *chunk) Put(ctx context.Context, position node.Position, record []byte, whole bool) error {
	if err := c.usable(ctx); err != nil {
		return err
	}
	r, err := c.d.checkEntry(c.ir.typ, c.address, position, record)
	if err != nil {
		return err
	}
	if c.last != nil && c.last.Compare(position) >= 0 {
		return fmt.Errorf("%w: position %s does not come after %s", db.ErrMalformed, position, c.last)
	}
	for side := range r.Children {
		switch child := &r.Children[side]; {
		case child.Embedded != nil && !whole:
			return fmt.Errorf("%w: position %s: a partial node embeds a leaf", db.ErrMalformed, position)
		case child.Present && child.Embedded == nil && child.Address != c.address:
			return fmt.Errorf("%w: position %s: child at %s, the chunk's address is %s", db.ErrMalformed, position, child.Address, c.address)
		}
	}
	c.last = append(c.last[:0], position...)
	if c.durable {
		return nil
	}
	if !whole {
		if r.Leaf {
			return fmt.Errorf("%w: position %s: a partial leaf", db.ErrMalformed, position)
		}
		// A partial node is not below a whole one: it leaves all of those behind, and is not in the mark.
		c.mark.last = c.reach.leave(c.mark.last)
		return c.putSpine(ctx, position, record)
	}
	c.reach.enter(position)
	if !c.mark.any {
		c.mark.any, c.mark.first = true, bytes.Clone(position)
	}
	c.mark.last = append(c.mark.last[:0], position...)
	c.reach.add(position, &r)
	e := entry{position, record}
	if !c.packer.fits(e) {
		if err := c.putBlock(ctx); err != nil {
			return err
		}
	}
	b := c.entries.grow(len(position) + len(record))
	b = c.entries.keep(append(append(b, position...), record...))
	n := len(position)
	c.packer.add(entry{node.Position(b[:n:n]), b[n:]})
	return nil
}

// putSpine stores a partial node.
func (c *chunk) putSpine(ctx context.Context, p node.Position, record []byte) error {
	if err := c.room(ctx, prefixSize+len(p)+len(record)+crcSize); err != nil {
		return err
	}
	key := appendPrefix(c.out.arena.grow(prefixSize+len(p)), kindSpine, c.ir.typ, c.address)
	key = c.out.arena.keep(append(key, p...))
	value := append(c.out.arena.grow(len(record)+crcSize), record...)
	value = c.out.arena.keep(seal(key, value))
	if err := c.out.check(key, value); err != nil {
		return err
	}
	c.out.batch.Put(key, value)
	return nil
}

// putBlock stores the block that was gathered.
func (c *chunk) putBlock(ctx context.Context) error {
	entries := c.packer.entries
	if len(entries) == 0 {
		return nil
	}
	if err := c.room(ctx, blockRoom(entries)); err != nil {
		return err
	}
	if err := c.out.putBlock(c.ir.typ, c.address, entries, c.packer.shared); err != nil {
		return err
	}
	c.packer.reset()
	c.entries.reset()
	return nil
}

// room writes what there is where so many bytes more don't go with it.
func (c *chunk) room(ctx context.Context, bytes int) error {
	if !c.out.full(1, bytes) {
		return nil
	}
	if err := c.d.beginWrite(ctx); err != nil {
		return err
	}
	defer c.d.end()
	return c.d.write(ctx, &c.out, false, func() error { return c.d.current(c.ir) })
}

// Commit makes the chunk count.
func (c *chunk) Commit(ctx context.Context, sync bool) error {
	if err := c.usable(ctx); err != nil {
		return err
	}
	d := c.d
	if err := d.beginWrite(ctx); err != nil {
		return err
	}
	defer d.end()
	if c.durable {
		if err := d.current(c.ir); err != nil {
			return err
		}
		c.done = true
		if sync {
			return storeError(d.store.Sync(ctx))
		}
		return nil
	}
	if err := c.putBlock(ctx); err != nil {
		return err
	}
	c.mark.last = c.reach.leave(c.mark.last)
	key := markKey(c.ir.typ, c.address, c.index)
	value := c.mark.encode(key)
	if err := c.room(ctx, len(key)+len(value)); err != nil {
		return err
	}
	if err := d.take(ctx, d.turn); err != nil {
		return err
	}
	defer give(d.turn)
	if err := d.current(c.ir); err != nil {
		return err
	}
	c.out.batch.Put(key, value)
	if err := d.apply(ctx, &c.out.batch, sync); err != nil {
		return err
	}
	d.mu.Lock()
	c.ir.marks[c.index] = struct{}{}
	d.mu.Unlock()
	c.end()
	return nil
}

func (c *chunk) end() {
	c.done = true
	c.out, c.packer, c.entries, c.reach = part{limits: &c.d.limits}, packer{}, arena{}, reach{}
}

// Abort ends a chunk that is not committed. What was written of it is written again with the chunk, or
// goes with the root.
func (c *chunk) Abort(ctx context.Context) error {
	if !c.done {
		c.end()
	}
	return nil
}

// reach finds out how far a chunk's whole nodes reach. Leaves that are embedded have positions of their
// own, behind everything below their sibling: so it keeps the nodes that embed a leaf and that the
// chunk has not left yet, and works out the leaves' positions only in the end.
type reach struct {
	buf   []byte
	nodes []reachNode
}

// reachNode says where position and label of a node begin and end in the buffer.
type reachNode struct {
	from, label, to int
	bits            node.Depth
	right           bool
}

// enter leaves the nodes that a position is not below.
func (r *reach) enter(p node.Position) {
	for n := len(r.nodes); n > 0; n-- {
		top := &r.nodes[n-1]
		if reaches(r.buf[top.from:top.label], p) {
			return
		}
		r.buf = r.buf[:top.from]
		r.nodes = r.nodes[:n-1]
	}
}

// add adds a node where it embeds a leaf.
func (r *reach) add(p node.Position, rec *node.Record) {
	left, right := rec.Children[node.Left].Embedded != nil, rec.Children[node.Right].Embedded != nil
	if !left && !right {
		return
	}
	n := reachNode{from: len(r.buf), bits: rec.LabelBitLength, right: right}
	r.buf = append(r.buf, p...)
	n.label = len(r.buf)
	r.buf = append(r.buf, rec.Label...)
	n.to = len(r.buf)
	r.nodes = append(r.nodes, n)
}

// leave leaves all nodes, and returns the furthest of a position and those of their leaves.
func (r *reach) leave(last node.Position) node.Position {
	for _, n := range r.nodes {
		path, depth, err := node.Position(r.buf[n.from:n.label]).Bits()
		if err != nil {
			continue // it was checked when it came
		}
		end := int(depth) + int(n.bits)
		if depth > 0 {
			end-- // the label begins with the position's last bit
		}
		if end >= int(node.MaxDepth) {
			continue // no leaf lies below
		}
		long := make(node.Key, node.Depth(end+1).ToBytes())
		copy(long, path)
		long.CopyBits(node.Depth(end)-n.bits, r.buf[n.label:n.to], n.bits)
		long.SetBit(node.Depth(end), n.right)
		if p := node.NewPosition(long, node.Depth(end+1)); p.Compare(last) > 0 {
			last = p
		}
	}
	r.buf, r.nodes = r.buf[:0], r.nodes[:0]
	return last
}
