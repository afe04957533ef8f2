package checkpoint

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/ckpt-project/ckpt/conformance/vectors"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// What others have got wrong, and the tests that fail where it is so here. docs/reliability.md tells more.
//
//	H1  an abort beside a chunk in flight makes that chunk complete the restore: TestAbortWithChunkBeingWritten,
//	    and TestBadProofBesideChunkBeingWritten where a bad chunk is what aborts
//	H2  a chunk of an aborted restore counts for the next one: TestAbortWithChunkBeingRead
//	H3  one chunk is written twice at once: TestHazardH3, TestRestoreConcurrently
//	H4  metadata in half, and what it does to others: TestLeftoversOfCrashes, TestListing, TestListingBesideOthers, TestHazardH4
//	H5  a failure deletes checkpoints that were there: TestCheckpointerFailures, TestHazardH5,
//	    TestSurplusBesideHalfAVersion
//	H6  forced checkpoints are dropped, or wait for the interval: TestHazardH6
//	H7  a new checkpoint is one too many until the next round: TestCheckpointer
//	H8  a version below the first one underflows: TestWantedVersions
//	H9  calls to the database have no context: TestHazardH9

// heldChunks holds up all chunks when they are committed, and counts those that are written.
type heldChunks struct {
	db.NodeDB
	open    chan struct{}
	written atomic.Int32
}

func (d *heldChunks) NewChunk(ctx context.Context, root node.Root, index uint64) (db.ChunkWriter, error) {
	d.written.Add(1)
	w, err := d.NodeDB.NewChunk(ctx, root, index)
	return &heldChunk{w, d.open}, err
}

type heldChunk struct {
	db.ChunkWriter
	open <-chan struct{}
}

func (w *heldChunk) Commit(ctx context.Context, sync bool) error {
	<-w.open
	return w.ChunkWriter.Commit(ctx, sync)
}

// TestHazardH3 gives a chunk while it is being written: who comes second waits, and writes nothing.
func TestHazardH3(t *testing.T) {
	m := sourceOf(t, dataSet("uniform", 100), 4096, 0)
	synctest.Test(t, func(t *testing.T) {
		held := &heldChunks{NodeDB: openDB(t), open: make(chan struct{})}
		r := newRestorer(t, held)
		if err := r.StartRestore(t.Context(), m.Metadata); err != nil {
			t.Fatal(err)
		}
		outcomes := make(chan error, 2)
		for range 2 {
			go func() {
				_, err := r.RestoreChunk(t.Context(), 0, bytes.NewReader(m.chunk(t, 0)))
				outcomes <- err
			}()
			synctest.Wait()
		}
		if n := held.written.Load(); n != 1 || len(outcomes) > 0 {
			t.Errorf("the chunk is being written %d times, %d calls have ended", n, len(outcomes))
		}
		close(held.open)
		first, second := receive(t, outcomes, "end of the chunk"), receive(t, outcomes, "end of the other call")
		if first == nil {
			first, second = second, first
		}
		if second != nil || !errors.Is(first, ErrChunkAlreadyRestored) {
			t.Errorf("the calls end with %v and %v", first, second)
		}
		if err := r.AbortRestore(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// TestHazardH4 checks that a checkpoint whose metadata is damaged loses nothing to who wants to make it anew.
func TestHazardH4(t *testing.T) {
	c := newChain(t)
	c.grow(t, 1, 2, false)
	for v := uint64(1); v <= 2; v++ {
		if _, err := c.creator.CreateCheckpoint(t.Context(), c.roots[v][0], 512); err != nil {
			t.Fatal(err)
		}
	}
	dir := CheckpointDir(c.dir, c.roots[1][0])
	before := namesIn(t, dir)
	if err := os.Truncate(filepath.Join(dir, metadataName), 20); err != nil { // as a crash in the middle of writing would
		t.Fatal(err)
	}
	if _, err := c.creator.CreateCheckpoint(t.Context(), c.roots[1][0], 512); !errors.Is(err, ErrDamaged) {
		t.Errorf("made anew: %v", err)
	}
	if after := namesIn(t, dir); !slices.Equal(before, after) {
		t.Errorf("files %v, and before %v", after, before)
	}
	c.check(t, 2) // which it does not hide
}

// failingTypes fails to make checkpoints of one type.
type failingTypes struct {
	Creator
	typ node.RootType
}

func (f *failingTypes) CreateCheckpoint(ctx context.Context, root node.Root, chunkSize uint64) (*Metadata, error) {
	if root.Type == f.typ {
		return nil, errTest
	}
	return f.Creator.CreateCheckpoint(ctx, root, chunkSize)
}

// TestHazardH5 checks that a version of which one checkpoint fails keeps those that it has.
func TestHazardH5(t *testing.T) {
	c := newChain(t)
	c.grow(t, 1, 4, true)
	if _, err := c.creator.CreateCheckpoint(t.Context(), c.roots[4][0], 512); err != nil {
		t.Fatal(err)
	}
	c.creator = &failingTypes{c.creator, node.RootTypeIO}
	m := c.start(t, CheckpointerConfig{RootsPerVersion: 2, Parameters: &CreationParameters{Interval: 2, NumKept: 2}})
	if err := m.Flush(t.Context()); !errors.Is(err, errTest) {
		t.Errorf("flush: %v", err)
	}
	if err := m.ForceCheckpoint(t.Context(), 3); !errors.Is(err, errTest) {
		t.Errorf("force: %v", err)
	}
	c.check(t, 4, 3, 2)
}

// TestSurplusBesideHalfAVersion checks that a version of which one checkpoint fails costs none of those before it, also
// where a version has however many roots there are.
func TestSurplusBesideHalfAVersion(t *testing.T) {
	for _, perVersion := range []int{0, 2} {
		c := newChain(t)
		c.grow(t, 1, 10, true)
		cfg := CheckpointerConfig{RootsPerVersion: perVersion, Parameters: &CreationParameters{Interval: 10, NumKept: 1}}
		f := &failingTypes{c.creator, 0}
		c.creator = f
		m := c.start(t, cfg)
		flush(t, m)
		c.check(t, 10, 10)
		c.grow(t, 11, 20, true)
		f.typ = node.RootTypeIO
		if err := m.Flush(t.Context()); !errors.Is(err, errTest) {
			t.Errorf("flush: %v", err)
		}
		c.check(t, 20, 10, 10)
		f.typ = 0
		flush(t, m)
		c.check(t, 20, 20)
	}
}

// TestHazardH6 checks that checkpoints that are forced are all made, soon, also where none are made by
// themselves and while another one is being made, and that each is told of when it was made, not before.
func TestHazardH6(t *testing.T) {
	c := newChain(t)
	c.grow(t, 1, 9, false)
	f := &failingCreator{Creator: c.creator, coming: make(chan uint64, 10), reached: make(chan uint64)}
	c.creator = f
	m := c.start(t, CheckpointerConfig{Parameters: &CreationParameters{Interval: 0, NumKept: 1}})
	forced := make(chan error, 4)
	force := func(v uint64) { go func() { forced <- m.ForceCheckpoint(t.Context(), v) }() }
	force(3)
	receive(t, f.coming, "checkpoint begun that was forced") // it is being made, until reached is received from
	for _, v := range []uint64{5, 7, 8} {
		force(v)
	}
	notified := make(chan struct{})
	go func() {
		defer close(notified)
		for range 3 {
			m.NotifyNewVersion(9)
		}
	}()
	receive(t, notified, "end of a notification while a checkpoint is made")
	if got := c.takeEvents(); !slices.Equal(got, []string{"started 3"}) {
		t.Errorf("events %q, and none is made", got)
	}
	var made []uint64
	for len(made) < 4 {
		made = append(made, receive(t, f.reached, fmt.Sprintf("other checkpoint made than of %v", made)))
	}
	for range made {
		if err := receive(t, forced, "end of a call that forces a checkpoint"); err != nil {
			t.Error(err)
		}
	}
	if slices.Sort(made); !slices.Equal(made, []uint64{3, 5, 7, 8}) {
		t.Errorf("made %v", made)
	}
	c.check(t, 8, 7, 5, 3) // whatever NumKept is
	events := c.takeEvents()
	if len(events) != 7 || events[0] != "finished 3" {
		t.Fatalf("events %q", events)
	}
	for i := 1; i+1 < len(events); i += 2 {
		var v, w uint64
		if n, err := fmt.Sscanf(events[i]+" "+events[i+1], "started %d finished %d", &v, &w); n != 2 || err != nil || v != w {
			t.Errorf("events %q", events)
		}
	}
}

// TestHazardH9 checks that every call that may cross a process boundary can be given up.
func TestHazardH9(t *testing.T) {
	ctx := reflect.TypeFor[context.Context]()
	for _, c := range []struct {
		of      reflect.Type
		without []string // those that take no I/O
	}{
		{reflect.TypeFor[db.NodeDB](), []string{"Info"}},
		{reflect.TypeFor[db.Batch](), []string{"Address"}},
		{reflect.TypeFor[db.ChunkWriter](), []string{"Address"}},
		{reflect.TypeFor[db.Pin](), []string{"Version"}},
	} {
		for i := range c.of.NumMethod() {
			m := c.of.Method(i)
			if has := m.Type.NumIn() > 0 && m.Type.In(0) == ctx; has == slices.Contains(c.without, m.Name) {
				t.Errorf("%s.%s: has a context: %v", c.of, m.Name, has)
			}
		}
	}
}

// TestCheckpointerEdgeVersions goes through versions and trees that are easily got wrong, and restores each
// checkpoint that is made of them.
func TestCheckpointerEdgeVersions(t *testing.T) {
	one := []vectors.Pair{{Key: []byte("key"), Value: []byte("value")}}
	prefixes := []vectors.Pair{
		{Key: []byte{}, Value: []byte("none")},
		{Key: []byte{0}, Value: []byte("0")},
		{Key: []byte{0, 0}, Value: []byte{}},
		{Key: []byte{0, 0, 1}, Value: []byte("001")},
		{Key: []byte{0, 1}, Value: []byte("01")},
	}
	many := dataSet("uniform", 40)
	type version struct {
		at    uint64
		state []vectors.Pair
		io    []vectors.Pair // no root where it is nil
	}
	for name, c := range map[string]struct {
		versions []version
		interval uint64
		want     []uint64
	}{
		"version 0":            {[]version{{0, many, nil}}, 5, []uint64{0}},
		"0 and the interval":   {[]version{{0, one, nil}, {1, one, nil}, {2, many, nil}}, 2, []uint64{2, 0}},
		"initial above 0":      {[]version{{7, many, nil}, {8, one, nil}}, 2, []uint64{8}},
		"none that it divides": {[]version{{7, many, nil}, {8, one, nil}, {9, one, nil}}, 10, nil},
		"below the interval":   {[]version{{3, many, nil}, {4, many, nil}}, 1 << 63, nil},
		"empty root":           {[]version{{1, []vectors.Pair{}, nil}}, 1, []uint64{1}},
		"emptied":              {[]version{{1, many, nil}, {2, []vectors.Pair{}, nil}}, 1, []uint64{2, 1}},
		"one leaf":             {[]version{{1, one, nil}}, 1, []uint64{1}},
		"prefix keys":          {[]version{{1, prefixes, nil}}, 1, []uint64{1}},
		"two types":            {[]version{{1, many, prefixes}, {2, one, one}}, 1, []uint64{2, 2, 1, 1}},
		"two types, one empty": {[]version{{1, many, []vectors.Pair{}}}, 1, []uint64{1, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			ch := newChain(t)
			content := make(map[node.Root][]vectors.Pair)
			for _, v := range c.versions {
				state := commit(t, ch.ndb, v.at, node.RootTypeState, v.state)
				content[state] = v.state
				roots := []node.Root{state}
				if v.io != nil {
					io := commit(t, ch.ndb, v.at, node.RootTypeIO, v.io)
					content[io] = v.io
					roots = append(roots, io)
				}
				finalize(t, ch.ndb, roots...)
			}
			m := ch.start(t, CheckpointerConfig{Parameters: &CreationParameters{Interval: c.interval, NumKept: 9, ChunkSize: 64}})
			flush(t, m)
			ch.check(t, c.want...)
			ch.restoreAll(t, content)
		})
	}
	// A gap, as a restore leaves it; then the old versions go, and checkpoints are made on.
	t.Run("restore, prune, checkpoint", func(t *testing.T) {
		ch := newChain(t)
		ch.grow(t, 1, 4, false)
		from := openDB(t)
		root := commit(t, from, 20, node.RootTypeState, many)
		finalize(t, from, root)
		restore(t, newRestorer(t, ch.ndb), makeCheckpoint(t, from, root, 64, 0))
		finalize(t, ch.ndb, root)
		if _, err := ch.ndb.PruneBefore(t.Context(), 20); err != nil {
			t.Fatal(err)
		}
		m := ch.start(t, CheckpointerConfig{Parameters: &CreationParameters{Interval: 2, NumKept: 9, ChunkSize: 64}})
		flush(t, m)
		ch.check(t, 20)
		ch.grow(t, 21, 22, false)
		flush(t, m)
		ch.check(t, 22, 20)
		ch.restoreAll(t, map[node.Root][]vectors.Pair{root: many, ch.roots[22][0]: dataSet("uniform", 27)})
	})
}

// restoreAll restores each checkpoint that is there into a database of its own, and compares what that holds.
func (c *chain) restoreAll(t *testing.T, content map[node.Root][]vectors.Pair) {
	t.Helper()
	all, err := c.creator.GetCheckpoints(t.Context(), &GetCheckpointsRequest{Version: 1, Namespace: testNamespace(t)})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		want, ok := content[m.Root]
		if !ok {
			t.Errorf("a checkpoint of %s, which nobody made", m.Root)
			continue
		}
		to := openDB(t)
		restore(t, newRestorer(t, to), made{Metadata: m, creator: c.creator})
		finalize(t, to, m.Root)
		sorted := slices.Clone(want)
		slices.SortFunc(sorted, func(a, b vectors.Pair) int { return slices.Compare(a.Key, b.Key) })
		if got := entriesOf(t, to, m.Root); !equalPairs(got, sorted) {
			t.Errorf("%s: %d entries, want %d", m.Root, len(got), len(want))
		}
	}
}
