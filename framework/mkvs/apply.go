package mkvs

import (
	"bytes"
	"context"

	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// applier applies changes to a tree, or to a part of one. It changes no node that is there: it makes new
// ones on the way to what changes. So nothing has happened where it fails, and what was changed and changed
// back is as it was. Small subtrees have their hashes when they are made, what is above them has not.
//
// It recurses over nodes, at most node.MaxDepth levels deep; a level takes some hundred bytes of stack.
type applier struct {
	*application
	loader
	// removed are the entries that the tree before reaches and the tree after does not.
	removed pieces[removal]
	// written are the pointers to new nodes that are sent and stay in memory, and passes those of them that are
	// sent with all that is below.
	written, passes pieces[*node.Pointer]
	// positions is where the next position of one of these goes.
	positions []byte
	// makes new nodes.
	nodes nodes
	steps int
	// fetched leads from pointers to nodes that are not to be kept in memory to copies that were read ahead.
	fetched map[*node.Pointer]*node.Pointer
}

// application is what the appliers of one tree share.
type application struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	forks  forks
	// forkFrom is the least number of changes on each side of a node that are applied at once.
	forkFrom int
	// stream takes what is finished, nil where that is written later.
	stream *stream
	// paths says that what changes lead to is read for many at once.
	paths bool
}

// forkChanges is the number of changes on each side of a node from which on it pays to apply both sides at
// once: less where nodes have to be read, there or further below.
const (
	forkChanges     = 512
	forkChangesRead = 16
	// contextEvery is how many nodes are worked on between two looks at the context.
	contextEvery = 1024
)

// apply applies a run to the subtree that ptr points to, nil where there is none, and whose position is the
// first depth bits of the run's keys. It returns what comes in its place: ptr itself where nothing changes.
func (a *applier) apply(ptr *node.Pointer, depth node.Depth, r run) (*node.Pointer, error) {
	if r.len() == 0 {
		return ptr, nil
	}
	if a.steps++; a.steps%contextEvery == 0 && a.ctx.Err() != nil {
		return nil, a.ctx.Err()
	}
	if ptr == nil {
		return a.grow(nil, r.live(), labelStart(depth))
	}
	n, err := a.node(ptr, depth, r.first())
	if err != nil {
		return nil, err
	}
	if leaf, ok := n.(*node.LeafNode); ok {
		return a.applyToLeaf(ptr, leaf, depth, r)
	}
	return a.applyToInternal(ptr, n.(*node.InternalNode), depth, r)
}

// node returns the node that ptr points to, whose position is the first depth bits of key.
func (a *applier) node(ptr *node.Pointer, depth node.Depth, key node.Key) (node.Node, error) {
	if ptr.Node == nil {
		if read := a.fetched[ptr]; read != nil {
			ptr = read
		}
	}
	if ptr.Node == nil {
		if a.drops() { // what is read to be changed is not kept
			copied := *ptr
			ptr = &copied
		}
		if err := a.loadPath(a.ctx, ptr, depth, key); err != nil {
			return nil, err
		}
	}
	return ptr.Node, nil
}

// applyToLeaf applies a run to a leaf.
func (a *applier) applyToLeaf(ptr *node.Pointer, leaf *node.LeafNode, depth node.Depth, r run) (*node.Pointer, error) {
	live := r.live()
	i, found := r.find(leaf.Key)
	if !found {
		if live.len() == 0 {
			return ptr, nil
		}
		a.touch(ptr, leaf.Key, depth)
		return a.grow(moved(ptr, leaf), live, labelStart(depth))
	}
	r.noteExisted(i)
	if value := r.value(i); live.len() == 1 && value != nil && bytes.Equal(value, leaf.Value) {
		return ptr, nil
	}
	a.touch(ptr, leaf.Key, depth)
	return a.grow(nil, live, labelStart(depth))
}

// grow makes a subtree of the keys that a run sets and of a leaf, whose key is none of these; the run
// begins and ends with a key that is set, or is empty, and the leaf may be nil. Its labels begin at start.
func (a *applier) grow(leaf *node.Pointer, r run, start node.Depth) (*node.Pointer, error) {
	if r.len() == 0 {
		return leaf, nil
	}
	if r.len() == 1 && leaf == nil {
		return a.nodes.leaf(r.first(), r.value(0)), nil
	}
	first, end, leafFirst := r.first(), r.common(start), false
	if leaf != nil {
		key := leaf.Node.(*node.LeafNode).Key
		end = min(end, key.CommonPrefixLenFrom(start, key.BitLength(), first, first.BitLength()))
		if bytes.Compare(key, first) < 0 {
			first, leafFirst = key, true
		}
	}
	ownRun, leftRun, rightRun := r.divide(end)
	var own, left, right *node.Pointer
	switch {
	case ownRun.len() > 0:
		own = a.nodes.leaf(ownRun.first(), ownRun.value(0))
	case leafFirst && first.BitLength() == end:
		own, leaf = leaf, nil
	}
	if leaf != nil {
		if leaf.Node.(*node.LeafNode).Key.GetBit(end) {
			right = leaf
		} else {
			left = leaf
		}
	}
	left, right, err := a.applyToSides(left, right, end, leftRun, rightRun)
	if err != nil {
		return nil, err
	}
	return a.nodes.internal(a.nodes.slice(first, start, end), end-start, own, left, right), nil
}

// applyToInternal applies a run to an internal node.
func (a *applier) applyToInternal(ptr *node.Pointer, n *node.InternalNode, depth node.Depth, r run) (*node.Pointer, error) {
	start := labelStart(depth)
	for r.len() > 0 {
		// All keys share what the first and the last share with the label.
		common := min(
			matchLabel(r.first(), start, n.Label, n.LabelBitLength),
			matchLabel(r.last(), start, n.Label, n.LabelBitLength),
		)
		if common == n.LabelBitLength {
			return a.applyThrough(ptr, n, depth, r)
		}
		own, same, other := r.divide(start + common)
		if n.Label.GetBit(common) {
			same, other = other, same
		}
		if own, other = own.live(), other.live(); own.len()+other.len() > 0 {
			return a.splitEdge(ptr, n, depth, common, r.first(), own, same, other)
		}
		r = same // the others remove what isn't there
	}
	return ptr, nil
}

// splitEdge puts a node between n and its parent, at common bits of n's label: own and other, of which one
// may be empty, leave n's path there, and same goes on to n. key leads to n's position.
func (a *applier) splitEdge(ptr *node.Pointer, n *node.InternalNode, depth, common node.Depth, key node.Key, own, same, other run) (*node.Pointer, error) {
	start := labelStart(depth)
	end := start + common
	a.touch(ptr, key, depth)
	label, bits := a.nodes.slice(n.Label, common, n.LabelBitLength), n.LabelBitLength-common
	left, leftRun, rightRun := a.nodes.internal(label, bits, n.LeafNode, n.Left, n.Right), same, other
	var right *node.Pointer
	if n.Label.GetBit(common) {
		left, right = nil, left
		leftRun, rightRun = other, same
	}
	var ownLeaf *node.Pointer
	if own.len() > 0 {
		ownLeaf = a.nodes.leaf(own.first(), own.value(0))
	}
	left, right, err := a.applyToSides(left, right, end, leftRun, rightRun)
	if err != nil {
		return nil, err
	}
	return a.assemble(a.nodes.slice(n.Label, 0, common), common, key, end, ownLeaf, left, right)
}

// applyThrough applies a run whose keys all go through the whole of n.
func (a *applier) applyThrough(ptr *node.Pointer, n *node.InternalNode, depth node.Depth, r run) (*node.Pointer, error) {
	key, end := r.first(), labelStart(depth)+n.LabelBitLength
	ownRun, leftRun, rightRun := r.divide(end)
	own := n.LeafNode
	if ownRun.len() > 0 {
		leaf, err := ownLeaf(n)
		if err != nil {
			return nil, err
		}
		value := ownRun.value(0)
		if leaf != nil {
			ownRun.noteExisted(0)
		}
		switch {
		case value == nil:
			own = nil
		case leaf == nil || !bytes.Equal(value, leaf.Value):
			own = a.nodes.leaf(ownRun.first(), value)
		}
	}
	left, right, err := a.applyToSides(n.Left, n.Right, end, leftRun, rightRun)
	if err != nil {
		return nil, err
	}
	if own == n.LeafNode && left == n.Left && right == n.Right {
		return ptr, nil
	}
	a.touch(ptr, key, depth)
	return a.assemble(n.Label, n.LabelBitLength, key, end, own, left, right)
}

// assemble makes a node, which ends at end on the way to key, of its parts. Where there is one part only,
// that takes the node's place.
func (a *applier) assemble(label node.Key, bits node.Depth, key node.Key, end node.Depth, own, left, right *node.Pointer) (*node.Pointer, error) {
	child := left
	if left == nil {
		child = right
	}
	switch {
	case own != nil && child == nil:
		if own.Node == nil {
			return nil, leftOut(own)
		}
		return moved(own, own.Node), nil
	case child == nil:
		return nil, nil
	case own != nil || left != nil && right != nil:
		return a.nodes.internal(label, bits, own, left, right), nil
	}
	path := key
	n := child.Node
	if child.Clean {
		path = pathToChild(key, end, child == right)
		loaded := *child
		if n == nil {
			if err := a.loadNode(a.ctx, &loaded, path, end+1); err != nil {
				return nil, err
			}
			n = loaded.Node
		}
		a.touch(child, path, end+1)
	}
	if inner, ok := n.(*node.InternalNode); ok {
		joined := a.nodes.bytes(int((bits + inner.LabelBitLength).ToBytes()))
		joined.CopyBits(0, label, bits)
		joined.CopyBits(bits, inner.Label, inner.LabelBitLength)
		return a.nodes.internal(joined, bits+inner.LabelBitLength, inner.LeafNode, inner.Left, inner.Right), nil
	}
	return moved(child, n), nil
}

// applyToSides applies runs to the children of a node that ends at end.
func (a *applier) applyToSides(left, right *node.Pointer, end node.Depth, leftRun, rightRun run) (newLeft, newRight *node.Pointer, err error) {
	if min(leftRun.len(), rightRun.len()) >= a.forkFrom && a.nodes.shelf == nil {
		return a.applyAtOnce(left, right, end, leftRun, rightRun)
	}
	whole := leftRun.len() + rightRun.len()
	if newLeft, err = a.applyToSide(left, end+1, leftRun, whole); err != nil {
		return nil, nil, err
	}
	newRight, err = a.applyToSide(right, end+1, rightRun, whole)
	return newLeft, newRight, err
}

// applyAtOnce is applyToSides by two goroutines, where another may be begun. Where one fails, so does the
// other soon.
func (a *applier) applyAtOnce(left, right *node.Pointer, end node.Depth, leftRun, rightRun run) (newLeft, newRight *node.Pointer, err error) {
	whole := leftRun.len() + rightRun.len()
	other := a.fork()
	var leftErr, rightErr error
	a.forks.both(
		func() {
			if newLeft, leftErr = a.applyToSide(left, end+1, leftRun, whole); leftErr != nil {
				a.cancel(leftErr)
			}
		},
		func() {
			if newRight, rightErr = other.applyToSide(right, end+1, rightRun, whole); rightErr != nil {
				a.cancel(rightErr)
			}
		},
	)
	a.join(other)
	return newLeft, newRight, firstError(leftErr, rightErr)
}

func firstError(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// applyToSide is apply for a child of a node to which whole changes are applied. What has come to a size at
// which it pays to be written is, where what is finished does not stay in memory.
func (a *applier) applyToSide(ptr *node.Pointer, depth node.Depth, r run, whole int) (*node.Pointer, error) {
	if ptr != nil && a.fetches(r.len(), whole) {
		if err := a.fetch(ptr, depth, r); err != nil {
			return nil, err
		}
		defer func() { a.fetched = nil }()
	}
	if a.stream != nil && a.stream.sends(r.len(), whole) {
		return a.applyAndSend(ptr, depth, r)
	}
	out, err := a.apply(ptr, depth, r)
	if err == nil && r.len() <= hashChanges && whole > hashChanges {
		hashBelow(out)
	}
	return out, err
}

// fork returns an applier for another goroutine.
func (a *applier) fork() *applier {
	return &applier{application: a.application, loader: loader{ndb: a.ndb, base: a.base, verify: a.verify}, nodes: nodes{copies: a.nodes.copies}, fetched: a.fetched}
}

// join takes over what a fork gathered.
func (a *applier) join(other *applier) {
	a.loaded.add(other.loaded)
	a.removed.join(&other.removed)
	a.written.join(&other.written)
	a.passes.join(&other.passes)
}

// drops says that what is read and what is made does not stay in memory.
func (a *applier) drops() bool { return a.stream != nil && !a.stream.keeps }

// touch notes that a node, whose position is the first depth bits of path, is not part of the tree any
// more: its entry, where it has one, goes with the next commit.
func (a *applier) touch(ptr *node.Pointer, path node.Key, depth node.Depth) {
	if !ptr.Clean {
		return
	}
	if !ptr.Embedded && a.ndb != nil {
		a.removed.add(removal{ptr.Address, a.position(path, depth)})
	}
	gone := weigh(ptr.Node)
	a.loaded.add(held{-1, -gone.bytes})
}

// positionsPiece is the length of the pieces that positions lie in, in bytes.
const positionsPiece = 2 << 10

// position makes the position that is the first depth bits of path. There are many, all short, and they are
// given up together.
func (a *applier) position(path node.Key, depth node.Depth) node.Position {
	if room := node.PositionBytes(depth); cap(a.positions)-len(a.positions) < room {
		a.positions = make([]byte, 0, max(positionsPiece, room))
	}
	from := len(a.positions)
	a.positions = node.AppendPosition(a.positions, path, depth)
	return node.Position(a.positions[from:len(a.positions):len(a.positions)])
}

// moved returns a pointer to the leaf that ptr points to, at another place.
func moved(ptr *node.Pointer, leaf node.Node) *node.Pointer {
	if !ptr.Clean {
		return ptr
	}
	return &node.Pointer{Hash: ptr.Hash, Node: leaf}
}

// partHash returns the hash of a part of a node, nil for an absent one. It computes that of a leaf where
// it isn't known yet.
func partHash(ptr *node.Pointer) hash.Hash {
	if ptr == nil {
		return hash.EmptyHash
	}
	if leaf, ok := ptr.Node.(*node.LeafNode); ok {
		if leaf.Hash == (hash.Hash{}) {
			leaf.UpdateHash()
		}
		ptr.Hash = leaf.Hash
	}
	return ptr.Hash
}
