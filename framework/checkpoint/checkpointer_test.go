package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

func TestWantedVersions(t *testing.T) {
	const top = ^uint64(0)
	at := func(v uint64) *uint64 { return &v }
	for _, c := range []struct {
		earliest, latest uint64
		initial          *uint64
		interval, kept   uint64
		want             []uint64
	}{
		{0, 0, nil, 10, 2, []uint64{0}},
		{0, 9, nil, 10, 2, []uint64{0}},
		{0, 25, nil, 10, 2, []uint64{20, 10}},
		{0, 25, nil, 10, 9, []uint64{20, 10, 0}},
		{1, 25, nil, 10, 9, []uint64{20, 10}},
		{11, 25, nil, 10, 9, []uint64{20}},
		{21, 25, nil, 10, 9, nil},
		{0, 25, nil, 0, 9, nil},
		{0, 25, nil, 10, 0, nil},
		{0, 25, nil, 1, 3, []uint64{25, 24, 23}},
		{top - 1, top, nil, 1, 9, []uint64{top, top - 1}},
		{0, top, nil, top, 9, []uint64{top, 0}},

		{0, 25, at(0), 10, 2, []uint64{20, 10, 0}},
		{0, 25, at(0), 10, 9, []uint64{20, 10, 0}},
		{0, 25, at(3), 10, 1, []uint64{23, 3}},
		{0, 25, at(3), 10, 9, []uint64{23, 13, 3}}, // and none below
		{4, 25, at(3), 10, 9, []uint64{23, 13}},    // it has gone
		{0, 3, at(3), 10, 2, []uint64{3}},
		{0, 2, at(3), 10, 2, nil}, // before the first one
		{0, 2, at(top), 10, 2, nil},
		{0, top, at(top), 10, 2, []uint64{top}},
		{0, top, at(top - 1), top, 2, []uint64{top - 1}},
		{0, 25, at(3), 0, 9, nil},
		{0, 25, at(3), 10, 0, nil},
	} {
		if got := wantedVersions(c.earliest, c.latest, c.initial, c.interval, c.kept); !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestPickRoots(t *testing.T) {
	a, b, x := hash.Sum([]byte("a")), hash.Sum([]byte("b")), hash.Sum([]byte("x"))
	io := node.Root{Type: node.RootTypeIO, Hash: a}
	state := node.Root{Type: node.RootTypeState, Hash: a}
	other := node.Root{Type: node.RootTypeIO, Hash: b}
	for name, c := range map[string]struct {
		finalized []node.Root
		hashes    []hash.Hash
		want      []node.Root
		err       error
	}{
		"both":               {[]node.Root{other, state}, []hash.Hash{a, b}, []node.Root{state, other}, nil},
		"one":                {[]node.Root{other, state}, []hash.Hash{b}, []node.Root{other}, nil},
		"the same once":      {[]node.Root{io, state}, []hash.Hash{a}, []node.Root{state}, nil},
		"the same twice":     {[]node.Root{io, state}, []hash.Hash{a, a}, []node.Root{state, io}, nil},
		"the same too often": {[]node.Root{io, state}, []hash.Hash{a, a, a}, nil, db.ErrRootNotFound},
		"unknown":            {[]node.Root{io, state}, []hash.Hash{x}, nil, db.ErrRootNotFound},
	} {
		got, err := pickRoots(c.finalized, c.hashes)
		if !errors.Is(err, c.err) || err == nil && !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestCheckpointerConfig(t *testing.T) {
	ndb := openDB(t)
	creator := newCreator(t, t.TempDir(), ndb)
	parameters := &CreationParameters{Interval: 1, NumKept: 1}
	getParameters := func(context.Context) (*CreationParameters, error) { return parameters, nil }
	getRoots := func(context.Context, uint64) ([]hash.Hash, error) { return nil, nil }
	for name, cfg := range map[string]CheckpointerConfig{
		"no parameters":          {},
		"parameters twice":       {Parameters: parameters, GetParameters: getParameters},
		"negative roots":         {Parameters: parameters, RootsPerVersion: -1},
		"negative interval":      {Parameters: parameters, CheckInterval: -1},
		"GetRoots without roots": {Parameters: parameters, GetRoots: getRoots},
	} {
		cfg.Namespace = testNamespace(t)
		if c, err := NewCheckpointer(t.Context(), ndb, creator, cfg); err == nil || c != nil {
			t.Errorf("%s: %v, %v", name, c, err)
		}
	}
	good := CheckpointerConfig{Parameters: parameters}
	if _, err := NewCheckpointer(t.Context(), ndb, creator, good); !errors.Is(err, db.ErrBadNamespace) {
		t.Errorf("another namespace: %v", err)
	}
	good.Namespace = testNamespace(t)
	if c, err := NewCheckpointer(t.Context(), nil, creator, good); err == nil {
		t.Errorf("no database: %v", c)
	}
	if c, err := NewCheckpointer(t.Context(), ndb, nil, good); err == nil {
		t.Errorf("no creator: %v", c)
	}
}

// chain is a database that grows, with a checkpointer and what it tells.
type chain struct {
	ndb     db.NodeDB
	dir     string
	creator Creator
	roots   map[uint64][]node.Root

	mu     sync.Mutex
	events []string
}

func newChain(t testing.TB) *chain {
	ndb := openDB(t)
	dir := t.TempDir()
	return &chain{ndb: ndb, dir: dir, creator: newCreator(t, dir, ndb), roots: make(map[uint64][]node.Root)}
}

// grow adds versions, each with a state root, and an IO root where both is set.
func (c *chain) grow(t testing.TB, from, to uint64, both bool) {
	t.Helper()
	for v := from; v <= to; v++ {
		roots := []node.Root{commit(t, c.ndb, v, node.RootTypeState, dataSet("uniform", 5+v))}
		if both {
			roots = append(roots, commit(t, c.ndb, v, node.RootTypeIO, dataSet("decimal", 2)))
		}
		finalize(t, c.ndb, roots...)
		c.roots[v] = roots
	}
}

func (c *chain) start(t testing.TB, cfg CheckpointerConfig) *ManagedCheckpointer {
	t.Helper()
	cfg.Name, cfg.Namespace = "test", testNamespace(t)
	m, err := NewManagedCheckpointer(t.Context(), c.ndb, c.creator, cfg, WithEvents(func(e Event) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.events = append(c.events, fmt.Sprintf("%s %d", e.Kind, e.Version))
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// takeEvents returns what was told since the last time.
func (c *chain) takeEvents() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	events := c.events
	c.events = nil
	return events
}

// there returns the versions that have checkpoints, once for each root, the newest first.
func (c *chain) there(t testing.TB) (versions []uint64) {
	t.Helper()
	all, err := c.creator.GetCheckpoints(t.Context(), &GetCheckpointsRequest{Version: 1, Namespace: testNamespace(t)})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		versions = append(versions, m.Root.Version)
	}
	return versions
}

func (c *chain) check(t testing.TB, want ...uint64) {
	t.Helper()
	if got := c.there(t); !slices.Equal(got, want) {
		t.Errorf("checkpoints of versions %v, want %v", got, want)
	}
}

func flush(t testing.TB, m *ManagedCheckpointer) {
	t.Helper()
	if err := m.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestCheckpointer(t *testing.T) {
	c := newChain(t)
	m := c.start(t, CheckpointerConfig{RootsPerVersion: 2, Parameters: &CreationParameters{Interval: 5, NumKept: 2, ChunkSize: 1024}})
	flush(t, m) // nothing is there
	c.check(t)
	c.grow(t, 1, 4, true)
	flush(t, m)
	c.check(t)
	c.grow(t, 5, 17, true)
	m.NotifyNewVersion(17)
	flush(t, m)
	c.check(t, 15, 15, 10, 10)
	if got, want := c.takeEvents(), []string{"started 15", "finished 15", "started 15", "finished 15", "started 10", "finished 10", "started 10", "finished 10"}; !slices.Equal(got, want) {
		t.Errorf("events %q", got)
	}
	flush(t, m)
	if got := c.takeEvents(); len(got) != 0 {
		t.Errorf("events %q", got)
	}
	c.grow(t, 18, 20, true)
	flush(t, m)
	c.check(t, 20, 20, 15, 15)
	if got, want := c.takeEvents(), []string{"started 20", "finished 20", "started 20", "finished 20", "deleted 10", "deleted 10"}; !slices.Equal(got, want) {
		t.Errorf("events %q", got)
	}
}

// TestCheckpointerNotification checks that a notification alone has a checkpoint made.
func TestCheckpointerNotification(t *testing.T) {
	c := newChain(t)
	finished := make(chan uint64, 10)
	m, err := NewManagedCheckpointer(t.Context(), c.ndb, c.creator, CheckpointerConfig{
		Namespace: testNamespace(t), Parameters: &CreationParameters{Interval: 2, NumKept: 5},
	}, WithEvents(func(e Event) {
		if e.Kind == EventFinished {
			finished <- e.Version
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for v := uint64(1); v <= 6; v++ {
		c.grow(t, v, v, false)
		m.NotifyNewVersion(v)
		if v%2 == 0 {
			if got := <-finished; got != v {
				t.Errorf("checkpoint of version %d, want %d", got, v)
			}
		}
	}
}

func TestCheckpointerSparesOthers(t *testing.T) {
	ctx := t.Context()
	c := newChain(t)
	c.grow(t, 1, 40, false)
	// By hand: of a version that the interval divides, and of one that it doesn't.
	for _, v := range []uint64{3, 10} {
		if _, err := c.creator.CreateCheckpoint(ctx, c.roots[v][0], 512); err != nil {
			t.Fatal(err)
		}
	}
	// Of another namespace, in the same directory.
	other, err := common.NewNamespace([common.NamespaceIDSize]byte{1}, common.NamespaceTest)
	if err != nil {
		t.Fatal(err)
	}
	foreign := newTreeDB(t, dataSet("uniform", 9), 10, 0)
	foreign.root.Namespace = other
	if _, err := newCreator(t, c.dir, foreign).CreateCheckpoint(withOrigin(ctx, originCheckpointer), foreign.root, 512); err != nil {
		t.Fatal(err)
	}
	// Of a version that the database has yet to come to: another history's.
	later := newTreeDB(t, dataSet("uniform", 9), 1000, 0)
	if _, err := newCreator(t, c.dir, later).CreateCheckpoint(withOrigin(ctx, originCheckpointer), later.root, 512); err != nil {
		t.Fatal(err)
	}

	m := c.start(t, CheckpointerConfig{Parameters: &CreationParameters{Interval: 10, NumKept: 2}})
	flush(t, m)
	c.check(t, 1000, 40, 30, 10, 3)
	c.grow(t, 41, 60, false)
	flush(t, m)
	c.check(t, 1000, 60, 50, 10, 3)
	if err := m.ForceCheckpoint(ctx, 45); err != nil {
		t.Fatal(err)
	}
	c.grow(t, 61, 80, false)
	flush(t, m)
	c.check(t, 1000, 80, 70, 45, 10, 3)
	if _, err := c.creator.GetCheckpoint(ctx, 1, foreign.root); err != nil {
		t.Errorf("the other namespace's: %v", err)
	}
	if err := m.ForceCheckpoint(ctx, 999); !errors.Is(err, db.ErrVersionNotFound) {
		t.Errorf("a checkpoint of a version that is not there: %v", err)
	}
}

// TestCheckpointerGap checks that the versions that a restore has left out are no failures.
func TestCheckpointerGap(t *testing.T) {
	c := newChain(t)
	c.grow(t, 1, 12, false)
	from := openDB(t)
	root := commit(t, from, 47, node.RootTypeState, dataSet("uniform", 30))
	finalize(t, from, root)
	restore(t, newRestorer(t, c.ndb), makeCheckpoint(t, from, root, 512, 0))
	finalize(t, c.ndb, root)
	m := c.start(t, CheckpointerConfig{RootsPerVersion: 1, Parameters: &CreationParameters{Interval: 10, NumKept: 4}})
	flush(t, m)
	c.check(t, 10)
}

// failingCreator fails for some versions, and can be held up.
type failingCreator struct {
	Creator
	mu      sync.Mutex
	fail    map[uint64]bool
	failOne node.Root // fails, too
	made    []uint64
	coming  chan uint64 // told before each creation, if not nil
	reached chan uint64 // told after that; the creation goes on when it is received, if not nil
}

func (f *failingCreator) CreateCheckpoint(ctx context.Context, root node.Root, chunkSize uint64) (*Metadata, error) {
	if f.coming != nil {
		f.coming <- root.Version
	}
	if f.reached != nil {
		select {
		case f.reached <- root.Version:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	f.mu.Lock()
	fail := f.fail[root.Version] || root == f.failOne
	f.made = append(f.made, root.Version)
	f.mu.Unlock()
	if fail {
		return nil, errTest
	}
	return f.Creator.CreateCheckpoint(ctx, root, chunkSize)
}

// Describe makes it an Inspector, as the creator within is.
func (f *failingCreator) Describe(ctx context.Context, root node.Root) (*Manifest, string, error) {
	return f.Creator.(Inspector).Describe(ctx, root)
}

func (f *failingCreator) List(ctx context.Context) ([]Stored, error) {
	return f.Creator.(Inspector).List(ctx)
}

// TestCheckpointerFailures checks that a failure costs no checkpoint that was there, and is made up for.
func TestCheckpointerFailures(t *testing.T) {
	c := newChain(t)
	f := &failingCreator{Creator: c.creator, fail: map[uint64]bool{30: true}}
	c.creator = f
	c.grow(t, 1, 20, true)
	m := c.start(t, CheckpointerConfig{RootsPerVersion: 2, Parameters: &CreationParameters{Interval: 10, NumKept: 2}})
	flush(t, m)
	c.check(t, 20, 20, 10, 10)
	c.takeEvents()
	c.grow(t, 21, 30, true)
	if err := m.Flush(t.Context()); !errors.Is(err, errTest) {
		t.Errorf("flush: %v", err)
	}
	c.check(t, 20, 20, 10, 10)
	if got, want := c.takeEvents(), []string{"started 30", "failed 30", "started 30", "failed 30"}; !slices.Equal(got, want) {
		t.Errorf("events %q", got)
	}
	f.mu.Lock()
	delete(f.fail, 30)
	f.mu.Unlock()
	flush(t, m)
	c.check(t, 30, 30, 20, 20)

	c.grow(t, 31, 40, false) // only one root of two
	if err := m.Flush(t.Context()); err == nil {
		t.Error("a version with another number of roots is no error")
	}
	c.check(t, 30, 30, 20, 20)
	if got, want := c.takeEvents(), []string{"failed 40"}; !slices.Equal(got[len(got)-1:], want) {
		t.Errorf("events %q", got)
	}
}

// TestCheckpointerCoalesces checks that notifications don't wait for a checkpoint being made, and that
// what was missed meanwhile is made up for from the newest on.
func TestCheckpointerCoalesces(t *testing.T) {
	c := newChain(t)
	f := &failingCreator{Creator: c.creator, coming: make(chan uint64, 10), reached: make(chan uint64)}
	c.creator = f
	c.grow(t, 1, 10, false)
	m := c.start(t, CheckpointerConfig{Parameters: &CreationParameters{Interval: 10, NumKept: 3}})
	m.NotifyNewVersion(10)
	<-f.coming
	// The checkpointer is about to make that of 10; the chain goes on, and it does not hear of each.
	c.grow(t, 11, 62, false)
	for v := uint64(11); v <= 62; v++ {
		m.NotifyNewVersion(v)
	}
	var order []uint64
	for range 4 {
		order = append(order, <-f.reached)
	}
	if !slices.Equal(order, []uint64{10, 60, 50, 40}) {
		t.Errorf("made in the order %v", order)
	}
	done := make(chan error, 1)
	go func() { done <- m.Flush(context.WithoutCancel(t.Context())) }()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	c.check(t, 60, 50, 40)
}

func TestCheckpointerPruned(t *testing.T) {
	c := newChain(t)
	c.grow(t, 1, 35, false)
	for v := uint64(1); v < 25; v++ {
		if err := c.ndb.Prune(t.Context(), v); err != nil {
			t.Fatal(err)
		}
	}
	m := c.start(t, CheckpointerConfig{Parameters: &CreationParameters{Interval: 10, NumKept: 3}})
	flush(t, m)
	c.check(t, 30)
}

func TestCheckpointerGetRoots(t *testing.T) {
	c := newChain(t)
	c.grow(t, 1, 3, true)
	pick := func(_ context.Context, version uint64) ([]hash.Hash, error) {
		switch version {
		case 1:
			return []hash.Hash{hash.EmptyHash}, nil // none of its roots
		case 2:
			return nil, nil // too few
		default:
			return []hash.Hash{c.roots[version][1].Hash}, nil
		}
	}
	m := c.start(t, CheckpointerConfig{RootsPerVersion: 1, GetRoots: pick, Parameters: &CreationParameters{Interval: 1, NumKept: 9}})
	if err := m.Flush(t.Context()); !errors.Is(err, db.ErrRootNotFound) {
		t.Errorf("flush: %v", err)
	}
	c.check(t, 3)
	if _, err := c.creator.GetCheckpoint(t.Context(), 1, c.roots[3][1]); err != nil {
		t.Errorf("the root that was picked: %v", err)
	}
	if got, want := c.takeEvents(), []string{"started 3", "finished 3", "failed 2", "failed 1"}; !slices.Equal(got, want) {
		t.Errorf("events %q", got)
	}
}

// hidingCreator makes checkpoints that nobody finds.
type hidingCreator struct {
	Creator
	made []uint64
}

func (c *hidingCreator) CreateCheckpoint(_ context.Context, root node.Root, _ uint64) (*Metadata, error) {
	c.made = append(c.made, root.Version)
	return &Metadata{Version: 1, Root: root, Chunks: []hash.Hash{{}}}, nil
}

func TestCheckpointsThatAreGoneAtOnce(t *testing.T) {
	c := newChain(t)
	c.grow(t, 1, 3, false)
	hiding := &hidingCreator{Creator: c.creator}
	c.creator = hiding
	m := c.start(t, CheckpointerConfig{RootsPerVersion: 1, Parameters: &CreationParameters{Interval: 1, NumKept: 2}})
	flush(t, m)
	flush(t, m)
	if want := []uint64{3, 2, 3, 2}; !slices.Equal(hiding.made, want) {
		t.Errorf("made those of versions %v, want %v", hiding.made, want)
	}
}

func TestCheckpointerParametersChange(t *testing.T) {
	c := newChain(t)
	c.grow(t, 1, 30, false)
	var parameters *CreationParameters
	failure := errTest
	m := c.start(t, CheckpointerConfig{GetParameters: func(context.Context) (*CreationParameters, error) { return parameters, failure }})
	if err := m.Flush(t.Context()); !errors.Is(err, errTest) {
		t.Errorf("parameters that can't be had: %v", err)
	}
	failure = nil
	if err := m.Flush(t.Context()); err == nil {
		t.Error("no parameters are no error")
	}
	for _, step := range []struct {
		parameters CreationParameters
		want       []uint64
	}{
		{CreationParameters{Interval: 0, NumKept: 2}, nil},
		{CreationParameters{Interval: 10, NumKept: 0}, nil},
		{CreationParameters{Interval: 10, NumKept: 2}, []uint64{30, 20}},
		{CreationParameters{Interval: 10, NumKept: 0}, []uint64{30, 20}},
		{CreationParameters{Interval: 0, NumKept: 1}, []uint64{30, 20}},
		{CreationParameters{Interval: 10, NumKept: 3}, []uint64{30, 20, 10}},
		{CreationParameters{Interval: 7, NumKept: 2}, []uint64{30, 28, 21}},
		{CreationParameters{Interval: 10, NumKept: 1}, []uint64{30}},
	} {
		parameters = &step.parameters
		flush(t, m)
		c.check(t, step.want...)
	}
}

// TestCheckpointerTicks checks that it looks by itself, and that it ends with its context.
func TestCheckpointerTicks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newTreeDB(t, dataSet("uniform", 9), 10, 0)
		looks := 0
		ctx, cancel := context.WithCancel(t.Context())
		m, err := NewManagedCheckpointer(ctx, &versionsDB{treeDB: d}, newCreator(t, filepath.Join(t.TempDir(), "c"), d), CheckpointerConfig{
			Namespace: testNamespace(t), CheckInterval: time.Minute,
			GetParameters: func(context.Context) (*CreationParameters, error) {
				looks++
				return &CreationParameters{}, nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10*time.Minute + time.Second)
		synctest.Wait()
		if looks != 10 {
			t.Errorf("%d looks in ten minutes", looks)
		}
		cancel()
		<-m.Done()
		m.NotifyNewVersion(1)
		if err := m.Flush(t.Context()); !errors.Is(err, ErrCheckpointerEnded) {
			t.Errorf("flush after the end: %v", err)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
}

// versionsDB is a treeDB with one version.
type versionsDB struct{ *treeDB }

func (d *versionsDB) GetLatestVersion(context.Context) (uint64, bool, error) {
	return d.root.Version, true, nil
}

func (d *versionsDB) GetEarliestVersion(context.Context) (uint64, bool, error) {
	return d.root.Version, true, nil
}

// TestCheckpointerEndsWhileMaking checks that the end breaks a checkpoint in the making off.
func TestCheckpointerEndsWhileMaking(t *testing.T) {
	c := newChain(t)
	f := &failingCreator{Creator: c.creator, reached: make(chan uint64)}
	started := make(chan struct{}, 1)
	c.grow(t, 1, 2, false)
	m, err := NewManagedCheckpointer(t.Context(), c.ndb, f, CheckpointerConfig{
		Namespace: testNamespace(t), Parameters: &CreationParameters{Interval: 1, NumKept: 1},
	}, WithEvents(func(e Event) {
		if e.Kind == EventStarted {
			started <- struct{}{}
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	outcome := make(chan error, 1)
	go func() { outcome <- m.Flush(context.WithoutCancel(t.Context())) }()
	<-started
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-outcome; !errors.Is(err, context.Canceled) {
		t.Errorf("flush: %v", err)
	}
	c.check(t)
}
