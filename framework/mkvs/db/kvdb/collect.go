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
	// collectBytes is the size of garbage lists that are applied together.
	collectBytes = 16 << 20
	// collectPart is the number of bytes that are written at once while garbage lists are applied, so that
	// others get their turn.
	collectPart = 1 << 20
)

// collect frees what pruned versions took, once at least so many versions wait for it. It is done in
// steps, each of which can be done again, and goes on where it was broken off.
func (d *DB) collect(ctx context.Context, atLeast uint64) error {
	d.mu.Lock()
	s := d.state
	d.mu.Unlock()
	if !s.any || s.applied == s.earliest || s.earliest-s.applied < atLeast {
		return nil
	}
	if err := d.take(ctx, d.pruning); err != nil {
		return err
	}
	defer give(d.pruning)
	d.mu.Lock()
	s = d.state
	d.mu.Unlock()

	lists, alone, err := d.due(ctx, s)
	if err != nil {
		return err
	}
	if alone != nil { // it shares nothing with older versions
		for _, kind := range nodeKinds {
			if err := d.dropRange(ctx, typeKey(kind, node.RootTypeState, 0), typeKey(kind, node.RootTypeState, *alone), nil); err != nil {
				return err
			}
		}
	}
	for len(lists) > 0 {
		if lists, err = d.applyLists(ctx, lists); err != nil {
			return err
		}
	}
	return d.finishCollect(ctx, s)
}

// due returns the garbage lists to apply, and the latest version due that shares nothing with older
// ones, nil where there is none.
func (d *DB) due(ctx context.Context, s state) (lists []listRef, alone *uint64, err error) {
	snap, err := d.snapshot(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, storeError(snap.Close())) }()
	c := snap.Cursor()
	defer func() { err = errors.Join(err, storeError(c.Close())) }()
	for ok := s.applied < s.earliest && c.Seek(versionKey(s.applied+1)); ok; ok = c.Next() {
		if !isVersionKey(c.Key()) {
			break
		}
		version := versionOfKey(c.Key())
		if version > s.earliest {
			break
		}
		v, err := decodeVersion(c.Key(), c.Value(), version)
		if err != nil {
			return nil, nil, err
		}
		if v.stateAlone() {
			lists, alone = nil, &version
			continue
		}
		r := v.root(node.RootTypeState)
		for i := range r.garbageParts {
			lists = append(lists, listRef{node.Address{Version: version, Candidate: r.candidate}, i})
		}
	}
	return lists, alone, storeError(c.Err())
}

// listRef names a part of a garbage list.
type listRef struct {
	address node.Address
	part    uint32
}

// applyLists applies as many lists as memory allows and returns the rest.
func (d *DB) applyLists(ctx context.Context, lists []listRef) ([]listRef, error) {
	all, rest, err := d.readLists(ctx, lists)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, compareDead)
	p := &part{limits: &d.limits}
	for len(all) > 0 {
		if err := d.carryOn(ctx); err != nil {
			return nil, err
		}
		if all, err = d.markDead(ctx, p, all); err != nil {
			return nil, err
		}
		if p.batch.Len() > 0 {
			if err := d.write(ctx, p, false, nil); err != nil {
				return nil, err
			}
		}
	}
	return rest, nil
}

func (d *DB) readLists(ctx context.Context, lists []listRef) (all []dead, rest []listRef, err error) {
	s, err := d.snapshot(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, storeError(s.Close())) }()
	for size := 0; len(lists) > 0 && size < collectBytes; lists = lists[1:] {
		ref := lists[0]
		key := partKey(kindGarbage, node.RootTypeState, ref.address, ref.part)
		value, err := getOrNil(s, key)
		if err != nil {
			return nil, nil, err
		}
		if value == nil {
			continue // a later step of an earlier attempt has removed it
		}
		before := len(all)
		if all, err = appendDead(all, key, value, ref.address.Version); err != nil {
			d.log.Warn("a garbage list is damaged: what it names stays stored", "version", ref.address.Version)
		}
		for _, g := range all[before:] {
			size += 48 + len(g.position)
		}
	}
	return all, lists, nil
}

// markDead gathers what becomes of the blocks that hold the first of the dead entries, and returns the
// rest.
func (d *DB) markDead(ctx context.Context, p *part, all []dead) (rest []dead, err error) {
	s, err := d.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, storeError(s.Close())) }()
	c := s.Cursor()
	defer func() { err = errors.Join(err, storeError(c.Close())) }()
	for len(all) > 0 {
		first := &all[0]
		want := nodeKey(kindBlock, node.RootTypeState, first.address, first.position)
		if !c.Seek(want) {
			if err := c.Err(); err != nil {
				return nil, storeError(err)
			}
			return nil, nil // nothing that is asked for is there
		}
		key := c.Key()
		if !bytes.HasPrefix(key, want[:prefixSize]) {
			all = all[1:]
			continue
		}
		last := node.Position(key[prefixSize:])
		n := 1
		for n < len(all) && all[n].address == first.address && all[n].position.Compare(last) <= 0 {
			n++
		}
		value := c.Value()
		if p.full(2, 2*len(key)+len(value)) || p.batch.Bytes() >= collectPart {
			return all, nil
		}
		if err := d.shrink(s, p, key, value, all[:n]); err != nil {
			return nil, err
		}
		all = all[n:]
	}
	return nil, nil
}

// shrink gathers what becomes of a block with some more dead entries: it goes, it is written again
// without them, or they are kept count of.
func (d *DB) shrink(s kv.Snapshot, p *part, key, value []byte, gone []dead) error {
	b, reason := openBlock(key, value)
	if reason != "" {
		d.log.Warn("a block is damaged: its space stays taken", "key", key, "reason", reason)
		return nil
	}
	deadKey := p.arena.copy(key)
	deadKey[0] = key[0] - kindBlock + kindDead
	stored, err := getOrNil(s, deadKey)
	if err != nil {
		return err
	}
	slots := d.deadSlots(&b, deadKey, stored)
	for i := range gone {
		slot, found, damaged := b.find(gone[i].position)
		if damaged {
			d.log.Warn("a block is damaged: its space stays taken", "key", key)
			return nil
		}
		if found { // it is not where this is done again
			slots[slot/8] |= 1 << (slot % 8)
		}
	}
	var live []entry
	total, kept := 0, 0
	for i := range b.n {
		suffix, record, ok := b.entry(i)
		if !ok {
			d.log.Warn("a block is damaged: its space stays taken", "key", key)
			return nil
		}
		total += len(suffix) + len(record)
		if slots[i/8]&(1<<(i%8)) == 0 {
			kept += len(suffix) + len(record)
			live = append(live, entry{slices.Concat(b.shared, suffix), record})
		}
	}
	blockKey := p.arena.copy(key)
	switch {
	case len(live) == 0:
		p.batch.Delete(blockKey)
		p.batch.Delete(deadKey)
	case kept*2 <= total:
		block := p.arena.keep(appendBlock(p.arena.grow(blockRoom(live)), key, live, len(b.shared), b.generation+1))
		p.batch.Put(blockKey, block)
		p.batch.Delete(deadKey)
	default:
		v := append(p.arena.grow(1+len(slots)+crcSize), b.generation)
		v = p.arena.keep(seal(deadKey, append(v, slots...)))
		if !bytes.Equal(v, stored) {
			p.batch.Put(deadKey, v)
		}
	}
	return nil
}

// deadSlots returns a copy of the stored bitmap of a block's dead slots; an empty one where there is
// none for this generation of the block.
func (d *DB) deadSlots(b *block, key, stored []byte) []byte {
	slots := make([]byte, (b.n+7)/8)
	if stored == nil {
		return slots
	}
	f, ok := unseal(key, stored)
	if generation := f.byte(); !ok || generation != b.generation || len(f.b) != len(slots) {
		d.log.Warn("a count of dead entries is damaged: their space stays taken", "key", key)
		return slots
	}
	copy(slots, f.b)
	return slots
}

// finishCollect removes what pruned versions have beside nodes, and says that it is done.
func (d *DB) finishCollect(ctx context.Context, s state) error {
	for _, kind := range nodeKinds { // all that is of one version only
		from, to := typeKey(kind, node.RootTypeIO, s.applied), typeKey(kind, node.RootTypeIO, s.earliest)
		if err := d.dropRange(ctx, from, to, nil); err != nil {
			return err
		}
	}
	for _, r := range []struct {
		kind byte
		to   uint64
	}{{kindWriteLog, s.earliest}, {kindGarbage, s.earliest + 1}} {
		from, to := typeKey(r.kind, node.RootTypeState, s.applied), typeKey(r.kind, node.RootTypeState, r.to)
		if err := d.dropRange(ctx, from, to, nil); err != nil {
			return err
		}
	}
	if err := d.dropRange(ctx, versionKey(s.applied), versionKey(s.earliest), nil); err != nil {
		return err
	}
	if err := d.take(ctx, d.turn); err != nil {
		return err
	}
	defer give(d.turn)
	d.mu.Lock()
	next := d.state
	d.mu.Unlock()
	next.applied = s.earliest
	var b kv.Batch
	b.Put(stateKey, next.encode())
	if err := d.apply(ctx, &b, false); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.state = next
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
