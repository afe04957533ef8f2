package kvdb

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// Finalize makes roots their version's only ones.
func (d *DB) Finalize(ctx context.Context, roots []node.Root) error {
	if err := d.beginWrite(ctx); err != nil {
		return err
	}
	defer d.end()
	if len(roots) == 0 {
		return fmt.Errorf("%w: no roots to finalize", db.ErrMalformed)
	}
	roots = slices.Clone(roots)
	slices.SortFunc(roots, func(a, b node.Root) int { return cmp.Compare(a.Type, b.Type) })
	for i := range roots {
		switch root := &roots[i]; {
		case root.Namespace != d.info.Namespace:
			return d.checkName(root)
		case !root.Type.IsValid():
			return fmt.Errorf("%w: %s", db.ErrMalformed, root)
		case root.Version != roots[0].Version:
			return fmt.Errorf("%w: roots of versions %d and %d", db.ErrMalformed, roots[0].Version, root.Version)
		case i > 0 && root.Type == roots[i-1].Type:
			return fmt.Errorf("%w: two roots of type %s", db.ErrMalformed, root.Type)
		}
	}
	if err := d.take(ctx, d.turn); err != nil {
		return err
	}
	err := d.finalize(ctx, roots)
	give(d.turn)
	if err != nil {
		return err
	}
	d.tidy(ctx)
	return nil
}

// finalize does what Finalize promises, with the turn. What goes with it is noted as left over.
func (d *DB) finalize(ctx context.Context, roots []node.Root) error {
	version := roots[0].Version
	d.mu.Lock()
	s, ins := d.state, d.insert
	d.mu.Unlock()
	if s.any && version <= s.latest {
		return d.finalizedWith(ctx, s, roots)
	}
	if ins != nil && ins.version < version {
		return fmt.Errorf("%w: of version %d", db.ErrMultipartInProgress, ins.version)
	}
	ends := ins != nil && ins.version == version
	if s.any && version != s.latest+1 && !ends {
		return fmt.Errorf("%w: version %d, the latest is %d", db.ErrVersionNotNext, version, s.latest)
	}
	v := &versionRecord{}
	for i := range roots {
		r, err := d.finalRoot(ctx, s, &roots[i])
		if err != nil {
			return err
		}
		v.roots = append(v.roots, *r)
	}

	next := s
	if next.latest = version; !s.any {
		next = state{any: true, earliest: version, latest: version, first: version, applied: version}
	}
	gone := d.lose(version, v)
	next.clean = d.cleanFrom(version, gone)
	var b kv.Batch
	key := versionKey(version)
	b.Put(key, v.encode(key))
	b.Put(stateKey, next.encode())
	if ends {
		b.Delete(multipartKey)
		gone = append(gone, ins.leftovers(v)...)
	}
	for i := range v.roots {
		if r := &v.roots[i]; !r.bare && !r.multipart {
			b.Delete(prefixKey(kindCandidate, r.typ, node.Address{Version: version, Candidate: r.candidate}))
		}
	}
	if err := d.apply(ctx, &b, true); err != nil {
		return err
	}

	d.mu.Lock()
	defer d.mu.Unlock()
	d.state = next
	d.remember(version, v)
	if ends {
		d.endInsert()
	}
	d.forget(version, gone)
	d.leftovers = append(d.leftovers, gone...)
	return nil
}

// finalizedWith says whether a version is the latest, and has just these roots.
func (d *DB) finalizedWith(ctx context.Context, s state, roots []node.Root) error {
	refused := fmt.Errorf("%w: version %d, the latest is %d", db.ErrAlreadyFinalized, roots[0].Version, s.latest)
	if roots[0].Version != s.latest {
		return refused
	}
	v, err := d.version(ctx, s.latest)
	if err != nil {
		return err
	}
	if v == nil {
		return damaged(s.latest, "latest version's record")
	}
	if !slices.EqualFunc(v.roots, roots, func(r rootRecord, root node.Root) bool {
		return r.typ == root.Type && r.hash == root.Hash
	}) {
		return refused
	}
	return nil
}

// finalRoot returns the record of a root that may be finalized.
func (d *DB) finalRoot(ctx context.Context, s state, root *node.Root) (*rootRecord, error) {
	d.mu.Lock()
	restored, known := d.insert.root(root)
	committed := d.candidate(root.Version, root.Type, root.Hash)
	d.mu.Unlock()
	if committed != nil {
		ok, err := d.parentFinal(ctx, s, root, committed)
		if err != nil {
			return nil, err
		}
		if ok { // also where it was restored, too: later candidates were made from this one
			return committed, nil
		}
	}
	switch {
	case restored != nil:
		return restored, nil
	case root.IsEmpty(): // there is always one, whatever else was made empty
		return &rootRecord{typ: root.Type, hash: root.Hash, parent: hash.EmptyHash, alone: true, bare: true}, nil
	case committed != nil:
		return nil, fmt.Errorf("%w: version %d, which %s was made from", db.ErrNotFinalized, root.Version-1, root)
	case known:
		return nil, fmt.Errorf("%w: %s", db.ErrNotComplete, root)
	}
	return nil, fmt.Errorf("%w: %s", db.ErrRootNotFound, root)
}

// parentFinal says whether what a candidate was made from is finalized, or empty.
func (d *DB) parentFinal(ctx context.Context, s state, root *node.Root, committed *rootRecord) (bool, error) {
	if committed.parent.IsEmpty() {
		return true, nil
	}
	if !s.any || root.Version-1 != s.latest {
		return false, nil
	}
	v, err := d.version(ctx, s.latest)
	if err != nil {
		return false, err
	}
	if v == nil {
		return false, damaged(s.latest, "latest version's record")
	}
	p := v.root(root.Type)
	return p != nil && p.hash == committed.parent, nil
}

// lose returns the candidates that go when a version is finalized: those of this version and of those
// below that are not its roots, and all that descend from one that goes.
func (d *DB) lose(version uint64, v *versionRecord) (gone []leftover) {
	d.mu.Lock()
	defer d.mu.Unlock()
	versions := make([]uint64, 0, len(d.candidates))
	for w := range d.candidates {
		versions = append(versions, w)
	}
	slices.Sort(versions)
	stays := make(map[*rootRecord]bool)
	for _, w := range versions {
		for _, r := range d.candidates[w] {
			switch won := v.root(r.typ); {
			case w < version:
			case w == version:
				if won != nil && won.hash == r.hash && won.candidate == r.candidate && !won.bare && !won.multipart {
					continue
				}
			case r.parent.IsEmpty():
				stays[r] = true
				continue
			case w == version+1:
				// One that was restored has taken the place of what r was made from.
				if stays[r] = won != nil && won.hash == r.parent && !won.multipart; stays[r] {
					continue
				}
			default:
				if p := d.candidate(w-1, r.typ, r.parent); p != nil && stays[p] {
					stays[r] = true
					continue
				}
			}
			gone = append(gone, leftover{kinds: candidateKinds, typ: r.typ, address: node.Address{Version: w, Candidate: r.candidate}})
		}
	}
	return gone
}

// cleanFrom is the version from which on an open has to look for leftovers once version is finalized
// and what has gone with it is not removed yet.
func (d *DB) cleanFrom(version uint64, gone []leftover) uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	for w := range d.writing {
		version = min(version, w.address.Version)
	}
	for _, l := range slices.Concat(gone, d.leftovers, d.dropping) {
		version = min(version, l.address.Version)
	}
	return version
}

// forget drops from memory what has gone with a version's finalization. The caller holds mu.
func (d *DB) forget(version uint64, gone []leftover) {
	for w := range d.candidates {
		if w <= version {
			delete(d.candidates, w)
		}
	}
	for _, l := range gone {
		rs := slices.DeleteFunc(slices.Clone(d.candidates[l.address.Version]), func(r *rootRecord) bool {
			return r.typ == l.typ && r.candidate == l.address.Candidate
		})
		if d.candidates[l.address.Version] = rs; len(rs) == 0 {
			delete(d.candidates, l.address.Version)
		}
	}
	for key := range d.numbers {
		if key.version <= version {
			delete(d.numbers, key)
		}
	}
}
