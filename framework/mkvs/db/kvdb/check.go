package kvdb

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// A check of everything goes over the store once, in the order of its keys, and looks at each record by
// itself (check_records.go). Trees are gone through such that each stored node is hashed about once,
// however many versions share it (check_trees.go): the earliest version's state whole; of each later one
// the nodes that it wrote, and the hashes of the older ones that it points to.
//
// What is stored and what is reached are counted and compared: of the nodes of a version above the
// earliest each must be reached from its own root, for none of them can have become garbage yet; those of
// the earliest and before must be reached from the earliest, or be named by a list that is not applied.

// Check compares what is stored with itself.
func (d *DB) Check(ctx context.Context, opts db.CheckOptions) (*db.CheckReport, error) {
	if err := d.begin(ctx); err != nil {
		return nil, err
	}
	defer d.end()
	c := &check{d: d, progress: opts.Progress, report: &db.CheckReport{}, told: make(map[string]bool)}
	var err error
	if opts.Version != nil {
		err = c.version(ctx, *opts.Version)
	} else {
		err = c.everything(ctx)
	}
	if err != nil {
		return nil, err
	}
	return c.report, nil
}

// check is a check that goes on.
type check struct {
	d      *DB
	report *db.CheckReport
	// state is what the database knew when the check began: what came later is not looked at.
	state state
	// unowned are what was unfinished or to be removed then.
	unowned map[owner]struct{}

	// told are the engine's errors that were made problems: the same place is met again and again
	// (check_engine.go). recordsRead says that all places were met once.
	told        map[string]bool
	recordsRead bool

	progress    func(done, total int64)
	done, total int64
}

// did counts work towards the progress.
func (c *check) did(bytes int) {
	if c.done += int64(bytes); c.progress != nil {
		c.progress(min(c.done, c.total), c.total)
	}
}

// problem notes one, of a version, or of a node where there is a position.
func (c *check) problem(version uint64, p node.Position, reason string) {
	c.report.Add(&db.CorruptedError{Version: version, Position: bytes.Clone(p), Reason: reason})
}

// notes makes a problem of an error that is damage, and returns any other. Where the engine says so, it knows
// nothing of versions: then it is the given one's.
func (c *check) notes(version uint64, err error) error {
	var damage *db.CorruptedError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &damage):
		c.report.Add(damage)
		return nil
	case isEngineDamage(err):
		if text := engineText(err); !c.told[text] {
			c.told[text] = true
			c.problem(version, nil, "the engine can't read what is stored: "+text)
		}
		return nil
	default:
		return err
	}
}

// hold keeps a version from being pruned while it is looked at.
func (c *check) hold(ctx context.Context, version uint64) (release func(), err error) {
	p, err := c.d.Pin(ctx, version, "check")
	if err != nil {
		return nil, err
	}
	return func() { _ = p.Release(context.WithoutCancel(ctx)) }, nil
}

// version checks the trees of one version, whole.
func (c *check) version(ctx context.Context, version uint64) error {
	roots, err := c.d.GetRootsForVersion(ctx, version)
	if errors.Is(err, db.ErrCorrupted) {
		return c.notes(version, err)
	}
	if err != nil {
		return err
	}
	if len(roots) == 0 {
		return fmt.Errorf("%w: version %d", db.ErrVersionNotFound, version)
	}
	c.state = c.d.present()
	if c.state.any && version <= c.state.latest {
		release, err := c.hold(ctx, version)
		if err != nil {
			return err
		}
		defer release()
	}
	c.report.Versions, c.total = 1, 1
	for _, root := range roots {
		r, err := c.d.lookup(ctx, root)
		if err != nil {
			return err
		}
		t := newTreeCheck(c, version, r)
		t.whole = true
		if err := t.run(ctx); err != nil {
			return err
		}
		if err := c.logs(ctx, version, r); err != nil {
			return err
		}
		c.report.Roots++
	}
	c.did(1)
	return nil
}

// everything checks all that is stored.
func (c *check) everything(ctx context.Context) error {
	// No list is applied meanwhile, and the earliest version stays: the counts would not agree.
	if err := c.d.take(ctx, c.d.pruning); err != nil {
		return err
	}
	defer give(c.d.pruning)
	for {
		c.state, c.unowned = c.d.presentAndUnowned()
		if !c.state.any {
			break
		}
		release, err := c.d.holdEarliest(c.state.earliest)
		if err != nil {
			return err
		}
		if release != nil {
			defer release()
			break
		}
	}
	size, err := c.d.store.Size(ctx)
	if err != nil {
		return storeError(err)
	}
	c.total = 2 * max(1, size.Live)
	if err := c.records(ctx); err != nil {
		return err
	}
	if err := c.versions(ctx); err != nil {
		return err
	}
	if err := c.candidates(ctx); err != nil {
		return err
	}
	if err := c.old(ctx); err != nil {
		return err
	}
	c.done = c.total
	c.did(0)
	return nil
}

// holdEarliest pins the earliest version, as far as it still is the given one, whatever state its record
// is in. It returns nil where it is not.
func (d *DB) holdEarliest(version uint64) (release func(), err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state.earliest != version {
		return nil, nil
	}
	if d.goingBelow != nil && version < *d.goingBelow {
		return nil, fmt.Errorf("%w: version %d is just being pruned, try again", db.ErrVersionPruned, version)
	}
	p := &pin{d: d, version: version, owner: "check", since: time.Now()}
	d.pins[p] = struct{}{}
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.pins, p)
	}, nil
}

// versions goes through the finalized versions above the earliest, and the earliest's IO root.
func (c *check) versions(ctx context.Context) error {
	if !c.state.any {
		return nil
	}
	for first, more := c.state.earliest, true; more; {
		var some []uint64
		var records []*versionRecord
		w := &collection{d: c.d}
		more = false
		err := w.eachVersion(ctx, first, c.state.latest, func(_ kv.Snapshot, version uint64, v *versionRecord) (bool, error) {
			if more = len(some) == collectVersions; more {
				return false, nil
			}
			some, records = append(some, version), append(records, v)
			return true, nil
		})
		var next []byte
		if isEngineDamage(err) { // the versions behind what it can't read are gone through all the same
			last := versionKey(first)
			if len(some) > 0 {
				last = versionKey(some[len(some)-1])
			}
			if err = c.notes(db.UnknownVersion, err); err == nil {
				next, err = c.behind(ctx, last)
			}
		}
		if err != nil {
			return err
		}
		for i, version := range some {
			c.report.Versions++
			if records[i] == nil {
				continue // its record was among those read
			}
			for j := range records[i].roots {
				r := &records[i].roots[j]
				c.report.Roots++
				if version == c.state.earliest && r.typ == node.RootTypeState {
					continue // goes with those before it
				}
				if err := c.root(ctx, version, r); err != nil {
					return err
				}
				if err := c.logs(ctx, version, r); err != nil {
					return err
				}
			}
		}
		if len(some) > 0 {
			first = some[len(some)-1] + 1
		}
		if next != nil && isVersionKey(next) {
			first, more = versionOfKey(next), true
		}
	}
	return nil
}

// root checks what a version's root wrote, and that all of it is reached.
func (c *check) root(ctx context.Context, version uint64, r *rootRecord) error {
	t := newTreeCheck(c, version, r)
	if err := t.run(ctx); err != nil {
		return err
	}
	if t.broken { // what hangs below it can't be counted
		return nil
	}
	stored := uint64(0)
	for _, candidate := range r.numbers() {
		n, err := c.stored(ctx, r.typ, version, candidate)
		if err != nil {
			return c.notes(version, err)
		}
		stored += n
	}
	c.unreachable(version, r.typ, stored, t.own)
	return nil
}

// unreachable counts stored nodes that were not reached.
func (c *check) unreachable(version uint64, t node.RootType, stored, reached uint64) {
	if stored > reached {
		c.report.Unreachable += stored - reached
		c.d.log.Warn("nodes are stored that nothing reaches", "version", version, "type", t, "nodes", stored-reached)
	}
}

// numbers are the candidate numbers that a root's nodes are stored under.
func (r *rootRecord) numbers() []uint16 {
	switch {
	case r.bare:
		return nil
	case r.multipart:
		return []uint16{r.candidate, r.candidate | spineBit}
	default:
		return []uint16{r.candidate}
	}
}

// candidates goes through the roots that are not finalized.
func (c *check) candidates(ctx context.Context) error {
	type candidate struct {
		version uint64
		record  *rootRecord
	}
	var all []candidate
	c.d.mu.Lock()
	for version, rs := range c.d.candidates {
		for _, r := range rs {
			all = append(all, candidate{version, r})
		}
	}
	c.d.mu.Unlock()
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.version, b.version), cmp.Compare(a.record.typ, b.record.typ), cmp.Compare(a.record.candidate, b.record.candidate))
	})
	for _, x := range all {
		before := *c.report
		err := c.root(ctx, x.version, x.record)
		if err == nil {
			err = c.logs(ctx, x.version, x.record)
		}
		if err != nil {
			return err
		}
		if c.d.isGone(x.version, x.record) { // it was dropped meanwhile, and nothing is said of it
			*c.report = before
			continue
		}
		c.report.Roots++
	}
	return nil
}

// isGone says whether a candidate is neither one any more nor finalized.
func (d *DB) isGone(version uint64, r *rootRecord) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if slices.Contains(d.candidates[version], r) {
		return false
	}
	v := d.versions[version]
	if v == nil {
		return true
	}
	now := v.root(r.typ)
	return now == nil || now.candidate != r.candidate
}

// old checks the earliest version's state, whole, and that what it and the versions before it wrote is
// reached from it, or due to be freed.
func (c *check) old(ctx context.Context) error {
	s := c.state
	if !s.any {
		return nil
	}
	var v *versionRecord
	w := &collection{d: c.d, part: part{limits: &c.d.limits}}
	err := w.eachVersion(ctx, s.earliest, s.earliest, func(_ kv.Snapshot, _ uint64, r *versionRecord) (bool, error) {
		v = r
		return true, nil
	})
	if err != nil || v == nil {
		return c.notes(s.earliest, err)
	}
	r := v.root(node.RootTypeState)
	if r == nil {
		r = &rootRecord{typ: node.RootTypeState, hash: hash.EmptyHash, bare: true}
	}
	t := newTreeCheck(c, s.earliest, r)
	t.whole = true
	if err := t.run(ctx); err != nil {
		return err
	}
	if err := c.logs(ctx, s.earliest, r); err != nil || t.broken {
		return err
	}
	alone, err := w.lastAlone(ctx, s)
	if err != nil {
		return c.notes(db.UnknownVersion, err)
	}
	stored, err := c.storedBetween(ctx, node.RootTypeState, alone, s.earliest)
	if err != nil {
		return c.notes(db.UnknownVersion, err)
	}
	due, err := c.due(ctx, w, max(alone, s.applied), s.earliest)
	if err != nil {
		return c.notes(db.UnknownVersion, err)
	}
	c.unreachable(s.earliest, node.RootTypeState, stored, t.nodes+due)
	return nil
}
