package crash

import (
	"context"
	"sync"

	"github.com/ckpt-project/ckpt/conformance"
	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// remote is the process of a database that lives in one of its own: the operations are done here, and it
// is the database that dies.
type remote struct {
	worker
	harness *conformance.Harness

	mu     sync.Mutex
	opened db.NodeDB
	killed bool
}

func newRemote(h *conformance.Harness) *remote {
	r := &remote{harness: h}
	r.open = func(ctx context.Context, cfg *db.Config) (db.NodeDB, error) {
		ndb, err := h.Open(ctx, cfg)
		if err != nil {
			return nil, err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.opened = ndb; r.killed { // while it was opened
			return nil, errors.Join(db.ErrUnavailable, h.Crash(ndb))
		}
		return ndb, nil
	}
	return r
}

func (r *remote) do(ctx context.Context, ops []op, answered func(answer)) error {
	var mu sync.Mutex
	doAll(ctx, &r.worker, ops, func(a answer) {
		mu.Lock()
		defer mu.Unlock()
		answered(a)
	})
	return nil
}

func (r *remote) kill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.killed = true; r.opened != nil {
		_ = r.harness.Crash(r.opened) // it may have closed, and be gone
	}
}

// end lets go of what is left of a database whose process was killed; one that was closed has nothing.
func (r *remote) end() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.opened == nil {
		return nil
	}
	err := r.opened.Close(context.Background())
	if errors.Is(err, db.ErrClosed) || errors.Is(err, db.ErrUnavailable) {
		return nil
	}
	return err
}
