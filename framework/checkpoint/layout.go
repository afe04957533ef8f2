package checkpoint

import (
	"fmt"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// Where a chunk ends is decided by sizes alone. The tree is walked in pre-order: node, its own leaf,
// left, right. A chunk's size grows by 1 and the length of its encoding for each node, once a chunk, and
// the same for an own leaf when the walk comes to it, though its node holds it. A chunk ends before the
// walk goes on, when its size has come to the chunk size and the last node visited in it is a leaf. The
// next one begins with the nodes from the root to where the walk goes on, counted again.

// begun is an internal node that the walk has come to: its record, taken apart, and the depth at which
// it ends.
type begun struct {
	node.Record
	bytes []byte
	end   node.Depth
}

// frame is a node on the path from the root to where the walk is.
type frame struct {
	*begun
	// side is the child that the path goes through or, in the last frame, the one that comes next.
	side uint8
}

// task is a part of a tree that is cut into chunks: a subtree, perhaps with parts of it that are done or
// that are other tasks. It belongs to one goroutine, and holds no more than the path to where it is.
type task struct {
	chunkSize uint64

	// frames is the path from the root. The first base of them lie above the task's own nodes: they are
	// part of its chunks, and not visited by it.
	frames []frame
	base   int
	// fresh says that the task's first node, a child of the last frame or the root, has yet to be visited.
	fresh bool

	// owed counts the leaves and nodes on the path that no chunk has counted: a fresh task was split.
	owedLeaves, owedNodes uint64

	// What follows is of the present chunk.
	out      *chunkEncoder
	size     uint64
	lastLeaf bool
	leaves   uint64 // visited, own leaves included
	nodes    uint64 // visited, leaves included
	over     error  // why a leaf can't be restored under the limits

	// free are nodes whose memory can be used again; those that other tasks have, too, are never in it.
	free   []*begun
	shared int // so many of the frames are shared
}

// newTask returns the task of cutting a whole tree that is not empty.
func newTask(chunkSize uint64) *task { return &task{chunkSize: chunkSize, fresh: true} }

// finished says that nothing is left to visit.
func (t *task) finished() bool { return !t.fresh && len(t.frames) == t.base }

// A chunk repeats the path to where it begins. Where that is much longer than what it is there for, as with
// thousands of keys that are prefixes of each other, the checkpoint would be many times the state. The
// path may be maxPathShare times the chunk size, and always pathBytes, which is more than any other tree
// has.
const (
	maxPathShare = 10
	pathBytes    = 64 << 10
)

// begin starts a chunk with what lies on the path.
func (t *task) begin(out *chunkEncoder) error {
	t.out, t.size, t.lastLeaf, t.leaves, t.nodes = out, 0, false, t.owedLeaves, t.owedNodes
	t.owedLeaves, t.owedNodes = 0, 0
	for i := range t.frames {
		f := &t.frames[i]
		t.include(f.Encoding)
		for side := range f.side {
			t.standIn(&f.Children[side])
		}
	}
	if t.size > pathBytes && t.size/maxPathShare > t.chunkSize {
		return fmt.Errorf("%w: the path to where a chunk begins takes %d bytes, and the chunk size is %d", ErrChunkSizeTooSmall, t.size, t.chunkSize)
	}
	return t.out.check()
}

// end ends the chunk: what the path's nodes have beyond it is left out.
func (t *task) end() error {
	for i := len(t.frames) - 1; i >= 0; i-- {
		f := &t.frames[i]
		first := f.side + 1
		if i == len(t.frames)-1 && i >= t.base {
			first = f.side // the one that would have come next
		}
		for side := first; side <= node.Right; side++ {
			t.standIn(&f.Children[side])
		}
	}
	err := t.withinLimits()
	t.out = nil
	return err
}

// advance visits what can be visited without another record. It returns true when the next record is
// needed, and false when the chunk ends.
func (t *task) advance() bool {
	for !t.finished() && (!t.lastLeaf || t.size < t.chunkSize) {
		c := t.next()
		if c == nil || c.Embedded == nil {
			return true
		}
		t.fresh = false
		t.visitLeaf(c.Embedded)
	}
	return false
}

// next is what the node that comes next is to its parent; nil for the root.
func (t *task) next() *node.Child {
	if len(t.frames) == 0 {
		return nil
	}
	f := &t.frames[len(t.frames)-1]
	return &f.Children[f.side]
}

// position is the position of the node that comes next.
func (t *task) position() node.Position {
	if len(t.frames) == 0 {
		return node.RootPosition()
	}
	last := &t.frames[len(t.frames)-1]
	path := make(node.Key, (last.end + 1).ToBytes())
	for i := range t.frames {
		f := &t.frames[i]
		path.CopyBits(f.end-f.LabelBitLength, f.Label, f.LabelBitLength)
	}
	path.SetBit(last.end, last.side == node.Right)
	return node.NewPosition(path, last.end+1)
}

// take visits the node that comes next, given its stored entry. The entry can be used again when it
// returns.
func (t *task) take(e *db.Entry) error {
	b := t.alloc()
	record := e.Record
	if !node.IsLeafRecord(record) { // it stays on the path
		b.bytes = append(b.bytes[:0], record...)
		record = b.bytes
	}
	if err := b.Parse(record, e.Address); err != nil {
		return fmt.Errorf("%w: %w", &db.CorruptedError{Version: e.Address.Version, Position: e.Position, Reason: "not a record"}, err)
	}
	start, err := t.check(&b.Record, e)
	if err != nil {
		return err
	}
	t.fresh = false
	if b.Leaf {
		t.visitLeaf(b.Encoding)
		t.free = append(t.free, b)
		return t.withinLimits()
	}

	b.end = start + b.LabelBitLength
	t.include(b.Encoding)
	t.nodes++
	t.lastLeaf = false
	if b.OwnLeaf != nil {
		t.size += 1 + uint64(len(b.OwnLeaf))
		t.nodes++
		t.leaves++
		t.lastLeaf = true
		t.checkLeaf(b.OwnLeaf)
	}
	t.frames = append(t.frames, frame{begun: b})
	t.settle()
	return t.withinLimits()
}

// check checks that a record is that of the node that comes next, as far as that costs nothing: a walk
// that goes astray must not become a checkpoint. It returns the depth at which the node begins.
func (t *task) check(r *node.Record, e *db.Entry) (start node.Depth, err error) {
	if len(t.frames) == 0 {
		return 0, nil
	}
	f := &t.frames[len(t.frames)-1]
	right := f.side == node.Right
	fits := f.Children[f.side].Address == e.Address
	if r.Leaf {
		fits = fits && r.Key.BitLength() > f.end && r.Key.GetBit(f.end) == right
	} else {
		fits = fits && r.LabelBitLength > 0 && r.LabelBitLength <= node.MaxDepth-f.end && r.Label.GetBit(0) == right
	}
	if !fits {
		return 0, &db.CorruptedError{Version: e.Address.Version, Position: e.Position, Reason: "the walk came to another node than the one that its parent names"}
	}
	return f.end, nil
}

// withinLimits says whether the chunk so far can be restored under the limits.
func (t *task) withinLimits() error {
	if t.over != nil {
		return t.over
	}
	return t.out.check()
}

func (t *task) checkLeaf(encoding []byte) {
	if t.over == nil {
		t.over = t.out.limits.checkLeaf(encoding)
	}
}

func (t *task) visitLeaf(encoding []byte) {
	t.include(encoding)
	t.checkLeaf(encoding)
	t.nodes++
	t.leaves++
	t.lastLeaf = true
	if len(t.frames) > t.base {
		t.frames[len(t.frames)-1].side++
		t.settle()
	}
}

// settle goes on from the last frame to the next child that is there, and ends the nodes that have none
// left. The node that the task began with being ended, so is the task.
func (t *task) settle() {
	for len(t.frames) > t.base {
		f := &t.frames[len(t.frames)-1]
		for f.side <= node.Right && !f.Children[f.side].Present {
			t.out.absent()
			f.side++
		}
		if f.side <= node.Right {
			return
		}
		t.pop()
		if len(t.frames) > t.base {
			t.frames[len(t.frames)-1].side++
		}
	}
}

func (t *task) pop() {
	last := len(t.frames) - 1
	if last >= t.shared {
		t.free = append(t.free, t.frames[last].begun)
	} else {
		t.shared = last
	}
	t.frames[last] = frame{}
	t.frames = t.frames[:last]
}

func (t *task) alloc() *begun {
	if last := len(t.free) - 1; last >= 0 {
		b := t.free[last]
		t.free = t.free[:last]
		return b
	}
	return &begun{}
}

func (t *task) include(encoding []byte) {
	t.out.included(encoding)
	t.size += 1 + uint64(len(encoding))
}

// standIn adds the entry of a child that is not visited in this chunk.
func (t *task) standIn(c *node.Child) {
	if !c.Present {
		t.out.absent()
		return
	}
	t.out.leftOut(c.ComputeHash())
}
