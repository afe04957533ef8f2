package mkvs

import (
	"bytes"
	"context"
	"fmt"
	"iter"

	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/writelog"
)

// KeyValueTree is what trees and overlays have in common.
type KeyValueTree interface {
	// Insert sets a key to a value; nil is the empty value. It copies both.
	Insert(ctx context.Context, key, value []byte) error
	// Remove removes a key. It is no error if the key is not there.
	Remove(ctx context.Context, key []byte) error
	// RemoveExisting removes a key and returns the value that it had, nil if it was not there.
	RemoveExisting(ctx context.Context, key []byte) ([]byte, error)
	// Get returns a key's value, nil if the key is not there. The value may not be changed.
	Get(ctx context.Context, key []byte) ([]byte, error)
	// NewIterator returns an iterator over the keys in ascending order. It has to be closed.
	NewIterator(ctx context.Context, opts ...IteratorOption) Iterator
}

// DefaultCapacity is the number of stored nodes that a tree keeps in memory unless told otherwise.
const DefaultCapacity = 100_000

// Tree is a view of one root and of the changes made to it since. It belongs to one goroutine.
//
// A method that returns an error has changed nothing: the tree can be used as before, and the call
// repeated.
type Tree struct {
	ndb      db.NodeDB // nil: in memory only
	rootType node.RootType
	limits   limits
	closed   bool

	// base is the root that the tree was opened at or last committed as; resolved says that its node's
	// address, baseAddress, has been asked for.
	base        node.Root
	baseAddress node.Address
	resolved    bool

	// root points to the root node, nil where the tree is empty. Above a node that is not clean none is.
	root *node.Pointer
	// removed are the entries that base reaches and root does not.
	removed pieces[removal]
	// changes are what was done to keys since base; those that are applied are in root. Without a write log
	// these are forgotten.
	changes  changes
	writeLog bool
	// storeLog says that the write log is stored and not returned.
	storeLog bool
	// eager trees apply each change at once: they are of a proof, which may leave out what a change needs.
	eager bool
	// generation counts what iterators have to take note of.
	generation uint64

	capacity      int // of clean nodes in memory; 0: no bound
	capacityBytes int // of what these take; 0: no bound
	cached        held
	verifyReads   bool
	runChanges    int
	steps         []step // descend's, kept for its memory
}

var _ KeyValueTree = (*Tree)(nil)

// removal names an entry that goes with the next commit.
type removal struct {
	address  node.Address
	position node.Position
}

// limits are the namespace's.
type limits struct{ keyBytes, valueBytes int }

// Option sets how a tree works.
type Option func(*Tree)

// WithCapacity bounds how many stored nodes the tree keeps in memory to save reads; 0 means no bound.
// Changes that are not committed count beside it, without a bound.
func WithCapacity(nodes int) Option {
	return func(t *Tree) { t.capacity = nodes }
}

// WithCapacityBytes bounds how much memory the stored nodes take that the tree keeps to save reads, about; 0
// means no bound but WithCapacity's.
func WithCapacityBytes(bytes int) Option {
	return func(t *Tree) { t.capacityBytes = bytes }
}

// WithVerifyReads makes the tree hash every node that it reads and compare with what its parent says.
// Without it a damaged disk is still found, by the database's checksums; with it, so is a database that
// gives wrong answers. It costs one hash a node read.
func WithVerifyReads() Option {
	return func(t *Tree) { t.verifyReads = true }
}

// WithoutWriteLog makes the tree keep no write log: Commit returns none and stores none. It saves memory
// where much is written at once.
func WithoutWriteLog() Option {
	return func(t *Tree) { t.writeLog = false }
}

// WithWriteLogStored makes Commit store the write log and not return it. It saves memory where much is written
// at once.
func WithWriteLogStored() Option {
	return func(t *Tree) { t.storeLog = true }
}

// New returns an empty tree. Without a database (nil) it is kept in memory only, and Commit computes
// its hash.
func New(ndb db.NodeDB, rootType node.RootType, opts ...Option) *Tree {
	return newTree(ndb, node.Root{Type: rootType, Hash: hash.EmptyHash}, opts)
}

// NewWithRoot returns a tree at a root. It reads nothing yet: a root that is not there is reported by
// the first method that needs it.
func NewWithRoot(ndb db.NodeDB, root node.Root, opts ...Option) *Tree {
	return newTree(ndb, root, opts)
}

func newTree(ndb db.NodeDB, root node.Root, opts []Option) *Tree {
	t := &Tree{
		ndb:      ndb,
		rootType: root.Type,
		limits:   limits{db.DefaultMaxKeyBytes, db.DefaultMaxValueBytes},
		base:     root,
		root:     basePointer(root, node.Address{}),
		changes:  newChanges(),
		writeLog: true,
		capacity: DefaultCapacity,

		runChanges: defaultRunChanges,
	}
	t.resolved = t.root == nil
	if ndb != nil {
		info := ndb.Info()
		if info.MaxKeyBytes > 0 {
			t.limits.keyBytes = min(info.MaxKeyBytes, node.MaxKeyBytes)
		}
		if info.MaxValueBytes > 0 {
			t.limits.valueBytes = info.MaxValueBytes
		}
	}
	for _, opt := range opts {
		opt(t)
	}
	return t
}

// basePointer points to a stored root node.
func basePointer(root node.Root, address node.Address) *node.Pointer {
	if root.IsEmpty() {
		return nil
	}
	return &node.Pointer{Clean: true, Hash: root.Hash, Address: address}
}

// RootType returns the type of the tree's root.
func (t *Tree) RootType() node.RootType { return t.rootType }

// Close gives up the tree's memory and with it all changes that are not committed. Every method but
// RootType and Close then returns ErrClosed.
func (t *Tree) Close() {
	*t = Tree{closed: true, rootType: t.rootType, limits: t.limits, generation: t.generation + 1}
}

// begin is what every operation starts with.
func (t *Tree) begin(ctx context.Context) error {
	if t.closed {
		return ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	t.trim()
	return t.resolve(ctx)
}

// resolve asks for the address of the base's root node, once.
func (t *Tree) resolve(ctx context.Context) error {
	if t.resolved {
		return nil
	}
	if t.ndb == nil {
		return fmt.Errorf("%w: the tree of %s has no database", db.ErrRootNotFound, t.base)
	}
	address, err := t.ndb.RootAddress(ctx, t.base)
	if err != nil {
		return fmt.Errorf("mkvs: open root %s: %w", t.base, err)
	}
	t.baseAddress, t.root.Address, t.resolved = address, address, true
	return nil
}

func (t *Tree) checkEntry(key, value []byte) error { return t.limits.check(key, value) }

// check refuses a key or value beyond the limits.
func (l limits) check(key, value []byte) error {
	if len(key) > l.keyBytes {
		return fmt.Errorf("%w: key of %d bytes, and MaxKeyBytes is %d", db.ErrLimitExceeded, len(key), l.keyBytes)
	}
	if len(value) > l.valueBytes {
		return fmt.Errorf("%w: value of %d bytes, and MaxValueBytes is %d", db.ErrLimitExceeded, len(value), l.valueBytes)
	}
	return nil
}

// Get returns a key's value, nil if the key is not there; an empty value is not nil. The value may not
// be changed.
func (t *Tree) Get(ctx context.Context, key []byte) ([]byte, error) {
	if err := t.begin(ctx); err != nil {
		return nil, err
	}
	return t.get(ctx, key)
}

// get is Get in a tree that is ready for it.
func (t *Tree) get(ctx context.Context, key []byte) ([]byte, error) {
	if i, changed := t.changes.find(key); changed {
		return t.changes.value(i), nil
	}
	if len(key) > node.MaxKeyBytes {
		return nil, nil // no tree holds it
	}
	steps, err := t.descend(ctx, key)
	if err != nil {
		return nil, err
	}
	leaf, err := leafAt(steps, key)
	if leaf == nil {
		return nil, err
	}
	return leaf.Value, nil
}

// leafAt returns the leaf with key that steps, descend's for that key, lead to, or nil.
func leafAt(steps []step, key node.Key) (*node.LeafNode, error) {
	if len(steps) == 0 {
		return nil, nil
	}
	last := &steps[len(steps)-1]
	switch n := last.ptr.Node.(type) {
	case *node.LeafNode:
		if bytes.Equal(n.Key, key) {
			return n, nil
		}
	case *node.InternalNode:
		if last.common == key.BitLength() && last.common == last.end {
			return ownLeaf(n)
		}
	}
	return nil, nil
}

// ownLeaf returns a node's own leaf, nil where it has none. It fails only where the tree is of a proof that
// leaves the leaf out: all others have it with its node.
func ownLeaf(n *node.InternalNode) (*node.LeafNode, error) {
	if n.LeafNode == nil {
		return nil, nil
	}
	leaf, ok := n.LeafNode.Node.(*node.LeafNode)
	if !ok {
		return nil, leftOut(n.LeafNode)
	}
	return leaf, nil
}

func leftOut(own *node.Pointer) error {
	return fmt.Errorf("%w: own leaf %s, which the proof leaves out", db.ErrNodeNotFound, own.Hash)
}

// ApplyWriteLog makes the changes of a write log, in its order. After an error those before it are made.
func (t *Tree) ApplyWriteLog(ctx context.Context, log iter.Seq2[writelog.LogEntry, error]) error {
	for entry, err := range log {
		if err != nil {
			return err
		}
		switch entry.Type() {
		case writelog.LogDelete:
			err = t.Remove(ctx, entry.Key)
		default:
			err = t.Insert(ctx, entry.Key, entry.Value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
