package plugin

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// handle is a database that a host opened. It knows the calls that run in it, so that it can end them
// before it closes the database.
type handle struct {
	ndb    db.NodeDB
	info   db.Info
	logger hclog.Logger

	// closing ends all calls' contexts.
	closing context.Context
	end     context.CancelFunc

	mu     sync.Mutex
	calls  int
	pins   int
	ending bool
	idle   chan struct{} // closed when ending is set and no call runs
	free   chan struct{} // closed when, after that, no pin is held

	closeMu sync.Mutex // one goroutine closes at a time
	closed  bool
}

func newHandle(ndb db.NodeDB, logger hclog.Logger) *handle {
	h := &handle{ndb: ndb, info: ndb.Info(), logger: logger, idle: make(chan struct{}), free: make(chan struct{})}
	h.closing, h.end = context.WithCancel(context.Background())
	return h
}

// call runs f as a call of a method: with a context that also ends when the database is closed, and with
// panics of the backend turned into errors. The error is ready for the wire.
func (h *handle) call(ctx context.Context, method string, f func(ctx context.Context) error) error {
	h.mu.Lock()
	if h.ending {
		h.mu.Unlock()
		return toStatus(db.ErrClosed)
	}
	h.calls++
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.calls--
		h.settle()
	}()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(h.closing, cancel)
	defer stop()

	err := guard(h.logger, method, func() error { return f(ctx) })
	if h.closing.Err() != nil && errors.Is(err, context.Canceled) {
		err = fmt.Errorf("%w while %s ran", db.ErrClosed, method)
	}
	return toStatus(err)
}

// settle tells who waits for the end of calls and pins, under mu, when one has ended.
func (h *handle) settle() {
	if !h.ending || h.calls > 0 {
		return
	}
	if !isClosed(h.idle) {
		close(h.idle)
	}
	if h.pins == 0 && !isClosed(h.free) {
		close(h.free)
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// hold notes that a pin is held, from within the call that made it. The pins of a database that is closed
// are held until its calls have ended: one of these may be about to prune.
func (h *handle) hold() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pins++
}

// release notes that a pin is held no more.
func (h *handle) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pins--
	h.settle()
}

// close ends what runs and closes the database. When ctx ends before, it can be called again.
func (h *handle) close(ctx context.Context) error {
	h.mu.Lock()
	if !h.ending {
		h.ending = true
		h.end()
		h.settle()
	}
	h.mu.Unlock()
	select {
	case <-h.free:
	case <-ctx.Done():
		return fmt.Errorf("plugin: waiting for calls to end: %w", ctx.Err())
	}
	h.closeMu.Lock()
	defer h.closeMu.Unlock()
	if h.closed {
		return db.ErrClosed
	}
	h.closed = true
	return guard(h.logger, "Close", func() error { return h.ndb.Close(ctx) })
}

func (h *handle) isClosed() bool {
	h.closeMu.Lock()
	defer h.closeMu.Unlock()
	return h.closed
}

// guard runs f and turns its panics into errors, faults of mapped memory included: a backend's mistake,
// or a file cut short under its feet, must not take the other databases of the process with it.
func guard(logger hclog.Logger, method string, f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			logger.Error("backend panicked", "method", method, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = fmt.Errorf("%w in %s: %v", ErrPanicked, method, p)
		}
	}()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	return f()
}
