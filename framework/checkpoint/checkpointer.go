package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// Checkpointer is a checkpointer.
type Checkpointer interface {
	// NotifyNewVersion notifies the checkpointer that a new version has been finalized. It never blocks;
	// what comes while the checkpointer is busy coalesces to the newest.
	NotifyNewVersion(version uint64)
}

// CheckpointerConfig is a checkpointer configuration.
type CheckpointerConfig struct {
	// Name identifying this checkpointer in logs.
	Name string

	// Namespace is the storage namespace this checkpointer is for.
	Namespace common.Namespace

	// CheckInterval is the interval on which to check if any checkpointing is needed. With 0, only
	// notifications make it check.
	CheckInterval time.Duration

	// RootsPerVersion is the number of roots per version: a version with another number is an error. 0,
	// without GetRoots, takes however many there are.
	RootsPerVersion int

	// Parameters are the checkpoint creation parameters.
	Parameters *CreationParameters

	// GetParameters can be used instead of specifying Parameters to dynamically fetch the current
	// checkpoint parameters. In this case Parameters must be set to nil.
	GetParameters func(context.Context) (*CreationParameters, error)

	// GetRoots can be used to override which finalized roots should be checkpointed. If this is not
	// specified, all finalized roots will be checkpointed.
	//
	// This must return exactly RootsPerVersion roots. A hash that is returned k times stands for the
	// version's first k roots of that hash, by root type.
	GetRoots func(context.Context, uint64) ([]hash.Hash, error)
}

// CreationParameters are the checkpoint creation parameters used by the checkpointer.
type CreationParameters struct {
	// Interval is the expected runtime state checkpoint interval (in rounds): versions that it divides get
	// a checkpoint. With 0, none do.
	Interval uint64

	// NumKept is the expected minimum number of checkpoints to keep. With 0, none are made, and none
	// deleted.
	NumKept uint64

	// ChunkSize is the chunk size parameter for checkpoint creation.
	ChunkSize uint64
}

// NewCheckpointer creates a new checkpointer that can be notified of new finalized versions and will
// automatically generate the configured number of checkpoints. It works until ctx is done.
//
// It makes a checkpoint of each version that the interval divides; of those that were missed it makes,
// the newest first, the ones that still exist and would be kept. When it has more than NumKept versions,
// it deletes the oldest of those that it made. It never deletes anything else: not checkpoints of other
// namespaces, of versions that the database has yet to come to, damaged ones, or any that it did not
// make itself, as far as that is known (see Inspector). Those that are being served (see package) it deletes later,
// those that are marked to be kept (see Keeper) only when they are not any more.
//
// A version is pinned from when its checkpoints are decided on until they are made or have failed. What has failed is
// tried again, where the version is still there, at the next CheckInterval, with the next version that is wanted, or by
// Flush.
func NewCheckpointer(ctx context.Context, ndb db.NodeDB, creator Creator, cfg CheckpointerConfig) (Checkpointer, error) {
	c, err := NewManagedCheckpointer(ctx, ndb, creator, cfg)
	if err != nil {
		return nil, err // not c: as an interface, a nil pointer is not nil
	}
	return c, nil
}

// EventKind says what an Event is about.
type EventKind string

// The kinds of events.
const (
	// EventStarted: the making of a checkpoint has begun.
	EventStarted EventKind = "started"
	// EventFinished: a checkpoint was made.
	EventFinished EventKind = "finished"
	// EventFailed: a checkpoint could not be made, or that of a version could not even begin.
	EventFailed EventKind = "failed"
	// EventDeleted: a checkpoint was deleted, being more than are to be kept.
	EventDeleted EventKind = "deleted"
)

// Event is something that a checkpointer did.
type Event struct {
	Kind    EventKind
	Version uint64
	// Root is the checkpoint's root; empty where the failure is about the version.
	Root node.Root
	// Metadata is the checkpoint's, where it was made.
	Metadata *Metadata
	// Err is why it failed.
	Err error
	// Took is how long the making took.
	Took time.Duration
}

// CheckpointerOption is an option of NewManagedCheckpointer.
type CheckpointerOption func(*ManagedCheckpointer)

// WithCheckpointerLogger sets where messages go; by default there are none.
func WithCheckpointerLogger(logger hclog.Logger) CheckpointerOption {
	return func(c *ManagedCheckpointer) { c.logger = logger }
}

// WithEvents sets what is told of each event, in order, by the checkpointer's goroutine: it should not
// take long, and must not wait for the checkpointer.
func WithEvents(events func(Event)) CheckpointerOption {
	return func(c *ManagedCheckpointer) { c.events = events }
}

// WithInitialVersion sets the version that the state begins with. Intervals are counted from it: it gets a
// checkpoint, and so does every version that is a multiple of the interval above it, and none below. Its
// checkpoint is kept for ever, beside the NumKept newest. Without this option intervals are counted from 0,
// and no version is special.
func WithInitialVersion(version uint64) CheckpointerOption {
	return func(c *ManagedCheckpointer) { c.initial = &version }
}

// WithJitter makes the checkpointer wait for a random time, up to limit, from when it finds a checkpoint
// missing to when it begins: so that a fleet that hears of a version at the same moment does not make
// checkpoints at the same moment. Versions that are missing are pinned from the beginning of that time, so none
// is pruned in it; those that come in it are made with the others. Flush and ForceCheckpoint don't wait.
func WithJitter(limit time.Duration) CheckpointerOption {
	return func(c *ManagedCheckpointer) { c.jitter = limit }
}

// ManagedCheckpointer is a Checkpointer that can be asked and waited for. Its methods may be called by
// any number of goroutines.
type ManagedCheckpointer struct {
	ndb     db.NodeDB
	creator Creator
	cfg     CheckpointerConfig
	logger  hclog.Logger
	events  func(Event)
	initial *uint64
	jitter  time.Duration
	random  func() float64

	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}

	// wake holds a value when something below has changed that the loop has yet to look at.
	wake chan struct{}

	// mu is never held for long, and never while anything is called that is not here.
	mu sync.Mutex
	// notified says that there was a notification, turned that Pause has changed something.
	notified, paused, turned bool
	// requests are served in order, between two versions; flushes when nothing is under way.
	requests, flushes []*request
	// idle are those that wait until nothing is to be done, waiters those that wait for a version.
	idle     []chan<- error
	waiters  map[*waiter]struct{}
	watchers map[*Subscription]struct{}
	ended    bool

	// What follows is the loop's alone.

	// planned is what the last look at a notification came to.
	planned    plan
	everLooked bool
	// pins keep versions that are to have checkpoints.
	pins map[uint64]db.Pin
	// failed says why versions that are wanted have no checkpoint.
	failed map[uint64]error
	// delay runs from a decision to when it is acted on; nil where none does.
	delay *time.Timer
}

// request is a caller's wish, and where its outcome goes.
type request struct {
	ctx     context.Context
	do      func(ctx context.Context) error
	outcome chan error
}

// waiter waits for the checkpoints of a version.
type waiter struct {
	version uint64
	outcome chan error
}

// NewManagedCheckpointer is NewCheckpointer with options, and a result with more methods.
func NewManagedCheckpointer(ctx context.Context, ndb db.NodeDB, creator Creator, cfg CheckpointerConfig, opts ...CheckpointerOption) (*ManagedCheckpointer, error) {
	if ndb == nil || creator == nil {
		return nil, fmt.Errorf("checkpoint: checkpointer %q: no database or no creator", cfg.Name)
	}
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("checkpoint: checkpointer %q: %w", cfg.Name, err)
	}
	if ns := ndb.Info().Namespace; cfg.Namespace != ns {
		return nil, fmt.Errorf("checkpoint: checkpointer %q: %w: it is for %s, and the database of %s", cfg.Name, db.ErrBadNamespace, cfg.Namespace, ns)
	}
	c := &ManagedCheckpointer{
		ndb:      ndb,
		creator:  creator,
		cfg:      cfg,
		logger:   hclog.NewNullLogger(),
		events:   func(Event) {},
		random:   rand.Float64,
		done:     make(chan struct{}),
		wake:     make(chan struct{}, 1),
		waiters:  make(map[*waiter]struct{}),
		watchers: make(map[*Subscription]struct{}),
		pins:     make(map[uint64]db.Pin),
		failed:   make(map[uint64]error),
	}
	for _, opt := range opts {
		opt(c)
	}
	if c.jitter < 0 {
		return nil, fmt.Errorf("checkpoint: checkpointer %q: the jitter is %s", cfg.Name, c.jitter)
	}
	c.logger = c.logger.With("checkpointer", cfg.Name, "namespace", cfg.Namespace)
	c.ctx, c.cancel = context.WithCancel(ctx)
	go c.loop()
	return c, nil
}

func (cfg *CheckpointerConfig) validate() error {
	switch {
	case (cfg.Parameters == nil) == (cfg.GetParameters == nil):
		return errors.New("one of Parameters and GetParameters has to be set, and not both")
	case cfg.RootsPerVersion < 0:
		return fmt.Errorf("RootsPerVersion is %d", cfg.RootsPerVersion)
	case cfg.RootsPerVersion == 0 && cfg.GetRoots != nil:
		return errors.New("GetRoots is set and RootsPerVersion is 0")
	case cfg.CheckInterval < 0:
		return fmt.Errorf("CheckInterval is %s", cfg.CheckInterval)
	}
	return nil
}

// NotifyNewVersion implements Checkpointer.
func (c *ManagedCheckpointer) NotifyNewVersion(uint64) {
	c.mu.Lock()
	c.notified = true // what is looked at is the database, with this version in it
	c.mu.Unlock()
	c.signal()
}

// Pause pauses or unpauses the checkpointer. It returns at once, also while a checkpoint is being made: that
// version's are made to their end (Wait returns when they are), and then none is begun and none deleted, until
// Pause(false). Then what was missed is made up for at once, jitter apart, as far as the versions are still there: a
// paused checkpointer pins none.
//
// ForceCheckpoint works all the same. Flush is ErrCheckpointerPaused.
func (c *ManagedCheckpointer) Pause(pause bool) {
	c.mu.Lock()
	if c.paused != pause {
		c.paused, c.turned = pause, true
	}
	c.mu.Unlock()
	c.signal()
}

func (c *ManagedCheckpointer) isPaused() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.paused
}

// Flush does now what there is to do, after what is being done, and returns what went wrong with it.
func (c *ManagedCheckpointer) Flush(ctx context.Context) error {
	return c.request(ctx, &c.flushes, func(ctx context.Context) error {
		paused, err := c.check(ctx, true, false)
		if paused {
			err = errors.Join(err, ErrCheckpointerPaused)
		}
		return err
	})
}

// ForceCheckpoint makes a checkpoint of a version now, after those of the version that is under way, whatever
// the interval is. Each call is served, in the order in which they came, and the version is pinned while it
// waits. What is made so, the checkpointer does not delete by itself.
func (c *ManagedCheckpointer) ForceCheckpoint(ctx context.Context, version uint64) error {
	pin, unpinned := c.ndb.Pin(ctx, version, c.pinOwner(version))
	if unpinned == nil {
		defer c.release(ctx, pin)
	}
	return c.request(ctx, &c.requests, func(ctx context.Context) error {
		parameters, err := c.parameters(ctx)
		if err != nil {
			return err
		}
		return c.checkpoint(ctx, version, unpinned, parameters.ChunkSize)
	})
}

// Wait waits until the checkpointer is idle: it has looked at all notifications that came before the call, and
// what they asked for is made or has failed, as is what Flush and ForceCheckpoint asked for. Paused, it is idle
// when what was under way has ended.
func (c *ManagedCheckpointer) Wait(ctx context.Context) error {
	idle := make(chan error, 1)
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		return ErrCheckpointerEnded
	}
	c.idle = append(c.idle, idle)
	c.mu.Unlock()
	c.signal()
	select {
	case err := <-idle:
		return err
	case <-ctx.Done():
		c.mu.Lock()
		defer c.mu.Unlock()
		c.idle = slices.DeleteFunc(c.idle, func(other chan<- error) bool { return other == idle })
		return ctx.Err()
	}
}

// WaitForCheckpoint waits until all checkpoints of a version are there, or one has failed: then it returns why,
// and it may be made at a later try. A version that was pruned before is db.ErrVersionPruned. For one that no
// checkpoint is asked for, it waits until ctx is done.
func (c *ManagedCheckpointer) WaitForCheckpoint(ctx context.Context, version uint64) error {
	w := &waiter{version: version, outcome: make(chan error, 1)}
	if err := c.request(ctx, &c.requests, func(ctx context.Context) error { return c.expect(ctx, w) }); err != nil {
		return err
	}
	select {
	case err := <-w.outcome:
		return err
	case <-ctx.Done():
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.waiters, w)
		return ctx.Err()
	}
}

// request has the loop do something, and waits for it.
func (c *ManagedCheckpointer) request(ctx context.Context, queue *[]*request, do func(context.Context) error) error {
	r := &request{ctx: ctx, do: do, outcome: make(chan error, 1)}
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		return ErrCheckpointerEnded
	}
	*queue = append(*queue, r)
	c.mu.Unlock()
	c.signal()
	select {
	case err := <-r.outcome:
		return err
	case <-ctx.Done():
	}
	c.mu.Lock()
	i := slices.Index(*queue, r)
	if i >= 0 {
		*queue = slices.Delete(*queue, i, i+1)
	}
	c.mu.Unlock()
	if i >= 0 {
		return ctx.Err()
	}
	return <-r.outcome // it is being served, and ends soon
}

// signal has the loop look at what has changed.
func (c *ManagedCheckpointer) signal() {
	select {
	case c.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// Done is closed when the checkpointer has ended.
func (c *ManagedCheckpointer) Done() <-chan struct{} { return c.done }

// Close ends the checkpointer, and waits until it has.
func (c *ManagedCheckpointer) Close() error {
	c.cancel()
	<-c.done
	return nil
}

// loop is the checkpointer's goroutine.
func (c *ManagedCheckpointer) loop() {
	defer c.end()
	var ticks <-chan time.Time
	if c.cfg.CheckInterval > 0 {
		ticker := time.NewTicker(c.cfg.CheckInterval)
		defer ticker.Stop()
		ticks = ticker.C
	}
	for {
		c.tellIdle()
		var delayed <-chan time.Time
		if c.delay != nil {
			delayed = c.delay.C
		}
		select {
		case <-c.ctx.Done():
			return
		case <-c.wake:
			c.serve(&c.requests)
			if c.take(&c.turned) {
				c.turn()
			}
			if c.take(&c.notified) {
				c.look(false, true)
			}
			c.serve(&c.flushes)
		case <-ticks:
			c.look(true, true)
		case <-delayed:
			c.look(true, false)
		}
	}
}

// take returns a flag, and resets it.
func (c *ManagedCheckpointer) take(flag *bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := *flag
	*flag = false
	return was
}

// serve does what is in a queue, in order, until nothing is.
func (c *ManagedCheckpointer) serve(queue *[]*request) {
	for c.ctx.Err() == nil {
		c.mu.Lock()
		if len(*queue) == 0 {
			c.mu.Unlock()
			return
		}
		r := (*queue)[0]
		*queue = slices.Delete(*queue, 0, 1)
		c.mu.Unlock()

		ctx, cancel := context.WithCancel(r.ctx)
		stop := context.AfterFunc(c.ctx, cancel)
		r.outcome <- r.do(ctx)
		stop()
		cancel()
	}
}

// turn does what Pause asks for.
func (c *ManagedCheckpointer) turn() {
	if c.isPaused() {
		c.stopDelay()
		c.unpin(nil)
		return
	}
	c.look(true, true)
}

// tellIdle tells those that wait for it that nothing is to be done.
func (c *ManagedCheckpointer) tellIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil || c.delay != nil || c.notified || c.turned || len(c.requests) > 0 || len(c.flushes) > 0 {
		return
	}
	for _, idle := range c.idle {
		idle <- nil
	}
	c.idle = nil
}

// end leaves nobody waiting, and no version pinned.
func (c *ManagedCheckpointer) end() {
	c.cancel()
	c.stopDelay()
	c.unpin(nil)
	c.mu.Lock()
	c.ended = true
	for _, r := range slices.Concat(c.requests, c.flushes) {
		r.outcome <- ErrCheckpointerEnded
	}
	for _, idle := range c.idle {
		idle <- ErrCheckpointerEnded
	}
	for w := range c.waiters {
		w.outcome <- ErrCheckpointerEnded
	}
	for s := range c.watchers {
		s.end(ErrCheckpointerEnded)
	}
	c.requests, c.flushes, c.idle = nil, nil, nil
	clear(c.waiters)
	clear(c.watchers)
	c.mu.Unlock()
	close(c.done)
}

// look is a check that nobody waits for.
func (c *ManagedCheckpointer) look(thorough, mayDelay bool) {
	if _, err := c.check(c.ctx, thorough, mayDelay); err != nil && c.ctx.Err() == nil {
		c.logger.Error("checkpointing failed; it will be tried again", "err", err)
	}
}

func (c *ManagedCheckpointer) parameters(ctx context.Context) (*CreationParameters, error) {
	if c.cfg.Parameters != nil {
		return c.cfg.Parameters, nil
	}
	parameters, err := c.cfg.GetParameters(ctx)
	if err != nil {
		return nil, fmt.Errorf("getting the parameters: %w", err)
	}
	if parameters == nil {
		return nil, errors.New("getting the parameters: there are none")
	}
	return parameters, nil
}
