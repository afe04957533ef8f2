package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/console"
	"github.com/ckpt-project/ckpt/framework/checkpoint"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// ErrRootsDiffer is returned where a database has other roots than it was given.
var ErrRootsDiffer = errors.New("the roots are other ones")

// tree is a tree in a database whose checkpoint is cut as often as it is needed, and kept nowhere.
type tree struct {
	ndb      db.NodeDB
	root     node.Root
	cut      checkpoint.CutOptions
	manifest *checkpoint.Manifest
}

// NewConversion plans to restore roots, all those of one version, from the database that holds them. It cuts
// their trees into chunks once, to learn the digests, and tells how far it is: restoring cuts them again, within the
// same limits. The caller keeps the version pinned until then.
func NewConversion(ctx context.Context, from db.NodeDB, roots []node.Root, cut checkpoint.CutOptions, progress *console.Meter) (*Plan, error) {
	if cut.Workers == 0 {
		// One more than processors: a chunk's worker waits for the database that it restores into.
		cut.Workers = runtime.GOMAXPROCS(0) + 1
	}
	plan := &Plan{Version: roots[0].Version, Limits: cut.Limits}
	for _, root := range roots {
		_, before := progress.Done()
		first := cut
		first.Progress = func(chunks uint64, bytes int64, entries uint64) {
			progress.Set(before.Plus(console.Amount{Bytes: bytes, Entries: int64(entries), Chunks: int64(chunks)}))
		}
		m, manifest, err := checkpoint.Cut(ctx, from, root, first, nil)
		if err != nil {
			return nil, err
		}
		source := Source{Metadata: m, Bytes: manifest.Bytes, tree: &tree{ndb: from, root: root, cut: cut, manifest: manifest}}
		for _, c := range manifest.Chunks {
			source.sizes = append(source.sizes, c.Bytes)
		}
		plan.Sources = append(plan.Sources, source)
	}
	return plan, nil
}

// errEnough ends the cutting of a tree of which no more chunks are needed.
var errEnough = errors.New("all chunks are there")

// each cuts the tree, gives the chunks that are pending, and names the others when they are passed, so that one
// sees it go on while it is far from the first that is pending.
func (t *tree) each(ctx context.Context, pending []uint64, take takeChunk, there func(index uint64)) error {
	passed := make([]bool, len(t.manifest.Chunks)) // each set by the one worker that has the chunk
	var left atomic.Int64
	left.Store(int64(len(pending)))
	_, _, err := checkpoint.Cut(ctx, t.ndb, t.root, t.cut, func(ctx context.Context, index uint64, chunk []byte) error {
		if _, is := slices.BinarySearch(pending, index); !is {
			if index >= uint64(len(passed)) {
				return fmt.Errorf("%w: %s has more chunks than when it was cut first", checkpoint.ErrDamaged, t.root)
			}
			passed[index] = true
			there(index)
			return nil
		}
		if err := take(ctx, index, bytes.NewReader(chunk)); err != nil {
			return err
		}
		if left.Add(-1) == 0 {
			return errEnough
		}
		return nil
	})
	switch {
	case errors.Is(err, errEnough):
		for index, is := range passed {
			if _, given := slices.BinarySearch(pending, uint64(index)); !is && !given {
				there(uint64(index))
			}
		}
		return nil
	case err == nil:
		err = fmt.Errorf("%w: %s has %d chunks fewer than when it was cut first", checkpoint.ErrDamaged, t.root, left.Load())
	}
	return err
}

// CheckRoots says whether the database has the plan's version with the plan's roots, and no others.
func CheckRoots(ctx context.Context, ndb db.NodeDB, plan *Plan) error {
	finalized, err := ndb.GetRootsForVersion(ctx, plan.Version)
	if err != nil {
		return fmt.Errorf("asking for the roots of version %d: %w", plan.Version, err)
	}
	if !sameTrees(finalized, plan.Roots()) {
		return fmt.Errorf("%w: version %d has %v, and should have %v", ErrRootsDiffer, plan.Version, finalized, plan.Roots())
	}
	return nil
}
