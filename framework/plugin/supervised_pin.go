package plugin

import (
	"context"
	"fmt"

	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// supervisedPin is a pin that is renewed when its database is opened again.
type supervisedPin struct {
	d       *supervised
	version uint64
	owner   string

	// The rest is under d.mu.

	// pin is the pin in in, the database that was present when it was made or renewed last.
	pin      db.Pin
	in       *incarnation
	lost     error // why it could not be renewed
	released bool
}

func (d *supervised) Pin(ctx context.Context, version uint64, owner string) (db.Pin, error) {
	in, err := d.ask(ctx)
	if err != nil {
		return nil, err
	}
	pin, err := in.Pin(ctx, version, owner)
	if err != nil {
		return nil, d.failure(in, err)
	}
	p := &supervisedPin{d: d, version: version, owner: owner, pin: pin, in: in}
	d.mu.Lock()
	closed, here := d.closed, d.present == in
	if !closed && here {
		d.pins[p] = struct{}{}
	}
	d.mu.Unlock()
	switch {
	case closed:
		return nil, db.ErrClosed
	case !here: // it has ended with its process; who renews pins may not have seen it
		return nil, in.process.unavailable()
	}
	return p, nil
}

// Version is the version that is kept.
func (p *supervisedPin) Version() uint64 { return p.version }

// Release ends the pin. Where it had been lost, it says so.
func (p *supervisedPin) Release(ctx context.Context) error {
	p.d.mu.Lock()
	if p.released {
		p.d.mu.Unlock()
		return nil
	}
	if err := ctx.Err(); err != nil {
		p.d.mu.Unlock()
		return err
	}
	p.released = true
	delete(p.d.pins, p)
	pin, in := p.pin, p.in
	here, failed, closed, lost := p.d.present == in, p.d.failed, p.d.closed, p.lost
	p.d.mu.Unlock()
	switch {
	case closed:
		return db.ErrClosed
	case lost != nil:
		return lost
	case failed != nil:
		return failed
	case !here: // and it will not be renewed
		return nil
	}
	err := pin.Release(ctx)
	if err = p.d.failure(in, err); errors.Is(err, db.ErrUnavailable) { // it has ended with its process
		return nil
	}
	return err
}

// lose ends the pin because it can't be renewed.
func (p *supervisedPin) lose(cause error) {
	p.d.s.logger.Error("a pin was lost: the version can't be pinned again since the backend's process has gone",
		"version", p.version, "owner", p.owner, "error", cause)
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	p.lost = fmt.Errorf("plugin: the pin of version %d was lost with the backend's process: %w", p.version, cause)
	delete(p.d.pins, p)
}
