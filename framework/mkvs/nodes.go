package mkvs

import (
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// nodes makes nodes, which are not stored yet, with the pointers to them.
type nodes struct {
	// copies says that what is made stays in memory, and leaves have copies of their own of keys and values:
	// otherwise one of them keeps the memory of many changes from being given up.
	copies bool
	// shelf, where there is one, is what nodes are made of.
	shelf *shelf
	// label and joined hold a short label each until its node is made.
	label, joined [shortLabel]byte
}

// shortLabel is how many bytes of label lie in one piece of memory with their node, as those of most do.
const shortLabel = 8

// internalNode is an internal node with what there is of each one.
type internalNode struct {
	ptr   node.Pointer
	inner node.InternalNode
	label [shortLabel]byte
}

// newInternal makes an internal node in memory of its own, which is not stored yet. A short label is copied.
func newInternal(n node.InternalNode) *node.Pointer {
	made := &internalNode{inner: n}
	if len(n.Label) <= shortLabel {
		copy(made.label[:], n.Label)
		made.inner.Label = made.label[:len(n.Label):len(n.Label)]
	}
	made.ptr = node.Pointer{Hash: n.Hash, Node: &made.inner}
	return &made.ptr
}

// leaf makes a leaf.
func (m *nodes) leaf(key node.Key, value []byte) *node.Pointer {
	if m.copies {
		b := make([]byte, 0, len(key)+len(value))
		b = append(append(b, key...), value...)
		n := len(key)
		key, value = b[:n:n], b[n:]
	}
	var ptr *node.Pointer
	var n *node.LeafNode
	if m.shelf != nil {
		ptr, n = m.shelf.pointers.next(), m.shelf.leaves.next()
	} else {
		made := &struct {
			ptr  node.Pointer
			leaf node.LeafNode
		}{}
		ptr, n = &made.ptr, &made.leaf
	}
	*n = node.LeafNode{Key: key, Value: value}
	*ptr = node.Pointer{Node: n}
	return ptr
}

// internal makes an internal node, which has no hash yet.
func (m *nodes) internal(label node.Key, bits node.Depth, own, left, right *node.Pointer) *node.Pointer {
	n := node.InternalNode{
		Label: label, LabelBitLength: bits, LeafNode: own, Left: left, Right: right,
	}
	if m.shelf == nil {
		return newInternal(n)
	}
	ptr, inner := m.shelf.pointers.next(), m.shelf.internals.next()
	*inner = n
	*ptr = node.Pointer{Node: inner}
	return ptr
}

// bytes makes room for n bytes of a label, which are zero, for the next node that is made.
func (m *nodes) bytes(n int) node.Key {
	switch {
	case m.shelf != nil:
		b := m.shelf.labels.next(n)
		clear(b)
		return b
	case n <= shortLabel:
		clear(m.joined[:])
		return m.joined[:n:n]
	}
	return make(node.Key, n)
}

// slice makes a label of bits [from, to) of key, for the next node that is made.
func (m *nodes) slice(key node.Key, from, to node.Depth) node.Key {
	n := (to - from).ToBytes()
	switch {
	case m.shelf != nil:
		return key.AppendSlice(m.shelf.labels.next(n)[:0], from, to)
	case n <= shortLabel:
		return key.AppendSlice(m.label[:0], from, to)
	}
	return key.Slice(from, to)
}

// shelf is memory for nodes that are given up together, and is then used again.
type shelf struct {
	pointers  slots[node.Pointer]
	leaves    slots[node.LeafNode]
	internals slots[node.InternalNode]
	labels    labels
}

// clear gives up what was made.
func (s *shelf) clear() {
	s.pointers.clear()
	s.leaves.clear()
	s.internals.clear()
	s.labels.used = 0
}

// slots hands out places for values of one kind.
type slots[T any] struct {
	pieces [][]T
	used   int
}

const slotsPiece = 512

func (s *slots[T]) next() *T {
	piece, i := s.used/slotsPiece, s.used%slotsPiece
	if piece == len(s.pieces) {
		s.pieces = append(s.pieces, make([]T, slotsPiece))
	}
	s.used++
	return &s.pieces[piece][i]
}

// clear gives up what was handed out. What it led to can be collected.
func (s *slots[T]) clear() {
	for i := 0; i < s.used; i += slotsPiece {
		clear(s.pieces[i/slotsPiece][:min(slotsPiece, s.used-i)])
	}
	s.used = 0
}

// labels hands out memory for labels.
type labels struct {
	piece []byte
	used  int
}

const labelsPiece = 64 << 10

func (l *labels) next(n int) []byte {
	if len(l.piece)-l.used < n { // the piece is left to the labels that lie in it
		l.piece, l.used = make([]byte, max(labelsPiece, n)), 0
	}
	b := l.piece[l.used : l.used+n : l.used+n]
	l.used += n
	return b
}
