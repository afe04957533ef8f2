package faulty

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// finalizesAnything says that it has finalized what it can't.
type finalizesAnything struct{ db.NodeDB }

func (d *finalizesAnything) Finalize(ctx context.Context, roots []node.Root) error {
	err := d.NodeDB.Finalize(ctx, roots)
	if errors.Is(err, db.ErrVersionNotNext) || errors.Is(err, db.ErrRootNotFound) {
		return nil
	}
	return err
}

// finalizesKnown leaves out the roots that are not there, and finalizes the others.
type finalizesKnown struct{ db.NodeDB }

func (d *finalizesKnown) Finalize(ctx context.Context, all []node.Root) error {
	err := d.NodeDB.Finalize(ctx, all)
	if !errors.Is(err, db.ErrRootNotFound) {
		return err
	}
	var known []node.Root
	for _, root := range all {
		if has, _ := d.HasRoot(ctx, root); has {
			known = append(known, root)
		}
	}
	if len(known) == 0 || len(known) == len(all) {
		return err
	}
	return d.NodeDB.Finalize(ctx, known)
}

// finalizesLast lets the last root of a type win.
type finalizesLast struct{ db.NodeDB }

func (d *finalizesLast) Finalize(ctx context.Context, all []node.Root) error {
	byType := make(map[node.RootType]node.Root)
	for _, root := range all {
		byType[root.Type] = root
	}
	if len(byType) == len(all) {
		return d.NodeDB.Finalize(ctx, all)
	}
	var last []node.Root
	for _, root := range byType {
		last = append(last, root)
	}
	return d.NodeDB.Finalize(ctx, last)
}

// finalizesOne has one root a version in its index.
type finalizesOne struct{ db.NodeDB }

func (d *finalizesOne) Finalize(ctx context.Context, all []node.Root) error {
	return d.NodeDB.Finalize(ctx, all[:min(1, len(all))])
}

// parentUnchecked does not look at what a root was made from.
type parentUnchecked struct{ db.NodeDB }

func (d *parentUnchecked) Finalize(ctx context.Context, all []node.Root) error {
	if err := d.NodeDB.Finalize(ctx, all); !errors.Is(err, db.ErrNotFinalized) {
		return err
	}
	return nil
}

// againIsError takes a second Finalize for a mistake.
type againIsError struct{ db.NodeDB }

func (d *againIsError) Finalize(ctx context.Context, all []node.Root) error {
	latest, any, err := d.GetLatestVersion(ctx)
	if err != nil {
		return err
	}
	if any && len(all) > 0 && all[0].Version == latest {
		return db.ErrAlreadyFinalized
	}
	return d.NodeDB.Finalize(ctx, all)
}

// losersStay leaves the index entries of candidates that have lost, of their own version or also of those
// that descend from them.
type losersStay struct {
	batches
	committed roots
	// descendants says that it is those, and not the losers themselves.
	descendants bool
}

type stayingBatch struct {
	db.Batch
	d *losersStay
}

func newLosersStay(descendants bool) func(ndb db.NodeDB) db.NodeDB {
	return func(ndb db.NodeDB) db.NodeDB {
		d := &losersStay{descendants: descendants}
		d.batches = batches{ndb, func(b db.Batch, _ node.Root, _ uint64) db.Batch { return &stayingBatch{b, d} }}
		return d
	}
}

func (b *stayingBatch) Commit(ctx context.Context, root node.Root, rootAddress node.Address) error {
	err := b.Batch.Commit(ctx, root, rootAddress)
	if err == nil {
		b.d.committed.add(root)
	}
	return err
}

func (d *losersStay) HasRoot(ctx context.Context, root node.Root) (bool, error) {
	has, err := d.NodeDB.HasRoot(ctx, root)
	if has || err != nil || !d.committed.has(root) {
		return has, err
	}
	latest, any, err := d.GetLatestVersion(ctx)
	return any && d.descendants == (root.Version > latest), err
}

// restoreDropsCandidates takes what was made from a root's candidate for a loser's when the root is restored.
type restoreDropsCandidates struct {
	db.NodeDB
	mu      sync.Mutex
	dropped uint64
}

func (d *restoreDropsCandidates) Finalize(ctx context.Context, all []node.Root) error {
	m, err := d.Multipart(ctx)
	if err != nil {
		return err
	}
	if err = d.NodeDB.Finalize(ctx, all); err == nil && m != nil {
		d.mu.Lock()
		d.dropped = m.Version
		d.mu.Unlock()
	}
	return err
}

func (d *restoreDropsCandidates) HasRoot(ctx context.Context, root node.Root) (bool, error) {
	d.mu.Lock()
	dropped := d.dropped
	d.mu.Unlock()
	has, err := d.NodeDB.HasRoot(ctx, root)
	latest, _, latestErr := d.GetLatestVersion(ctx)
	return has && !(dropped != 0 && !root.IsEmpty() && root.Version > latest), errors.Join(err, latestErr)
}

// pinOfNothing keeps nothing.
type pinOfNothing struct{ version uint64 }

func (p *pinOfNothing) Version() uint64               { return p.version }
func (p *pinOfNothing) Release(context.Context) error { return nil }

// pinsIgnored prunes what is pinned.
type pinsIgnored struct{ db.NodeDB }

func (d *pinsIgnored) Pin(ctx context.Context, version uint64, owner string) (db.Pin, error) {
	pin, err := d.NodeDB.Pin(ctx, version, owner)
	if err != nil {
		return nil, err
	}
	return &pinOfNothing{version}, pin.Release(ctx)
}

// pinsByVersion has one pin a version: whoever releases one releases all of it.
type pinsByVersion struct {
	db.NodeDB
	mu   sync.Mutex
	pins map[uint64][]db.Pin
}

type pinByVersion struct {
	db.Pin
	d *pinsByVersion
}

func (d *pinsByVersion) Pin(ctx context.Context, version uint64, owner string) (db.Pin, error) {
	pin, err := d.NodeDB.Pin(ctx, version, owner)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pins[version] = append(d.pins[version], pin)
	return &pinByVersion{pin, d}, nil
}

func (p *pinByVersion) Release(ctx context.Context) error {
	p.d.mu.Lock()
	all := p.d.pins[p.Version()]
	delete(p.d.pins, p.Version())
	p.d.mu.Unlock()
	for _, pin := range all {
		if err := pin.Release(ctx); err != nil {
			return err
		}
	}
	return nil
}

// pinsAnything pins what is not there.
type pinsAnything struct{ db.NodeDB }

func (d *pinsAnything) Pin(ctx context.Context, version uint64, owner string) (db.Pin, error) {
	pin, err := d.NodeDB.Pin(ctx, version, owner)
	if errors.Is(err, db.ErrVersionNotFound) || errors.Is(err, db.ErrNotFinalized) {
		return &pinOfNothing{version}, nil
	}
	return pin, err
}

// pinsUnnamed forgets who pins.
type pinsUnnamed struct{ db.NodeDB }

func (d *pinsUnnamed) Pins(ctx context.Context) ([]db.PinInfo, error) {
	infos, err := d.NodeDB.Pins(ctx)
	for i := range infos {
		infos[i].Owner = ""
	}
	return infos, err
}

// prunesShared frees with a version all that it wrote, although later versions share it.
type prunesShared struct{ db.NodeDB }

func (d *prunesShared) Walk(ctx context.Context, root node.Root, from node.Position) walk {
	return func(yield func(db.Entry, error) bool) {
		earliest, _, err := d.GetEarliestVersion(ctx)
		if err != nil {
			yield(db.Entry{}, err)
			return
		}
		for e, err := range d.NodeDB.Walk(ctx, root, from) {
			if err == nil && e.Address.Version < earliest {
				err = &db.CorruptedError{Version: e.Address.Version, Position: slices.Clone(e.Position), Reason: "missing"}
				e = db.Entry{}
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// prunesLater removes a version when the next one is pruned, and says that it is gone.
type prunesLater struct {
	db.NodeDB
	mu    sync.Mutex
	later *uint64
}

func (d *prunesLater) Prune(ctx context.Context, version uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.later != nil {
		if err := d.NodeDB.Prune(ctx, *d.later); err != nil {
			return err
		}
		d.later = nil
	}
	latest, _, err := d.GetLatestVersion(ctx)
	if err != nil {
		return err
	}
	earliest, any, err := d.NodeDB.GetEarliestVersion(ctx)
	if err != nil {
		return err
	}
	if !any || version != earliest || version == latest {
		return d.NodeDB.Prune(ctx, version)
	}
	d.later = &version
	return nil
}

func (d *prunesLater) GetEarliestVersion(ctx context.Context) (uint64, bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	v, any, err := d.NodeDB.GetEarliestVersion(ctx)
	if d.later != nil && v == *d.later {
		v++
	}
	return v, any, err
}

// prunesBelow takes Prune for PruneBefore.
type prunesBelow struct{ db.NodeDB }

func (d *prunesBelow) Prune(ctx context.Context, version uint64) error {
	err := d.NodeDB.Prune(ctx, version)
	if errors.Is(err, db.ErrNotEarliest) {
		if _, err := d.PruneBefore(ctx, version+1); err == nil {
			return nil
		}
	}
	return err
}

// prunesLatest says that it has pruned the latest version.
type prunesLatest struct{ db.NodeDB }

func (d *prunesLatest) Prune(ctx context.Context, version uint64) error {
	if err := d.NodeDB.Prune(ctx, version); !errors.Is(err, db.ErrCannotPruneLatestVersion) {
		return err
	}
	return nil
}

// prunesDuringRestore does not care about an open multipart insert.
type prunesDuringRestore struct{ db.NodeDB }

func (d *prunesDuringRestore) Prune(ctx context.Context, version uint64) error {
	if err := d.NodeDB.Prune(ctx, version); !errors.Is(err, db.ErrMultipartInProgress) {
		return err
	}
	return nil
}

// prunesOneByOne removes what it can before it finds what it can't.
type prunesOneByOne struct{ db.NodeDB }

func (d *prunesOneByOne) PruneBefore(ctx context.Context, version uint64) (removed uint64, err error) {
	for {
		earliest, any, err := d.GetEarliestVersion(ctx)
		if err != nil || !any || earliest >= version {
			return removed, err
		}
		if err := d.Prune(ctx, earliest); err != nil {
			return removed, err
		}
		removed++
	}
}

// prunedMiscounted takes the difference of versions' numbers for how many there were.
type prunedMiscounted struct{ db.NodeDB }

func (d *prunedMiscounted) PruneBefore(ctx context.Context, version uint64) (uint64, error) {
	earliest, _, err := d.GetEarliestVersion(ctx)
	if err != nil {
		return 0, err
	}
	_, err = d.NodeDB.PruneBefore(ctx, version)
	return version - earliest, err
}

// gapPruned goes to the next number after a pruned version, and not to the next version.
type gapPruned struct {
	db.NodeDB
	mu   sync.Mutex
	next uint64
}

func (d *gapPruned) Prune(ctx context.Context, version uint64) error {
	err := d.NodeDB.Prune(ctx, version)
	if err == nil {
		d.mu.Lock()
		d.next = version + 1
		d.mu.Unlock()
	}
	return err
}

func (d *gapPruned) GetEarliestVersion(ctx context.Context) (uint64, bool, error) {
	v, any, err := d.NodeDB.GetEarliestVersion(ctx)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.next != 0 {
		v = d.next
	}
	return v, any, err
}

// garbageStays collects nothing.
type garbageStays struct{ db.NodeDB }

func (d *garbageStays) CollectGarbage(ctx context.Context, progress func(done, total int64)) error {
	if progress != nil {
		progress(0, 0)
	}
	return ctx.Err()
}

// sizeUnknown has no idea how much it holds.
type sizeUnknown struct{ db.NodeDB }

func (d *sizeUnknown) Size(ctx context.Context) (db.Size, error) {
	size, err := d.NodeDB.Size(ctx)
	return db.Size{File: size.File}, err
}

// compactLoses compacts into a file to which the last versions do not come any more.
type compactLoses struct {
	walks
	mu   sync.Mutex
	lost bool
}

func (d *compactLoses) Compact(ctx context.Context, progress func(done, total int64)) error {
	err := d.NodeDB.Compact(ctx, progress)
	if err == nil {
		d.mu.Lock()
		d.lost = true
		d.mu.Unlock()
	}
	return err
}

func newCompactLoses(ndb db.NodeDB) db.NodeDB {
	d := &compactLoses{}
	d.walks = walks{ndb, func(root node.Root, from node.Position, sound walk) walk {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.lost {
			return walkSkips(root, from, sound)
		}
		return sound
	}}
	return d
}

// checkBlind looks at nothing, and finds nothing.
type checkBlind struct{ db.NodeDB }

func (d *checkBlind) Check(ctx context.Context, opts db.CheckOptions) (*db.CheckReport, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return &db.CheckReport{}, nil
}

// checkAlarms takes what is waiting to be collected for lost.
type checkAlarms struct {
	db.NodeDB
	mu     sync.Mutex
	pruned uint64
}

func (d *checkAlarms) PruneBefore(ctx context.Context, version uint64) (uint64, error) {
	n, err := d.NodeDB.PruneBefore(ctx, version)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pruned += n
	return n, err
}

func (d *checkAlarms) CollectGarbage(ctx context.Context, progress func(done, total int64)) error {
	err := d.NodeDB.CollectGarbage(ctx, progress)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pruned = 0
	return err
}

func (d *checkAlarms) Check(ctx context.Context, opts db.CheckOptions) (*db.CheckReport, error) {
	report, err := d.NodeDB.Check(ctx, opts)
	d.mu.Lock()
	defer d.mu.Unlock()
	if report != nil {
		report.Unreachable += d.pruned
	}
	return report, err
}

// againAnything takes any Finalize of the latest version for the same again.
type againAnything struct{ db.NodeDB }

func (d *againAnything) Finalize(ctx context.Context, all []node.Root) error {
	err := d.NodeDB.Finalize(ctx, all)
	latest, _, latestErr := d.GetLatestVersion(ctx)
	if errors.Is(err, db.ErrAlreadyFinalized) && latestErr == nil && all[0].Version == latest {
		return nil
	}
	return err
}

// pinsCounted counts the pins of a version: whoever releases one twice releases somebody else's.
type pinsCounted struct {
	db.NodeDB
	mu   sync.Mutex
	pins map[uint64][]db.Pin
}

type countedPin struct {
	db.Pin
	d *pinsCounted
}

func (d *pinsCounted) Pin(ctx context.Context, version uint64, owner string) (db.Pin, error) {
	pin, err := d.NodeDB.Pin(ctx, version, owner)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pins[version] = append(d.pins[version], pin)
	return &countedPin{pin, d}, nil
}

func (p *countedPin) Release(ctx context.Context) error {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	left := p.d.pins[p.Version()]
	if len(left) == 0 {
		return p.Pin.Release(ctx)
	}
	p.d.pins[p.Version()] = left[1:]
	return left[0].Release(ctx)
}

// garbageAnew begins with all there ever was when it is called again.
type garbageAnew struct {
	db.NodeDB
	mu   sync.Mutex
	done int64
}

func (d *garbageAnew) CollectGarbage(ctx context.Context, progress func(done, total int64)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	before, last := d.done, int64(0)
	err := d.NodeDB.CollectGarbage(ctx, func(done, total int64) {
		last = done
		if progress != nil {
			progress(before+done, before+total)
		}
	})
	d.done = before + last
	return err
}

// checkAlarmsRestore takes what a restore has written so far for lost.
type checkAlarmsRestore struct{ db.NodeDB }

func (d *checkAlarmsRestore) Check(ctx context.Context, opts db.CheckOptions) (*db.CheckReport, error) {
	report, err := d.NodeDB.Check(ctx, opts)
	if err != nil {
		return nil, err
	}
	m, err := d.Multipart(ctx)
	if m != nil {
		for _, r := range m.Roots {
			report.Unreachable += uint64(len(r.Done))
		}
	}
	return report, err
}

// pinsKept never releases a pin.
type pinsKept struct{ db.NodeDB }

type keptPin struct{ db.Pin }

func (d *pinsKept) Pin(ctx context.Context, version uint64, owner string) (db.Pin, error) {
	pin, err := d.NodeDB.Pin(ctx, version, owner)
	return &keptPin{pin}, err
}

func (p *keptPin) Release(ctx context.Context) error { return ctx.Err() }

// releasePrunes counts who needs a version, and lets it go with the last of them.
type releasePrunes struct{ db.NodeDB }

type pruningPin struct {
	db.Pin
	d db.NodeDB
}

func (d *releasePrunes) Pin(ctx context.Context, version uint64, owner string) (db.Pin, error) {
	pin, err := d.NodeDB.Pin(ctx, version, owner)
	if err != nil {
		return nil, err
	}
	return &pruningPin{pin, d.NodeDB}, nil
}

func (p *pruningPin) Release(ctx context.Context) error {
	if err := p.Pin.Release(ctx); err != nil {
		return err
	}
	_ = p.d.Prune(ctx, p.Version()) // what can't be pruned is needed by somebody else
	return nil
}

// staysBusy does one thing at a time of what takes long, and forgets that one has ended if that was
// interrupted, for which it waits.
type staysBusy struct {
	db.NodeDB
	mu   sync.Mutex
	busy bool
}

func (d *staysBusy) alone(ctx context.Context, progress func(done, total int64), f func() error) error {
	d.mu.Lock()
	was := d.busy
	d.busy = true
	d.mu.Unlock()
	if was {
		return errors.New("something else is being done")
	}
	if progress != nil {
		progress(0, 1)
	}
	if err := interruptible(ctx, onlyOne); err != nil {
		return err
	}
	err := f()
	if ctx.Err() == nil {
		d.mu.Lock()
		d.busy = false
		d.mu.Unlock()
	}
	return err
}

func (d *staysBusy) CollectGarbage(ctx context.Context, progress func(done, total int64)) error {
	return d.alone(ctx, progress, func() error { return d.NodeDB.CollectGarbage(ctx, progress) })
}

func (d *staysBusy) Compact(ctx context.Context, progress func(done, total int64)) error {
	return d.alone(ctx, progress, func() error { return d.NodeDB.Compact(ctx, progress) })
}

func (d *staysBusy) Check(ctx context.Context, opts db.CheckOptions) (report *db.CheckReport, err error) {
	err = d.alone(ctx, opts.Progress, func() (err error) {
		report, err = d.NodeDB.Check(ctx, opts)
		return err
	})
	return report, err
}
