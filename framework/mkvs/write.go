package mkvs

import (
	"context"
	"sync"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// encoder makes the records of nodes that are not clean.
type encoder struct {
	self       node.Address
	embedBytes int
	// put takes a record, which is valid until it returns.
	put func(position, record []byte) error
	// sent is called where nodes come that were put before, and lie in between.
	sent func() error

	// written are the pointers to what was put, where that is wanted; Address and Embedded are set in them,
	// Clean is not before the batch is committed.
	written pieces[*node.Pointer]
	notes   bool
	// passes are pointers to what was put before and is still in memory.
	passes map[*node.Pointer]struct{}

	path     node.Key
	stack    []toEncode
	position []byte
	encoding []byte
	record   []byte
	embedded [2][]byte
}

// toEncode is a node that an encoder has yet to come to.
type toEncode struct {
	ptr   *node.Pointer
	depth node.Depth
}

// newEncoder returns an encoder of nodes that will be stored in a batch.
func newEncoder(self node.Address, embedBytes int) *encoder {
	return &encoder{self: self, embedBytes: embedBytes, path: make(node.Key, node.MaxKeyBytes)}
}

// encode puts what is not clean from ptr on, which is not, in pre-order. Its position is the first depth
// bits of the encoder's path.
func (e *encoder) encode(ctx context.Context, ptr *node.Pointer, depth node.Depth) error {
	e.stack = append(e.stack[:0], toEncode{ptr, depth})
	for done := 1; len(e.stack) > 0; done++ {
		if done%contextEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		p := e.stack[len(e.stack)-1]
		e.stack = e.stack[:len(e.stack)-1]
		if _, sent := e.passes[p.ptr]; sent {
			if err := e.sent(); err != nil {
				return err
			}
			continue
		}
		e.done(p.ptr, false)
		switch n := p.ptr.Node.(type) {
		case nil:
			if err := e.sent(); err != nil {
				return err
			}
			continue
		case *node.LeafNode:
			e.position = node.AppendPosition(e.position[:0], n.Key, p.depth)
			e.encoding = n.AppendCompactV0(e.encoding[:0])
			e.record = node.AppendLeafRecord(e.record[:0], e.encoding)
		case *node.InternalNode:
			e.encodeInternal(n, p.depth)
		}
		if err := e.put(e.position, e.record); err != nil {
			return err
		}
	}
	return nil
}

// encodeInternal makes the position and the record of an internal node, and goes on to its children.
func (e *encoder) encodeInternal(n *node.InternalNode, depth node.Depth) {
	start := labelStart(depth)
	end := start + n.LabelBitLength
	e.path.CopyBits(start, n.Label, n.LabelBitLength)
	e.position = node.AppendPosition(e.position[:0], e.path, depth)
	e.encoding = n.AppendCompactV0(e.encoding[:0])
	if n.LeafNode != nil && !n.LeafNode.Clean {
		e.done(n.LeafNode, true)
	}
	children := [2]node.Child{e.child(n.Left, node.Left), e.child(n.Right, node.Right)}
	e.record = node.AppendInternalRecord(e.record[:0], e.encoding, e.self, &children)
	for _, child := range [2]*node.Pointer{n.Right, n.Left} {
		switch {
		case child == nil || child.Clean:
		case child.Embedded:
			e.done(child, true)
		default:
			e.stack = append(e.stack, toEncode{child, end + 1})
		}
	}
}

// child says how a child stands in its parent's record. Whether a leaf is embedded is settled here, when
// it is written: one that is clean stays as it is.
func (e *encoder) child(ptr *node.Pointer, side int) node.Child {
	if ptr == nil {
		return node.Child{}
	}
	leaf, isLeaf := ptr.Node.(*node.LeafNode)
	if !ptr.Clean {
		ptr.Embedded = isLeaf && leaf.Size() <= e.embedBytes
		ptr.Address = e.self
	}
	if ptr.Embedded {
		e.embedded[side] = leaf.AppendCompactV0(e.embedded[side][:0])
		return node.Child{Present: true, Embedded: e.embedded[side]}
	}
	return node.Child{Present: true, Hash: partHash(ptr), Address: ptr.Address}
}

// done notes that what ptr points to is put, in its parent's record or as an entry.
func (e *encoder) done(ptr *node.Pointer, embedded bool) {
	ptr.Address, ptr.Embedded = e.self, embedded
	if e.notes {
		e.written.add(ptr)
	}
}

// nodeWriter encodes nodes beside the goroutine that it belongs to, which can give the batch something else
// meanwhile.
type nodeWriter struct {
	ctx    context.Context
	cancel context.CancelFunc
	parts  chan *encodedRun
	// What the encoder leaves, when parts is closed.
	encoder *encoder
	err     error
}

const (
	// encodedPart is the length at which a part of what is encoded is handed over.
	encodedPart = 64 << 10
	// partsAhead is how many parts may be ready.
	partsAhead = 32
)

// spareParts holds parts that can be used again.
var spareParts = sync.Pool{New: func() any {
	return &encodedRun{buf: make([]byte, 0, encodedPart+encodedPart/8)}
}}

// newPart returns an empty part of a run that goes on.
func newPart() *encodedRun {
	part := spareParts.Get().(*encodedRun)
	part.buf, part.lengths, part.goesOn = part.buf[:0], part.lengths[:0], true
	return part
}

// givePart leaves a part that was put to be used again, unless large values have made it large.
func givePart(part *encodedRun) {
	if cap(part.buf) <= maxRunRoom {
		spareParts.Put(part)
	}
}

// newNodeWriter begins to encode the nodes in memory that are not clean from root on, which is not. Those
// that were put before, and are not in memory or among passes, are left out; the others then are several runs.
// put has to be called, or close.
func newNodeWriter(ctx context.Context, self node.Address, embedBytes int, root *node.Pointer, passes *pieces[*node.Pointer]) *nodeWriter {
	w := &nodeWriter{parts: make(chan *encodedRun, partsAhead), encoder: newEncoder(self, embedBytes)}
	w.ctx, w.cancel = context.WithCancel(ctx)
	part := newPart()
	send := func() error {
		select {
		case w.parts <- part:
		case <-w.ctx.Done():
			return w.ctx.Err()
		}
		part = newPart()
		return nil
	}
	begun := false
	w.encoder.notes, w.encoder.passes = true, make(map[*node.Pointer]struct{}, passes.len())
	for ptr := range passes.all() {
		w.encoder.passes[ptr] = struct{}{}
	}
	w.encoder.put = func(position, record []byte) error {
		begun = true
		if part.add(position, record); len(part.buf) < encodedPart {
			return nil
		}
		return send()
	}
	w.encoder.sent = func() error {
		if !begun {
			return nil
		}
		begun, part.goesOn = false, false
		return send()
	}
	go func() {
		defer close(w.parts)
		if w.err = w.encoder.encode(w.ctx, root, 0); w.err == nil {
			w.err = w.encoder.sent()
		}
	}()
	return w
}

// put puts the nodes into a batch, and returns the pointers to them.
func (w *nodeWriter) put(batch db.Batch) (written pieces[*node.Pointer], err error) {
	defer w.close()
	for part := range w.parts {
		err := part.put(w.ctx, batch)
		givePart(part)
		if err != nil {
			return written, err
		}
	}
	return w.encoder.written, w.err
}

// close ends the encoding, and waits for that.
func (w *nodeWriter) close() {
	w.cancel()
	for range w.parts { // nobody wants them any more
	}
}

// dirtyPointers returns the pointers to all nodes that are not clean.
func (t *Tree) dirtyPointers() (dirty pieces[*node.Pointer]) {
	if t.root == nil || t.root.Clean {
		return dirty
	}
	found := []*node.Pointer{t.root}
	for i := 0; i < len(found); i++ {
		n, ok := found[i].Node.(*node.InternalNode)
		if !ok {
			continue
		}
		for _, part := range []*node.Pointer{n.LeafNode, n.Left, n.Right} {
			if part != nil && !part.Clean {
				found = append(found, part)
			}
		}
	}
	return pieces[*node.Pointer]{last: found, n: len(found)}
}
