package faulty

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/writelog"
)

// lostWrite commits nothing, and says that it did.
type lostWrite struct{ db.Batch }

func (b *lostWrite) Commit(ctx context.Context, _ node.Root, _ node.Address) error {
	return b.Batch.Abort(ctx)
}

// argumentsKept puts entries when a run ends, and keeps until then what it was given, not a copy.
type argumentsKept struct {
	db.Batch
	run []db.Entry
}

func (b *argumentsKept) Put(_ context.Context, position node.Position, record []byte) error {
	b.run = append(b.run, db.Entry{Position: position, Record: record})
	return nil
}

func (b *argumentsKept) flush(ctx context.Context) error {
	for _, e := range b.run {
		if err := b.Batch.Put(ctx, e.Position, e.Record); err != nil {
			return err
		}
	}
	b.run = nil
	return nil
}

func (b *argumentsKept) EndRun(ctx context.Context) error {
	if err := b.flush(ctx); err != nil {
		return err
	}
	return b.Batch.EndRun(ctx)
}

func (b *argumentsKept) Commit(ctx context.Context, root node.Root, rootAddress node.Address) error {
	if err := b.flush(ctx); err != nil {
		return err
	}
	return b.Batch.Commit(ctx, root, rootAddress)
}

// logKeysKept keeps the keys of a write log until Commit, and not copies.
type logKeysKept struct {
	db.Batch
	log writelog.WriteLog
}

func (b *logKeysKept) PutWriteLog(_ context.Context, log writelog.WriteLog) error {
	b.log = append(b.log, log...)
	return nil
}

func (b *logKeysKept) Commit(ctx context.Context, root node.Root, rootAddress node.Address) error {
	if len(b.log) > 0 {
		if err := b.Batch.PutWriteLog(ctx, b.log); err != nil {
			return err
		}
	}
	return b.Batch.Commit(ctx, root, rootAddress)
}

// runsAscend takes runs only in the order of their positions.
type runsAscend struct {
	db.Batch
	last node.Position
}

func (b *runsAscend) Put(ctx context.Context, position node.Position, record []byte) error {
	if b.last != nil && position.Compare(b.last) <= 0 {
		return fmt.Errorf("%w: position %s after %s", db.ErrMalformed, position, b.last)
	}
	b.last = slices.Clone(position)
	return b.Batch.Put(ctx, position, record)
}

// largeRefused takes no record that does not fit into a message.
type largeRefused struct{ db.Batch }

func (b *largeRefused) Put(ctx context.Context, position node.Position, record []byte) error {
	if len(record) > 4<<20 {
		return fmt.Errorf("received message larger than max (%d vs. %d)", len(record), 4<<20)
	}
	return b.Batch.Put(ctx, position, record)
}

// longPositionsRefused is over a store whose keys are short.
type longPositionsRefused struct{ db.Batch }

func (b *longPositionsRefused) Put(ctx context.Context, position node.Position, record []byte) error {
	if len(position) > 511 {
		return fmt.Errorf("a key of %d bytes, and 511 is the most", len(position))
	}
	return b.Batch.Put(ctx, position, record)
}

// entriesUnchecked takes whatever is put, and leaves it to who reads it to find out.
type entriesUnchecked struct {
	db.Batch
	bad bool
}

func (b *entriesUnchecked) Put(ctx context.Context, position node.Position, record []byte) error {
	err := b.Batch.Put(ctx, position, record)
	if errors.Is(err, db.ErrMalformed) {
		b.bad = true
		return nil
	}
	return err
}

func (b *entriesUnchecked) Commit(ctx context.Context, root node.Root, rootAddress node.Address) error {
	if b.bad {
		return b.Batch.Abort(ctx)
	}
	return b.Batch.Commit(ctx, root, rootAddress)
}

// removalsForgotten never learns what a new root does not need any more.
type removalsForgotten struct{ db.Batch }

func (b *removalsForgotten) Remove(context.Context, node.Address, node.Position) error { return nil }

// removalsAtOnce drops what a new root does not need when it is committed: older versions need it.
type removalsAtOnce struct {
	db.NodeDB
	mu      sync.Mutex
	removed map[string]bool
}

type removingAtOnce struct {
	db.Batch
	d       *removalsAtOnce
	pending []string
}

func entryName(address node.Address, position node.Position) string {
	return address.String() + "/" + position.String()
}

func (d *removalsAtOnce) NewBatch(ctx context.Context, oldRoot node.Root, version uint64) (db.Batch, error) {
	b, err := d.NodeDB.NewBatch(ctx, oldRoot, version)
	if err != nil {
		return nil, err
	}
	return &removingAtOnce{Batch: b, d: d}, nil
}

func (b *removingAtOnce) Remove(ctx context.Context, address node.Address, position node.Position) error {
	b.pending = append(b.pending, entryName(address, position))
	return b.Batch.Remove(ctx, address, position)
}

func (b *removingAtOnce) Commit(ctx context.Context, root node.Root, rootAddress node.Address) error {
	err := b.Batch.Commit(ctx, root, rootAddress)
	if err == nil {
		b.d.mu.Lock()
		for _, name := range b.pending {
			b.d.removed[name] = true
		}
		b.d.mu.Unlock()
	}
	return err
}

func (d *removalsAtOnce) Walk(ctx context.Context, root node.Root, from node.Position) walk {
	return func(yield func(db.Entry, error) bool) {
		for e, err := range d.NodeDB.Walk(ctx, root, from) {
			d.mu.Lock()
			gone := d.removed[entryName(e.Address, e.Position)]
			d.mu.Unlock()
			if err == nil && gone {
				e, err = db.Entry{}, &db.CorruptedError{Version: e.Address.Version, Position: slices.Clone(e.Position), Reason: "missing"}
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// removesByPosition frees what was removed at a position from all versions when the first one is pruned.
type removesByPosition struct {
	db.NodeDB
	mu      sync.Mutex
	removed map[string]bool
	pruned  bool
}

type removingByPosition struct {
	db.Batch
	d *removesByPosition
}

func (d *removesByPosition) NewBatch(ctx context.Context, oldRoot node.Root, version uint64) (db.Batch, error) {
	b, err := d.NodeDB.NewBatch(ctx, oldRoot, version)
	if err != nil {
		return nil, err
	}
	return &removingByPosition{b, d}, nil
}

func (b *removingByPosition) Remove(ctx context.Context, address node.Address, position node.Position) error {
	b.d.mu.Lock()
	b.d.removed[string(position)] = true
	b.d.mu.Unlock()
	return b.Batch.Remove(ctx, address, position)
}

func (d *removesByPosition) Prune(ctx context.Context, version uint64) error {
	err := d.NodeDB.Prune(ctx, version)
	if err == nil {
		d.mu.Lock()
		d.pruned = true
		d.mu.Unlock()
	}
	return err
}

func (d *removesByPosition) Walk(ctx context.Context, root node.Root, from node.Position) walk {
	return func(yield func(db.Entry, error) bool) {
		for e, err := range d.NodeDB.Walk(ctx, root, from) {
			d.mu.Lock()
			gone := d.pruned && d.removed[string(e.Position)]
			d.mu.Unlock()
			if !gone && !yield(e, err) {
				return
			}
		}
	}
}

// batchFromAnything begins with nothing where it can't begin with what it was told.
type batchFromAnything struct{ db.NodeDB }

func (d *batchFromAnything) NewBatch(ctx context.Context, oldRoot node.Root, version uint64) (db.Batch, error) {
	b, err := d.NodeDB.NewBatch(ctx, oldRoot, version)
	if errors.Is(err, db.ErrRootMustFollowOld) && oldRoot.Type == node.RootTypeState {
		return d.NodeDB.NewBatch(ctx, emptyOf(oldRoot, version), version)
	}
	return b, err
}

// ioFromIO lets an IO root have descendants.
type ioFromIO struct{ db.NodeDB }

func (d *ioFromIO) NewBatch(ctx context.Context, oldRoot node.Root, version uint64) (db.Batch, error) {
	b, err := d.NodeDB.NewBatch(ctx, oldRoot, version)
	if errors.Is(err, db.ErrRootMustFollowOld) && oldRoot.Type == node.RootTypeIO {
		return d.NodeDB.NewBatch(ctx, emptyOf(oldRoot, version), version)
	}
	return b, err
}

// emptyOf is the empty root of a version, of a root's namespace and type.
func emptyOf(root node.Root, version uint64) node.Root {
	root.Version, root.Hash = version, hash.EmptyHash
	return root
}

// nextOnly has batches for no version but the next.
type nextOnly struct{ db.NodeDB }

func (d *nextOnly) NewBatch(ctx context.Context, oldRoot node.Root, version uint64) (db.Batch, error) {
	latest, any, err := d.GetLatestVersion(ctx)
	if err != nil {
		return nil, err
	}
	if any && version > latest+1 {
		return nil, fmt.Errorf("%w: version %d after %d", db.ErrVersionNotNext, version, latest)
	}
	return d.NodeDB.NewBatch(ctx, oldRoot, version)
}

// pending is a batch that knows which root it is about to make, as soon as the root's node is there.
type pending struct {
	db.Batch
	root node.Root
	any  bool
	// known is called with the root.
	known func(root node.Root)
	// ended is called when the batch is committed or aborted.
	ended func(root node.Root)
}

func (b *pending) Put(ctx context.Context, position node.Position, record []byte) error {
	if err := b.Batch.Put(ctx, position, record); err != nil {
		return err
	}
	if position.IsRoot() {
		parsed, err := node.ParseRecord(record, b.Address())
		if err != nil {
			return err
		}
		b.root.Hash, b.any = parsed.ComputeHash(), true
		if b.known != nil {
			b.known(b.root)
		}
	}
	return nil
}

func (b *pending) end() {
	if b.any && b.ended != nil {
		b.ended(b.root)
	}
	b.any = false
}

func (b *pending) Commit(ctx context.Context, root node.Root, rootAddress node.Address) error {
	defer b.end()
	return b.Batch.Commit(ctx, root, rootAddress)
}

func (b *pending) Abort(ctx context.Context) error {
	defer b.end()
	return b.Batch.Abort(ctx)
}

// newPending makes a batch of a version pending.
func newPending(b db.Batch, oldRoot node.Root, version uint64) *pending {
	root := oldRoot
	root.Version = version
	return &pending{Batch: b, root: root}
}

// seenEarly has a root in its index when the root's node is written, and not when it is committed.
type seenEarly struct {
	batches
	early roots
}

func newSeenEarly(ndb db.NodeDB) db.NodeDB {
	d := &seenEarly{}
	d.batches = batches{ndb, func(b db.Batch, oldRoot node.Root, version uint64) db.Batch {
		p := newPending(b, oldRoot, version)
		p.known = func(root node.Root) { d.early.add(root) }
		p.ended = func(root node.Root) { d.early.take(root) }
		return p
	}}
	return d
}

func (d *seenEarly) HasRoot(ctx context.Context, root node.Root) (bool, error) {
	has, err := d.NodeDB.HasRoot(ctx, root)
	return has || err == nil && d.early.has(root), err
}

// abortCommits leaves the root of a batch that was aborted.
type abortCommits struct{ *pending }

func (b *abortCommits) Abort(ctx context.Context) error {
	if b.any {
		if err := b.Batch.Commit(ctx, b.root, b.Address()); err == nil {
			b.any = false
			return nil
		}
	}
	return b.pending.Abort(ctx)
}

// againRefused refuses a root that is there.
type againRefused struct {
	db.Batch
	d db.NodeDB
}

func (b *againRefused) Commit(ctx context.Context, root node.Root, rootAddress node.Address) error {
	has, err := b.d.HasRoot(ctx, root)
	if err != nil {
		return err
	}
	if has && !root.IsEmpty() {
		return fmt.Errorf("root %s is there already", root)
	}
	return b.Batch.Commit(ctx, root, rootAddress)
}

// againMoves lets the second commit of a root win, whose node is elsewhere.
type againMoves struct {
	batches
	mu    sync.Mutex
	moved map[node.Root]node.Address
}

type movingBatch struct {
	db.Batch
	d *againMoves
}

func newAgainMoves(ndb db.NodeDB) db.NodeDB {
	d := &againMoves{moved: make(map[node.Root]node.Address)}
	d.batches = batches{ndb, func(b db.Batch, _ node.Root, _ uint64) db.Batch { return &movingBatch{b, d} }}
	return d
}

func (b *movingBatch) Commit(ctx context.Context, root node.Root, rootAddress node.Address) error {
	err := b.Batch.Commit(ctx, root, rootAddress)
	if err == nil && !root.IsEmpty() {
		b.d.mu.Lock()
		b.d.moved[root] = rootAddress
		b.d.mu.Unlock()
	}
	return err
}

func (d *againMoves) RootAddress(ctx context.Context, root node.Root) (node.Address, error) {
	address, err := d.NodeDB.RootAddress(ctx, root)
	d.mu.Lock()
	defer d.mu.Unlock()
	if moved, ok := d.moved[root]; ok && err == nil {
		return moved, nil
	}
	return address, err
}

// anyRootCommitted takes a root for the batch's whatever version and type it says it is of.
type anyRootCommitted struct {
	db.Batch
	oldRoot node.Root
	version uint64
}

func (b *anyRootCommitted) Commit(ctx context.Context, root node.Root, rootAddress node.Address) error {
	root.Version, root.Type = b.version, b.oldRoot.Type
	return b.Batch.Commit(ctx, root, rootAddress)
}

// removalsUnchecked takes whatever is said to have gone.
type removalsUnchecked struct{ db.Batch }

func (b *removalsUnchecked) Remove(ctx context.Context, address node.Address, position node.Position) error {
	if err := b.Batch.Remove(ctx, address, position); !errors.Is(err, db.ErrMalformed) {
		return err
	}
	return nil
}

// rootWithoutNode commits a root whose node is not there.
type rootWithoutNode struct{ db.Batch }

func (b *rootWithoutNode) Commit(ctx context.Context, root node.Root, rootAddress node.Address) error {
	if err := b.Batch.Commit(ctx, root, rootAddress); !errors.Is(err, db.ErrMalformed) {
		return err
	}
	return nil
}

// addressShared numbers candidates by those that are committed: two batches at once have one number.
type addressShared struct {
	db.NodeDB
	mu   sync.Mutex
	open map[uint64]node.Address
}

type sharedAddress struct {
	*pending
	address node.Address
}

func (b *sharedAddress) Address() node.Address { return b.address }

func (d *addressShared) NewBatch(ctx context.Context, oldRoot node.Root, version uint64) (db.Batch, error) {
	b, err := d.NodeDB.NewBatch(ctx, oldRoot, version)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	address, shared := d.open[version]
	if !shared {
		address = b.Address()
		d.open[version] = address
	}
	p := newPending(b, oldRoot, version)
	p.ended = func(node.Root) {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.open, version)
	}
	return &sharedAddress{p, address}, nil
}

// rootFirst writes a root before its nodes: it is there from the beginning of its Commit, and stays where
// that is interrupted, for which it waits.
type rootFirst struct {
	batches
	begun roots
}

type rootFirstBatch struct {
	db.Batch
	d *rootFirst
}

func newRootFirst(ndb db.NodeDB) db.NodeDB {
	d := &rootFirst{}
	d.batches = batches{ndb, func(b db.Batch, _ node.Root, _ uint64) db.Batch { return &rootFirstBatch{b, d} }}
	return d
}

func (b *rootFirstBatch) Commit(ctx context.Context, root node.Root, rootAddress node.Address) error {
	b.d.begun.add(root)
	if err := interruptible(ctx, amongMany); err != nil {
		return err
	}
	if err := b.Batch.Commit(ctx, root, rootAddress); err != nil {
		return err
	}
	b.d.begun.take(root)
	return nil
}

func (d *rootFirst) HasRoot(ctx context.Context, root node.Root) (bool, error) {
	has, err := d.NodeDB.HasRoot(ctx, root)
	return has || err == nil && d.begun.has(root), err
}
