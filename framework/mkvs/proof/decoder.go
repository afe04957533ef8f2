package proof

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// Decoder rebuilds the part of a tree that a proof holds, from entries given one by one. It computes
// each node's hash once, takes no memory but for the nodes, and refuses what no builder makes. A
// Decoder belongs to one goroutine. After an error it is of no more use: every call returns that error.
//
// No check needs a hash that the decoder computes, so it computes many together: a node waits in a queue,
// from when the hashes of its parts are known until there are enough in it.
type Decoder struct {
	limits  Limits
	version uint16

	nodes   []Node
	stack   []frame
	entries int
	done    bool
	err     error

	// path holds the bits from the root down to the end of the node on top of the stack.
	path node.Key

	// compact is the encoding that is being looked at, taken apart.
	compact node.Compact

	// queue holds what can be hashed, less than queueLength between calls.
	queue []queued
	batch node.HashBatch
}

// queueLength is how many are hashed together: enough to find company of their length, and so few that they
// are still in the cache.
const queueLength = 192

// queued is what can be hashed: a node, or the own leaf that is in a node's encoding.
type queued uint32

func wholeNode(index int32) queued { return queued(index) << 1 }
func ownLeaf(index int32) queued   { return queued(index)<<1 | 1 }

func (q queued) index() int32    { return int32(q >> 1) }
func (q queued) isOwnLeaf() bool { return q&1 != 0 }

// frame is an internal node whose children are still to come.
type frame struct {
	node int32
	// next is the side whose entry comes next: Own (in version 1), node.Left, node.Right.
	next uint8
	// parts counts those that are there.
	parts uint8
	// whole says that no part so far left anything out.
	whole bool
	// end is the depth at which the node ends.
	end node.Depth
}

// NewDecoder returns a decoder for a proof of the given version. With a version that is not known, the
// first Add or Finish returns ErrUnsupportedVersion.
func NewDecoder(version uint16, limits Limits) *Decoder {
	d := &Decoder{version: version, limits: limits.withDefaults()}
	if version > LatestVersion {
		d.err = fmt.Errorf("%w: %d", ErrUnsupportedVersion, version)
	}
	return d
}

// Reset makes the decoder ready for another proof of the same version under the same limits, as new. The
// tree that Finish returned may not be used any more: its memory is used again.
func (d *Decoder) Reset() {
	clear(d.nodes)
	*d = Decoder{
		version: d.version, limits: d.limits,
		nodes: d.nodes[:0], stack: d.stack[:0], path: d.path, queue: d.queue[:0], batch: d.batch,
	}
	if d.version > LatestVersion {
		d.err = fmt.Errorf("%w: %d", ErrUnsupportedVersion, d.version)
	}
}

// Grow takes the memory for so many nodes at once, as far as the limits allow them. Who knows the number of
// entries that are not nil saves the copies that a growing list takes, two to three times the list.
func (d *Decoder) Grow(nodes int) {
	if n := min(nodes, d.limits.Entries) - len(d.nodes); n > 0 {
		d.nodes = slices.Grow(d.nodes, n)
	}
}

// Add takes the next entry, nil for an absent child. The decoder keeps the slice; nodes lie in it.
func (d *Decoder) Add(entry []byte) error {
	if d.err != nil {
		return d.err
	}
	if err := d.add(entry); err != nil {
		d.err = fmt.Errorf("entry %d: %w", d.entries, err)
		return d.err
	}
	d.entries++
	return nil
}

// Finish returns the tree after the last entry. What it returns is not changed any more, unless Reset is
// called.
func (d *Decoder) Finish() (*Tree, error) {
	if d.err == nil && !d.done {
		d.err = fmt.Errorf("%w: entries are missing after %d", ErrMalformed, d.entries)
	}
	if d.err != nil {
		return nil, d.err
	}
	for len(d.queue) > 0 {
		d.hashQueued()
	}
	return &Tree{Nodes: d.nodes}, nil
}

func (d *Decoder) add(entry []byte) error {
	if d.done {
		return fmt.Errorf("%w: surplus entry", ErrMalformed)
	}
	if d.entries >= d.limits.Entries {
		return fmt.Errorf("%w: more than %d entries", ErrLimitExceeded, d.limits.Entries)
	}
	if entry == nil {
		return d.absent()
	}
	if len(entry) == 0 {
		return fmt.Errorf("%w: empty entry", ErrMalformed)
	}

	d.nodes = append(d.nodes, Node{})
	n := &d.nodes[len(d.nodes)-1]
	n.Children, n.OwnLeaf, n.parent = [2]int32{None, None}, None, None
	if len(d.stack) > 0 {
		parent := &d.stack[len(d.stack)-1]
		n.Side, n.Depth, n.parent = parent.next, parent.end, parent.node
		if parent.next != Own {
			n.Depth++
		}
	}
	switch entry[0] {
	case entryHash:
		return d.leftOut(n, entry)
	case entryFull:
		n.Encoding = entry[1:]
	default:
		return fmt.Errorf("%w: unknown kind of entry %#02x", ErrMalformed, entry[0])
	}
	var rest []byte
	var err error
	if rest, err = d.compact.ParseV0(n.Encoding); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if len(rest) != 0 {
		return fmt.Errorf("%w: %d bytes after the node's encoding", ErrMalformed, len(rest))
	}
	if d.compact.Leaf {
		return d.leaf(n, &d.compact)
	}
	return d.internal(n, &d.compact)
}

// absent takes a nil entry.
func (d *Decoder) absent() error {
	if len(d.stack) == 0 {
		d.done = true // the empty tree
		return nil
	}
	return d.step()
}

// leftOut takes the entry of a node that only its hash stands for.
func (d *Decoder) leftOut(n *Node, entry []byte) error {
	if len(entry) != hashEntrySize {
		return fmt.Errorf("%w: hash of %d bytes", ErrMalformed, len(entry)-1)
	}
	n.Kind, n.Hash = KindHash, hash.Hash(entry[1:])
	if n.Hash == hash.EmptyHash {
		return fmt.Errorf("%w: hash of nothing in the place of nil", ErrMalformed)
	}
	if n.Side == Own && n.Depth&7 != 0 {
		return fmt.Errorf("%w: own leaf at a depth of %d bits", ErrMalformed, n.Depth)
	}
	return d.link(n)
}

// leaf takes a leaf, as root, child or own leaf.
func (d *Decoder) leaf(n *Node, c *node.Compact) error {
	n.Kind, n.Whole = KindLeaf, true
	key := c.Key
	if err := d.checkLeaf(key, c.Value); err != nil {
		return err
	}
	if len(d.stack) > 0 {
		end := d.stack[len(d.stack)-1].end
		switch {
		case n.Side == Own:
			if err := d.checkOwnLeaf(key, end); err != nil {
				return err
			}
		case !d.onPath(key, end):
			return fmt.Errorf("%w: leaf's key leaves the labels above it", ErrMalformed)
		case key.BitLength() == end:
			return fmt.Errorf("%w: child leaf's key ends at its parent", ErrMalformed)
		case key.GetBit(end) != (n.Side == node.Right):
			return fmt.Errorf("%w: child leaf on the wrong side", ErrMalformed)
		}
	}
	d.awaitHash(n)
	d.enqueue(wholeNode(int32(len(d.nodes) - 1)))
	return d.link(n)
}

// internal takes an internal node, whose children come next.
func (d *Decoder) internal(n *Node, c *node.Compact) error {
	n.Kind, n.HasOwnLeaf = KindInternal, c.OwnLeaf != nil
	start := node.Depth(0)
	if len(d.stack) > 0 {
		start = d.stack[len(d.stack)-1].end
		switch {
		case n.Side == Own:
			return fmt.Errorf("%w: internal node in the place of an own leaf", ErrMalformed)
		case c.LabelBitLength == 0:
			return fmt.Errorf("%w: child with an empty label", ErrMalformed)
		case c.Label.GetBit(0) != (n.Side == node.Right):
			return fmt.Errorf("%w: child's label starts with the other side's bit", ErrMalformed)
		}
	}
	// An internal node has a child, and so a key that goes on below its end.
	switch end := int(start) + int(c.LabelBitLength); {
	case end >= int(node.MaxDepth):
		return fmt.Errorf("%w: node ends at %d bits, below the longest key", ErrMalformed, end)
	case end >= d.limits.KeyBytes*8:
		return fmt.Errorf("%w: node ends at %d bits, and no key may be longer than %d bytes", ErrLimitExceeded, end, d.limits.KeyBytes)
	}
	end := start + c.LabelBitLength
	d.setPath(start, c.Label, c.LabelBitLength)

	f := frame{node: int32(len(d.nodes) - 1), next: node.Left, whole: true, end: end}
	if d.version == Version1 {
		f.next = Own
		if c.OwnLeaf != nil {
			return fmt.Errorf("%w: own leaf within its node in version 1", ErrMalformed)
		}
	} else if c.OwnLeaf != nil {
		if err := d.checkLeaf(c.OwnKey, c.OwnValue); err != nil {
			return err
		}
		if err := d.checkOwnLeaf(c.OwnKey, end); err != nil {
			return err
		}
		f.parts = 1
	}
	d.awaitHash(n)
	n.unhashed = 1 // until it is closed
	if c.OwnLeaf != nil {
		n.unhashed++
		d.enqueue(ownLeaf(f.node))
	}
	d.stack = append(d.stack, f)
	return nil
}

func (d *Decoder) checkLeaf(key node.Key, value []byte) error {
	if len(key) > d.limits.KeyBytes {
		return fmt.Errorf("%w: key of %d bytes, and none may be longer than %d", ErrLimitExceeded, len(key), d.limits.KeyBytes)
	}
	if len(value) > d.limits.ValueBytes {
		return fmt.Errorf("%w: value of %d bytes, and none may be longer than %d", ErrLimitExceeded, len(value), d.limits.ValueBytes)
	}
	return nil
}

func (d *Decoder) checkOwnLeaf(key node.Key, end node.Depth) error {
	if key.BitLength() != end || !d.onPath(key, end) {
		return fmt.Errorf("%w: own leaf's key does not end at its node", ErrMalformed)
	}
	return nil
}

// onPath says whether key begins with the first end bits of the path.
func (d *Decoder) onPath(key node.Key, end node.Depth) bool {
	whole, rest := int(end>>3), end&7
	if len(key) < end.ToBytes() || !bytes.Equal(key[:whole], d.path[:whole]) {
		return false
	}
	return rest == 0 || (key[whole]^d.path[whole])>>(8-rest) == 0
}

// setPath sets the path's bits from start on to label.
func (d *Decoder) setPath(start node.Depth, label node.Key, bits node.Depth) {
	if need := (start + bits).ToBytes(); need > len(d.path) {
		d.path = append(d.path, make(node.Key, max(need, 2*len(d.path), 64)-len(d.path))...)
	}
	d.path.CopyBits(start, label, bits)
}

// link makes n, the last node, with nothing below it to come, a part of the node on top of the stack, and
// goes on to the next part.
func (d *Decoder) link(n *Node) error {
	if len(d.stack) == 0 {
		d.done = true
		return nil
	}
	d.attach(&d.stack[len(d.stack)-1], n, int32(len(d.nodes)-1))
	return d.step()
}

func (d *Decoder) attach(parent *frame, n *Node, index int32) {
	p := &d.nodes[parent.node]
	if n.Side == Own {
		p.OwnLeaf = index
	} else {
		p.Children[n.Side] = index
	}
	parent.parts++
	parent.whole = parent.whole && n.Whole
}

// step goes on to the next part of the node on top of the stack; where that was the last, it closes the
// node, and the ones above that this was the last part of.
func (d *Decoder) step() error {
	for {
		f := &d.stack[len(d.stack)-1]
		switch f.next {
		case Own:
			f.next = node.Left
			return nil
		case node.Left:
			f.next = node.Right
			return nil
		}
		if f.parts < 2 {
			return fmt.Errorf("%w: internal node with fewer than two parts", ErrMalformed)
		}
		n := &d.nodes[f.node]
		n.Whole = f.whole
		index := f.node
		if n.unhashed--; n.unhashed == 0 {
			d.enqueue(wholeNode(index))
		}
		d.stack = d.stack[:len(d.stack)-1]
		if len(d.stack) == 0 {
			d.done = true
			return nil
		}
		d.attach(&d.stack[len(d.stack)-1], n, index)
	}
}

// awaitHash makes the parent of n wait for n's hash.
func (d *Decoder) awaitHash(n *Node) {
	if n.parent != None {
		d.nodes[n.parent].unhashed++
	}
}

// enqueue has something hashed, now or later. The node that waits for it must not be closed yet: so hashing the
// queue always takes one from it.
func (d *Decoder) enqueue(q queued) {
	d.queue = append(d.queue, q)
	if len(d.queue) == queueLength {
		d.hashQueued()
	}
}

// hashQueued hashes what is in the queue, and leaves in it the nodes that waited for nothing else.
func (d *Decoder) hashQueued() {
	for _, q := range d.queue {
		n, c := &d.nodes[q.index()], &d.compact
		n.parse(c)
		switch {
		case q.isOwnLeaf():
			d.batch.AddLeaf(&n.Hash, c.OwnKey, c.OwnValue) // it is there until n's own is
		case n.Kind == KindLeaf:
			d.batch.AddLeaf(&n.Hash, c.Key, c.Value)
		default:
			own := d.hashOf(n.OwnLeaf)
			if n.HasOwnLeaf {
				own = &n.Hash
			}
			d.batch.AddInternal(&n.Hash, c.Label, c.LabelBitLength, own, d.hashOf(n.Children[node.Left]), d.hashOf(n.Children[node.Right]))
		}
	}
	d.batch.Sum()

	ready := d.queue[:0] // at most one for each that was read
	for _, q := range d.queue {
		waiting := q.index()
		if !q.isOwnLeaf() {
			if waiting = d.nodes[waiting].parent; waiting == None {
				continue
			}
		}
		n := &d.nodes[waiting]
		if n.unhashed--; n.unhashed == 0 {
			ready = append(ready, wholeNode(waiting))
		}
	}
	d.queue = ready
}

func (d *Decoder) hashOf(index int32) *hash.Hash {
	if index == None {
		return &hash.EmptyHash
	}
	return &d.nodes[index].Hash
}
