package checkpoint

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// with starts a checkpointer with options.
func (c *chain) with(t testing.TB, cfg CheckpointerConfig, opts ...CheckpointerOption) *ManagedCheckpointer {
	t.Helper()
	cfg.Name, cfg.Namespace = "test", testNamespace(t)
	m, err := NewManagedCheckpointer(t.Context(), c.ndb, c.creator, cfg, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// withRandom sets where the jitter's share of its limit comes from, a number from 0 to below 1. It is called by the
// checkpointer's goroutine.
func withRandom(random func() float64) CheckpointerOption {
	return func(m *ManagedCheckpointer) { m.random = random }
}

func held(c *chain) *failingCreator {
	f := &failingCreator{Creator: c.creator, coming: make(chan uint64, 100), reached: make(chan uint64)}
	c.creator = f
	return f
}

func pinned(t testing.TB, ndb db.NodeDB) (versions []uint64) {
	t.Helper()
	pins, err := ndb.Pins(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pins {
		versions = append(versions, p.Version)
	}
	slices.Sort(versions)
	return slices.Compact(versions)
}

func wait(t testing.TB, m *ManagedCheckpointer) {
	t.Helper()
	if err := m.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestPause checks that a pause lets the version under way end, with all of its roots, that nothing is begun or
// deleted then but what is forced, and that all is made up for.
func TestPause(t *testing.T) {
	c := newChain(t)
	f := held(c)
	c.grow(t, 1, 20, true)
	m := c.with(t, CheckpointerConfig{RootsPerVersion: 2, Parameters: &CreationParameters{Interval: 10, NumKept: 2}})
	m.NotifyNewVersion(20)
	<-f.coming // the first root of 20 is being made
	m.Pause(true)
	m.Pause(true) // which changes nothing
	<-f.reached
	<-f.reached // the second root
	wait(t, m)
	c.check(t, 20, 20)
	if got := pinned(t, c.ndb); len(got) != 0 {
		t.Errorf("versions %v are pinned during a pause", got)
	}

	c.grow(t, 21, 40, true)
	m.NotifyNewVersion(40)
	wait(t, m)
	c.check(t, 20, 20)
	if err := m.Flush(t.Context()); !errors.Is(err, ErrCheckpointerPaused) {
		t.Errorf("flush during a pause: %v", err)
	}
	c.check(t, 20, 20)
	f.mu.Lock()
	f.reached, f.coming = nil, nil
	f.mu.Unlock()
	if err := m.ForceCheckpoint(t.Context(), 33); err != nil {
		t.Error(err)
	}
	c.check(t, 33, 33, 20, 20)

	m.Pause(false)
	wait(t, m)
	c.check(t, 40, 40, 33, 33, 30, 30)
}

// TestPauseDoesNotBlock checks that a pause can be had while the loop waits for nothing, while it works, and when
// it has ended.
func TestPauseDoesNotBlock(t *testing.T) {
	c := newChain(t)
	f := held(c)
	c.grow(t, 1, 1, false)
	m := c.with(t, CheckpointerConfig{Parameters: &CreationParameters{Interval: 1, NumKept: 2}})
	for _, pause := range []bool{true, false, true, false} {
		m.Pause(pause)
	}
	m.NotifyNewVersion(1)
	<-f.coming
	for _, pause := range []bool{true, false, true, false} {
		m.Pause(pause)
	}
	<-f.reached
	wait(t, m)
	c.check(t, 1)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	m.Pause(true)
}

// TestPauseWhileCheckGoesOn checks that a pause takes effect between two versions of one check.
func TestPauseWhileCheckGoesOn(t *testing.T) {
	c := newChain(t)
	f := held(c)
	c.grow(t, 1, 3, false)
	m := c.with(t, CheckpointerConfig{Parameters: &CreationParameters{Interval: 1, NumKept: 3}})
	outcome := make(chan error, 1)
	go func() { outcome <- m.Flush(t.Context()) }()
	<-f.coming
	m.Pause(true)
	<-f.reached
	if err := <-outcome; !errors.Is(err, ErrCheckpointerPaused) {
		t.Errorf("flush that was paused: %v", err)
	}
	c.check(t, 3)
	m.Pause(false)
	<-f.reached
	<-f.reached
	wait(t, m)
	c.check(t, 3, 2, 1)
}

// TestWatchCheckpoints checks that a version is told of when all of its checkpoints are there, and not before.
func TestWatchCheckpoints(t *testing.T) {
	c := newChain(t)
	f := held(c)
	c.grow(t, 1, 3, true)
	f.failOne = c.roots[2][1]
	m := c.with(t, CheckpointerConfig{RootsPerVersion: 2, Parameters: &CreationParameters{Interval: 1, NumKept: 2}})
	versions, s, err := m.WatchCheckpoints()
	if err != nil {
		t.Fatal(err)
	}
	closed, other, err := m.WatchCheckpoints()
	if err != nil {
		t.Fatal(err)
	}
	other.Close()
	other.Close()
	if v, ok := <-closed; ok || other.Err() != nil {
		t.Errorf("version %d of a subscription that was closed, %v", v, other.Err())
	}
	m.NotifyNewVersion(3)
	<-f.reached // the first root of 3
	<-f.coming
	<-f.coming // the second one has begun
	select {
	case v := <-versions:
		t.Errorf("version %d is told of with a root missing", v)
	default:
	}
	<-f.reached
	if v := <-versions; v != 3 {
		t.Errorf("told of version %d, want 3", v)
	}
	<-f.reached
	<-f.reached // the roots of 2, of which one fails
	wait(t, m)
	select {
	case v := <-versions:
		t.Errorf("version %d is told of", v)
	default:
	}
	if err := m.ForceCheckpoint(t.Context(), 3); err != nil { // which are there
		t.Error(err)
	}
	go func() { <-f.reached; <-f.reached }()
	if err := m.ForceCheckpoint(t.Context(), 1); err != nil {
		t.Error(err)
	}
	if v := <-versions; v != 1 {
		t.Errorf("told of version %d, want 1", v)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if v, ok := <-versions; ok || !errors.Is(s.Err(), ErrCheckpointerEnded) {
		t.Errorf("version %d after the end, %v", v, s.Err())
	}
	s.Close()
	if _, _, err := m.WatchCheckpoints(); !errors.Is(err, ErrCheckpointerEnded) {
		t.Errorf("a watch after the end: %v", err)
	}
}

// TestSlowWatcher checks that a watcher that does not receive keeps nothing up, and learns that it missed some.
func TestSlowWatcher(t *testing.T) {
	c := newChain(t)
	c.grow(t, 1, 1, false)
	hiding := &hidingCreator{Creator: c.creator} // what it makes can be made again
	c.creator = hiding
	m := c.with(t, CheckpointerConfig{Parameters: &CreationParameters{Interval: 1, NumKept: 1}})
	slow, s, err := m.WatchCheckpoints()
	if err != nil {
		t.Fatal(err)
	}
	quick, other, err := m.WatchCheckpoints()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for range watchBuffer + 5 {
		if err := m.ForceCheckpoint(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		if v, ok := <-quick; !ok || v != 1 {
			t.Fatalf("the quick one got %d, %v: %v", v, ok, other.Err())
		}
	}
	received := 0
	for range slow {
		received++
	}
	if received != watchBuffer || !errors.Is(s.Err(), ErrWatcherTooSlow) {
		t.Errorf("received %d, %v", received, s.Err())
	}
}

// TestWait checks that a wait sees what was asked for before it, and that it can be given up.
func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChain(t)
		f := held(c)
		c.grow(t, 1, 2, false)
		m := c.with(t, CheckpointerConfig{Parameters: &CreationParameters{Interval: 1, NumKept: 2}})
		wait(t, m)
		m.NotifyNewVersion(2)
		outcome := make(chan error, 1)
		go func() { outcome <- m.Wait(t.Context()) }()
		<-f.reached
		<-f.coming
		<-f.coming // the second version is being made
		select {
		case err := <-outcome:
			t.Errorf("idle while a checkpoint is made: %v", err)
		default:
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := m.Wait(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("a wait that was given up: %v", err)
		}
		<-f.reached
		if err := <-outcome; err != nil {
			t.Error(err)
		}
		c.check(t, 2, 1)

		c.grow(t, 3, 3, false)
		m.NotifyNewVersion(3)
		<-f.coming
		go func() { outcome <- m.Wait(t.Context()) }()
		synctest.Wait()
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-outcome; !errors.Is(err, ErrCheckpointerEnded) {
			t.Errorf("a wait when it ends: %v", err)
		}
		if err := m.Wait(t.Context()); !errors.Is(err, ErrCheckpointerEnded) {
			t.Errorf("a wait after the end: %v", err)
		}
	})
}

// TestWaitForCheckpoint goes through what can become of a version that somebody waits for, before and while.
func TestWaitForCheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		c := newChain(t)
		f := held(c)
		f.fail = map[uint64]bool{20: true}
		c.grow(t, 1, 20, true)
		m := c.with(t, CheckpointerConfig{RootsPerVersion: 2, Parameters: &CreationParameters{Interval: 10, NumKept: 3}})
		waits := make(map[uint64]chan error)
		for _, v := range []uint64{10, 20, 30} {
			outcome := make(chan error, 1)
			waits[v] = outcome
			go func() { outcome <- m.WaitForCheckpoint(ctx, v) }()
		}
		synctest.Wait()
		m.NotifyNewVersion(20)
		<-f.reached
		<-f.reached // the roots of 20
		if err := <-waits[20]; !errors.Is(err, errTest) {
			t.Errorf("a checkpoint that failed: %v", err)
		}
		<-f.reached // the first root of 10
		select {
		case err := <-waits[10]:
			t.Errorf("there with a root missing: %v", err)
		default:
		}
		<-f.reached
		if err := <-waits[10]; err != nil {
			t.Error(err)
		}
		if err := m.WaitForCheckpoint(ctx, 10); err != nil {
			t.Errorf("it is there: %v", err)
		}
		if err := m.WaitForCheckpoint(ctx, 20); !errors.Is(err, errTest) {
			t.Errorf("it has failed: %v", err)
		}
		f.mu.Lock()
		f.fail, f.reached, f.coming = nil, nil, nil
		f.mu.Unlock()
		flush(t, m)
		if err := m.WaitForCheckpoint(ctx, 20); err != nil {
			t.Errorf("it was made at a later try: %v", err)
		}
		c.grow(t, 21, 30, true)
		m.NotifyNewVersion(30)
		if err := <-waits[30]; err != nil {
			t.Error(err)
		}

		pruned := make(chan error, 1)
		go func() { pruned <- m.WaitForCheckpoint(ctx, 15) }()
		synctest.Wait()
		if _, err := c.ndb.PruneBefore(ctx, 25); err != nil {
			t.Fatal(err)
		}
		flush(t, m)
		if err := <-pruned; !errors.Is(err, db.ErrVersionPruned) {
			t.Errorf("a version that was pruned meanwhile: %v", err)
		}
		if err := m.WaitForCheckpoint(ctx, 15); !errors.Is(err, db.ErrVersionPruned) {
			t.Errorf("a version that was pruned: %v", err)
		}
		if err := m.WaitForCheckpoint(ctx, 10); err != nil {
			t.Errorf("a version that was pruned, and has its checkpoints: %v", err)
		}

		given, cancel := context.WithCancel(ctx)
		outcome := make(chan error, 2)
		go func() { outcome <- m.WaitForCheckpoint(given, 99) }()
		go func() { outcome <- m.WaitForCheckpoint(ctx, 98) }()
		cancel()
		if err := <-outcome; !errors.Is(err, context.Canceled) {
			t.Errorf("a wait that was given up: %v", err)
		}
		wait(t, m)
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-outcome; !errors.Is(err, ErrCheckpointerEnded) {
			t.Errorf("a wait when it ends: %v", err)
		}
		if len(m.waiters) != 0 {
			t.Errorf("%d are left waiting", len(m.waiters))
		}
	})
}

// TestInitialVersion checks that the initial version's checkpoint is made and kept, beside as many as are to be
// kept, and that intervals are counted from it.
func TestInitialVersion(t *testing.T) {
	c := newChain(t)
	c.grow(t, 1, 8, false)
	m := c.with(t, CheckpointerConfig{Parameters: &CreationParameters{Interval: 5, NumKept: 2}}, WithInitialVersion(3))
	flush(t, m)
	c.check(t, 8, 3)
	c.grow(t, 9, 30, false)
	flush(t, m)
	c.check(t, 28, 23, 3)
	if _, err := c.ndb.PruneBefore(t.Context(), 25); err != nil { // the version goes, and its checkpoint stays
		t.Fatal(err)
	}
	c.grow(t, 31, 40, false)
	flush(t, m)
	c.check(t, 38, 33, 3)
}

// TestSurplusIsCountedBySchedule checks that checkpoints which are kept for other reasons are not counted: of a
// version that fails, and two to be kept, the two before it stay.
func TestSurplusIsCountedBySchedule(t *testing.T) {
	c := newChain(t)
	f := &failingCreator{Creator: c.creator, fail: map[uint64]bool{30: true}}
	c.creator = f
	c.grow(t, 1, 20, false)
	m := c.with(t, CheckpointerConfig{Parameters: &CreationParameters{Interval: 10, NumKept: 2}})
	flush(t, m)
	c.grow(t, 21, 30, false)
	for _, v := range []uint64{24, 25} {
		if err := m.ForceCheckpoint(t.Context(), v); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Flush(t.Context()); !errors.Is(err, errTest) {
		t.Errorf("flush: %v", err)
	}
	c.check(t, 25, 24, 20, 10)
}

// TestJitter checks that what is due waits for its share of the limit, once, that what comes meanwhile is made
// with it, and that no version is pruned before.
func TestJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChain(t)
		shares := []float64{0.5, 0, 0.999}
		m := c.with(t, CheckpointerConfig{Parameters: &CreationParameters{Interval: 10, NumKept: 2}},
			WithJitter(time.Hour), withRandom(func() float64 {
				share := shares[0]
				shares = shares[1:]
				return share
			}))
		began := time.Now()
		c.grow(t, 1, 10, false)
		m.NotifyNewVersion(10)
		synctest.Wait()
		time.Sleep(20 * time.Minute)
		c.check(t)
		if _, err := c.ndb.PruneBefore(t.Context(), 5); err != nil {
			t.Errorf("versions that nobody wants: %v", err)
		}
		c.grow(t, 11, 25, false)
		m.NotifyNewVersion(25)
		synctest.Wait()
		if _, err := c.ndb.PruneBefore(t.Context(), 11); !errors.Is(err, db.ErrVersionPinned) {
			t.Errorf("a version that is to have a checkpoint was pruned: %v", err)
		}
		if got := pinned(t, c.ndb); !slices.Equal(got, []uint64{10, 20}) {
			t.Errorf("versions %v are pinned", got)
		}
		c.check(t)
		wait(t, m)
		if took := time.Since(began); took != 30*time.Minute {
			t.Errorf("made after %s, want half an hour", took)
		}
		c.check(t, 20, 10)
		if got := pinned(t, c.ndb); len(got) != 0 {
			t.Errorf("versions %v are pinned", got)
		}

		// A share of nothing is at once.
		began = time.Now()
		c.grow(t, 26, 30, false)
		m.NotifyNewVersion(30)
		wait(t, m)
		if took := time.Since(began); took != 0 {
			t.Errorf("made after %s", took)
		}
		c.check(t, 30, 20)

		// Who asks does not wait, and has made what waited.
		began = time.Now()
		c.grow(t, 31, 40, false)
		m.NotifyNewVersion(40)
		synctest.Wait()
		if err := m.ForceCheckpoint(t.Context(), 35); err != nil {
			t.Error(err)
		}
		c.check(t, 35, 30, 20)
		flush(t, m)
		if took := time.Since(began); took != 0 {
			t.Errorf("made after %s", took)
		}
		c.check(t, 40, 35, 30)
		wait(t, m)
		if len(shares) != 0 {
			t.Errorf("%d delays did not come", len(shares))
		}
	})
}

// TestJitterIsPaused checks that a pause during the delay lets go of the versions, and that they are made later.
func TestJitterIsPaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChain(t)
		c.grow(t, 1, 10, false)
		m := c.with(t, CheckpointerConfig{Parameters: &CreationParameters{Interval: 10, NumKept: 2}}, WithJitter(time.Hour))
		m.NotifyNewVersion(10)
		synctest.Wait()
		m.Pause(true)
		synctest.Wait()
		if got := pinned(t, c.ndb); len(got) != 0 {
			t.Errorf("versions %v are pinned", got)
		}
		time.Sleep(2 * time.Hour)
		c.check(t)
		m.Pause(false)
		wait(t, m)
		c.check(t, 10)
	})
}

// TestFlushGivenUpDuringJitter checks that what waited is made although the flush that was to make it has gone.
func TestFlushGivenUpDuringJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChain(t)
		f := held(c)
		c.grow(t, 1, 10, false)
		m := c.with(t, CheckpointerConfig{Parameters: &CreationParameters{Interval: 10, NumKept: 2}},
			WithJitter(time.Hour), withRandom(func() float64 { return 0.5 }))
		m.NotifyNewVersion(10)
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		outcome := make(chan error, 1)
		go func() { outcome <- m.Flush(ctx) }()
		<-f.coming
		cancel()
		if err := <-outcome; !errors.Is(err, context.Canceled) {
			t.Errorf("flush: %v", err)
		}
		synctest.Wait()
		if got := pinned(t, c.ndb); !slices.Equal(got, []uint64{10}) {
			t.Errorf("versions %v are pinned", got)
		}
		<-f.reached
		wait(t, m)
		c.check(t, 10)
	})
}

// TestFlushGivenUpBetweenVersions checks that a flush whose context ends when one of two versions is made does not
// say that all is.
func TestFlushGivenUpBetweenVersions(t *testing.T) {
	c := newChain(t)
	c.grow(t, 1, 2, false)
	ctx, cancel := context.WithCancel(t.Context())
	m := c.with(t, CheckpointerConfig{Parameters: &CreationParameters{Interval: 1, NumKept: 2}}, WithEvents(func(e Event) {
		if e.Kind == EventFinished {
			cancel()
		}
	}))
	if err := m.Flush(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("flush: %v", err)
	}
	wait(t, m)
	c.check(t, 2, 1)
}

func TestNegativeJitter(t *testing.T) {
	ndb := openDB(t)
	if _, err := NewManagedCheckpointer(t.Context(), ndb, newCreator(t, t.TempDir(), ndb), CheckpointerConfig{
		Namespace: testNamespace(t), Parameters: &CreationParameters{},
	}, WithJitter(-1)); err == nil {
		t.Error("a negative jitter is no error")
	}
}

// pruningCreator prunes all that can be pruned before each checkpoint, as another process might.
type pruningCreator struct {
	Creator
	ndb db.NodeDB

	mu       sync.Mutex
	failures []error
}

func (p *pruningCreator) prune(ctx context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		earliest, _, err := p.ndb.GetEarliestVersion(ctx)
		if err == nil {
			err = p.ndb.Prune(ctx, earliest)
		}
		if err != nil {
			p.failures = append(p.failures, err)
			return
		}
	}
}

// TestPinnedFromTheDecision checks that whatever is pruned while checkpoints are made, those that were decided on
// get theirs, with all of their roots.
func TestPinnedFromTheDecision(t *testing.T) {
	c := newChain(t)
	f := held(c)
	p := &pruningCreator{Creator: c.creator, ndb: c.ndb}
	c.creator = p
	c.grow(t, 1, 35, true)
	m := c.with(t, CheckpointerConfig{RootsPerVersion: 2, Parameters: &CreationParameters{Interval: 10, NumKept: 3}})
	m.NotifyNewVersion(35)
	idle := make(chan error, 1)
	go func() { idle <- m.Wait(t.Context()) }()
	for made := range 6 {
		select {
		case <-f.coming:
		case err := <-idle:
			t.Fatalf("only %d checkpoints of 6 are made, %v", made, err)
		}
		p.prune(t.Context())
		if v := <-f.reached; v%10 != 0 {
			t.Errorf("made version %d", v)
		}
	}
	if err := <-idle; err != nil {
		t.Error(err)
	}
	c.check(t, 30, 30, 20, 20, 10, 10)
	p.prune(t.Context())
	if earliest, _, err := c.ndb.GetEarliestVersion(t.Context()); err != nil || earliest != 35 {
		t.Errorf("afterwards the earliest version is %d, %v", earliest, err)
	}
	for _, err := range p.failures {
		if !errors.Is(err, db.ErrVersionPinned) && !errors.Is(err, db.ErrCannotPruneLatestVersion) {
			t.Error(err)
		}
	}
}

// TestPinnedBetweenRoots checks the same of one version that is forced.
func TestPinnedBetweenRoots(t *testing.T) {
	c := newChain(t)
	c.grow(t, 1, 3, true)
	first := true
	p := &pruningCreator{Creator: c.creator, ndb: c.ndb}
	cfg := CheckpointerConfig{RootsPerVersion: 2, Parameters: &CreationParameters{}}
	m := c.with(t, cfg, WithEvents(func(e Event) {
		if e.Kind == EventFinished && first { // its creator has released its pin
			first = false
			p.prune(context.WithoutCancel(t.Context()))
		}
	}))
	if err := m.ForceCheckpoint(t.Context(), 2); err != nil {
		t.Error(err)
	}
	c.check(t, 2, 2)
	if got := pinned(t, c.ndb); len(got) != 0 {
		t.Errorf("versions %v are pinned", got)
	}
}

// TestForced checks that what is forced at once is all made, each in its turn, at once although nothing is made by
// itself, pinned while it waits, and before the rest of a check that is under way.
func TestForced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		c := newChain(t)
		f := held(c)
		c.grow(t, 1, 30, false)
		m := c.with(t, CheckpointerConfig{CheckInterval: 0, Parameters: &CreationParameters{Interval: 10, NumKept: 3}})
		m.NotifyNewVersion(30)
		<-f.coming // that of 30; 20 and 10 are to follow
		var group errgroup.Group
		for _, v := range []uint64{7, 8, 8, 9} {
			group.Go(func() error { return m.ForceCheckpoint(ctx, v) })
			synctest.Wait() // until it waits for its turn
		}
		if got := pinned(t, c.ndb); !slices.Equal(got, []uint64{7, 8, 9, 10, 20, 30}) {
			t.Errorf("versions %v are pinned", got)
		}
		given, cancel := context.WithCancel(ctx)
		outcome := make(chan error, 1)
		go func() { outcome <- m.ForceCheckpoint(given, 6) }()
		cancel()
		if err := <-outcome; !errors.Is(err, context.Canceled) {
			t.Errorf("one that was given up: %v", err)
		}
		var order []uint64
		for range 6 {
			order = append(order, <-f.reached)
		}
		if err := group.Wait(); err != nil {
			t.Error(err)
		}
		if want := []uint64{30, 7, 8, 9, 20, 10}; !slices.Equal(order, want) {
			t.Errorf("made in the order %v, want %v", order, want)
		}
		wait(t, m)
		c.check(t, 30, 20, 10, 9, 8, 7)
	})
}

// TestForcedWithoutSchedule checks that forced checkpoints are made at once where neither notifications nor
// ticks have any made.
func TestForcedWithoutSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChain(t)
		c.grow(t, 1, 9, false)
		m := c.with(t, CheckpointerConfig{Parameters: &CreationParameters{}}, WithJitter(time.Hour))
		began := time.Now()
		var group errgroup.Group
		for _, v := range []uint64{3, 5} {
			group.Go(func() error { return m.ForceCheckpoint(t.Context(), v) })
		}
		if err := group.Wait(); err != nil {
			t.Error(err)
		}
		c.check(t, 5, 3)
		if took := time.Since(began); took != 0 {
			t.Errorf("made after %s", took)
		}
	})
}

// TestPinsGoWithTheCheckpointer checks that it leaves no version pinned when it ends during a delay.
func TestPinsGoWithTheCheckpointer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChain(t)
		c.grow(t, 1, 10, false)
		m := c.with(t, CheckpointerConfig{Parameters: &CreationParameters{Interval: 10, NumKept: 2}},
			WithJitter(time.Hour), withRandom(func() float64 { return 0.5 }))
		m.NotifyNewVersion(10)
		synctest.Wait()
		if got := pinned(t, c.ndb); !slices.Equal(got, []uint64{10}) {
			t.Errorf("versions %v are pinned", got)
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		if got := pinned(t, c.ndb); len(got) != 0 {
			t.Errorf("versions %v are pinned", got)
		}
	})
}
