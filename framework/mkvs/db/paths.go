package db

import (
	"context"
	"iter"

	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// PathStart is where a path begins, a node's address and depth, and the key that it leads to.
type PathStart struct {
	Address node.Address
	Depth   node.Depth
	Key     node.Key
}

// PathsReader is what a NodeDB can be beside: one that reads many paths in one call.
type PathsReader interface {
	// GetPaths yields the entries on the ways to several keys: DB25.
	GetPaths(ctx context.Context, root node.Root, starts []PathStart) iter.Seq2[Entry, error]
}

// GetPaths reads many paths from a database: in one call, where it has that, and path by path otherwise. What it
// yields stays valid. An error is the last that it yields. It may be left at any time.
func GetPaths(ctx context.Context, ndb NodeDB, root node.Root, starts []PathStart) iter.Seq2[Entry, error] {
	if reader, ok := ndb.(PathsReader); ok {
		return reader.GetPaths(ctx, root, starts)
	}
	return func(yield func(Entry, error) bool) {
		var before []Entry
		for _, s := range starts {
			path, err := ndb.GetPath(ctx, root, s.Address, s.Depth, s.Key)
			if err != nil {
				yield(Entry{}, err)
				return
			}
			// What two paths share is where they begin.
			shared := 0
			for shared < min(len(path), len(before)) && path[shared].isAt(&before[shared]) {
				shared++
			}
			for _, e := range path[shared:] {
				if !yield(e, nil) {
					return
				}
			}
			before = path
		}
	}
}

// Collect returns all entries that are yielded and stay valid, as those of GetPaths do; none where an error is
// yielded.
func Collect(entries iter.Seq2[Entry, error]) ([]Entry, error) {
	var all []Entry
	for e, err := range entries {
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}

// isAt says whether two entries are the same node.
func (e *Entry) isAt(other *Entry) bool {
	return e.Address == other.Address && e.Position.Compare(other.Position) == 0
}
