package crash

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/ckpt-project/ckpt/conformance/reference"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// sight is what is in a database.
type sight struct {
	Any              bool
	Earliest, Latest uint64
	Roots            []sightedRoot
	Insert           *db.Multipart
	Pins             int
	// Wrong is what Check has found to be wrong.
	Wrong string
}

type sightedRoot struct {
	Root    node.Root
	Content reference.Content
}

// look reads everything in a database that can be read, in every version up to one.
func look(ctx context.Context, ndb db.NodeDB, upTo uint64) (*sight, error) {
	var s sight
	var err error
	if s.Latest, s.Any, err = ndb.GetLatestVersion(ctx); err != nil {
		return nil, err
	}
	if s.Earliest, _, err = ndb.GetEarliestVersion(ctx); err != nil {
		return nil, err
	}
	for v := s.Earliest; v <= upTo; v++ {
		roots, err := ndb.GetRootsForVersion(ctx, v)
		if err != nil {
			return nil, fmt.Errorf("roots of version %d: %w", v, err)
		}
		for _, r := range roots {
			content, err := readTree(ctx, ndb, r)
			if err != nil {
				return nil, fmt.Errorf("reading %s: %w", r, err)
			}
			s.Roots = append(s.Roots, sightedRoot{r, content})
		}
	}
	if s.Earliest > 0 {
		if _, err := ndb.GetRootsForVersion(ctx, s.Earliest-1); !errors.Is(err, db.ErrVersionPruned) {
			return nil, fmt.Errorf("version %d below the earliest: %w, not that it was pruned", s.Earliest-1, err)
		}
	}
	if s.Insert, err = ndb.Multipart(ctx); err != nil {
		return nil, err
	}
	pins, err := ndb.Pins(ctx)
	if err != nil {
		return nil, err
	}
	s.Pins = len(pins)
	report, err := ndb.Check(ctx, db.CheckOptions{})
	if err != nil {
		return nil, err
	}
	if !report.OK() {
		s.Wrong = fmt.Sprintf("%d damaged, %d unreachable: %v", report.Damaged, report.Unreachable, report.Problems)
	}
	return &s, nil
}

// readTree reads a whole tree, every node's hash computed anew and every node where its parent says, and
// looks some keys up.
func readTree(ctx context.Context, ndb db.NodeDB, root node.Root) (reference.Content, error) {
	address, err := ndb.RootAddress(ctx, root)
	if err != nil {
		return nil, err
	}
	r := treeReader{content: reference.Content{}}
	for e, err := range ndb.Walk(ctx, root, nil) {
		if err != nil {
			return nil, err
		}
		r.entries = append(r.entries, db.Entry{Address: e.Address, Position: bytes.Clone(e.Position), Record: bytes.Clone(e.Record)})
	}
	if !root.IsEmpty() {
		if err := r.read(root.Hash, address, nil, 0, 0); err != nil {
			return nil, err
		}
	}
	if len(r.entries) > 0 {
		return nil, fmt.Errorf("%d entries after the end of the tree", len(r.entries))
	}
	return r.content, lookUp(ctx, ndb, root, r.content)
}

// treeReader takes the entries of a walk one after the other.
type treeReader struct {
	entries []db.Entry
	content reference.Content
}

// read reads the tree below a node whose position is the first depth bits of path; the parent's path ends
// at parentEnd.
func (r *treeReader) read(want hash.Hash, address node.Address, path node.Key, depth, parentEnd node.Depth) error {
	position := node.NewPosition(path, depth)
	if len(r.entries) == 0 {
		return fmt.Errorf("no entry at %s", position)
	}
	e := r.entries[0]
	r.entries = r.entries[1:]
	if e.Address != address || !bytes.Equal(e.Position, position) {
		return fmt.Errorf("entry at %s of %s, want %s of %s", e.Position, e.Address, position, address)
	}
	record, err := node.ParseRecord(e.Record, address)
	if err != nil {
		return err
	}
	if got := record.ComputeHash(); got != want {
		return fmt.Errorf("node at %s has hash %s, want %s", position, got, want)
	}
	if record.Leaf {
		r.content[string(record.Key)] = string(record.Value)
		return nil
	}
	if record.OwnLeaf != nil {
		r.content[string(record.OwnKey)] = string(record.OwnValue)
	}
	end := parentEnd + record.LabelBitLength
	for side := range record.Children {
		c := &record.Children[side]
		switch {
		case !c.Present:
		case c.Embedded != nil:
			leaf, _, err := node.ParseCompactV0(c.Embedded)
			if err != nil {
				return err
			}
			r.content[string(leaf.Key)] = string(leaf.Value)
		default:
			below := make(node.Key, (end + 1).ToBytes())
			copy(below, path)
			below.CopyBits(parentEnd, record.Label, record.LabelBitLength)
			below.SetBit(end, side == node.Right)
			if err := r.read(c.Hash, c.Address, below, end+1, end); err != nil {
				return err
			}
		}
	}
	return nil
}

// lookUps is how many keys of a tree are looked up.
const lookUps = 5

// lookUp looks some keys of a tree up, and one that it does not hold.
func lookUp(ctx context.Context, ndb db.NodeDB, root node.Root, content reference.Content) error {
	tree := mkvs.NewWithRoot(ndb, root, mkvs.WithVerifyReads())
	defer tree.Close()
	keys := content.Keys()
	for i := 0; i < len(keys); i += 1 + len(keys)/lookUps {
		value, err := tree.Get(ctx, []byte(keys[i]))
		if err != nil {
			return err
		}
		if value == nil || string(value) != content[keys[i]] {
			return fmt.Errorf("%s: key %q has another value than in the walk", root, keys[i])
		}
	}
	if value, err := tree.Get(ctx, []byte("no such key")); err != nil || value != nil {
		return fmt.Errorf("%s: a key that isn't there: %q, %w", root, value, err)
	}
	return nil
}
