package kvdb

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"

	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// Options is what the backend says of itself.
type Options struct {
	// Backend and BackendVersion come out in the database's Info.
	Backend        string
	BackendVersion string
	// Compact says that the store's Compact gives space back.
	Compact bool
}

// DB is a node database over a key-value store.
type DB struct {
	store  kv.Store
	log    hclog.Logger
	info   db.Info
	limits limits
	// keepLogs says that write logs are kept.
	keepLogs bool
	// migrating says that a database of an older format is brought to this one when it is opened.
	migrating bool

	// turn is the turn to write, pruning that to apply garbage lists and completing that to complete a
	// root: each holds at most one token. Who needs several takes pruning or completing first.
	turn       chan struct{}
	pruning    chan struct{}
	completing chan struct{}

	mu sync.Mutex
	// closed says that no call may begin; active counts those that have, and idle is closed when the last
	// of them ends. released says that the store is closed.
	closed   bool
	active   int
	idle     chan struct{}
	released bool
	// life ends with Close, by stop: what takes long ends early.
	life context.Context
	stop context.CancelFunc

	state state
	// candidates are the roots that are committed and not finalized, by version.
	candidates map[uint64][]*rootRecord
	// numbers holds the next candidate number for versions that are not finalized.
	numbers map[slot]uint16
	// versions keeps the records of finalized versions that were asked for last.
	versions map[uint64]*versionRecord
	// writing are the batches in progress: they may leave something behind.
	writing map[owner]struct{}
	// leftovers are what is to be removed, dropping what is just being removed, by so many goroutines.
	leftovers []leftover
	dropping  []leftover
	tidying   int
	insert    *insert
	pins      map[*pin]struct{}
	// goingBelow is the version below which all are about to be removed, nil where none are.
	goingBelow *uint64

	// garbageRate and memory are Config's.
	garbageRate int64
	memory      int
	// background is what goes on by itself: it begins when wake holds a token, pauses until nudge holds
	// one at most, and does not pause while hurried is not 0.
	background sync.WaitGroup
	wake       chan struct{}
	nudge      chan struct{}
	hurried    atomic.Int32
	// readers holds a token for each snapshot that is open, where their number is bounded.
	readers chan struct{}
}

// slot is what candidates are numbered in.
type slot struct {
	version uint64
	typ     node.RootType
}

// owner is what nodes are stored for: a candidate of a root type.
type owner struct {
	typ     node.RootType
	address node.Address
}

// cachedVersions is the number of finalized versions whose records are kept in memory.
const cachedVersions = 4096

// Info tells what the database is.
func (d *DB) Info() db.Info { return d.info }

// begin starts a call; end must follow. It fails once the database is closed.
func (d *DB) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return db.ErrClosed
	}
	d.active++
	return nil
}

// beginWrite is begin for calls that change the database.
func (d *DB) beginWrite(ctx context.Context) error {
	if err := d.begin(ctx); err != nil {
		return err
	}
	if d.info.Capabilities.ReadOnly {
		d.end()
		return db.ErrReadOnly
	}
	return nil
}

func (d *DB) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.active--
	if d.closed && d.active == 0 {
		close(d.idle)
	}
}

// take waits for a token; give puts it back.
func (d *DB) take(ctx context.Context, token chan struct{}) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case token <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func give(token chan struct{}) { <-token }

// carryOn says whether something that takes long may take its next step.
func (d *DB) carryOn(ctx context.Context) error {
	if d.life.Err() != nil {
		return db.ErrClosed
	}
	return ctx.Err()
}

// apply writes a batch. The caller has the turn. Once begun it is not broken off: whoever waits for it
// has to know how it ended.
func (d *DB) apply(ctx context.Context, batch *kv.Batch, sync bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return storeError(d.store.Apply(context.WithoutCancel(ctx), batch, sync))
}

// snapshot takes a snapshot, once fewer than the store can have are open. The caller waits neither for a
// turn nor for another snapshot before it is closed.
func (d *DB) snapshot(ctx context.Context) (kv.Snapshot, error) {
	if d.readers == nil {
		s, err := d.store.Snapshot(ctx)
		return s, storeError(err)
	}
	if err := d.take(ctx, d.readers); err != nil {
		return nil, err
	}
	s, err := d.store.Snapshot(ctx)
	if err != nil {
		give(d.readers)
		return nil, storeError(err)
	}
	return &countedSnapshot{Snapshot: s, readers: d.readers}, nil
}

// countedSnapshot is a snapshot of a store that can have only so many.
type countedSnapshot struct {
	kv.Snapshot
	readers chan struct{}
	closed  bool
}

func (s *countedSnapshot) Close() error {
	err := s.Snapshot.Close()
	if !s.closed {
		s.closed = true
		give(s.readers)
	}
	return err
}

// storeError gives a store's error its identity here.
func storeError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, kv.ErrClosed):
		return fmt.Errorf("%w: %w", db.ErrClosed, err)
	case errors.Is(err, kv.ErrReadOnly):
		return fmt.Errorf("%w: %w", db.ErrReadOnly, err)
	case errors.Is(err, kv.ErrLimitExceeded):
		return fmt.Errorf("%w: %w", db.ErrLimitExceeded, err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	default:
		return fmt.Errorf("kvdb: store: %w", err)
	}
}

// Size tells the space taken.
func (d *DB) Size(ctx context.Context) (db.Size, error) {
	if err := d.begin(ctx); err != nil {
		return db.Size{}, err
	}
	defer d.end()
	s, err := d.store.Size(ctx)
	return db.Size{Live: s.Live, File: s.File}, storeError(err)
}

// Compact applies what garbage lists are due and gives unused space back.
func (d *DB) Compact(ctx context.Context, progress func(done, total int64)) error {
	if err := d.beginWrite(ctx); err != nil {
		return err
	}
	defer d.end()
	if err := d.collect(ctx, nil, nil); err != nil {
		return err
	}
	if err := d.take(ctx, d.turn); err != nil {
		return err
	}
	defer give(d.turn)
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(d.life, cancel)()
	err := storeError(d.store.Compact(running, progress))
	if err != nil && d.life.Err() != nil {
		return fmt.Errorf("%w: %w", db.ErrClosed, err)
	}
	return err
}

// Sync makes everything that was committed safe from a loss of power.
func (d *DB) Sync(ctx context.Context) error {
	if err := d.begin(ctx); err != nil {
		return err
	}
	defer d.end()
	if d.info.Capabilities.ReadOnly {
		return nil
	}
	return storeError(d.store.Sync(ctx))
}

// Close waits for the calls in progress, whose long ones end early, and closes the store. Where ctx ends
// before, the store stays open until a further Close.
func (d *DB) Close(ctx context.Context) error {
	d.mu.Lock()
	if d.released {
		d.mu.Unlock()
		return db.ErrClosed
	}
	if !d.closed {
		d.closed = true
		d.stop()
		if d.active == 0 {
			close(d.idle)
		}
	}
	d.mu.Unlock()
	select {
	case <-d.idle:
	default:
		select {
		case <-d.idle:
		case <-ctx.Done():
			return fmt.Errorf("kvdb: closing while calls are in progress: %w", ctx.Err())
		}
	}
	d.background.Wait() // it ends soon after life does
	d.mu.Lock()
	first := !d.released
	d.released = true
	clear(d.pins)
	d.mu.Unlock()
	if !first {
		return db.ErrClosed
	}
	return storeError(d.store.Close())
}

// limits is what one write can take.
type limits struct {
	kv.Limits
	// part is the number of bytes at which a part of a batch is written.
	part int
	// ops is the largest number of operations of a batch.
	ops int
}

const (
	defaultPartBytes = 8 << 20
	defaultBatchOps  = 1 << 20
	// leastBatchOps is what finalizing a version takes.
	leastBatchOps = 6
	// keyRoom and recordRoom are what a value is stored with at most: the key it is stored under, and the
	// rest of its node's record and block.
	keyRoom    = prefixSize + node.MaxPositionBytes
	recordRoom = 2*node.MaxKeyBytes + 2*db.DefaultEmbedBytes + node.MaxPositionBytes + 256
)

func newLimits(l kv.Limits) limits {
	out := limits{Limits: l, part: l.PreferredBatchBytes, ops: l.BatchOps}
	if out.part <= 0 {
		out.part = defaultPartBytes
	}
	if l.BatchBytes > 0 {
		out.part = min(out.part, l.BatchBytes)
	}
	if out.ops <= 0 {
		out.ops = defaultBatchOps
	}
	return out
}

// keyBytes is the longest key whose node can be stored: its position takes a byte for seven bits.
func (l *limits) keyBytes() int {
	if l.KeyBytes == 0 {
		return node.MaxKeyBytes
	}
	return max(0, min(node.MaxKeyBytes, (l.KeyBytes-prefixSize-1)*7/8))
}

// valueBytes is the longest value whose node can be stored.
func (l *limits) valueBytes() int {
	out := 1<<31 - 1
	if l.ValueBytes > 0 {
		out = min(out, l.ValueBytes-recordRoom)
	}
	if l.BatchBytes > 0 {
		out = min(out, l.BatchBytes-recordRoom-keyRoom)
	}
	return max(0, out)
}
