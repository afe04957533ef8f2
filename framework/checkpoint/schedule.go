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
	p.wanted = wantedVersions(earliest, latest, c.initial, p.parameters.Interval, p.parameters.NumKept)
	c.settlePruned(earliest)
	for version := range c.failed {
		if !slices.Contains(p.wanted, version) {
			delete(c.failed, version)
		}
	}
	return p, nil
}

// wantedVersions returns the kept newest versions from earliest to latest that are to have checkpoints, the
// newest first. These are the multiples of interval or, where there is an initial version, that and what is a
// multiple above it: then the initial version is wanted, too, beside the newest.
func wantedVersions(earliest, latest uint64, initial *uint64, interval, kept uint64) []uint64 {
	if interval == 0 || kept == 0 {
		return nil
	}
	first := uint64(0)
	if initial != nil {
		first = *initial
	}
	if latest < first {
		return nil
	}
	var wanted []uint64
	for v := latest - (latest-first)%interval; v >= earliest && uint64(len(wanted)) < kept; v -= interval {
		wanted = append(wanted, v)
		if v-first < interval {
			break
		}
	}
	if initial != nil && first >= earliest && !slices.Contains(wanted, first) {
		wanted = append(wanted, first)
	}
	return wanted
}

// isScheduled says whether a version is one that counts as one of those to be kept.
func (c *ManagedCheckpointer) isScheduled(p *plan, version uint64) bool {
	first := uint64(0)
	if c.initial != nil {
		first = *c.initial
	}
	return p.parameters.Interval != 0 && version >= first && (version-first)%p.parameters.Interval == 0
}

func (p *plan) equal(other *plan) bool {
	return p.parameters == other.parameters && slices.Equal(p.wanted, other.wanted)
}

// check makes the checkpoints that are wanted and not there, the newest first, and deletes those that
// are too many. Each time one was made, it serves who has asked for one, and looks again at what is wanted. It
// returns what went wrong; no version is tried twice in one check, also where its checkpoints are gone again at
// once. Where the checkpointer is paused, or is meanwhile, it says so and has not done all.
//
// Unless it is thorough, it does nothing where the same is wanted as at the last check. Where it may delay, it
// only decides which ones to make, and when.
func (c *ManagedCheckpointer) check(ctx context.Context, thorough, mayDelay bool) (paused bool, err error) {
	var failures []error
	defer func() {
		switch {
		case ctx.Err() != nil && c.ctx.Err() == nil:
			c.lookAgain() // whoever asked has gone: what is left is done unasked
		case c.delay == nil:
			c.unpin(nil)
		}
		if err != nil {
			c.everLooked = false // so that the next notification has it done again, whatever is wanted then
		}
		err = errors.Join(append(failures, err)...)
	}()
	if !mayDelay {
		c.stopDelay()
	}
	tried := make(map[uint64]bool)
	for ctx.Err() == nil {
		c.serve(&c.requests)
		if c.isPaused() {
			return true, nil
		}
		p, err := c.newPlan(ctx)
		if err != nil {
			return false, err
		}
		if !thorough && c.everLooked && p.equal(&c.planned) {
			return false, nil
		}
		thorough = true
		c.planned, c.everLooked = p, true
		if len(p.wanted) == 0 {
			c.stopDelay()
			return false, nil
		}

		due, err := c.due(ctx, &p, tried)
		if err != nil {
			return false, err
		}
		if len(due) == 0 {
			c.stopDelay()
			return false, c.deleteSurplus(ctx, &p)
		}
		if mayDelay && c.jitter > 0 {
			c.startDelay(due)
			return false, nil
		}
		version := due[0]
		err = c.checkpoint(withOrigin(ctx, originCheckpointer), version, c.pin(ctx, version), p.parameters.ChunkSize)
		tried[version] = true
		switch {
		case err == nil:
		case errors.Is(err, db.ErrVersionPruned):
			c.logger.Debug("version was pruned before its checkpoint", "version", version)
		default:
			failures = append(failures, err)
		}
	}
	return false, ctx.Err() // not all is done
}

// lookAgain has the loop look at everything soon.
func (c *ManagedCheckpointer) lookAgain() {
	c.everLooked = false
	c.mu.Lock()
	c.notified = true
	c.mu.Unlock()
	c.signal()
}

// startDelay begins the time from a decision to when it is acted on, unless it has begun.
func (c *ManagedCheckpointer) startDelay(due []uint64) {
	if c.delay == nil {
		delay := time.Duration(c.random() * float64(c.jitter))
		c.delay = time.NewTimer(delay)
		c.logger.Debug("checkpoints are due, and wait", "versions", due, "for", delay)
	}
}

func (c *ManagedCheckpointer) stopDelay() {
	if c.delay != nil {
		c.delay.Stop()
		c.delay = nil
	}
}

// maxPinned is how many versions are pinned at once because they are to have checkpoints: who has a thousand
// to make can prune meanwhile.
const maxPinned = 16

// due returns the newest versions that are wanted, have not all of their checkpoints and were not tried, the
// newest first, at most maxPinned. They are pinned until the next look.
func (c *ManagedCheckpointer) due(ctx context.Context, p *plan, tried map[uint64]bool) (due []uint64, err error) {
	there, err := c.existing(ctx)
	if err != nil {
		return nil, err
	}
	for _, version := range p.wanted {
		if len(due) == maxPinned {
			break
		}
		if tried[version] {
			continue
		}
		complete, err := c.isComplete(ctx, version, there)
		if isGone(err) {
			continue // in the gap below a version that was restored, or just gone
		}
		if err == nil && complete {
			c.settle(version, nil)
			continue
		}
		// Where the roots can't be had, or the pin can't, making it fails likewise, and says so.
		if perr := c.pin(ctx, version); isGone(perr) && err == nil {
			continue
		}
		due = append(due, version)
	}
	c.unpin(due)
	return due, nil
}

// isGone says whether an error is that a version is not there, or not any more.
func isGone(err error) bool {
	return errors.Is(err, db.ErrVersionNotFound) || errors.Is(err, db.ErrVersionPruned)
}

// isComplete says whether all roots of a version are among those that have checkpoints.
func (c *ManagedCheckpointer) isComplete(ctx context.Context, version uint64, there map[node.Root]bool) (bool, error) {
	roots, err := c.roots(ctx, version)
	if err != nil {
		return false, err
	}
	return !slices.ContainsFunc(roots, func(root node.Root) bool { return !there[root] }), nil
}

func (c *ManagedCheckpointer) pinOwner(version uint64) string {
	return fmt.Sprintf("checkpointer %s: checkpoint of version %d", c.cfg.Name, version)
}

// pin pins a version until unpin.
func (c *ManagedCheckpointer) pin(ctx context.Context, version uint64) error {
	if c.pins[version] != nil {
		return nil
	}
	pin, err := c.ndb.Pin(ctx, version, c.pinOwner(version))
	if err == nil {
		c.pins[version] = pin
	}
	return err
}

// unpin releases the pins of all but some versions.
func (c *ManagedCheckpointer) unpin(but []uint64) {
	for version, pin := range c.pins {
		if !slices.Contains(but, version) {
			c.release(c.ctx, pin)
			delete(c.pins, version)
		}
	}
}

func (c *ManagedCheckpointer) release(ctx context.Context, pin db.Pin) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	if err := pin.Release(ctx); err != nil {
		c.logger.Warn("pin of a version can't be released", "version", pin.Version(), "err", err)
	}
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
// being made, and takes none away. Its caller has the version pinned, or unpinned says why not: each root's
// checkpoint is made under a pin of its own, and the version could go before the first and between two.
func (c *ManagedCheckpointer) checkpoint(ctx context.Context, version uint64, unpinned error, chunkSize uint64) error {
	made, err := c.checkpointRoots(ctx, version, unpinned, chunkSize)
	if ctx.Err() != nil && err != nil {
		return err // given up, which says nothing of the version
	}
	c.settle(version, err)
	if made && err == nil {
		c.tellWatchers(version)
	}
	return err
}

// checkpointRoots makes the checkpoints of a version's roots, and says whether there were any to make.
func (c *ManagedCheckpointer) checkpointRoots(ctx context.Context, version uint64, unpinned error, chunkSize uint64) (made bool, err error) {
	var roots []node.Root
	if err = unpinned; err == nil {
		roots, err = c.roots(ctx, version)
	}
	if err != nil {
		err = fmt.Errorf("version %d: %w", version, err)
		c.events(Event{Kind: EventFailed, Version: version, Err: err})
		return false, err
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
		made = true
		c.logger.Info("made checkpoint", "root", root, "chunks", len(m.Chunks), "took", took)
		c.events(Event{Kind: EventFinished, Version: version, Root: root, Metadata: m, Took: took})
	}
	return made, errors.Join(failures...)
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
// with checkpoints as are to be kept: so a checkpoint that fails costs none of those before it. Only versions
// that the interval asks for count, and not the initial one, which is kept beside them.
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
		if c.initial != nil && v == *c.initial {
			continue
		}
		if newer >= p.parameters.NumKept && !slices.Contains(p.wanted, v) {
			for _, root := range versions[v] {
				failures = append(failures, c.deleteOne(ctx, root))
			}
		}
		if !c.isScheduled(p, v) {
			continue
		}
		count, err := c.countRoots(ctx, v)
		if err != nil {
			failures = append(failures, err)
			continue // it may not be complete
		}
		if len(versions[v]) >= count {
			newer++
		}
	}
	return errors.Join(failures...)
}

// countRoots returns how many roots of a version are to have checkpoints: 1, where the configuration does not say and
// the version is not there any more.
func (c *ManagedCheckpointer) countRoots(ctx context.Context, version uint64) (int, error) {
	if c.cfg.RootsPerVersion > 0 {
		return c.cfg.RootsPerVersion, nil
	}
	roots, err := c.roots(ctx, version)
	if err != nil && !isGone(err) {
		return 0, fmt.Errorf("version %d: %w", version, err)
	}
	return max(len(roots), 1), nil
}

// deleteOne deletes a checkpoint, if this or another checkpointer made it. One that is being served or is marked
// to keep stays; the next check tries again.
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
	err := c.creator.DeleteCheckpoint(withOrigin(ctx, originCheckpointer), checkpointVersion, root)
	switch {
	case errors.Is(err, ErrCheckpointNotFound):
		return nil
	case errors.Is(err, ErrCheckpointInUse), errors.Is(err, ErrCheckpointKept):
		c.logger.Debug("checkpoint is spared", "root", root, "err", err)
		c.everLooked = false // so that the next notification has it looked at, whatever is wanted then
		return nil
	case err != nil:
		return fmt.Errorf("deleting the checkpoint of %s: %w", root, err)
	}
	c.logger.Info("deleted checkpoint", "root", root)
	c.events(Event{Kind: EventDeleted, Version: root.Version, Root: root})
	return nil
}

// originCheckpointer is a manifest's origin where a checkpointer made the checkpoint. With a deletion it says
// that a checkpoint which is being served is to be spared.
const originCheckpointer = "checkpointer"

type originKey struct{}

// withOrigin tells the file creator who makes or deletes a checkpoint; the interface has no room for it.
func withOrigin(ctx context.Context, origin string) context.Context {
	return context.WithValue(ctx, originKey{}, origin)
}

func originOf(ctx context.Context) string {
	origin, _ := ctx.Value(originKey{}).(string)
	return origin
}
