package kvdb

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// GetLatestVersion returns the latest finalized version, and whether there is any.
func (d *DB) GetLatestVersion(ctx context.Context) (uint64, bool, error) {
	s, err := d.currentState(ctx)
	return s.latest, s.any, err
}

// GetEarliestVersion returns the earliest finalized version, and whether there is any.
func (d *DB) GetEarliestVersion(ctx context.Context) (uint64, bool, error) {
	s, err := d.currentState(ctx)
	return s.earliest, s.any, err
}

func (d *DB) currentState(ctx context.Context) (state, error) {
	if err := d.begin(ctx); err != nil {
		return state{}, err
	}
	defer d.end()
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state, nil
}

// GetRootsForVersion returns the roots of a version, sorted by type and hash.
func (d *DB) GetRootsForVersion(ctx context.Context, version uint64) ([]node.Root, error) {
	if err := d.begin(ctx); err != nil {
		return nil, err
	}
	defer d.end()
	d.mu.Lock()
	s := d.state
	candidates := slices.Clone(d.candidates[version])
	d.mu.Unlock()
	var roots []node.Root
	if s.any && version < s.earliest {
		return nil, pruned(version, s.earliest)
	}
	if !s.any || version > s.latest {
		for _, r := range candidates {
			roots = append(roots, d.nameOf(version, r))
		}
	} else {
		v, err := d.version(ctx, version)
		if err != nil {
			return nil, err
		}
		if v == nil {
			return nil, d.prunedMeanwhile(version)
		}
		for i := range v.roots {
			roots = append(roots, d.nameOf(version, &v.roots[i]))
		}
	}
	slices.SortFunc(roots, func(a, b node.Root) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), bytes.Compare(a.Hash[:], b.Hash[:]))
	})
	return roots, nil
}

func (d *DB) nameOf(version uint64, r *rootRecord) node.Root {
	return node.Root{Namespace: d.info.Namespace, Version: version, Type: r.typ, Hash: r.hash}
}

// HasRoot says whether a root is there.
func (d *DB) HasRoot(ctx context.Context, root node.Root) (bool, error) {
	if err := d.begin(ctx); err != nil {
		return false, err
	}
	defer d.end()
	_, err := d.lookup(ctx, root)
	if errors.Is(err, db.ErrRootNotFound) {
		return false, nil
	}
	return err == nil, err
}

// RootAddress returns the address of a root's node.
func (d *DB) RootAddress(ctx context.Context, root node.Root) (node.Address, error) {
	if err := d.begin(ctx); err != nil {
		return node.Address{}, err
	}
	defer d.end()
	r, err := d.lookup(ctx, root)
	if err != nil || r.isEmpty() {
		return node.Address{}, err
	}
	return r.address, nil
}

// pruned is the error for what belongs to a version below the earliest.
func pruned(version, earliest uint64) error {
	return fmt.Errorf("%w: version %d, the earliest is %d", db.ErrVersionPruned, version, earliest)
}

// prunedMeanwhile is the error for a version that was there at a first look, and has been pruned since.
func (d *DB) prunedMeanwhile(version uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state.any && version < d.state.earliest {
		return pruned(version, d.state.earliest)
	}
	return nil
}

// checkName refuses a root that can't be one of this database.
func (d *DB) checkName(root *node.Root) error {
	if root.Namespace != d.info.Namespace {
		return fmt.Errorf("%w: root of %s, database of %s", db.ErrBadNamespace, root.Namespace, d.info.Namespace)
	}
	return nil
}

// lookup returns what is known of a root that can be read; for an empty root that was not committed,
// a record that is not stored. The caller has no snapshot open.
func (d *DB) lookup(ctx context.Context, root node.Root) (*rootRecord, error) {
	return d.lookupBy(root, func(version uint64) (*versionRecord, error) { return d.version(ctx, version) })
}

// lookupIn is lookup for a caller that has a snapshot open.
func (d *DB) lookupIn(s kv.Snapshot, root node.Root) (*rootRecord, error) {
	return d.lookupBy(root, func(version uint64) (*versionRecord, error) {
		if v := d.remembered(version); v != nil {
			return v, nil
		}
		return d.readVersion(s, version)
	})
}

func (d *DB) lookupBy(root node.Root, readVersion func(version uint64) (*versionRecord, error)) (*rootRecord, error) {
	if err := d.checkName(&root); err != nil {
		return nil, err
	}
	d.mu.Lock()
	s := d.state
	r := d.candidate(root.Version, root.Type, root.Hash)
	d.mu.Unlock()
	switch {
	case s.any && root.Version < s.earliest:
		return nil, pruned(root.Version, s.earliest)
	case !root.Type.IsValid():
	case s.any && root.Version <= s.latest:
		v, err := readVersion(root.Version)
		if err != nil {
			return nil, err
		}
		if v != nil {
			if r := v.root(root.Type); r != nil && r.hash == root.Hash {
				return r, nil
			}
		}
	case r != nil:
		return r, nil
	}
	if err := d.prunedMeanwhile(root.Version); err != nil {
		return nil, err
	}
	if root.Type.IsValid() && root.IsEmpty() {
		return &rootRecord{typ: root.Type, hash: root.Hash, parent: hash.EmptyHash, bare: true, alone: true}, nil
	}
	return nil, fmt.Errorf("%w: %s", db.ErrRootNotFound, root)
}

// candidate returns a root that is committed and not finalized; nil where there is none. The caller
// holds mu, or is Open.
func (d *DB) candidate(version uint64, t node.RootType, h hash.Hash) *rootRecord {
	for _, r := range d.candidates[version] {
		if r.typ == t && r.hash == h {
			return r
		}
	}
	return nil
}

// version returns the record of a version that is finalized; nil where it is not there.
func (d *DB) version(ctx context.Context, version uint64) (_ *versionRecord, err error) {
	if v := d.remembered(version); v != nil {
		return v, nil
	}
	s, err := d.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, storeError(s.Close())) }()
	v, err := d.readVersion(s, version)
	if v != nil {
		d.mu.Lock()
		d.remember(version, v)
		d.mu.Unlock()
	}
	return v, err
}

// remembered returns a version's record where memory has it.
func (d *DB) remembered(version uint64) *versionRecord {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.versions[version]
}

// readVersion is version, from a snapshot.
func (d *DB) readVersion(s kv.Snapshot, version uint64) (*versionRecord, error) {
	key := versionKey(version)
	value, err := s.Get(key)
	if errors.Is(err, kv.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, storeError(err)
	}
	return decodeVersion(key, value, version)
}

// remember keeps a version's record. The caller holds mu.
func (d *DB) remember(version uint64, v *versionRecord) {
	if len(d.versions) >= cachedVersions {
		for other := range d.versions { // any: which does not matter much
			delete(d.versions, other)
			break
		}
	}
	d.versions[version] = v
}
