package kvdb

import (
	"bytes"
	"context"
	"slices"

	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

const (
	// collectPart is the number of bytes that are written at once while garbage lists are applied, so that
	// others get their turn.
	collectPart = 1 << 20
	// collectBlocks is the number of blocks that are looked at under one snapshot, for the same reason.
	collectBlocks = 2048
	// collectVersions is the number of versions whose lists are applied together at most.
	collectVersions = 256
)

// CollectGarbage frees the space of all pruned versions.
func (d *DB) CollectGarbage(ctx context.Context, progress func(done, total int64)) error {
	if err := d.beginWrite(ctx); err != nil {
		return err
	}
	defer d.end()
	return d.collect(ctx, nil, progress)
}

// collect frees what pruned versions took, no faster than pace lets it; both it and progress may be nil.
// It goes in rounds of some versions, in steps that can each be done again, and goes on where it was
// broken off.
func (d *DB) collect(ctx context.Context, pace *pacer, progress func(done, total int64)) error {
	if pace == nil { // somebody waits for it: what goes on in the background makes haste
		defer d.hurry()()
	}
	if err := d.take(ctx, d.pruning); err != nil {
		return err
	}
	defer give(d.pruning)
	s := d.present()
	if !s.any {
		return nil
	}
	c := &collection{d: d, pace: pace, part: part{limits: &d.limits}}
	tell := func() {
		if progress != nil {
			progress(int64(d.present().applied-s.applied), int64(s.earliest-s.applied))
		}
	}
	tell()
	alone, err := c.lastAlone(ctx, s)
	if err != nil {
		return err
	}
	if alone > s.applied { // it shares nothing with those before it, which go unread
		if err := c.dropBelow(ctx, alone); err != nil {
			return err
		}
		tell()
	}
	for applied := max(s.applied, alone); applied < s.earliest; {
		if applied, err = c.round(ctx, applied, s.earliest); err != nil {
			return err
		}
		tell()
	}
	return nil
}

// present returns what is known of the database as a whole.
func (d *DB) present() state {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state
}

// collection is garbage lists being applied.
type collection struct {
	d      *DB
	pace   *pacer
	part   part
	list   deadList
	window window
	// want and deadKey are kept for their memory.
	want, deadKey []byte
}

// lastAlone returns the last of the versions due that shares nothing with older ones; 0 where there is
// none.
func (c *collection) lastAlone(ctx context.Context, s state) (alone uint64, err error) {
	err = c.eachVersion(ctx, s.applied+1, s.earliest, func(_ kv.Snapshot, version uint64, v *versionRecord) (bool, error) {
		if v != nil && v.stateAlone() {
			alone = version
		}
		return true, nil
	})
	return alone, err
}

// eachVersion calls f with the finalized versions from one to another, until it has had enough; with nil
// for one whose record is damaged.
func (c *collection) eachVersion(ctx context.Context, first, last uint64, f func(s kv.Snapshot, version uint64, v *versionRecord) (bool, error)) (err error) {
	s, err := c.d.snapshot(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, storeError(s.Close())) }()
	cur := s.Cursor()
	defer func() { err = errors.Join(err, storeError(cur.Close())) }()
	for ok := cur.Seek(versionKey(first)); ok && isVersionKey(cur.Key()); ok = cur.Next() {
		version := versionOfKey(cur.Key())
		if version > last {
			return nil
		}
		if err := c.d.carryOn(ctx); err != nil {
			return err
		}
		v, err := decodeVersion(cur.Key(), cur.Value(), version)
		if err != nil {
			c.d.log.Warn("a version's record is damaged", "version", version)
			v = nil
		}
		if more, err := f(s, version, v); err != nil || !more {
			return err
		}
	}
	return storeError(cur.Err())
}

// dropBelow removes everything of state roots below a version that shares nothing with older ones.
func (c *collection) dropBelow(ctx context.Context, version uint64) error {
	for _, kind := range nodeKinds {
		from, to := typeKey(kind, node.RootTypeState, 0), typeKey(kind, node.RootTypeState, version)
		if err := c.d.dropRange(ctx, from, to, nil); err != nil {
			return err
		}
	}
	return c.finish(ctx, c.d.present().applied, version)
}

// listRef names a part of a garbage list.
type listRef struct {
	address node.Address
	part    uint32
}

// round applies the lists of some versions after one, up to another at most, and returns the last of
// them: as many as memory allows, or one.
func (c *collection) round(ctx context.Context, after, last uint64) (uint64, error) {
	upTo, refs, err := c.due(ctx, after, last)
	if err != nil {
		return after, err
	}
	for len(refs) > 0 {
		var read []listRef
		if read, refs, err = c.readLists(ctx, refs); err != nil {
			return after, err
		}
		if err := c.applyList(ctx); err != nil {
			return after, err
		}
		// Applied lists go before the rest of a version too large for one go is: it is not begun again.
		for _, ref := range read {
			if err := c.flush(ctx, c.part.full(1, prefixSize+4)); err != nil {
				return after, err
			}
			c.part.batch.Delete(partKey(kindGarbage, node.RootTypeState, ref.address, ref.part))
		}
		if err := c.flush(ctx, true); err != nil {
			return after, err
		}
	}
	return upTo, c.finish(ctx, after, upTo)
}

// due returns the versions of the next round, by the last of them, and their lists.
func (c *collection) due(ctx context.Context, after, last uint64) (upTo uint64, refs []listRef, err error) {
	upTo = last
	versions, size := 0, 0
	err = c.eachVersion(ctx, after+1, last, func(s kv.Snapshot, version uint64, v *versionRecord) (bool, error) {
		var found []listRef
		if v != nil {
			r := v.root(node.RootTypeState)
			for i := range r.garbageParts {
				found = append(found, listRef{node.Address{Version: version, Candidate: r.candidate}, i})
			}
		} else if found, err = c.listsByName(s, version); err != nil {
			return false, err
		}
		for _, ref := range found {
			value, err := getOrNil(s, partKey(kindGarbage, node.RootTypeState, ref.address, ref.part))
			if err != nil {
				return false, err
			}
			size += garbageGrowth * len(value)
		}
		if versions > 0 && (size > c.d.memory || versions == collectVersions) {
			return false, nil
		}
		versions++
		upTo, refs = version, append(refs, found...)
		return true, nil
	})
	if versions == 0 {
		return last, nil, err
	}
	return upTo, refs, err
}

// listsByName finds the garbage list of a version whose record can't be read. Where there are several,
// nobody can tell which one is the finalized root's: none counts, and what they name stays stored.
func (c *collection) listsByName(s kv.Snapshot, version uint64) (refs []listRef, err error) {
	cur := s.Cursor()
	defer func() { err = errors.Join(err, storeError(cur.Close())) }()
	prefix := typeKey(kindGarbage, node.RootTypeState, version)
	for ok := cur.Seek(prefix); ok && bytes.HasPrefix(cur.Key(), prefix); ok = cur.Next() {
		a, rest, ok := addressOfKey(cur.Key())
		part, whole := partOfKey(rest)
		if !ok || !whole {
			continue
		}
		if len(refs) > 0 && refs[0].address != a {
			c.d.log.Warn("a version has several garbage lists and no record: what they name stays stored", "version", version)
			return nil, nil
		}
		refs = append(refs, listRef{a, part})
	}
	return refs, storeError(cur.Err())
}

// garbageGrowth is how many times the bytes of a stored list it takes in memory, about.
const garbageGrowth = 4

// readLists reads lists as far as memory allows, and returns those that it has read and the rest.
func (c *collection) readLists(ctx context.Context, refs []listRef) (read, rest []listRef, err error) {
	s, err := c.d.snapshot(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, storeError(s.Close())) }()
	c.list.reset()
	n := 0
	for n < len(refs) && (n == 0 || c.list.bytes() < c.d.memory/2) {
		ref := refs[n]
		n++
		key := partKey(kindGarbage, node.RootTypeState, ref.address, ref.part)
		value, err := getOrNil(s, key)
		if err != nil {
			return nil, nil, err
		}
		if value == nil {
			continue // it was applied before an earlier attempt was broken off
		}
		if err := c.list.add(key, value, ref.address.Version); err != nil {
			c.d.log.Warn("a garbage list is damaged: what it names stays stored", "version", ref.address.Version)
		}
	}
	c.list.sort()
	return refs[:n], refs[n:], nil
}

// applyList marks what the list names as dead, block by block. What is gathered last is not written yet.
func (c *collection) applyList(ctx context.Context) error {
	for i := 0; i < len(c.list.entries); {
		if err := c.d.carryOn(ctx); err != nil {
			return err
		}
		next, looked, err := c.gather(ctx, i)
		if err != nil {
			return err
		}
		i = next
		written := c.part.batch.Bytes()
		if err := c.flush(ctx, i < len(c.list.entries)); err != nil {
			return err
		}
		if err := c.pace.wait(ctx, looked+written); err != nil {
			return err
		}
	}
	return nil
}

// flush writes what is gathered where now says so.
func (c *collection) flush(ctx context.Context, now bool) error {
	if !now || c.part.batch.Len() == 0 {
		return nil
	}
	return c.d.write(ctx, &c.part, false, nil)
}

// gather gathers what becomes of the blocks that hold the dead entries from i on, as far as one write
// goes. It returns where to go on, and how many bytes it has looked at.
func (c *collection) gather(ctx context.Context, i int) (next, looked int, err error) {
	s, err := c.d.snapshot(ctx)
	if err != nil {
		return i, 0, err
	}
	defer func() { err = errors.Join(err, storeError(s.Close())) }()
	blocks, bitmaps := forward{cursor: s.Cursor()}, forward{cursor: s.Cursor()}
	defer func() { err = errors.Join(err, storeError(blocks.cursor.Close()), storeError(bitmaps.cursor.Close())) }()
	defer c.settle() // no window outlives its snapshot
	for n := 0; n < collectBlocks; n++ {
		var found bool
		if c.window.wants() {
			// Its neighbour is looked at next, whether or not the list names anything in it.
			if found, err = blocks.next(); err != nil {
				return i, looked, err
			}
			if !found || !bytes.HasPrefix(blocks.cursor.Key(), c.window.prefix()) {
				c.settle()
				continue
			}
		} else {
			c.settle()
			if i == len(c.list.entries) {
				return i, looked, nil
			}
			a, p := c.list.at(i)
			c.want = append(appendPrefix(c.want[:0], kindBlock, node.RootTypeState, a), p...)
			if found, err = blocks.to(c.want); err != nil {
				return i, looked, err
			}
			if !found {
				return len(c.list.entries), looked, nil // nothing that is asked for is there
			}
			if !bytes.HasPrefix(blocks.cursor.Key(), c.want[:prefixSize]) {
				i++
				continue
			}
		}
		key, value := blocks.cursor.Key(), blocks.cursor.Value()
		if ops, bytes := c.window.cost(key, value); !c.part.takes(ops, bytes) || c.part.batch.Bytes() >= collectPart {
			if c.settle(); c.part.batch.Len() > 0 {
				return i, looked, nil
			}
		}
		looked += len(value)
		c.deadKey = append(c.deadKey[:0], key...)
		c.deadKey[0] = key[0] - kindBlock + kindDead
		var stored []byte
		if found, err = bitmaps.to(c.deadKey); err != nil {
			return i, looked, err
		} else if found && bytes.Equal(bitmaps.cursor.Key(), c.deadKey) {
			stored = bitmaps.cursor.Value()
		}
		a, _, _ := addressOfKey(key)
		end := c.list.upTo(i, a, node.Position(key[prefixSize:]))
		c.shrink(key, value, c.deadKey, stored, i, end)
		i = end
	}
	return i, looked, nil
}

// forward is a cursor that is only ever moved forward.
type forward struct {
	cursor kv.Cursor
	stands bool
	ended  bool
}

// next moves to the next key, from one that it stands on, and says whether there is one.
func (f *forward) next() (bool, error) {
	f.stands = f.cursor.Next()
	f.ended = !f.stands
	return f.stands, storeError(f.cursor.Err())
}

// to moves to the first key ≥ key and says whether there is one. Most often that is the very next.
func (f *forward) to(key []byte) (bool, error) {
	if f.ended {
		return false, nil
	}
	if f.stands && bytes.Compare(f.cursor.Key(), key) >= 0 {
		return true, nil
	}
	f.stands = f.stands && f.cursor.Next() && bytes.Compare(f.cursor.Key(), key) >= 0
	if !f.stands {
		if err := f.cursor.Err(); err != nil {
			return false, storeError(err)
		}
		if f.stands = f.cursor.Seek(key); !f.stands {
			f.ended = true
			return false, storeError(f.cursor.Err())
		}
	}
	return true, nil
}

// finish removes what versions from one up to, not including, another have beside nodes that later ones
// may share, and says that it is done.
func (c *collection) finish(ctx context.Context, from, to uint64) error {
	d := c.d
	if err := d.dropStray(ctx, to); err != nil {
		return err
	}
	type span struct{ from, to []byte }
	var spans []span
	for _, kind := range nodeKinds { // all that is of one version only
		spans = append(spans, span{typeKey(kind, node.RootTypeIO, from), typeKey(kind, node.RootTypeIO, to)})
	}
	spans = append(spans,
		span{typeKey(kindWriteLog, node.RootTypeState, from), typeKey(kindWriteLog, node.RootTypeState, to)},
		span{typeKey(kindGarbage, node.RootTypeState, from), typeKey(kindGarbage, node.RootTypeState, to+1)},
		span{versionKey(from), versionKey(to)},
	)
	for _, s := range spans {
		for s.from != nil {
			if err := d.carryOn(ctx); err != nil {
				return err
			}
			next, err := d.gatherKeys(ctx, &c.part, s.from, s.to)
			if err != nil {
				return err
			}
			if err := c.flush(ctx, next != nil); err != nil {
				return err
			}
			s.from = next
		}
	}
	if err := c.flush(ctx, c.part.full(1, 128)); err != nil {
		return err
	}
	if err := d.take(ctx, d.turn); err != nil {
		return err
	}
	defer give(d.turn)
	next := d.present()
	next.applied = to
	c.part.batch.Put(stateKey, next.encode())
	if err := d.apply(ctx, &c.part.batch, false); err != nil {
		return err
	}
	c.part.reset()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.state = next
	return nil
}

// dropStray removes what belongs to no root of the pruned versions below one: what unfinished batches have
// stored, and leftovers that could not be removed before. Once the records of these versions are gone, no
// open can tell it from what later versions share. Nothing is added to it: the versions are finalized.
func (d *DB) dropStray(ctx context.Context, below uint64) error {
	d.mu.Lock()
	strays := slices.Concat(d.leftovers, d.dropping)
	for w := range d.writing {
		strays = append(strays, leftover{kinds: candidateKinds, typ: w.typ, address: w.address})
	}
	d.mu.Unlock()
	for _, l := range strays {
		if l.address.Version >= below {
			continue
		}
		if err := d.drop(ctx, l); err != nil {
			return err
		}
	}
	return nil
}

// getOrNil is Get, with nil for a key that is not there.
func getOrNil(s kv.Snapshot, key []byte) ([]byte, error) {
	v, err := s.Get(key)
	if errors.Is(err, kv.ErrNotFound) {
		return nil, nil
	}
	if err == nil && v == nil {
		v = []byte{}
	}
	return v, storeError(err)
}
