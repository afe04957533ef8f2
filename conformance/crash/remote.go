package crash

import (
	"context"
	"sync"

	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// remoteHost is the process of a database that lives in one of its own: the operations are done here, and it
// is the database that dies.
type remoteHost struct {
	worker
	remote *Remote

	mu     sync.Mutex
	opened db.NodeDB
	killed bool
}

// host is a process that has nothing open yet.
func (h *Remote) host() (host, error) {
	r := &remoteHost{remote: h}
	r.open = func(ctx context.Context, cfg *db.Config) (db.NodeDB, error) {
		ndb, err := h.Open(ctx, cfg)
		if err != nil {
			return nil, err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.opened = ndb; r.killed { // while it was opened
			return nil, errors.Join(db.ErrUnavailable, h.Kill(ndb))
		}
		return ndb, nil
	}
	return r, nil
}

func (r *remoteHost) do(ctx context.Context, ops []op, answered func(answer)) error {
	var mu sync.Mutex
	doAll(ctx, &r.worker, ops, func(a answer) {
		mu.Lock()
		defer mu.Unlock()
		answered(a)
	})
	return nil
}

func (r *remoteHost) kill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.killed = true; r.opened != nil {
		_ = r.remote.Kill(r.opened) // it may have closed, and be gone
	}
}

// end lets go of what is left of a database whose process was killed; one that was closed has nothing.
func (r *remoteHost) end() error {
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
