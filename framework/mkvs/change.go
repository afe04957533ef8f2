package mkvs

import (
	"context"
	"math"

	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// Insert sets a key to a value; nil is the empty value. It copies both. A key or value beyond the
// namespace's limits is refused with db.ErrLimitExceeded.
func (t *Tree) Insert(ctx context.Context, key, value []byte) error {
	if err := t.checkEntry(key, value); err != nil {
		return err
	}
	if err := t.begin(ctx); err != nil {
		return err
	}
	if value == nil {
		value = []byte{}
	}
	return t.change(ctx, key, value)
}

// Remove removes a key. It is no error if the key is not there.
func (t *Tree) Remove(ctx context.Context, key []byte) error {
	if err := t.begin(ctx); err != nil {
		return err
	}
	if len(key) > node.MaxKeyBytes {
		return nil // no tree holds it
	}
	return t.change(ctx, key, nil)
}

// RemoveExisting removes a key and returns the value that it had, nil if it was not there.
func (t *Tree) RemoveExisting(ctx context.Context, key []byte) ([]byte, error) {
	if err := t.begin(ctx); err != nil {
		return nil, err
	}
	value, err := t.get(ctx, key)
	if err != nil || value == nil {
		return nil, err
	}
	return value, t.change(ctx, key, nil)
}

// change sets a key to a value, or removes it where that is nil.
func (t *Tree) change(ctx context.Context, key, value []byte) error {
	t.changes.compact()
	if !t.eager {
		t.generation++
		return t.changes.set(key, value)
	}
	var before change
	i, there := t.changes.find(key)
	if there {
		before = *t.changes.list.at(i)
	}
	if err := t.changes.set(key, value); err != nil {
		return err
	}
	if err := t.applyChanges(ctx); err != nil {
		t.changes.forget(before, there)
		return err
	}
	t.generation++
	return nil
}

// applyChanges applies what was changed since the last time to the nodes in memory, so that root is what the
// tree is. After an error the tree is as it was.
func (t *Tree) applyChanges(ctx context.Context) error {
	if len(t.changes.pending) == 0 {
		return nil
	}
	forks := newForks(t.ndb != nil && t.root != nil)
	root, a, err := t.apply(ctx, t.changes.sorted(t.changes.pending, forks), forks, nil)
	if t.cached.add(a.loaded); err != nil {
		return err
	}
	t.root = root
	t.removed.join(&a.removed)
	if t.changes.applied(); !t.writeLog {
		t.changes = newChanges()
	}
	return nil
}

// apply applies a run to the tree's root, and returns the root that this leads to. The tree itself is as it
// was.
func (t *Tree) apply(ctx context.Context, r run, forks forks, s *stream) (*node.Pointer, *applier, error) {
	working, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	forkFrom := forkChanges
	if t.ndb != nil && !t.base.IsEmpty() {
		forkFrom = forkChangesRead
	}
	a := &applier{
		application: &application{ctx: working, cancel: cancel, forks: forks, forkFrom: forkFrom, stream: s, paths: t.ndb != nil && !t.base.IsEmpty()},
		loader:      t.loader(),
		nodes:       nodes{copies: true},
	}
	root, err := a.applyToSide(t.root, 0, r, math.MaxInt)
	switch {
	case err == nil:
		hashBelow(root)
	case ctx.Err() != nil:
		err = ctx.Err()
	case working.Err() != nil:
		err = context.Cause(working) // what failed first
	}
	return root, a, err
}
