package plugin

import (
	"context"
	stderrors "errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// farewellTimeout is how long a process that ended its session by itself may take to close its databases
// before it is ended: what it allows itself where it is told to end, and a little more.
const farewellTimeout = terminateTimeout + time.Second

// Supervisor keeps a plugin's process running: one that ends is started again, and the databases that
// were opened through it are opened again, with their pins. It is safe for concurrent use.
type Supervisor struct {
	launch   LaunchConfig
	restarts Restarts
	logger   hclog.Logger

	// life ends when Close is called.
	life context.Context
	end  context.CancelFunc
	done chan struct{} // closed when run has returned

	mu sync.Mutex
	// process is the one that runs; nil while there is none.
	process *Process
	// changed is closed, and replaced, when a process was started, and when none will be any more.
	changed   chan struct{}
	failed    error // why there will be no process any more
	closed    bool
	databases map[*supervised]struct{}
	// opening are the goroutines that open databases again; run adds to it and waits for it.
	opening sync.WaitGroup
}

// Supervise starts a plugin and keeps it running until Close, or until it fails more often than restarts
// allows. ctx bounds the first start alone; where that fails, so does Supervise.
func Supervise(ctx context.Context, launch LaunchConfig, restarts Restarts) (*Supervisor, error) {
	launch.Args, launch.Env = slices.Clone(launch.Args), slices.Clone(launch.Env)
	if launch.Logger == nil {
		launch.Logger = hclog.NewNullLogger()
	}
	p, err := Launch(ctx, launch)
	if err != nil {
		return nil, err
	}
	s := &Supervisor{
		launch: launch, restarts: restarts.withDefaults(), logger: launch.Logger,
		done: make(chan struct{}), process: p, changed: make(chan struct{}), databases: map[*supervised]struct{}{},
	}
	s.life, s.end = context.WithCancel(context.Background())
	go s.run(p)
	return s, nil
}

// Open opens a database that survives its process: see "Supervision" in the package's documentation. It
// waits where the process is just being started again. cfg.Logger is not used.
func (s *Supervisor) Open(ctx context.Context, cfg *db.Config) (db.NodeDB, error) {
	again := *cfg
	again.Settings = slices.Clone(cfg.Settings)
	if cfg.Dir != "" {
		dir, err := filepath.Abs(cfg.Dir)
		if err != nil {
			return nil, err
		}
		again.Dir = dir
	}
	p, err := s.running(ctx)
	if err != nil {
		return nil, err
	}
	d := newSupervised(s, again)
	ndb, latest, err := d.openIn(ctx, p)
	if err == nil {
		err = s.adopt(d, &incarnation{ndb, p}, latest)
	}
	if err != nil {
		d.end()
		return nil, err
	}
	return d, nil
}

// adopt puts a database that was opened under supervision.
func (s *Supervisor) adopt(d *supervised, in *incarnation, latest latestVersion) error {
	d.present, d.info, d.latest = in, in.Info(), latest
	s.mu.Lock()
	closed, here := s.closed, s.process == in.process
	if !closed && here {
		s.databases[d] = struct{}{}
	}
	s.mu.Unlock()
	switch {
	case closed:
		return db.ErrClosed
	case !here: // the database has ended with its process
		return in.process.unavailable()
	}
	return nil
}

// running returns the process, and waits for it where it is just being started.
func (s *Supervisor) running(ctx context.Context) (*Process, error) {
	for {
		s.mu.Lock()
		p, changed, failed, closed := s.process, s.changed, s.failed, s.closed
		s.mu.Unlock()
		switch {
		case closed:
			return nil, db.ErrClosed
		case failed != nil:
			return nil, failed
		case p != nil && !p.over():
			return p, nil
		}
		if err := await(ctx, changed); err != nil {
			return nil, err
		}
	}
}

// await waits for a plugin that is being started again.
func await(ctx context.Context, changed <-chan struct{}) error {
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("plugin: waiting for the backend's process, which is being started again: %w", ctx.Err())
	}
}

// PID is the number of the process that runs, for people to read; 0 while there is none.
func (s *Supervisor) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return 0
	}
	return s.process.PID()
}

// Done is closed when no process runs and none will be started any more: after Close, or when the plugin
// has failed too often.
func (s *Supervisor) Done() <-chan struct{} { return s.done }

// Close closes all databases, has the process end, and waits for that, as Process.Close does. Where a
// database's process had gone, and it was not opened again yet, the error is db.ErrUnavailable.
func (s *Supervisor) Close(ctx context.Context) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		<-s.done
		return nil
	}
	s.closed = true
	p, open := s.process, s.databases
	s.databases = nil
	s.tell()
	s.mu.Unlock()
	defer func() { <-s.done }()
	defer s.end()

	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, DefaultCloseTimeout)
		defer cancel()
	}
	var mu sync.Mutex
	var errs []error
	var closing sync.WaitGroup
	for d := range open {
		closing.Go(func() {
			if err := d.close(ctx); err != nil && !errors.Is(err, db.ErrClosed) {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}
		})
	}
	closing.Wait()
	if p != nil {
		errs = append(errs, p.Close(ctx))
	}
	return errors.Join(errs...)
}

func (s *Supervisor) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// forget takes a closed database off the list.
func (s *Supervisor) forget(d *supervised) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.databases, d)
}

// tell wakes who waits for a change, under mu.
func (s *Supervisor) tell() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// run watches over the process, and starts the next one when it ends.
func (s *Supervisor) run(p *Process) {
	defer close(s.done)
	ends := failures{restarts: s.restarts}
	for p != nil {
		select {
		case <-p.client.Lost():
		case <-p.child.done:
		case <-s.life.Done():
		}
		if !s.bury(p) {
			break
		}
		p = s.next(&ends, stderrors.New(p.child.ending()))
	}
	s.opening.Wait()
}

// bury takes a process that has gone away from the databases, and waits until nothing is left of it: what
// it has open must be open no more when the next one is started. It says no after Close, which does that.
func (s *Supervisor) bury(p *Process) bool {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return false
	}
	s.process = nil
	for d := range s.databases {
		d.lose()
	}
	s.mu.Unlock()

	timer := time.NewTimer(farewellTimeout)
	defer timer.Stop()
	select {
	case <-p.child.done:
	case <-timer.C:
	case <-s.life.Done():
	}
	if err := p.Close(s.life); err != nil && !errors.Is(err, db.ErrUnavailable) {
		s.logger.Debug("closing what a plugin's process had open", "error", err)
	}
	s.opening.Wait()

	s.mu.Lock()
	defer s.mu.Unlock()
	for d := range s.databases {
		d.mourn(p)
	}
	return !s.closed
}

// next starts the process after one that failed because of cause. It returns nil where there is none.
func (s *Supervisor) next(ends *failures, cause error) *Process {
	for {
		pause, again := ends.add(time.Now())
		if !again && len(ends.at) > 1 {
			cause = fmt.Errorf("the backend's process failed %d times within %s and is not started again; the last time: %w",
				len(ends.at), s.restarts.Window, cause)
		}
		if !again || errors.Is(cause, ErrChecksum) { // which trying again does not change
			s.giveUp(cause)
			return nil
		}
		s.logger.Warn("the backend's process is started again", "in", pause, "because", cause)
		if !pauseFor(s.life, pause) {
			return nil
		}
		p, err := Launch(s.life, s.launch)
		switch {
		case err == nil && s.publish(p):
			return p
		case err == nil:
			_ = p.Close(s.life) // nothing is open in it
			return nil
		case s.life.Err() != nil:
			return nil
		}
		cause = err
	}
}

// publish makes a process the one that runs, and has the databases opened in it. It says no after Close.
func (s *Supervisor) publish(p *Process) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.process = p
	s.tell()
	for d := range s.databases {
		s.opening.Go(func() { d.reopen(p) })
	}
	return true
}

// giveUp ends the supervision.
func (s *Supervisor) giveUp(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = &givenUp{cause}
	s.tell()
	for d := range s.databases {
		d.fail(s.failed)
	}
}

// givenUp is db.ErrUnavailable and ErrGivenUp, because of cause.
type givenUp struct{ cause error }

func (e *givenUp) Error() string   { return fmt.Sprintf("%v: %v", db.ErrUnavailable, e.cause) }
func (e *givenUp) Unwrap() []error { return []error{db.ErrUnavailable, ErrGivenUp, e.cause} }

// pauseFor waits, and says whether it could: it can't when ctx ends.
func pauseFor(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
