package plugin

import (
	"context"
	stderrors "errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// supervised is a NodeDB that survives the process it is in. It is a chain of databases, one in each
// process, of which calls see the present one: that is set when all pins are in force in it, and so no
// call of any kind, and none that prunes, comes between.
type supervised struct {
	s    *Supervisor
	cfg  db.Config
	info db.Info

	// life ends when the database is closed or has failed for good.
	life context.Context
	end  context.CancelFunc

	mu sync.Mutex
	// present is the database that can be asked; nil while it is being opened again.
	present *incarnation
	// changed is closed, and replaced, when present is set, and when it won't be any more.
	changed chan struct{}
	failed  error // why it can't be asked any more
	closed  bool
	pins    map[*supervisedPin]struct{}
	latest  latestVersion
}

var _ db.NodeDB = (*supervised)(nil)

// incarnation is a database in one of the processes.
type incarnation struct {
	db.NodeDB
	process *Process
}

// latestVersion is a database's latest finalized version, as far as somebody was told.
type latestVersion struct {
	version uint64
	any     bool
}

func newSupervised(s *Supervisor, cfg db.Config) *supervised {
	d := &supervised{s: s, cfg: cfg, changed: make(chan struct{}), pins: map[*supervisedPin]struct{}{}}
	d.life, d.end = context.WithCancel(s.life)
	return d
}

// ask returns the database that can be asked, and waits for it where it is being opened again.
func (d *supervised) ask(ctx context.Context) (*incarnation, error) {
	for {
		d.mu.Lock()
		in, changed, failed, closed := d.present, d.changed, d.failed, d.closed
		d.mu.Unlock()
		switch {
		case closed:
			return nil, db.ErrClosed
		case failed != nil:
			return nil, failed
		case in != nil && !in.process.over():
			return in, nil
		}
		if err := await(ctx, changed); err != nil {
			return nil, err
		}
	}
}

// failure makes of an error of in's what this database returns: who didn't close it must not be told that
// it is closed, where a process has closed it on its way out.
func (d *supervised) failure(in *incarnation, err error) error {
	if err == nil || !errors.Is(err, db.ErrClosed) {
		return err
	}
	d.mu.Lock()
	closed := d.closed
	d.mu.Unlock()
	if closed {
		return err
	}
	return in.process.unavailable()
}

// openIn opens the database in a process, and asks for its latest version.
func (d *supervised) openIn(ctx context.Context, p *Process) (ndb db.NodeDB, latest latestVersion, err error) {
	ndb, err = p.Open(ctx, &d.cfg)
	if err == nil {
		if latest.version, latest.any, err = ndb.GetLatestVersion(ctx); err != nil {
			d.drop(ndb)
		}
	}
	if errors.Is(err, db.ErrClosed) && !d.s.isClosed() {
		err = p.unavailable()
	}
	return ndb, latest, err
}

// drop closes a database that was opened and is not used.
func (d *supervised) drop(ndb db.NodeDB) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(d.life), abortTimeout)
	defer cancel()
	if err := ndb.Close(ctx); err != nil && !errors.Is(err, db.ErrUnavailable) && !errors.Is(err, db.ErrClosed) {
		d.s.logger.Warn("closing a database that nobody uses", "error", err)
	}
}

// lose notes that the process has gone.
func (d *supervised) lose() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.present = nil
}

// mourn ends a database whose data was in the process that has gone: another one would pretend to be it.
func (d *supervised) mourn(p *Process) {
	if d.info.Capabilities.Durable {
		return
	}
	d.s.logger.Error("a database's data is lost: it was in the process that has gone", "backend", d.info.Backend)
	d.fail(&givenUp{fmt.Errorf("the data is lost: a database of backend %q lives as long as its process, and %s",
		d.info.Backend, p.child.ending())})
}

// fail notes that the database can't be asked any more. The first reason counts.
func (d *supervised) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failed != nil || d.closed {
		return
	}
	d.failed = err
	d.tell()
	d.end()
}

// tell wakes who waits for a change, under mu.
func (d *supervised) tell() {
	close(d.changed)
	d.changed = make(chan struct{})
}

// reopen opens the database in the next process, until that goes or the database is refused.
func (d *supervised) reopen(p *Process) {
	tries := failures{restarts: d.s.restarts}
	for {
		err := d.tryReopen(p)
		if err == nil || d.life.Err() != nil || p.over() {
			return
		}
		pause, again := tries.add(time.Now())
		if !again || refused(err) {
			d.s.logger.Error("a database can't be opened again", "dir", d.cfg.Dir, "error", err)
			d.fail(&givenUp{fmt.Errorf("its process has gone, and it can't be opened again: %w", err)})
			return
		}
		d.s.logger.Warn("a database is opened again once more", "dir", d.cfg.Dir, "in", pause, "error", err)
		if !pauseFor(d.life, pause) {
			return
		}
	}
}

// refused says that an open failed in a way that trying again soon does not change.
func refused(err error) bool {
	for _, final := range []error{
		db.ErrLocked, db.ErrForeign, db.ErrFormatVersion, db.ErrCorrupted, db.ErrBadNamespace, db.ErrBadSettings,
		db.ErrReadOnly, db.ErrMalformed, db.ErrUnsupported, errAnother,
	} {
		if errors.Is(err, final) {
			return true
		}
	}
	return false
}

// tryReopen opens the database in a process, renews the pins in it, and lets calls go to it.
func (d *supervised) tryReopen(p *Process) error {
	ndb, latest, err := d.openIn(d.life, p)
	if err != nil {
		return err
	}
	err = d.compare(ndb.Info(), latest)
	if err == nil {
		err = d.renew(&incarnation{ndb, p})
	}
	if err != nil {
		d.drop(ndb)
	}
	return err
}

// errAnother is the reason where what was opened again is not what it was.
var errAnother = stderrors.New("it is not the database that it was")

// compare sees that the database is the one that it was, with all that was finalized.
func (d *supervised) compare(info db.Info, latest latestVersion) error {
	want := d.info
	want.BackendVersion = info.BackendVersion // a program may have been replaced meanwhile
	if info != want {
		return fmt.Errorf("%w: it was %+v, and is %+v", errAnother, want, info)
	}
	d.mu.Lock()
	known := d.latest
	d.mu.Unlock()
	switch {
	case known.any && !latest.any:
		return fmt.Errorf("%w: its latest version was %d, and it is empty", errAnother, known.version)
	case known.any && latest.version < known.version:
		return fmt.Errorf("%w: its latest version was %d, and is %d", errAnother, known.version, latest.version)
	}
	return nil
}

// sawLatest notes a version that somebody was told to be finalized.
func (d *supervised) sawLatest(version uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.latest.any || version > d.latest.version {
		d.latest = latestVersion{version, true}
	}
}

// renew makes in the database that can be asked, when all pins that are held are in force in it, and none
// that isn't.
func (d *supervised) renew(in *incarnation) error {
	renewed := map[*supervisedPin]db.Pin{}
	for {
		d.mu.Lock()
		var missing *supervisedPin
		for p := range d.pins {
			if renewed[p] == nil {
				missing = p
			}
		}
		stale := maps.Clone(renewed)
		maps.DeleteFunc(stale, func(p *supervisedPin, _ db.Pin) bool { _, held := d.pins[p]; return held })
		if missing == nil && len(stale) == 0 {
			defer d.mu.Unlock()
			if d.closed || d.failed != nil {
				return db.ErrClosed
			}
			for p, pin := range renewed {
				p.pin, p.in = pin, in
			}
			d.present = in
			d.tell()
			d.s.logger.Info("a database is open again", "dir", d.cfg.Dir, "pins", len(renewed))
			return nil
		}
		d.mu.Unlock()

		for p, pin := range stale { // released meanwhile
			if err := pin.Release(d.life); err != nil {
				return err
			}
			delete(renewed, p)
		}
		if missing != nil {
			pin, err := in.Pin(d.life, missing.version, missing.owner)
			switch {
			case err == nil:
				renewed[missing] = pin
			case errors.Is(err, db.ErrVersionPruned), errors.Is(err, db.ErrVersionNotFound), errors.Is(err, db.ErrNotFinalized),
				errors.Is(err, db.ErrCorrupted):
				missing.lose(err)
			default:
				return err
			}
		}
	}
}

// Close closes the database. Where it is just not open, because its process has gone, it stays so, and the
// error is db.ErrUnavailable: nothing that was finalized is lost, but nothing was made safe either.
func (d *supervised) Close(ctx context.Context) error {
	err := d.close(ctx)
	d.s.forget(d)
	return err
}

func (d *supervised) close(ctx context.Context) error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return db.ErrClosed
	}
	in, failed := d.present, d.failed
	d.closed, d.present = true, nil
	d.tell()
	d.mu.Unlock()
	d.end()
	switch {
	case failed != nil:
		return failed
	case in == nil:
		return fmt.Errorf("plugin: database was not closed cleanly: %w: its process has gone", db.ErrUnavailable)
	}
	if err := in.Close(ctx); errors.Is(err, db.ErrClosed) { // by the end of its process
		return fmt.Errorf("plugin: database was not closed cleanly: %w", in.process.unavailable())
	} else if err != nil {
		return err
	}
	return nil
}
