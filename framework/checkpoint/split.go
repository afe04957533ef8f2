package checkpoint

import (
	"context"
	"fmt"
	"slices"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// A layout of n ≥ 2 threads cuts a tree in rounds over a list of tasks. In each, the list is split until
// it has n tasks or cannot be split well, and each task makes one chunk. So the number is part of the
// layout, and has nothing to do with how many workers there are.

// splitPasses is how often a round goes over the list to split it.
const splitPasses = 10

// splitTasks is a round's splitting.
func splitTasks(ctx context.Context, tasks []*task, threads int, load loadRecord) ([]*task, error) {
	for range splitPasses {
		var next []*task
		for i, t := range tasks {
			if len(next)+len(tasks)-i >= threads {
				return append(next, tasks[i:]...), nil
			}
			parts, err := t.split(ctx, load)
			if err != nil {
				return nil, err
			}
			next = append(next, parts...)
		}
		tasks = next
	}
	return tasks, nil
}

// loadRecord reads one entry; the root's for a nil child.
type loadRecord func(ctx context.Context, child *node.Child, position node.Position) (*db.Entry, error)

// split returns the tasks that t is replaced by. A finished one has none.
func (t *task) split(ctx context.Context, load loadRecord) ([]*task, error) {
	switch {
	case t.finished():
		return nil, nil
	case t.fresh:
		return t.splitFresh(ctx, load)
	}
	sub := &t.frames[t.base]
	alone := t.base == len(t.frames)-1
	hasLeft, hasRight := sub.Children[node.Left].Present, sub.Children[node.Right].Present
	switch {
	case alone && hasLeft && sub.side == node.Right:
		return []*task{t}, nil // all that is left is one child
	case alone:
		return t.splitChildren(t.frames[:t.base+1]), nil // no child is begun
	case sub.side == node.Left:
		var parts []*task
		if hasRight {
			parts = append(parts, t.below(t.frames[:t.base+1], node.Right))
		}
		t.share()
		t.base++
		return append(parts, t), nil
	default:
		t.base++
		return []*task{t}, nil
	}
}

// splitFresh splits a task of which nothing was visited.
func (t *task) splitFresh(ctx context.Context, load loadRecord) ([]*task, error) {
	child := t.next()
	if child != nil && child.Embedded != nil {
		return []*task{t}, nil
	}
	entry, err := load(ctx, child, t.position())
	if err != nil {
		return nil, err
	}
	b := &begun{bytes: slices.Clone(entry.Record)}
	if b.Record, err = node.ParseRecord(b.bytes, entry.Address); err != nil {
		return nil, fmt.Errorf("%w: %w", &db.CorruptedError{Version: entry.Address.Version, Position: entry.Position, Reason: "not a record"}, err)
	}
	start, err := t.check(&b.Record, entry)
	if err != nil {
		return nil, err
	}
	if b.Leaf {
		return []*task{t}, nil
	}
	b.end = start + b.LabelBitLength
	parts := t.splitChildren(append(slices.Clone(t.frames), frame{begun: b}))
	parts[0].owedNodes = t.owedNodes + 1
	parts[0].owedLeaves = t.owedLeaves
	if b.OwnLeaf != nil {
		parts[0].owedNodes++
		parts[0].owedLeaves++
	}
	return parts, nil
}

// splitChildren returns a fresh task for each child of the last frame of path.
func (t *task) splitChildren(path []frame) []*task {
	var parts []*task
	for side := range path[len(path)-1].Children {
		if path[len(path)-1].Children[side].Present {
			parts = append(parts, t.below(path, uint8(side)))
		}
	}
	return parts
}

// below returns a fresh task for a child of the last frame of path.
func (t *task) below(path []frame, side uint8) *task {
	path = slices.Clone(path)
	path[len(path)-1].side = side
	return &task{chunkSize: t.chunkSize, frames: path, base: len(path), fresh: true, shared: len(path)}
}

// share makes sure that what t's frames point to is not written to any more: other tasks have it, too.
func (t *task) share() { t.shared = len(t.frames) }
