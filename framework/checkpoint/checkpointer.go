package checkpoint

import (
	"context"
	"errors"
	"fmt"
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
// make itself, as far as that is known (see Inspector).
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

// ManagedCheckpointer is a Checkpointer that can be asked and waited for. Its methods may be called by
// any number of goroutines.
type ManagedCheckpointer struct {
	ndb     db.NodeDB
	creator Creator
	cfg     CheckpointerConfig
	logger  hclog.Logger
	events  func(Event)

	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}

	// notified holds a value when a notification has yet to be looked at.
	notified chan struct{}
	requests chan request

	// planned is what the last look at a notification came to; only the loop uses it.
	planned    plan
	everLooked bool
}

// request is a caller's wish, and where its outcome goes.
type request struct {
	ctx     context.Context
	do      func(ctx context.Context) error
	outcome chan<- error
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
		done:     make(chan struct{}),
		notified: make(chan struct{}, 1),
		requests: make(chan request),
	}
	for _, opt := range opts {
		opt(c)
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
	select {
	case c.notified <- struct{}{}:
	default: // one is waiting: what it looks at is the database, with this version in it
	}
}

// Flush does now what there is to do, after what is being done, and returns what went wrong with it.
func (c *ManagedCheckpointer) Flush(ctx context.Context) error {
	return c.request(ctx, func(ctx context.Context) error { return c.check(ctx, true) })
}

// ForceCheckpoint makes a checkpoint of a version now, after what is being done, whatever the interval
// is. What is made so, the checkpointer does not delete by itself.
func (c *ManagedCheckpointer) ForceCheckpoint(ctx context.Context, version uint64) error {
	return c.request(ctx, func(ctx context.Context) error {
		parameters, err := c.parameters(ctx)
		if err != nil {
			return err
		}
		return c.checkpoint(ctx, version, parameters.ChunkSize)
	})
}

// request has the loop do something, and waits for it.
func (c *ManagedCheckpointer) request(ctx context.Context, do func(context.Context) error) error {
	outcome := make(chan error, 1)
	select {
	case c.requests <- request{ctx: ctx, do: do, outcome: outcome}:
	case <-ctx.Done():
		return ctx.Err()
	case <-c.done:
		return ErrCheckpointerEnded
	}
	return <-outcome // the loop ends soon when either context does
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
	defer close(c.done)
	defer c.cancel()
	var ticks <-chan time.Time
	if c.cfg.CheckInterval > 0 {
		ticker := time.NewTicker(c.cfg.CheckInterval)
		defer ticker.Stop()
		ticks = ticker.C
	}
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-c.notified:
			c.report(c.check(c.ctx, false))
		case <-ticks:
			c.report(c.check(c.ctx, true))
		case r := <-c.requests:
			ctx, cancel := context.WithCancel(r.ctx)
			stop := context.AfterFunc(c.ctx, cancel)
			r.outcome <- r.do(ctx)
			stop()
			cancel()
		}
	}
}

func (c *ManagedCheckpointer) report(err error) {
	if err != nil && c.ctx.Err() == nil {
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
