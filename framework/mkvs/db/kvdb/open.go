package kvdb

import (
	"context"
	"fmt"

	"github.com/hashicorp/go-hclog"

	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// Open makes a node database of a store. It takes the store over: the store is closed when Open fails
// and with the database. Only cfg's Namespace, ReadOnly, limits, DiscardWriteLogs, Migrate,
// GarbageRate, MemoryBytes and Logger are looked at. An empty store becomes a database of cfg.Namespace; one that holds anything else is refused with
// db.ErrForeign, db.ErrFormatVersion or db.ErrBadNamespace. What unfinished work has left behind is
// removed, and what was begun and has to be finished is carried on, unless the database is opened for
// reading only.
func Open(ctx context.Context, store kv.Store, cfg *db.Config, opts Options) (db.NodeDB, error) {
	d := newDB(store, cfg, opts)
	if err := d.open(ctx); err != nil {
		d.stop()
		return nil, errors.Join(err, store.Close())
	}
	d.startCollecting()
	return d, nil
}

func newDB(store kv.Store, cfg *db.Config, opts Options) *DB {
	d := &DB{
		store:     store,
		log:       cfg.Logger,
		limits:    newLimits(store.Limits()),
		keepLogs:  !cfg.DiscardWriteLogs,
		migrating: cfg.Migrate,
		wake:      make(chan struct{}, 1),
		nudge:     make(chan struct{}, 1),

		garbageRate: cfg.GarbageRate,
		memory:      int(cfg.MemoryBytes),

		turn:       make(chan struct{}, 1),
		pruning:    make(chan struct{}, 1),
		completing: make(chan struct{}, 1),
		idle:       make(chan struct{}),
		candidates: make(map[uint64][]*rootRecord),
		numbers:    make(map[slot]uint16),
		versions:   make(map[uint64]*versionRecord),
		writing:    make(map[owner]struct{}),
		pins:       make(map[*pin]struct{}),
	}
	d.life, d.stop = context.WithCancel(context.Background())
	if d.log == nil {
		d.log = hclog.NewNullLogger()
	}
	if d.garbageRate == 0 {
		d.garbageRate = db.DefaultGarbageRate
	}
	if d.memory == 0 {
		d.memory = db.DefaultMemoryBytes
	}
	if n := d.limits.Readers; n > 0 {
		d.readers = make(chan struct{}, n)
	}
	d.info = db.Info{
		Backend:        opts.Backend,
		BackendVersion: opts.BackendVersion,
		Namespace:      cfg.Namespace,
		MaxKeyBytes:    min(orDefault(cfg.MaxKeyBytes, db.DefaultMaxKeyBytes), d.limits.keyBytes()),
		MaxValueBytes:  min(orDefault(cfg.MaxValueBytes, db.DefaultMaxValueBytes), d.limits.valueBytes()),
		EmbedBytes:     db.DefaultEmbedBytes,
		Amplification:  d.limits.Amplification,
		Capabilities: db.Capabilities{
			Durable:   d.limits.Durable,
			ReadOnly:  cfg.ReadOnly,
			WriteLogs: d.keepLogs,
			Compact:   opts.Compact,
			// Every value has a checksum over key and value; that none is missing is the store's to know.
			Integrity: d.limits.Integrity,
		},
	}
	return d
}

func orDefault(n, otherwise int) int {
	if n <= 0 {
		return otherwise
	}
	return n
}

func (d *DB) open(ctx context.Context) error {
	if d.info.MaxKeyBytes <= 0 || d.info.MaxValueBytes <= 0 || d.limits.ops < leastBatchOps {
		return fmt.Errorf("%w: the store's limits %+v leave no room for a node or a version", db.ErrLimitExceeded, d.limits.Limits)
	}
	if d.memory < db.MinMemoryBytes {
		return fmt.Errorf("%w: MemoryBytes is %d, at least %d are needed", db.ErrBadSettings, d.memory, db.MinMemoryBytes)
	}
	if err := d.checkFormat(ctx); err != nil {
		return err
	}
	found, err := d.load(ctx)
	if err != nil {
		return err
	}
	if d.info.Capabilities.ReadOnly {
		d.leftovers = found.leftovers // known, and left alone
		return nil
	}
	if !found.stamped {
		var b kv.Batch
		b.Put(stampKey, encodeStamp(d.info.Namespace))
		if err := d.apply(ctx, &b, true); err != nil {
			return fmt.Errorf("kvdb: making a new database: %w", err)
		}
		return nil
	}
	for _, l := range found.leftovers {
		d.log.Debug("removing what unfinished work left behind", "type", l.typ, "address", l.address)
		if err := d.drop(ctx, l); err != nil {
			return fmt.Errorf("kvdb: removing what unfinished work left behind: %w", err)
		}
	}
	return nil
}

// found is what Open finds beside what counts.
type found struct {
	stamped   bool
	leftovers []leftover
}

// load reads what counts into memory, and finds out what doesn't.
func (d *DB) load(ctx context.Context) (f found, err error) {
	s, err := d.snapshot(ctx)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, storeError(s.Close())) }()
	c := s.Cursor()
	defer func() { err = errors.Join(err, storeError(c.Close())) }()
	if !c.Seek(stampKey) {
		return f, storeError(c.Err()) // a new database
	}
	f.stamped = true
	value, err := s.Get(stateKey)
	switch {
	case err == nil:
		if d.state, err = decodeState(value); err != nil {
			return f, err
		}
	case !errors.Is(err, kv.ErrNotFound):
		return f, storeError(err)
	}
	if err := d.loadInsert(s, c); err != nil {
		return f, err
	}
	if err := d.loadCandidates(s, c, &f); err != nil {
		return f, err
	}
	return f, d.findLeftovers(s, c, &f)
}

// loadCandidates reads the candidates that count: those of later versions than the latest whose
// parents count.
func (d *DB) loadCandidates(s kv.Snapshot, c kv.Cursor, f *found) error {
	for t := node.RootTypeState; t <= node.RootTypeMax; t++ {
		end := successor([]byte{kindCandidate | byte(t)})
		for ok := c.Seek([]byte{kindCandidate | byte(t)}); ok && string(c.Key()) < string(end); ok = c.Next() {
			a, rest, ok := addressOfKey(c.Key())
			if !ok || len(rest) != 0 {
				return damaged(versionIn(c.Key()), "candidate's key")
			}
			r, err := decodeCandidate(c.Key(), c.Value(), a.Version)
			if err != nil {
				return err
			}
			if r.typ != t || r.candidate != a.Candidate {
				return damaged(a.Version, "candidate's record")
			}
			counts, err := d.counts(s, a.Version, &r)
			if err != nil {
				return err
			}
			if !counts {
				// Not a finalized root's: that goes in the write that finalizes it.
				f.leftovers = append(f.leftovers, leftover{kinds: candidateKinds, typ: t, address: a})
				continue
			}
			d.candidates[a.Version] = append(d.candidates[a.Version], &r)
			d.taken(a.Version, t, a.Candidate)
		}
		if err := c.Err(); err != nil {
			return storeError(err)
		}
	}
	return nil
}

// taken notes that a candidate number is in use.
func (d *DB) taken(version uint64, t node.RootType, candidate uint16) {
	key := slot{version, t}
	d.numbers[key] = max(d.numbers[key], candidate+1)
}

// counts says whether a candidate can still be finalized some time: its version is above the latest,
// and so is, or finalized, what it was made from. Candidates are asked for by ascending version.
func (d *DB) counts(s kv.Snapshot, version uint64, r *rootRecord) (bool, error) {
	if d.state.any && version <= d.state.latest {
		return false, nil
	}
	if r.parent.IsEmpty() {
		return true, nil
	}
	if !d.state.any || version-1 > d.state.latest {
		return d.candidate(version-1, r.typ, r.parent) != nil, nil
	}
	v, err := d.readVersion(s, version-1)
	if errors.Is(err, db.ErrCorrupted) {
		return true, nil // finalizing it will say that the latest version is damaged
	}
	if err != nil || v == nil {
		return false, err
	}
	p := v.root(r.typ)
	return p != nil && p.hash == r.parent, nil
}

// owned says whether what is stored under an address belongs to something that counts, or may do so.
func (d *DB) owned(s kv.Snapshot, t node.RootType, a node.Address) (bool, error) {
	if !d.state.any || a.Version > d.state.latest {
		for _, r := range d.candidates[a.Version] {
			if r.typ == t && r.owns(a.Candidate) {
				return true, nil
			}
		}
		return d.insert != nil && d.insert.owns(t, a), nil
	}
	isPruned := a.Version < d.state.earliest && a.Version >= d.state.first
	if isPruned && a.Version < d.state.applied {
		return true, nil // later versions may share it, and the record that told is gone
	}
	v, err := d.readVersion(s, a.Version)
	if errors.Is(err, db.ErrCorrupted) {
		d.log.Warn("a version's record is damaged: everything that may be its own is kept", "version", a.Version)
		return true, nil
	}
	if err != nil || v == nil {
		return isPruned, err // the record may have gone just before what says so could be written
	}
	r := v.root(t)
	return r != nil && r.owns(a.Candidate), nil
}

// findLeftovers looks for nodes that belong to nothing that counts, and for parts of multipart inserts
// that are not open any more.
func (d *DB) findLeftovers(s kv.Snapshot, c kv.Cursor, f *found) error {
	for t := node.RootTypeState; t <= node.RootTypeMax; t++ {
		for _, kind := range nodeKinds {
			if err := d.findLeftoversOf(s, c, kind, t, d.state.clean, f, d.owned); err != nil {
				return err
			}
		}
		inInsert := func(_ kv.Snapshot, t node.RootType, a node.Address) (bool, error) {
			return d.insert != nil && d.insert.owns(t, a), nil
		}
		for _, kind := range insertKinds {
			if err := d.findLeftoversOf(s, c, kind, t, 0, f, inInsert); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *DB) findLeftoversOf(s kv.Snapshot, c kv.Cursor, kind byte, t node.RootType, from uint64, f *found,
	owned func(kv.Snapshot, node.RootType, node.Address) (bool, error),
) error {
	end := successor([]byte{kind | byte(t)})
	for key := typeKey(kind, t, from); c.Seek(key) && string(c.Key()) < string(end); {
		a, _, ok := addressOfKey(c.Key())
		if !ok {
			return damaged(versionIn(c.Key()), fmt.Sprintf("key %.64x", c.Key()))
		}
		keep, err := owned(s, t, a)
		if err != nil {
			return err
		}
		if !keep {
			f.leftovers = append(f.leftovers, leftover{kinds: []byte{kind}, typ: t, address: a})
		}
		key = successor(prefixKey(kind, t, a))
	}
	return storeError(c.Err())
}
