package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// plan is what a checkpointer wants at a time.
type plan struct {
	parameters CreationParameters
	// latest is the newest version; wanted are those to have checkpoints, the newest first.
	latest uint64
	wanted []uint64
}

// newPlan finds out what is wanted now.
func (c *ManagedCheckpointer) newPlan(ctx context.Context) (p plan, err error) {
	parameters, err := c.parameters(ctx)
	if err != nil {
		return p, err
	}
	p.parameters = *parameters
	latest, ok, err := c.ndb.GetLatestVersion(ctx)
	if err != nil || !ok {
		return p, err
	}
	earliest, ok, err := c.ndb.GetEarliestVersion(ctx)
	if err != nil || !ok {
		return p, err
	}
	p.latest = latest
	p.wanted = wantedVersions(earliest, latest, p.parameters.Interval, p.parameters.NumKept)
	return p, nil
}

// wantedVersions returns the kept newest multiples of interval from earliest to latest, the newest first.
func wantedVersions(earliest, latest, interval, kept uint64) []uint64 {
	if interval == 0 {
		return nil
	}
	var wanted []uint64
	for v := latest - latest%interval; v >= earliest && uint64(len(wanted)) < kept; v -= interval {
		wanted = append(wanted, v)
		if v < interval {
			break
		}
	}
	return wanted
}

func (p *plan) equal(other *plan) bool {
	return p.parameters == other.parameters && slices.Equal(p.wanted, other.wanted)
}

// check makes the checkpoints that are wanted and not there, the newest first, and deletes those that
// are too many. Each time one was made, it looks again at what is wanted. It returns what went wrong; no
// version is tried twice in one check, also where its checkpoints are gone again at once.
//
// Unless it is thorough, it does nothing where the same is wanted as at the last check.
func (c *ManagedCheckpointer) check(ctx context.Context, thorough bool) error {
	var failures []error
	tried := make(map[uint64]bool)
	for {
		p, err := c.newPlan(ctx)
		if err != nil {
			return errors.Join(append(failures, err)...)
		}
		if !thorough && c.everLooked && p.equal(&c.planned) {
			return errors.Join(failures...)
		}
		thorough = true
		c.planned, c.everLooked = p, true
		if len(p.wanted) == 0 {
			return errors.Join(failures...)
		}

		version, ok, err := c.firstMissing(ctx, &p, tried)
		if err != nil {
			return errors.Join(append(failures, err)...)
		}
		if !ok {
			return errors.Join(append(failures, c.deleteSurplus(ctx, &p))...)
		}
		err = c.checkpoint(withOrigin(ctx, originCheckpointer), version, p.parameters.ChunkSize)
		tried[version] = true
		switch {
		case err == nil:
		case errors.Is(err, db.ErrVersionPruned):
			c.logger.Debug("version was pruned before its checkpoint", "version", version)
		default:
			failures = append(failures, err)
		}
		if ctx.Err() != nil {
			return errors.Join(failures...)
		}
	}
}

// firstMissing returns the newest version that is wanted, has not all of its checkpoints and was not tried.
func (c *ManagedCheckpointer) firstMissing(ctx context.Context, p *plan, tried map[uint64]bool) (version uint64, ok bool, err error) {
	there, err := c.existing(ctx)
	if err != nil {
		return 0, false, err
	}
	for _, version := range p.wanted {
		if tried[version] {
			continue
		}
		roots, err := c.roots(ctx, version)
		if errors.Is(err, db.ErrVersionNotFound) || errors.Is(err, db.ErrVersionPruned) {
			continue // in the gap below a version that was restored, or just gone
		}
		if err != nil {
			return version, true, nil // making it will fail likewise, and say so
		}
		for _, root := range roots {
			if !there[root] {
				return version, true, nil
			}
		}
	}
	return 0, false, nil
}

// existing returns the roots of the namespace that have checkpoints.
func (c *ManagedCheckpointer) existing(ctx context.Context) (map[node.Root]bool, error) {
	all, err := c.creator.GetCheckpoints(ctx, &GetCheckpointsRequest{Version: checkpointVersion, Namespace: c.cfg.Namespace})
	if err != nil {
		return nil, fmt.Errorf("listing checkpoints: %w", err)
	}
	there := make(map[node.Root]bool, len(all))
	for _, m := range all {
		there[m.Root] = true
	}
	return there, nil
}

// checkpoint makes the checkpoints of a version's roots. One that fails keeps none of the others from
// being made, and takes none away.
func (c *ManagedCheckpointer) checkpoint(ctx context.Context, version uint64, chunkSize uint64) error {
	roots, err := c.roots(ctx, version)
	if err != nil {
		err = fmt.Errorf("version %d: %w", version, err)
		c.events(Event{Kind: EventFailed, Version: version, Err: err})
		return err
	}
	var failures []error
	for _, root := range roots {
		if _, err := c.creator.GetCheckpoint(ctx, checkpointVersion, root); err == nil {
			continue
		}
		c.events(Event{Kind: EventStarted, Version: version, Root: root})
		started := time.Now()
		m, err := c.creator.CreateCheckpoint(ctx, root, chunkSize)
		took := time.Since(started)
		if err != nil {
			failures = append(failures, err)
			c.events(Event{Kind: EventFailed, Version: version, Root: root, Err: err, Took: took})
			continue
		}
		c.logger.Info("made checkpoint", "root", root, "chunks", len(m.Chunks), "took", took)
		c.events(Event{Kind: EventFinished, Version: version, Root: root, Metadata: m, Took: took})
	}
	return errors.Join(failures...)
}

// roots returns the roots of a version that are to have checkpoints.
func (c *ManagedCheckpointer) roots(ctx context.Context, version uint64) ([]node.Root, error) {
	finalized, err := c.ndb.GetRootsForVersion(ctx, version)
	if err != nil {
		return nil, fmt.Errorf("getting the roots: %w", err)
	}
	if len(finalized) == 0 {
		return nil, db.ErrVersionNotFound
	}
	want := c.cfg.RootsPerVersion
	if c.cfg.GetRoots == nil {
		if want != 0 && len(finalized) != want {
			return nil, fmt.Errorf("there are %d roots, and there should be %d", len(finalized), want)
		}
		return finalized, nil
	}
	hashes, err := c.cfg.GetRoots(ctx, version)
	if err != nil {
		return nil, fmt.Errorf("getting the roots to make checkpoints of: %w", err)
	}
	if len(hashes) != want {
		return nil, fmt.Errorf("%d roots to make checkpoints of, and there should be %d", len(hashes), want)
	}
	return pickRoots(finalized, hashes)
}

// pickRoots picks a root for each hash: for one that is there k times, the first k by type.
func pickRoots(finalized []node.Root, hashes []hash.Hash) ([]node.Root, error) {
	left := slices.Clone(finalized)
	slices.SortStableFunc(left, func(a, b node.Root) int { return int(a.Type) - int(b.Type) })
	picked := make([]node.Root, 0, len(hashes))
	for _, h := range hashes {
		i := slices.IndexFunc(left, func(r node.Root) bool { return r.Hash == h })
		if i < 0 {
			return nil, fmt.Errorf("%w: no finalized root, or not so many, with hash %s", db.ErrRootNotFound, h)
		}
		picked = append(picked, left[i])
		left = slices.Delete(left, i, i+1)
	}
	return picked, nil
}

// deleteSurplus deletes the checkpoints of versions that are not wanted, and older than as many versions
// with checkpoints as are to be kept: so a checkpoint that fails costs none of those before it.
func (c *ManagedCheckpointer) deleteSurplus(ctx context.Context, p *plan) error {
	there, err := c.existing(ctx)
	if err != nil {
		return err
	}
	versions := make(map[uint64][]node.Root)
	for root := range there {
		if root.Version <= p.latest { // what is newer is of another history, and nobody's business here
			versions[root.Version] = append(versions[root.Version], root)
		}
	}
	var order []uint64
	for v := range versions {
		order = append(order, v)
	}
	slices.Sort(order)
	slices.Reverse(order)

	var failures []error
	newer := uint64(0) // complete versions that are newer
	for _, v := range order {
		if newer >= p.parameters.NumKept && !slices.Contains(p.wanted, v) {
			for _, root := range versions[v] {
				failures = append(failures, c.deleteOne(ctx, root))
			}
		}
		if len(versions[v]) >= max(c.cfg.RootsPerVersion, 1) {
			newer++
		}
	}
	return errors.Join(failures...)
}

// deleteOne deletes a checkpoint, if this or another checkpointer made it.
func (c *ManagedCheckpointer) deleteOne(ctx context.Context, root node.Root) error {
	if inspector, ok := c.creator.(Inspector); ok {
		manifest, _, err := inspector.Describe(ctx, root)
		if errors.Is(err, ErrCheckpointNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if manifest == nil || manifest.Origin != originCheckpointer {
			return nil
		}
	}
	err := c.creator.DeleteCheckpoint(ctx, checkpointVersion, root)
	if errors.Is(err, ErrCheckpointNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("deleting the checkpoint of %s: %w", root, err)
	}
	c.logger.Info("deleted checkpoint", "root", root)
	c.events(Event{Kind: EventDeleted, Version: root.Version, Root: root})
	return nil
}

// originCheckpointer is a manifest's origin where a checkpointer made the checkpoint.
const originCheckpointer = "checkpointer"

type originKey struct{}

// withOrigin tells the file creator who makes a checkpoint; the interface has no room for it.
func withOrigin(ctx context.Context, origin string) context.Context {
	return context.WithValue(ctx, originKey{}, origin)
}

func originOf(ctx context.Context) string {
	origin, _ := ctx.Value(originKey{}).(string)
	return origin
}
