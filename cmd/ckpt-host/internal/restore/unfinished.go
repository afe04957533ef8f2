package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ckpt-project/ckpt/framework/checkpoint"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// ErrUnfinished is returned where a database holds an unfinished restore that the plan is no part of, and
// that has to be finished or aborted first.
var ErrUnfinished = errors.New("an unfinished restore of something else is in the way")

// Unfinished is what a database holds of a restore that is not finished.
type Unfinished struct {
	Version uint64
	// Roots are the roots that were begun, in that order.
	Roots []UnfinishedRoot
}

// UnfinishedRoot is what a database holds of one root.
type UnfinishedRoot struct {
	Root node.Root
	// Metadata is the hash of the metadata of the checkpoint that the root comes from; nil where it is not
	// known.
	Metadata *hash.Hash
	// Chunks is the number of chunks, Done holds, ascending, the indices of those that are durable.
	Chunks uint64
	Done   []uint64
	// Complete says that no node of the root is missing. It is visible when the version is finalized.
	Complete bool
	// All is what the checkpoint holds, Restored the part of it that is durable; nil where nobody knows.
	All, Restored *Contents
}

// Contents are a checkpoint's contents, or a part of them, by its manifest.
type Contents struct {
	Bytes   int64
	Entries uint64
}

// Find asks a database for an unfinished restore; nil where there is none.
func Find(ctx context.Context, ndb db.NodeDB) (*Unfinished, error) {
	open, err := ndb.Multipart(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking for an unfinished restore: %w", err)
	}
	if open == nil {
		return nil, nil
	}
	u := &Unfinished{Version: open.Version}
	for _, r := range open.Roots {
		root := UnfinishedRoot{Root: r.Root, Chunks: r.Chunks, Done: r.Done, Complete: r.Complete}
		if h, known := checkpoint.UnfinishedFrom(&r); known {
			root.Metadata = &h
		}
		u.Roots = append(u.Roots, root)
	}
	return u, nil
}

// Measure looks into a directory of checkpoints for those that the roots come from, and takes from their
// manifests how much there is and how much of it is durable. What isn't there stays unknown.
func (u *Unfinished) Measure(ctx context.Context, dir string, limits checkpoint.Limits) error {
	directory, err := checkpoint.OpenDirectory(dir, checkpoint.WithDirectoryLimits(limits))
	if err != nil {
		return err
	}
	all, err := directory.List(ctx)
	if err != nil {
		return err
	}
	for i := range u.Roots {
		r := &u.Roots[i]
		for _, c := range all {
			if c.Err != nil || c.Metadata.Root != r.Root || r.Metadata == nil || c.Metadata.EncodedHash() != *r.Metadata {
				continue
			}
			s := Source{Path: c.Path, Metadata: c.Metadata}
			manifest, err := s.manifest()
			if err != nil {
				return err
			}
			if manifest != nil {
				r.measure(manifest)
			}
		}
	}
	return nil
}

func (r *UnfinishedRoot) measure(manifest *checkpoint.Manifest) {
	r.All, r.Restored = &Contents{manifest.Bytes, manifest.Entries}, &Contents{}
	for _, index := range r.Done {
		if index < uint64(len(manifest.Chunks)) {
			r.Restored.Bytes += manifest.Chunks[index].Bytes
			r.Restored.Entries += manifest.Chunks[index].Entries
		}
	}
}

// Complete says whether every root that was begun is whole, so that finalizing them is all that is left.
func (u *Unfinished) Complete() bool {
	return len(u.Roots) > 0 && !slices.ContainsFunc(u.Roots, func(r UnfinishedRoot) bool { return !r.Complete })
}

// String names what is there.
func (u *Unfinished) String() string {
	if len(u.Roots) == 0 {
		return fmt.Sprintf("version %d, of which no root was begun", u.Version)
	}
	var roots []string
	for _, r := range u.Roots {
		text := fmt.Sprintf("%s root %s (%d of %d chunks", r.Root.Type, r.Root.Hash, len(r.Done), r.Chunks)
		if r.Complete {
			text = fmt.Sprintf("%s root %s (complete, not finalized", r.Root.Type, r.Root.Hash)
		}
		if r.Metadata != nil {
			text += ", of the checkpoint with metadata hash " + r.Metadata.String()
		}
		roots = append(roots, text+")")
	}
	return fmt.Sprintf("version %d, %s", u.Version, strings.Join(roots, " and "))
}

// partOf says whether the plan goes on with all that is there: its roots, from the same checkpoints.
func (u *Unfinished) partOf(plan *Plan) bool {
	return u.Version == plan.Version && !slices.ContainsFunc(u.Roots, func(r UnfinishedRoot) bool {
		return r.Metadata == nil || !slices.ContainsFunc(plan.Sources, func(s Source) bool {
			return s.Metadata.Root == r.Root && s.Metadata.EncodedHash() == *r.Metadata
		})
	})
}

// refuseOther is ErrUnfinished where the database holds a restore that the plan does not go on with. What is
// there may have taken hours, and is nobody's to throw away but its owner's. A complete root that the plan
// leaves out counts, too: finalizing the version without it would remove it.
func refuseOther(ctx context.Context, ndb db.NodeDB, plan *Plan) error {
	u, err := Find(ctx, ndb)
	if err != nil || u == nil || u.partOf(plan) {
		return err
	}
	return fmt.Errorf("%w: %s", ErrUnfinished, u)
}
