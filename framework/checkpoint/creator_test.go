package checkpoint

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/ckpt-project/ckpt/conformance/vectors"
	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

func newCreator(t testing.TB, dir string, ndb db.NodeDB, opts ...CreatorOption) Creator {
	t.Helper()
	c, err := NewFileCreator(dir, ndb, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// namesIn returns the paths of all files below dir, relative to it.
func namesIn(t testing.TB, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		names = append(names, name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestCreatorErrors(t *testing.T) {
	ctx := t.Context()
	ndb := openDB(t)
	root := commit(t, ndb, 1, node.RootTypeState, dataSet("uniform", 30))
	finalize(t, ndb, root)
	dir := filepath.Join(t.TempDir(), "checkpoints")
	c := newCreator(t, dir, ndb)

	if all, err := c.GetCheckpoints(ctx, &GetCheckpointsRequest{Version: 1, Namespace: root.Namespace}); err != nil || len(all) != 0 {
		t.Errorf("checkpoints where there is no directory: %v, %v", all, err)
	}
	if _, err := c.GetCheckpoint(ctx, 1, root); !errors.Is(err, ErrCheckpointNotFound) {
		t.Errorf("get: %v", err)
	}
	if err := c.DeleteCheckpoint(ctx, 1, root); !errors.Is(err, ErrCheckpointNotFound) {
		t.Errorf("delete: %v", err)
	}
	chunk := &ChunkMetadata{Version: 1, Root: root}
	if err := c.GetCheckpointChunk(ctx, chunk, &bytes.Buffer{}); !errors.Is(err, ErrCheckpointNotFound) {
		t.Errorf("chunk: %v", err)
	}
	for name, test := range map[string]struct {
		change func(*node.Root)
		want   error
	}{
		"hash":      {func(r *node.Root) { r.Hash[0] ^= 1 }, db.ErrRootNotFound},
		"version":   {func(r *node.Root) { r.Version = 7 }, db.ErrVersionNotFound},
		"type":      {func(r *node.Root) { r.Type = node.RootTypeIO }, db.ErrRootNotFound},
		"no type":   {func(r *node.Root) { r.Type = 0 }, db.ErrMalformed},
		"namespace": {func(r *node.Root) { r.Namespace = common.Namespace{} }, db.ErrBadNamespace},
	} {
		bad := root
		test.change(&bad)
		if _, err := c.CreateCheckpoint(ctx, bad, 1024); !errors.Is(err, test.want) {
			t.Errorf("create, another %s: %v", name, err)
		}
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := c.CreateCheckpoint(cancelled, root, 1024); !errors.Is(err, context.Canceled) {
		t.Errorf("create, cancelled: %v", err)
	}
	if names := readNames(t, dir); len(names) != 0 {
		t.Errorf("left behind: %v", names)
	}

	m, err := c.CreateCheckpoint(ctx, root, 1024)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.GetCheckpoint(ctx, 2, root); !errors.Is(err, ErrCheckpointNotFound) {
		t.Errorf("get, another version of the format: %v", err)
	}
	if err := c.DeleteCheckpoint(ctx, 2, root); !errors.Is(err, ErrCheckpointNotFound) {
		t.Errorf("delete, another version of the format: %v", err)
	}
	chunk, err = m.GetChunkMetadata(1)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*ChunkMetadata){
		"index":   func(c *ChunkMetadata) { c.Index = uint64(len(m.Chunks)) },
		"digest":  func(c *ChunkMetadata) { c.Digest = m.Chunks[0] },
		"version": func(c *ChunkMetadata) { c.Version = 0 },
	} {
		bad := *chunk
		change(&bad)
		want := ErrChunkNotFound
		if name == "version" {
			want = ErrCheckpointNotFound
		}
		var b bytes.Buffer
		if err := c.GetCheckpointChunk(ctx, &bad, &b); !errors.Is(err, want) || b.Len() != 0 {
			t.Errorf("chunk, another %s: %v, %d bytes", name, err, b.Len())
		}
	}
	if err := os.Remove(chunkPath(CheckpointDir(dir, root), 1)); err != nil {
		t.Fatal(err)
	}
	if err := c.GetCheckpointChunk(ctx, chunk, &bytes.Buffer{}); !errors.Is(err, ErrChunkNotFound) {
		t.Errorf("chunk whose file is missing: %v", err)
	}
	if _, err := Verify(ctx, CheckpointDir(dir, root)); !errors.Is(err, ErrChunkNotFound) {
		t.Errorf("verification with a file missing: %v", err)
	}
	none := newCreator(t, dir, nil)
	if _, err := none.CreateCheckpoint(ctx, root, 1024); !errors.Is(err, db.ErrUnsupported) {
		t.Errorf("create with no database: %v", err)
	}
}

func readNames(t testing.TB, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestCreateAgainAndDelete(t *testing.T) {
	ctx := t.Context()
	ndb := openDB(t)
	root := commit(t, ndb, 3, node.RootTypeState, dataSet("uniform", 100))
	finalize(t, ndb, root)
	dir := t.TempDir()
	c := newCreator(t, dir, ndb)
	m, err := c.CreateCheckpoint(ctx, root, 2048)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"manifest.json", "meta"}
	for i := range m.Chunks {
		want = append(want, filepath.Base(chunkPath("", uint64(i))))
	}
	var got []string
	for _, name := range namesIn(t, CheckpointDir(dir, root)) {
		got = append(got, filepath.Base(name))
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("files %v, want %v", got, want)
	}
	if names := readNames(t, dir); !slices.Equal(names, []string{"3", IndexName}) {
		t.Errorf("beside the checkpoint: %v", names)
	}
	manifest, path, err := c.(Inspector).Describe(ctx, root)
	if err != nil {
		t.Fatal(err)
	}
	if path != CheckpointDir(dir, root) || manifest.ChunkSize != 2048 || manifest.Threads != 1 || manifest.Entries != 100 ||
		len(manifest.Chunks) != len(m.Chunks) || manifest.Root != root || manifest.Origin != "" || manifest.Finished.Before(manifest.Started) {
		t.Errorf("%s: %+v", path, manifest)
	}
	for i, chunk := range manifest.Chunks {
		info, err := os.Stat(chunkPath(path, uint64(i)))
		if err != nil {
			t.Fatal(err)
		}
		if chunk.Digest != m.Chunks[i] || chunk.Bytes != info.Size() || chunk.RawBytes < int64(chunk.Entries) {
			t.Errorf("chunk %d of %d bytes: %+v", i, info.Size(), chunk)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("chunk %d has mode %v", i, info.Mode())
		}
	}

	again, err := c.CreateCheckpoint(ctx, root, 2048)
	if err != nil || again.EncodedHash() != m.EncodedHash() {
		t.Errorf("again: %v", err)
	}
	if _, err := c.CreateCheckpoint(ctx, root, 2049); !errors.Is(err, ErrParametersDiffer) {
		t.Errorf("with another chunk size: %v", err)
	}
	if _, err := newCreator(t, dir, ndb, WithThreads(2)).CreateCheckpoint(ctx, root, 2048); !errors.Is(err, ErrParametersDiffer) {
		t.Errorf("with other threads: %v", err)
	}
	if _, err := newCreator(t, dir, ndb, WithThreads(0)).CreateCheckpoint(ctx, root, 2048); err != nil {
		t.Errorf("threads 0 and 1 are the same: %v", err)
	}
	// One that was made elsewhere has no manifest, and nobody knows its parameters.
	if err := os.Remove(filepath.Join(path, manifestName)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateCheckpoint(ctx, root, 2049); err != nil {
		t.Errorf("without a manifest: %v", err)
	}
	if manifest, _, err := c.(Inspector).Describe(ctx, root); manifest != nil || err != nil {
		t.Errorf("without a manifest: %v, %v", manifest, err)
	}

	if err := c.DeleteCheckpoint(ctx, 1, root); err != nil {
		t.Fatal(err)
	}
	if names := readNames(t, dir); !slices.Equal(names, []string{IndexName}) {
		t.Errorf("left behind: %v", names)
	}
	if err := c.DeleteCheckpoint(ctx, 1, root); !errors.Is(err, ErrCheckpointNotFound) {
		t.Errorf("deleted again: %v", err)
	}
}

// TestSharedHash makes checkpoints of roots with the same hash and version, which share a name.
func TestSharedHash(t *testing.T) {
	for name, n := range map[string]uint64{"empty": 0, "not empty": 20} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			ndb := openDB(t)
			pairs := dataSet("uniform", n)
			state := commit(t, ndb, 1, node.RootTypeState, pairs)
			io := commit(t, ndb, 1, node.RootTypeIO, pairs)
			finalize(t, ndb, state, io)
			dir := t.TempDir()
			c := newCreator(t, dir, ndb)
			for _, root := range []node.Root{io, state} {
				if _, err := c.CreateCheckpoint(ctx, root, 512); err != nil {
					t.Fatal(err)
				}
			}
			if names := readNames(t, filepath.Join(dir, "1")); !slices.Equal(names, []string{io.Hash.Hex(), io.Hash.Hex() + "-1"}) {
				t.Errorf("names %v", names)
			}
			all, err := c.GetCheckpoints(ctx, &GetCheckpointsRequest{Version: 1, Namespace: state.Namespace})
			if err != nil || len(all) != 2 || all[0].Root != state || all[1].Root != io {
				t.Fatalf("%v, %v", all, err)
			}
			for _, m := range all {
				got, err := c.GetCheckpoint(ctx, 1, m.Root)
				if err != nil || got.EncodedHash() != m.EncodedHash() {
					t.Errorf("%v, %v", got, err)
				}
			}
			if err := c.DeleteCheckpoint(ctx, 1, io); err != nil {
				t.Fatal(err)
			}
			if _, err := c.GetCheckpoint(ctx, 1, io); !errors.Is(err, ErrCheckpointNotFound) {
				t.Errorf("deleted: %v", err)
			}
			if _, err := c.GetCheckpoint(ctx, 1, state); err != nil {
				t.Errorf("not deleted: %v", err)
			}
		})
	}
}

// TestListing checks that lists choose right, and that one bad checkpoint hides no other.
func TestListing(t *testing.T) {
	ctx := t.Context()
	ndb := openDB(t)
	dir := t.TempDir()
	c := newCreator(t, dir, ndb)
	var roots []node.Root
	for v := range uint64(4) {
		root := commit(t, ndb, v, node.RootTypeState, dataSet("uniform", 10+v))
		finalize(t, ndb, root)
		if _, err := c.CreateCheckpoint(ctx, root, 512); err != nil {
			t.Fatal(err)
		}
		roots = append(roots, root)
	}
	// Version 1 is damaged, version 2 is really of something else; and there is more that is none of ours.
	damaged := filepath.Join(CheckpointDir(dir, roots[1]), metadataName)
	if err := os.WriteFile(damaged, []byte("damaged"), fileMode); err != nil {
		t.Fatal(err)
	}
	moved := CheckpointDir(dir, node.Root{Version: 77, Hash: roots[2].Hash})
	if err := os.MkdirAll(filepath.Dir(moved), dirMode); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(CheckpointDir(dir, roots[2]), moved); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"notes", "007", ".making-x", "5/stranger", "5/" + roots[0].Hash.Hex() + "/chunks"} {
		if err := os.MkdirAll(filepath.Join(dir, name), dirMode); err != nil {
			t.Fatal(err)
		}
	}

	version := func(v uint64) *uint64 { return &v }
	for name, test := range map[string]struct {
		request *GetCheckpointsRequest
		want    []node.Root
	}{
		"all":                {&GetCheckpointsRequest{Version: 1, Namespace: roots[0].Namespace}, []node.Root{roots[3], roots[0]}},
		"version 0":          {&GetCheckpointsRequest{Version: 1, Namespace: roots[0].Namespace, RootVersion: version(0)}, roots[:1]},
		"version 9":          {&GetCheckpointsRequest{Version: 1, Namespace: roots[0].Namespace, RootVersion: version(9)}, nil},
		"another format":     {&GetCheckpointsRequest{Version: 2, Namespace: roots[0].Namespace}, nil},
		"another namespace":  {&GetCheckpointsRequest{Version: 1}, nil},
		"no request, really": {nil, nil},
	} {
		provider, err := OpenDirectory(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range []ChunkProvider{c, provider} {
			all, err := p.GetCheckpoints(ctx, test.request)
			if err != nil {
				t.Fatal(err)
			}
			var got []node.Root
			for _, m := range all {
				got = append(got, m.Root)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("%s: %v, want %v", name, got, test.want)
			}
		}
	}
	all, err := c.(Inspector).List(ctx)
	if err != nil || len(all) != 4 {
		t.Fatalf("%v, %v", all, err)
	}
	for i, s := range all {
		if bad := i >= 2; bad != errors.Is(s.Err, ErrDamaged) || bad != (s.Metadata == nil) {
			t.Errorf("%+v", s)
		}
	}

	// What is damaged is neither made anew nor taken for good, until somebody deletes it.
	if _, err := c.CreateCheckpoint(ctx, roots[1], 512); !errors.Is(err, ErrDamaged) {
		t.Errorf("create in the place of a damaged one: %v", err)
	}
	if _, err := Verify(ctx, filepath.Dir(damaged)); !errors.Is(err, ErrMalformedMetadata) || !errors.Is(err, ErrDamaged) {
		t.Errorf("verification of a damaged one: %v", err)
	}
	if err := c.DeleteCheckpoint(ctx, 1, roots[1]); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateCheckpoint(ctx, roots[1], 512); err != nil {
		t.Fatal(err)
	}
}

// TestPlacedOnce checks that of those that bring a checkpoint at the same moment one does, and that it is never
// removed by another one: not by one that has looked just before it came.
func TestPlacedOnce(t *testing.T) {
	const makers, rounds = 8, 100
	c := newCreator(t, t.TempDir(), nil).(*fileCreator)
	for round := range uint64(rounds) {
		dir := CheckpointDir(c.path, node.Root{Version: round})
		var placed atomic.Int32
		var group errgroup.Group
		begin := make(chan struct{})
		for range makers {
			shop, err := openWorkshop(c.path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(shop.result(), metadataName), nil, fileMode); err != nil {
				t.Fatal(err)
			}
			group.Go(func() error {
				defer c.closeWorkshop(shop)
				<-begin
				taken, err := c.place(shop, dir)
				if err == nil && !taken {
					placed.Add(1)
				}
				return err
			})
		}
		close(begin)
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
		if n := placed.Load(); n != 1 {
			t.Fatalf("round %d: %d have brought it", round, n)
		}
	}
}

// TestListingBesideOthers checks that a file with the name of a version hides nothing, nor does a version that can't be
// read, which is in the list.
func TestListingBesideOthers(t *testing.T) {
	m := sourceOf(t, dataSet("uniform", 10), 512, 1)
	dir := filepath.Dir(filepath.Dir(m.path))
	if err := os.WriteFile(filepath.Join(dir, "5"), nil, fileMode); err != nil {
		t.Fatal(err)
	}
	const loop = "6"
	if err := os.Symlink(loop, filepath.Join(dir, loop)); err != nil {
		t.Fatal(err)
	}
	all, err := m.creator.(Inspector).List(t.Context())
	if err != nil || len(all) != 2 {
		t.Fatalf("%+v, %v", all, err)
	}
	if all[0].Path != m.path || all[0].Err != nil {
		t.Errorf("the checkpoint: %+v", all[0])
	}
	if all[1].Path != filepath.Join(dir, loop) || all[1].Err == nil || all[1].Metadata != nil {
		t.Errorf("the version that can't be read: %+v", all[1])
	}
	got, err := m.creator.GetCheckpoints(t.Context(), &GetCheckpointsRequest{Version: 1, Namespace: m.Root.Namespace})
	if err != nil || len(got) != 1 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestOpenDirectory(t *testing.T) {
	ctx := t.Context()
	m := sourceOf(t, dataSet("uniform", 60), 1024, 0)
	version := filepath.Dir(m.path)
	for name, dir := range map[string]string{"of checkpoints": filepath.Dir(version), "of a version": version, "of one": m.path} {
		p, err := OpenDirectory(dir)
		if err != nil {
			t.Fatal(err)
		}
		all, err := p.GetCheckpoints(ctx, &GetCheckpointsRequest{Version: 1, Namespace: m.Root.Namespace})
		if err != nil || len(all) != 1 || all[0].EncodedHash() != m.EncodedHash() {
			t.Fatalf("%s: %v, %v", name, all, err)
		}
		for i := range uint64(len(m.Chunks)) {
			cm, err := m.GetChunkMetadata(i)
			if err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			if err := p.GetCheckpointChunk(ctx, cm, &b); err != nil || hash.Sum(b.Bytes()) != m.Chunks[i] {
				t.Errorf("%s: chunk %d: %v", name, i, err)
			}
		}
		other := m.Root
		other.Hash[0] ^= 1
		if err := p.GetCheckpointChunk(ctx, &ChunkMetadata{Version: 1, Root: other}, &bytes.Buffer{}); !errors.Is(err, ErrCheckpointNotFound) {
			t.Errorf("%s: chunk of another root: %v", name, err)
		}
	}
	if _, err := OpenDirectory(filepath.Join(version, "nothing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	if _, err := OpenDirectory(filepath.Join(m.path, metadataName)); err == nil {
		t.Error("a file is opened as a directory")
	}
}

// TestLeftoversOfCrashes checks that what crashes leave is ignored, and removed by the next creation,
// while what somebody works on is not.
func TestLeftoversOfCrashes(t *testing.T) {
	ctx := t.Context()
	ndb := openDB(t)
	root := commit(t, ndb, 1, node.RootTypeState, dataSet("uniform", 30))
	finalize(t, ndb, root)
	dir := t.TempDir()

	alive, err := openWorkshop(dir)
	if err != nil {
		t.Fatal(err)
	}
	dead, err := openWorkshop(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := dead.lock.Close(); err != nil { // as the end of its process would
		t.Fatal(err)
	}
	// One whose removal was broken off, when its lock was gone.
	removed, err := openWorkshop(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(removed.lock.Close(), os.Remove(filepath.Join(removed.path, lockName))); err != nil {
		t.Fatal(err)
	}
	deleted := filepath.Join(dir, deletedPrefix+"x", "chunks")
	// A copy that was broken off, where the checkpoint is to be.
	partial := filepath.Join(CheckpointDir(dir, root), "chunks")
	for _, d := range []string{deleted, partial} {
		if err := os.MkdirAll(d, dirMode); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d, "9"), []byte("x"), fileMode); err != nil {
			t.Fatal(err)
		}
	}
	c := newCreator(t, dir, ndb)
	if all, err := c.(Inspector).List(ctx); err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
	if _, err := c.CreateCheckpoint(ctx, root, 1024); err != nil {
		t.Fatal(err)
	}
	if names := readNames(t, dir); !slices.Equal(names, []string{filepath.Base(alive.path), "1", IndexName}) {
		t.Errorf("names %v", names)
	}
	if _, err := os.Stat(filepath.Join(partial, "9")); !os.IsNotExist(err) {
		t.Errorf("the broken copy's chunk: %v", err)
	}
	if err := alive.close(); err != nil {
		t.Fatal(err)
	}
}

// TestCreateConcurrently makes one checkpoint by many, with several creators as several processes would.
func TestCreateConcurrently(t *testing.T) {
	ctx := t.Context()
	ndb := openDB(t)
	root := commit(t, ndb, 1, node.RootTypeState, dataSet("uniform", 200))
	finalize(t, ndb, root)
	dir := t.TempDir()
	var group errgroup.Group
	var mu sync.Mutex
	hashes := make(map[hash.Hash]int)
	for range 3 {
		c := newCreator(t, dir, ndb)
		for range 3 {
			group.Go(func() error {
				m, err := c.CreateCheckpoint(ctx, root, 1024)
				if err != nil {
					return err
				}
				mu.Lock()
				defer mu.Unlock()
				hashes[m.EncodedHash()]++
				return nil
			})
		}
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if len(hashes) != 1 {
		t.Errorf("metadata %v", hashes)
	}
	if names := readNames(t, filepath.Join(dir, "1")); !slices.Equal(names, []string{root.Hash.Hex()}) {
		t.Errorf("names %v", names)
	}
	if names := readNames(t, dir); !slices.Equal(names, []string{"1", IndexName}) {
		t.Errorf("names %v", names)
	}
	if pins, err := ndb.Pins(ctx); err != nil || len(pins) != 0 {
		t.Errorf("pins %v, %v", pins, err)
	}
}

// strayDB yields entries that a walk should not, or fails.
type strayDB struct {
	*treeDB
	change func(i int, e db.Entry) (db.Entry, error)
	extra  bool
}

func (d *strayDB) Walk(ctx context.Context, root node.Root, from node.Position) iter.Seq2[db.Entry, error] {
	return func(yield func(db.Entry, error) bool) {
		i := 0
		var last db.Entry
		for e, err := range d.treeDB.Walk(ctx, root, from) {
			if err == nil {
				e, err = d.change(i, e)
			}
			i++
			last = db.Entry{Address: e.Address, Position: e.Position, Record: bytes.Clone(e.Record)}
			if e.Record == nil && err == nil {
				return
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
		if d.extra {
			yield(last, nil)
		}
	}
}

// TestWalkGoesAstray checks that a walk that does not come to the right nodes makes no checkpoint.
func TestWalkGoesAstray(t *testing.T) {
	pairs := dataSet("uniform", 40)
	for _, threads := range []int{1, 3} {
		d := newTreeDB(t, pairs, 1, 0)
		for name, test := range map[string]struct {
			change func(i int, e db.Entry) (db.Entry, error)
			extra  bool
			want   error
		}{
			"cut short":  {change: func(i int, e db.Entry) (db.Entry, error) { return keepIf(i < 7, e), nil }, want: db.ErrCorrupted},
			"fails":      {change: func(i int, e db.Entry) (db.Entry, error) { return e, failIf(i == 7) }, want: errTest},
			"no record":  {change: func(i int, e db.Entry) (db.Entry, error) { return cutIf(i == 7, e), nil }, want: db.ErrCorrupted},
			"left out":   {change: leaveOut(d), want: db.ErrCorrupted},
			"address":    {change: func(i int, e db.Entry) (db.Entry, error) { e.Address.Candidate += uint16(i / 7); return e, nil }, want: db.ErrCorrupted},
			"goes on":    {change: func(_ int, e db.Entry) (db.Entry, error) { return e, nil }, extra: true, want: db.ErrCorrupted},
			"wrong root": {change: func(_ int, e db.Entry) (db.Entry, error) { return e, nil }, want: nil},
		} {
			if test.extra && threads > 1 {
				continue // a task of several leaves its walk at its end
			}
			dir := t.TempDir()
			c := newCreator(t, dir, &strayDB{treeDB: d, change: test.change, extra: test.extra}, WithThreads(threads))
			_, err := c.CreateCheckpoint(t.Context(), d.root, 1<<20)
			if !errors.Is(err, test.want) {
				t.Errorf("%s, %d threads: %v", name, threads, err)
			}
			if test.want != nil && len(readNames(t, dir)) != 0 {
				t.Errorf("%s: left behind: %v", name, readNames(t, dir))
			}
			d.checkPins(t)
		}
	}
}

func keepIf(ok bool, e db.Entry) db.Entry {
	if !ok {
		e.Record = nil
	}
	return e
}

func failIf(fail bool) error {
	if fail {
		return errTest
	}
	return nil
}

func cutIf(cut bool, e db.Entry) db.Entry {
	if cut {
		e.Record = e.Record[:len(e.Record)-1]
	}
	return e
}

// leaveOut yields the entry after the one that is due.
func leaveOut(d *treeDB) func(int, db.Entry) (db.Entry, error) {
	return func(i int, e db.Entry) (db.Entry, error) {
		if i < 7 {
			return e, nil
		}
		for k := range d.entries {
			if d.entries[k].Position.Compare(e.Position) > 0 {
				return d.entries[k], nil
			}
		}
		return e, nil
	}
}

// TestDiskFails checks that a directory that can't be written to is an error that names its cause.
func TestDiskFails(t *testing.T) {
	d := newTreeDB(t, dataSet("uniform", 100), 1, 0)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, fileMode); err != nil {
		t.Fatal(err)
	}
	var cause *os.PathError
	if _, err := newCreator(t, file, d).CreateCheckpoint(t.Context(), d.root, 100); !errors.As(err, &cause) || !strings.Contains(err.Error(), file) {
		t.Errorf("%v", err)
	}
	d.checkPins(t)
}

// TestCreatorLimits checks that nothing is made that can't be restored under the limits, and that what is
// just within them can.
func TestCreatorLimits(t *testing.T) {
	ctx := t.Context()
	ndb := openDB(t)
	pairs := dataSet("uniform", 300)
	root := commit(t, ndb, 1, node.RootTypeState, pairs)
	finalize(t, ndb, root)
	const chunkSize = 4096
	for _, threads := range []int{1, 3} {
		m := makeCheckpoint(t, ndb, root, chunkSize, threads)
		just := Limits{Chunks: len(m.Chunks), MetadataBytes: int64(len(EncodeMetadata(m.Metadata)))}
		for _, p := range pairs {
			just.KeyBytes, just.ValueBytes = max(just.KeyBytes, len(p.Key)), max(just.ValueBytes, len(p.Value))
		}
		for i := range uint64(len(m.Chunks)) {
			chunk := m.chunk(t, i)
			raw, err := decompress(nil, chunk, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			just.ChunkBytes = max(just.ChunkBytes, int64(len(chunk)))
			just.RawBytes = max(just.RawBytes, int64(len(raw)))
			just.Entries = max(just.Entries, len(splitChunk(t, chunk)))
		}
		below := func(change func(*Limits)) Limits {
			l := just
			change(&l)
			return l
		}
		for name, limits := range map[string]Limits{
			"":           just,
			"Chunks":     below(func(l *Limits) { l.Chunks-- }),
			"ChunkBytes": below(func(l *Limits) { l.ChunkBytes-- }),
			"RawBytes":   below(func(l *Limits) { l.RawBytes-- }),
			"Entries":    below(func(l *Limits) { l.Entries-- }),
			"KeyBytes":   below(func(l *Limits) { l.KeyBytes-- }),
			"ValueBytes": below(func(l *Limits) { l.ValueBytes-- }),

			"MetadataBytes": below(func(l *Limits) { l.MetadataBytes-- }),
		} {
			dir := t.TempDir()
			_, err := newCreator(t, dir, ndb, WithThreads(threads), WithCreatorLimits(limits), WithVerification(VerifyNever)).CreateCheckpoint(ctx, root, chunkSize)
			to := newRestorer(t, openDB(t), WithLimits(limits))
			if name == "" {
				if err != nil {
					t.Errorf("%d threads, just within the limits: %v", threads, err)
				}
				restore(t, to, m)
				continue
			}
			if !errors.Is(err, ErrLimitExceeded) || !strings.Contains(err.Error(), "Limits."+name+" ") {
				t.Errorf("%d threads, %s: %v", threads, name, err)
			}
			if names := namesIn(t, dir); len(names) > 0 {
				t.Errorf("%d threads, %s: %v is left", threads, name, names)
			}
			err = to.StartRestore(ctx, m.Metadata)
			for i := uint64(0); err == nil && i < uint64(len(m.Chunks)); i++ {
				_, err = to.RestoreChunk(ctx, i, bytes.NewReader(m.chunk(t, i)))
			}
			if !errors.Is(err, ErrLimitExceeded) || !strings.Contains(err.Error(), "Limits."+name+" ") {
				t.Errorf("%d threads, %s: the restore: %v", threads, name, err)
			}
			if name == "Chunks" || name == "MetadataBytes" {
				if _, err := Verify(ctx, m.path, VerifyLimits(limits)); !errors.Is(err, ErrLimitExceeded) || !strings.Contains(err.Error(), "Limits."+name+" ") {
					t.Errorf("%d threads, %s: the verification: %v", threads, name, err)
				}
			}
		}
	}
}

// TestCreatorStopsAtMetadataLimit checks that no more chunks are made than the metadata can name.
func TestCreatorStopsAtMetadataLimit(t *testing.T) {
	ndb := openDB(t)
	root := commit(t, ndb, 1, node.RootTypeState, dataSet("uniform", 300))
	finalize(t, ndb, root)
	var made atomic.Int64
	c := newCreator(t, t.TempDir(), ndb, WithCreatorLimits(Limits{MetadataBytes: 5 * digestBytes}),
		WithProgress(func(node.Root, uint64, int64, uint64) { made.Add(1) }))
	if _, err := c.CreateCheckpoint(t.Context(), root, 512); !errors.Is(err, ErrLimitExceeded) || !strings.Contains(err.Error(), "Limits.MetadataBytes ") {
		t.Errorf("%v", err)
	}
	if n := made.Load(); n > 5 {
		t.Errorf("%d chunks were made", n)
	}
}

// lyingDB is a treeDB with a value that is not what it was when the tree was hashed.
type lyingDB struct {
	*treeDB
	integrity bool
}

func (d *lyingDB) Info() db.Info {
	info := d.treeDB.Info()
	info.Capabilities.Integrity = d.integrity
	return info
}

// TestVerifiedWhenMade checks that a checkpoint that would not verify does not appear, unless that was
// not to be looked at.
func TestVerifiedWhenMade(t *testing.T) {
	ctx := t.Context()
	d := newTreeDB(t, dataSet("uniform", 100), 1, 0)
	for i := range d.entries {
		r, err := node.ParseRecord(d.entries[i].Record, d.entries[i].Address)
		if err != nil {
			t.Fatal(err)
		}
		if r.Leaf && len(r.Value) > 0 && i > len(d.entries)/2 {
			r.Value[0] ^= 1 // which lies in the record
			break
		}
	}
	for _, c := range []struct {
		opts      []CreatorOption
		integrity bool
		refused   bool
	}{
		{nil, false, true},
		{nil, true, false}, // what a database promises is believed, unless the setting says otherwise
		{[]CreatorOption{WithVerification(VerifyAlways)}, true, true},
		{[]CreatorOption{WithVerification(VerifyUnlessIntegrity)}, false, true},
		{[]CreatorOption{WithVerification(VerifyUnlessIntegrity)}, true, false},
		{[]CreatorOption{WithVerification(VerifyNever)}, false, false},
	} {
		dir := t.TempDir()
		_, err := newCreator(t, dir, &lyingDB{d, c.integrity}, c.opts...).CreateCheckpoint(ctx, d.root, 1024)
		if c.refused != errors.Is(err, ErrChunkProofVerificationFailed) || !c.refused && err != nil {
			t.Errorf("%+v: %v", c, err)
		}
		if names := namesIn(t, dir); c.refused != (len(names) == 0) {
			t.Errorf("%+v: files %v", c, names)
		}
		d.checkPins(t)
	}
}

// TestVerifiedAsAWhole checks that chunks which are good each for itself, and are not the whole tree or hold some of
// it twice, do not become a checkpoint.
func TestVerifiedAsAWhole(t *testing.T) {
	ndb := openDB(t)
	root := commit(t, ndb, 1, node.RootTypeState, dataSet("uniform", 60))
	finalize(t, ndb, root)
	m := makeCheckpoint(t, ndb, root, 512, 1)
	last := len(m.Chunks) - 1
	twice := makeCheckpoint(t, ndb, root, 512, 1)
	twice.replace(t, uint64(last), twice.chunk(t, 0))
	for name, c := range map[string]struct {
		from   made
		chunks int
		want   error
	}{
		"whole":                 {m, last + 1, nil},
		"the last one left out": {m, last, ErrChunkProofVerificationFailed},
		"the first one twice":   {twice, last + 1, ErrChunkProofVerificationFailed},
	} {
		metadata := c.from.clone()
		metadata.Chunks = metadata.Chunks[:c.chunks]
		creator := newCreator(t, t.TempDir(), &lyingDB{&treeDB{NodeDB: ndb}, false}).(*fileCreator)
		files := &checkpointFiles{dir: c.from.path, root: root, verifier: creator.verifier(c.from.path, root)}
		for _, name := range []string{metadataName, manifestName} { // which finish is to write
			if err := removeIfThere(filepath.Join(c.from.path, name)); err != nil {
				t.Fatal(err)
			}
		}
		for i, digest := range metadata.Chunks {
			if err := files.done(t.Context(), uint64(i), chunkInfo{compressed: compressed{digest: digest}}); err != nil {
				t.Fatal(err)
			}
		}
		if err := files.finish(t.Context(), metadata, nil); !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(filepath.Join(c.from.path, metadataName)); (err == nil) != (c.want == nil) {
			t.Errorf("%s: the metadata: %v", name, err)
		}
	}
}

// TestLongPaths checks that a tree of thousands of keys that are prefixes of each other becomes no
// checkpoint of many times its size, and does become one where the chunk size is enough.
func TestLongPaths(t *testing.T) {
	key := bytes.Repeat([]byte{0xa5}, 512)
	var pairs []vectors.Pair
	for n := range len(key) + 1 {
		pairs = append(pairs, vectors.Pair{Key: key[:n], Value: []byte{1}})
	}
	d := newTreeDB(t, pairs, 1, db.DefaultEmbedBytes) // whose longest path takes some 140 KiB
	for _, threads := range []int{1, 4} {
		dir := t.TempDir()
		_, err := newCreator(t, dir, d, WithThreads(threads)).CreateCheckpoint(t.Context(), d.root, 8<<10)
		if !errors.Is(err, ErrChunkSizeTooSmall) {
			t.Errorf("%d threads: %v", threads, err)
		}
		if names := namesIn(t, dir); len(names) > 0 {
			t.Errorf("%d threads: %v is left", threads, names)
		}
		d.checkPins(t)
		if _, err := newCreator(t, dir, d, WithThreads(threads)).CreateCheckpoint(t.Context(), d.root, 16<<10); err != nil {
			t.Errorf("%d threads, larger chunks: %v", threads, err)
		}
	}
}
