package kvdb

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/writelog"
)

// batch is a candidate in the making.
type batch struct {
	d       *DB
	oldRoot node.Root
	old     *rootRecord
	typ     node.RootType
	address node.Address

	*workspace
	// root is the record of the entry at the root's position, nil while there is none.
	root []byte
	// written says that something is stored.
	written bool
	done    bool
}

// workspace is what a batch gathers. The next batch uses its memory again.
type workspace struct {
	runs    runs
	out     part
	garbage garbageWriter
	log     logWriter
}

var spareWorkspaces = sync.Pool{New: func() any { return new(workspace) }}

// giveUp empties what was gathered and leaves the memory to others.
func (w *workspace) giveUp() {
	w.runs.reset()
	w.out.reset()
	w.out.limits = nil
	w.garbage.reset()
	w.log = logWriter{}
	spareWorkspaces.Put(w)
}

// NewBatch begins a candidate root.
func (d *DB) NewBatch(ctx context.Context, oldRoot node.Root, version uint64) (db.Batch, error) {
	if err := d.beginWrite(ctx); err != nil {
		return nil, err
	}
	defer d.end()
	if err := d.checkName(&oldRoot); err != nil {
		return nil, err
	}
	if !oldRoot.Type.IsValid() {
		return nil, fmt.Errorf("%w: %s", db.ErrMalformed, oldRoot.Type)
	}
	d.mu.Lock()
	err := d.notFinalized(version)
	d.mu.Unlock()
	if err != nil {
		return nil, err
	}
	follows := node.Root{Namespace: oldRoot.Namespace, Version: version, Type: oldRoot.Type}
	old := &rootRecord{typ: oldRoot.Type, hash: hash.EmptyHash}
	switch {
	case !follows.Follows(&oldRoot):
		return nil, notFollowing(version, &oldRoot, "it is not of the version before")
	case oldRoot.IsEmpty():
	case oldRoot.Version == version:
		return nil, notFollowing(version, &oldRoot, "it is of the same version")
	case oldRoot.Type == node.RootTypeIO:
		return nil, notFollowing(version, &oldRoot, "roots of this type begin empty")
	default:
		if old, err = d.lookup(ctx, oldRoot); err != nil {
			if errors.Is(err, db.ErrRootNotFound) || errors.Is(err, db.ErrVersionPruned) {
				return nil, notFollowing(version, &oldRoot, "it is not there")
			}
			return nil, err
		}
	}
	candidate, err := d.number(version, oldRoot.Type)
	if err != nil {
		return nil, err
	}
	b := &batch{
		d: d, oldRoot: oldRoot, old: old, typ: oldRoot.Type,
		address:   node.Address{Version: version, Candidate: candidate},
		workspace: spareWorkspaces.Get().(*workspace),
	}
	b.out.limits, b.garbage.version = &d.limits, version
	return b, nil
}

// notFinalized refuses a version that is finalized, or below one that is. The caller holds mu.
func (d *DB) notFinalized(version uint64) error {
	if d.state.any && version <= d.state.latest {
		return fmt.Errorf("%w: version %d, the latest is %d", db.ErrAlreadyFinalized, version, d.state.latest)
	}
	return nil
}

func notFollowing(version uint64, old *node.Root, why string) error {
	return fmt.Errorf("%w: version %d from %s: %s", db.ErrRootMustFollowOld, version, old, why)
}

// number takes the next candidate number of a version that is not finalized.
func (d *DB) number(version uint64, t node.RootType) (uint16, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.notFinalized(version); err != nil { // it may be by now, and numbers would begin anew
		return 0, err
	}
	key := slot{version, t}
	n := d.numbers[key]
	if n >= spineBit {
		return 0, fmt.Errorf("%w: version %d has had %d candidates", db.ErrLimitExceeded, version, spineBit)
	}
	d.numbers[key] = n + 1
	d.writing[owner{t, node.Address{Version: version, Candidate: n}}] = struct{}{}
	return n, nil
}

// finish ends the batch. Its number is used again where nothing was stored under it.
func (b *batch) finish() {
	b.done = true
	d := b.d
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.writing, owner{b.typ, b.address})
	if key := (slot{b.address.Version, b.typ}); !b.written && d.numbers[key] == b.address.Candidate+1 {
		d.numbers[key]--
	}
	b.workspace.giveUp()
	b.workspace = nil
}

// Address is what the batch's entries are stored under.
func (b *batch) Address() node.Address { return b.address }

// usable refuses calls to a batch that has ended.
func (b *batch) usable(ctx context.Context) error {
	if err := b.d.carryOn(ctx); err != nil {
		return err
	}
	if b.done {
		return fmt.Errorf("%w: the batch has ended", db.ErrMalformed)
	}
	return nil
}

// Put adds an entry to the present run.
func (b *batch) Put(ctx context.Context, position node.Position, record []byte) error {
	if err := b.usable(ctx); err != nil {
		return err
	}
	if _, err := b.d.checkEntry(b.typ, b.address, position, record); err != nil {
		return err
	}
	if err := b.runs.put(position, record); err != nil {
		return err
	}
	if len(position) == 1 && position.IsRoot() {
		b.root = bytes.Clone(record)
	}
	if b.runs.bytes < b.d.limits.part {
		return nil
	}
	return b.runs.pack(func(entries []entry, shared int) error { return b.putBlock(ctx, entries, shared) })
}

// checkEntry refuses what is not an entry, or too large to be stored.
func (d *DB) checkEntry(t node.RootType, a node.Address, position node.Position, record []byte) (node.Record, error) {
	if !validPosition(position) {
		return node.Record{}, fmt.Errorf("%w: %x is no position", db.ErrMalformed, []byte(position))
	}
	r, err := node.ParseRecord(record, a)
	if err != nil {
		return r, fmt.Errorf("%w: position %s: %w", db.ErrMalformed, position, err)
	}
	key, value := max(len(r.Key), len(r.OwnKey)), max(len(r.Value), len(r.OwnValue))
	for side := range r.Children {
		embedded := r.Children[side].Embedded
		if embedded == nil {
			continue
		}
		if len(embedded) > d.info.EmbedBytes {
			return r, fmt.Errorf("%w: embedded leaf of %d bytes, EmbedBytes is %d", db.ErrMalformed, len(embedded), d.info.EmbedBytes)
		}
		leaf, _, err := node.ParseCompactV0(embedded)
		if err != nil {
			return r, fmt.Errorf("%w: position %s: %w", db.ErrMalformed, position, err)
		}
		key, value = max(key, len(leaf.Key)), max(value, len(leaf.Value))
	}
	if key > d.info.MaxKeyBytes {
		return r, fmt.Errorf("%w: key of %d bytes, MaxKeyBytes is %d", db.ErrLimitExceeded, key, d.info.MaxKeyBytes)
	}
	if value > d.info.MaxValueBytes {
		return r, fmt.Errorf("%w: value of %d bytes, MaxValueBytes is %d", db.ErrLimitExceeded, value, d.info.MaxValueBytes)
	}
	return r, nil
}

// putBlock stores a block.
func (b *batch) putBlock(ctx context.Context, entries []entry, shared int) error {
	if err := b.room(ctx, blockRoom(entries)); err != nil {
		return err
	}
	return b.out.putBlock(b.typ, b.address, entries, shared)
}

// blockRoom is at least the length of a block's key and value.
func blockRoom(entries []entry) int {
	size := prefixSize + len(entries[len(entries)-1].position) + blockHead + wideSlotSize + crcSize
	for i := range entries {
		size += wideSlotSize + 3 + len(entries[i].position) + len(entries[i].record)
	}
	return size
}

// putBlock adds a block to the part.
func (p *part) putBlock(t node.RootType, a node.Address, entries []entry, shared int) error {
	last := entries[len(entries)-1].position
	key := appendPrefix(p.arena.grow(prefixSize+len(last)), kindBlock, t, a)
	key = p.arena.keep(append(key, last...))
	value := p.arena.keep(appendBlock(p.arena.grow(blockRoom(entries)), key, entries, shared, 0))
	if err := p.check(key, value); err != nil {
		return err
	}
	p.batch.Put(key, value)
	return nil
}

// put stores a small value under a key.
func (b *batch) put(ctx context.Context, key, value []byte) error {
	if err := b.out.check(key, value); err != nil {
		return err
	}
	if err := b.room(ctx, len(key)+len(value)); err != nil {
		return err
	}
	b.out.batch.Put(key, value)
	return nil
}

// room writes what there is where so many bytes more don't go with it. Of a version that is finalized
// nothing more is stored: the batch can only find its root there already, or be refused.
func (b *batch) room(ctx context.Context, bytes int) error {
	if !b.out.full(1, bytes) {
		return nil
	}
	if err := b.d.beginWrite(ctx); err != nil {
		return err
	}
	defer b.d.end()
	b.written = true
	err := b.d.write(ctx, &b.out, false, func() error {
		b.d.mu.Lock()
		defer b.d.mu.Unlock()
		return b.d.notFinalized(b.address.Version)
	})
	if errors.Is(err, db.ErrAlreadyFinalized) {
		b.out.reset()
		return nil
	}
	return err
}

// EndRun ends the present run of entries.
func (b *batch) EndRun(ctx context.Context) error {
	if err := b.usable(ctx); err != nil {
		return err
	}
	b.runs.end()
	return nil
}

// Remove names an entry that the new root does not reach any more.
func (b *batch) Remove(ctx context.Context, address node.Address, position node.Position) error {
	if err := b.usable(ctx); err != nil {
		return err
	}
	if !validPosition(position) || address.Version >= b.address.Version || b.oldRoot.IsEmpty() {
		return fmt.Errorf("%w: entry %s of version %s is none of the old root's", db.ErrMalformed, position, address)
	}
	if b.garbage.add(address, position); b.garbage.bytes() < garbagePart {
		return nil
	}
	return b.flushGarbage(ctx)
}

func (b *batch) flushGarbage(ctx context.Context) error {
	key := partKey(kindGarbage, b.typ, b.address, b.garbage.parts)
	return b.put(ctx, key, b.garbage.encode(key))
}

// PutWriteLog gives the next changes of the write log.
func (b *batch) PutWriteLog(ctx context.Context, log writelog.WriteLog) error {
	if err := b.usable(ctx); err != nil {
		return err
	}
	if !b.d.keepLogs {
		return nil
	}
	for i := range log {
		if err := b.log.add(log[i].Key, log[i].Type() == writelog.LogDelete); err != nil {
			return err
		}
		if len(b.log.buf) >= logPart {
			if err := b.flushLog(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *batch) flushLog(ctx context.Context) error {
	key := partKey(kindWriteLog, b.typ, b.address, b.log.parts)
	return b.put(ctx, key, b.log.seal(key))
}

// Commit makes the batch count.
func (b *batch) Commit(ctx context.Context, root node.Root, rootAddress node.Address) error {
	if err := b.usable(ctx); err != nil {
		return err
	}
	if err := b.d.beginWrite(ctx); err != nil {
		return err
	}
	defer b.d.end()
	r, err := b.record(&root, rootAddress)
	if err != nil {
		return err
	}
	if err := b.runs.packRest(func(entries []entry, shared int) error { return b.putBlock(ctx, entries, shared) }); err != nil {
		return err
	}
	if b.garbage.bytes() > 0 {
		if err := b.flushGarbage(ctx); err != nil {
			return err
		}
	}
	if len(b.log.buf) > 0 {
		if err := b.flushLog(ctx); err != nil {
			return err
		}
	}
	r.garbageParts, r.logParts = b.garbage.parts, b.log.parts
	if err := b.room(ctx, 2*prefixSize+128); err != nil {
		return err
	}
	there, err := b.commit(ctx, root, r)
	if err != nil {
		return err
	}
	if there {
		return b.Abort(ctx)
	}
	b.finish()
	return nil
}

// record makes the record of the root that the batch is committed as.
func (b *batch) record(root *node.Root, address node.Address) (*rootRecord, error) {
	if err := b.d.checkName(root); err != nil {
		return nil, err
	}
	if root.Version != b.address.Version || root.Type != b.typ {
		return nil, notFollowing(b.address.Version, &b.oldRoot, fmt.Sprintf("it is committed as %s", root))
	}
	r := &rootRecord{
		typ: b.typ, hash: root.Hash, candidate: b.address.Candidate, parent: b.old.hash,
		alone: b.oldRoot.IsEmpty(),
		// No changes are the whole write log of a tree that is the same, and none of another one.
		hasLog: b.d.keepLogs && (b.log.any || root.Hash == b.old.hash),
	}
	switch {
	case root.IsEmpty():
		if b.root != nil {
			return nil, fmt.Errorf("%w: an empty root that has a node", db.ErrMalformed)
		}
	case address == b.address:
		if b.root == nil {
			return nil, fmt.Errorf("%w: the root's node was not put", db.ErrMalformed)
		}
		rec, err := node.ParseRecord(b.root, b.address)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", db.ErrMalformed, err)
		}
		if h := rec.ComputeHash(); h != root.Hash {
			return nil, fmt.Errorf("%w: the root's node has hash %s, not %s", db.ErrMalformed, h, root.Hash)
		}
		r.address = address
	case root.Hash == b.old.hash && address == b.old.address:
		if b.root != nil || len(b.runs.entries) > 0 || len(b.runs.packed) > 0 {
			return nil, fmt.Errorf("%w: entries of a tree that has not changed", db.ErrMalformed)
		}
		r.address = address
	default:
		return nil, fmt.Errorf("%w: root's address %s is neither the batch's nor the old root's", db.ErrMalformed, address)
	}
	return r, nil
}

// commit writes the batch's last part, which makes it count, unless the root is there already.
func (b *batch) commit(ctx context.Context, root node.Root, r *rootRecord) (there bool, err error) {
	d := b.d
	if err := d.take(ctx, d.turn); err != nil {
		return false, err
	}
	defer give(d.turn)
	if there, err = d.isCommitted(ctx, &root); there || err != nil {
		return there, err
	}
	d.mu.Lock()
	err = d.notFinalized(root.Version)
	d.mu.Unlock()
	if err != nil {
		if root.IsEmpty() {
			return true, nil
		}
		return false, err
	}
	if !b.oldRoot.IsEmpty() {
		old, err := d.lookup(ctx, b.oldRoot)
		if err != nil && !errors.Is(err, db.ErrRootNotFound) && !errors.Is(err, db.ErrVersionPruned) {
			return false, err
		}
		if err != nil || old.candidate != b.old.candidate {
			return false, notFollowing(root.Version, &b.oldRoot, "it is not there any more")
		}
	}
	key := prefixKey(kindCandidate, b.typ, b.address)
	b.out.batch.Put(key, encodeCandidate(key, r))
	b.written = true
	if err := d.apply(ctx, &b.out.batch, false); err != nil {
		return false, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.candidates[root.Version] = append(slices.Clip(d.candidates[root.Version]), r)
	delete(d.writing, owner{b.typ, b.address}) // from here on it is the candidate's, and may be finalized
	return false, nil
}

// isCommitted says whether a root has a record: an empty one has only where it was committed.
func (d *DB) isCommitted(ctx context.Context, root *node.Root) (bool, error) {
	r, err := d.lookup(ctx, *root)
	if errors.Is(err, db.ErrRootNotFound) || errors.Is(err, db.ErrVersionPruned) {
		return false, nil
	}
	return err == nil && !(r.isEmpty() && r.bare), err
}

// Abort ends a batch that is not committed, and removes what it stored.
func (b *batch) Abort(ctx context.Context) error {
	if b.done {
		return nil
	}
	d := b.d
	if err := d.beginWrite(ctx); err != nil {
		return err
	}
	defer d.end()
	written := b.written
	if written {
		d.later(leftover{kinds: candidateKinds, typ: b.typ, address: b.address})
	}
	b.finish()
	if written {
		d.tidy(ctx)
	}
	return nil
}
