package mkvs

import (
	"bytes"
	"context"

	"github.com/tidwall/btree"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// Overlay holds changes over a tree, or over another overlay, in memory, until they are committed to it or
// thrown away. It belongs to the goroutine of what lies below, which is not to be changed otherwise
// while the overlay is in use.
type Overlay struct {
	inner   KeyValueTree
	changes *btree.BTreeG[overlayChange]
	// generation counts what iterators have to take note of.
	generation uint64
	closed     bool
}

var _ KeyValueTree = (*Overlay)(nil)

// overlayChange is what was last done to a key.
type overlayChange struct {
	key   node.Key
	value []byte // nil: removed
}

// entryChecker is what refuses entries beyond the limits of a tree, so that overlays do so, too.
type entryChecker interface {
	checkEntry(key, value []byte) error
}

// NewOverlay returns an overlay without changes.
func NewOverlay(inner KeyValueTree) *Overlay {
	return &Overlay{inner: inner, changes: newChangeTree()}
}

func newChangeTree() *btree.BTreeG[overlayChange] {
	return btree.NewBTreeGOptions(func(a, b overlayChange) bool {
		return bytes.Compare(a.key, b.key) < 0
	}, btree.Options{NoLocks: true})
}

func (o *Overlay) begin(ctx context.Context) error {
	if o.closed {
		return ErrClosed
	}
	return ctx.Err()
}

func (o *Overlay) checkEntry(key, value []byte) error {
	if c, ok := o.inner.(entryChecker); ok {
		return c.checkEntry(key, value)
	}
	return limits{db.DefaultMaxKeyBytes, db.DefaultMaxValueBytes}.check(key, value)
}

// Insert sets a key to a value; nil is the empty value. It copies both. A key or value beyond the
// limits of the tree below is refused with db.ErrLimitExceeded.
func (o *Overlay) Insert(ctx context.Context, key, value []byte) error {
	if err := o.checkEntry(key, value); err != nil {
		return err
	}
	if err := o.begin(ctx); err != nil {
		return err
	}
	o.set(key, append([]byte{}, value...))
	return nil
}

func (o *Overlay) set(key, value []byte) {
	o.changes.Set(overlayChange{append(node.Key{}, key...), value})
	o.generation++
}

// Remove removes a key. It is no error if the key is not there.
func (o *Overlay) Remove(ctx context.Context, key []byte) error {
	if err := o.begin(ctx); err != nil {
		return err
	}
	o.set(key, nil)
	return nil
}

// RemoveExisting removes a key and returns the value that it had, nil if it was not there.
func (o *Overlay) RemoveExisting(ctx context.Context, key []byte) ([]byte, error) {
	value, err := o.Get(ctx, key)
	if err != nil || value == nil {
		return nil, err
	}
	o.set(key, nil)
	return value, nil
}

// Get returns a key's value, nil if the key is not there; an empty value is not nil. The value may not
// be changed.
func (o *Overlay) Get(ctx context.Context, key []byte) ([]byte, error) {
	if err := o.begin(ctx); err != nil {
		return nil, err
	}
	if c, changed := o.changes.Get(overlayChange{key: key}); changed {
		return c.value, nil
	}
	return o.inner.Get(ctx, key)
}

// Commit makes the changes in what lies below, in key order, and leaves the overlay without any. After
// an error, which may have come between two changes, the overlay still has all of them, and Commit can
// be called again.
func (o *Overlay) Commit(ctx context.Context) error {
	if err := o.begin(ctx); err != nil {
		return err
	}
	var err error
	o.changes.Scan(func(c overlayChange) bool {
		if c.value == nil {
			err = o.inner.Remove(ctx, c.key)
		} else {
			err = o.inner.Insert(ctx, c.key, c.value)
		}
		return err == nil
	})
	if err != nil {
		return err
	}
	o.changes = newChangeTree()
	o.generation++
	return nil
}

// Close throws the changes away. Every other method then returns ErrClosed.
func (o *Overlay) Close() {
	o.closed, o.changes = true, newChangeTree()
	o.generation++
}

// NewIterator returns an iterator over what lies below with the changes made. ctx holds for all that it
// does.
func (o *Overlay) NewIterator(ctx context.Context, opts ...IteratorOption) Iterator {
	return &overlayIterator{
		ctx:     ctx,
		overlay: o,
		options: newIteratorOptions(opts),
		inner:   o.inner.NewIterator(ctx, opts...),
	}
}

// overlayIterator merges the overlay's changes with an iterator over what lies below.
type overlayIterator struct {
	ctx     context.Context
	overlay *Overlay
	options iteratorOptions
	inner   Iterator

	// generation is the overlay's that changes and change are of.
	generation uint64
	changes    btree.IterG[overlayChange]
	change     *overlayChange // the next change, nil where there is none

	valid bool
	key   node.Key
	value []byte
	err   error
}

func (it *overlayIterator) Valid() bool { return it.valid }
func (it *overlayIterator) Err() error  { return it.err }

func (it *overlayIterator) Key() node.Key {
	if !it.valid {
		return nil
	}
	return it.key
}

func (it *overlayIterator) Value() []byte {
	if !it.valid {
		return nil
	}
	return it.value
}

func (it *overlayIterator) Close() {
	it.inner.Close()
	it.stop()
}

func (it *overlayIterator) stop() {
	it.valid, it.key, it.value, it.change = false, nil, nil, nil
}

func (it *overlayIterator) Rewind() { it.Seek(nil) }

func (it *overlayIterator) Seek(key node.Key) {
	it.stop()
	if it.err = it.overlay.begin(it.ctx); it.err != nil {
		return
	}
	key = it.options.from(key)
	it.inner.Seek(key)
	it.generation = it.overlay.generation
	it.changes = it.overlay.changes.Iter()
	it.takeChange(it.changes.Seek(overlayChange{key: key}))
	it.settle()
}

func (it *overlayIterator) Next() {
	switch {
	case !it.valid:
		return
	case it.generation != it.overlay.generation:
		it.Seek(append(bytes.Clone(it.key), 0)) // the least key that is greater
		return
	}
	if it.change != nil && it.change.key.Equal(it.key) {
		it.takeChange(it.changes.Next())
	}
	if it.inner.Valid() && it.inner.Key().Equal(it.key) {
		it.inner.Next()
	}
	it.settle()
}

func (it *overlayIterator) takeChange(there bool) {
	it.change = nil
	if !there {
		return
	}
	if c := it.changes.Item(); bytes.HasPrefix(c.key, it.options.prefix) {
		it.change = &c
	}
}

// settle goes to the lesser of the next change and the next key below, past keys that were removed.
func (it *overlayIterator) settle() {
	for {
		if it.err = it.inner.Err(); it.err != nil {
			it.stop()
			return
		}
		order := 0
		switch below := it.inner.Valid(); {
		case it.change == nil && !below:
			it.stop()
			return
		case it.change == nil:
			order = 1
		case !below:
			order = -1
		default:
			order = it.change.key.Compare(it.inner.Key())
		}
		if order > 0 {
			it.valid, it.key, it.value = true, it.inner.Key(), it.inner.Value()
			return
		}
		if it.change.value != nil {
			it.valid, it.key, it.value = true, it.change.key, it.change.value
			return
		}
		if order == 0 {
			it.inner.Next()
		}
		it.takeChange(it.changes.Next())
	}
}
