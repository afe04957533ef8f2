package mkvs

import (
	"bytes"
	"context"

	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/proof"
)

// Iterator goes over keys in ascending order. It stands nowhere until Rewind or Seek. It belongs to the
// goroutine of its tree, and has to be closed.
//
// When what it goes over is changed, it goes on behind its present key, with the changes.
type Iterator interface {
	// Valid says whether the iterator stands at a key. Where not, Err says whether an error is why.
	Valid() bool
	// Err returns the error that ended the iteration, nil where there just was no key any more.
	Err() error
	// Rewind goes to the first key.
	Rewind()
	// Seek goes to the first key that is not less than key.
	Seek(key node.Key)
	// Next goes to the next key. Where the iterator stands at none it does nothing.
	Next()
	// Key returns the present key, nil where there is none. It may not be changed.
	Key() node.Key
	// Value returns the present key's value, nil where there is none. It may not be changed.
	Value() []byte
	// Close gives up what the iterator holds. It then stands nowhere.
	Close()
}

// IteratorOption sets how an iterator works.
type IteratorOption func(*iteratorOptions)

type iteratorOptions struct {
	prefix node.Key
	proof  *proof.Builder
}

// WithPrefix bounds an iterator to the keys that begin with prefix: Rewind goes to the first of these,
// and behind the last it stands nowhere. The prefix is copied.
func WithPrefix(prefix []byte) IteratorOption {
	prefix = bytes.Clone(prefix)
	return func(o *iteratorOptions) { o.prefix = prefix }
}

func newIteratorOptions(opts []IteratorOption) (o iteratorOptions) {
	for _, opt := range opts {
		opt(&o)
	}
	return o
}

// from returns the key to seek where key is asked for.
func (o *iteratorOptions) from(key node.Key) node.Key {
	if bytes.Compare(key, o.prefix) < 0 {
		return o.prefix
	}
	return key
}

// NewIterator returns an iterator over the tree, its changes included. It reads in bulk, and keeps no
// node in memory that is not on the way to its present key. ctx holds for all that it does.
func (t *Tree) NewIterator(ctx context.Context, opts ...IteratorOption) Iterator {
	return &treeIterator{ctx: ctx, tree: t, options: newIteratorOptions(opts), proofOf: t.generation - 1}
}

type treeIterator struct {
	ctx     context.Context
	tree    *Tree
	options iteratorOptions

	// generation is the tree's that stack and reader are of, proofOf the one that was last seen to be what
	// the proof is of.
	generation, proofOf uint64
	// stack holds what is still to come, the next on top.
	stack []pending
	// path holds the bits from the root down to the end of the parent of what is on top of the stack.
	path   node.Key
	reader subtreeReader

	leaf *node.LeafNode
	err  error
}

// pending is a node that an iterator has yet to go through.
type pending struct {
	ptr *node.Pointer
	// node is the node where it was read already and the tree does not hold it, otherwise nil.
	node node.Node
	// depth is the number of bits of the node's position, right the last of these.
	depth node.Depth
	right bool
}

func (it *treeIterator) Valid() bool { return it.leaf != nil }
func (it *treeIterator) Err() error  { return it.err }

func (it *treeIterator) Key() node.Key {
	if it.leaf == nil {
		return nil
	}
	return it.leaf.Key
}

func (it *treeIterator) Value() []byte {
	if it.leaf == nil {
		return nil
	}
	return it.leaf.Value
}

func (it *treeIterator) Close() {
	it.stop()
	it.leaf = nil
}

// stop gives up everything but the present key.
func (it *treeIterator) stop() {
	it.reader.close()
	it.stack, it.path = nil, nil
}

func (it *treeIterator) fail(err error) {
	it.stop()
	it.leaf, it.err = nil, err
}

func (it *treeIterator) Rewind() { it.Seek(nil) }

func (it *treeIterator) Seek(key node.Key) {
	it.leaf, it.err = nil, nil
	it.reader.close()
	if err := it.begin(); err != nil {
		it.fail(err)
		return
	}
	it.generation = it.tree.generation
	it.reader = subtreeReader{ndb: it.tree.ndb, root: it.tree.base, verify: it.tree.verifyReads}
	it.stack = it.stack[:0]
	if it.path == nil {
		it.path = make(node.Key, node.MaxKeyBytes)
	}
	key = it.options.from(key)
	longest := key[:min(len(key), node.MaxKeyBytes)]
	if err := it.descend(longest); err != nil {
		it.fail(err)
		return
	}
	it.advance()
	if len(key) > len(longest) && it.leaf != nil && it.leaf.Key.Equal(longest) {
		it.advance() // it is less than key
	}
}

// begin makes the tree's nodes those of the tree with its changes.
func (it *treeIterator) begin() error {
	if err := it.tree.begin(it.ctx); err != nil {
		return err
	}
	return it.tree.applyChanges(it.ctx)
}

func (it *treeIterator) Next() {
	switch {
	case it.leaf == nil:
	case it.generation != it.tree.generation:
		it.Seek(append(bytes.Clone(it.leaf.Key), 0)) // the least key that is greater
	default:
		it.advance()
	}
}

// descend puts on the stack what holds the keys that are not less than key.
func (it *treeIterator) descend(key node.Key) error {
	p := pending{ptr: it.tree.root}
	for p.ptr != nil {
		n, err := it.node(p, key)
		if err != nil {
			return err
		}
		p.node = n
		inner, ok := n.(*node.InternalNode)
		if !ok {
			if bytes.Compare(n.(*node.LeafNode).Key, key) >= 0 {
				it.stack = append(it.stack, p)
			}
			return nil
		}
		start := labelStart(p.depth)
		end := start + inner.LabelBitLength
		switch common := start + matchLabel(key, start, inner.Label, inner.LabelBitLength); {
		case common == key.BitLength(): // every key below begins with key
			it.stack = append(it.stack, p)
			return nil
		case common < end:
			if inner.Label.GetBit(common - start) {
				it.stack = append(it.stack, p)
			}
			return nil
		}
		it.path.CopyBits(start, inner.Label, inner.LabelBitLength)
		right := key.GetBit(end)
		if !right && inner.Right != nil {
			it.stack = append(it.stack, pending{ptr: inner.Right, depth: end + 1, right: true})
		}
		p = pending{ptr: childOf(inner, right), depth: end + 1, right: right}
	}
	return nil
}

// advance goes to the next leaf.
func (it *treeIterator) advance() {
	for len(it.stack) > 0 {
		p := it.stack[len(it.stack)-1]
		it.stack = it.stack[:len(it.stack)-1]
		n, err := it.node(p, nil)
		if err != nil {
			it.fail(err)
			return
		}
		leaf, ok := n.(*node.LeafNode)
		if !ok {
			leaf, err = it.expand(n.(*node.InternalNode), p.depth)
		}
		if err != nil {
			it.fail(err)
			return
		}
		if leaf != nil {
			it.leaf = leaf
			if !bytes.HasPrefix(leaf.Key, it.options.prefix) {
				it.Close()
			}
			return
		}
	}
	it.Close()
}

// expand puts a node's children on the stack and returns its own leaf, which comes before them, or nil.
func (it *treeIterator) expand(n *node.InternalNode, depth node.Depth) (*node.LeafNode, error) {
	start := labelStart(depth)
	end := start + n.LabelBitLength
	it.path.CopyBits(start, n.Label, n.LabelBitLength)
	if n.Right != nil {
		it.stack = append(it.stack, pending{ptr: n.Right, depth: end + 1, right: true})
	}
	if n.Left != nil {
		it.stack = append(it.stack, pending{ptr: n.Left, depth: end + 1})
	}
	own, err := ownLeaf(n)
	if own == nil {
		return nil, err
	}
	return own, it.include(own)
}

// node returns a pending node, reading it where it isn't in memory. target, where it isn't nil, is the key
// that the iterator is looking for and that the node is on the way to.
func (it *treeIterator) node(p pending, target node.Key) (n node.Node, err error) {
	switch {
	case p.node != nil:
		return p.node, nil
	case p.ptr.Node != nil:
		n = p.ptr.Node
	default:
		if p.depth > 0 {
			it.path.SetBit(p.depth-1, p.right)
		}
		if n, err = it.reader.read(it.ctx, p.ptr, it.path, p.depth, target); err != nil {
			return nil, err
		}
	}
	return n, it.include(n)
}
