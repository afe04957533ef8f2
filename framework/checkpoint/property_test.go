package checkpoint

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/ckpt-project/ckpt/backends/memory"
	"github.com/ckpt-project/ckpt/conformance/vectors"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// memoryFiles keeps chunks in memory.
type memoryFiles struct {
	mu      sync.Mutex
	chunks  map[uint64]*bytes.Buffer
	entries uint64
}

type memoryFile struct{ *bytes.Buffer }

func (memoryFile) Close() error { return nil }

func (f *memoryFiles) create(index uint64) (io.WriteCloser, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := &bytes.Buffer{}
	f.chunks[index] = b
	return memoryFile{b}, nil
}

func (f *memoryFiles) done(_ context.Context, _ uint64, info chunkInfo) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.entries += info.entries
	return nil
}

// cutInMemory cuts a tree, and returns its chunks and the number of entries that they were counted to
// hold.
func cutInMemory(t *rapid.T, d *treeDB, size uint64, threads int) (chunks [][]byte, entries uint64) {
	files := &memoryFiles{chunks: make(map[uint64]*bytes.Buffer)}
	c := &cutter{ndb: d, root: d.root, size: size, threads: threads, workers: 2, files: files}
	n, err := c.cut(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		chunks = append(chunks, files.chunks[i].Bytes())
	}
	return chunks, files.entries
}

// drawPairs draws a set of entries whose keys share prefixes, and are prefixes, more than by chance.
func drawPairs(t *rapid.T) []vectors.Pair {
	state := make(map[string][]byte)
	key := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 0x80, 0xff, 0x7f}), 0, 6)
	for range rapid.IntRange(0, 40).Draw(t, "entries") {
		value := make([]byte, rapid.SampledFrom([]int{0, 1, 20, 90, 700}).Draw(t, "value"))
		state[string(key.Draw(t, "key"))] = value
	}
	pairs := make([]vectors.Pair, 0, len(state))
	for k, v := range state {
		pairs = append(pairs, vectors.Pair{Key: []byte(k), Value: v})
	}
	slices.SortFunc(pairs, func(a, b vectors.Pair) int { return bytes.Compare(a.Key, b.Key) })
	return pairs
}

func drawLayout(t *rapid.T, d *treeDB) (chunks [][]byte, entries uint64) {
	size := rapid.SampledFrom([]uint64{0, 1, 40, 100, 300, 1000, 1 << 20}).Draw(t, "chunk size")
	return cutInMemory(t, d, size, rapid.IntRange(0, 7).Draw(t, "threads"))
}

// restoreAll restores chunks in the given order into a new database, and returns what it then holds.
func restoreAll(t *rapid.T, m *Metadata, chunks [][]byte, order []int) ([]vectors.Pair, error) {
	ctx := context.Background()
	ndb, err := memory.New().New(ctx, &db.Config{Namespace: m.Root.Namespace})
	if err != nil {
		t.Fatal(err)
	}
	defer ndb.Close(ctx)
	r, err := NewRestorer(ndb)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.StartRestore(ctx, m); err != nil {
		t.Fatal(err)
	}
	for i, index := range order {
		done, err := r.RestoreChunk(ctx, uint64(index), bytes.NewReader(chunks[index]))
		if err != nil {
			if mp, merr := ndb.Multipart(ctx); merr != nil || mp != nil {
				t.Fatalf("after %v: %v, %v", err, mp, merr)
			}
			return nil, err
		}
		if done != (i == len(order)-1) {
			t.Fatalf("chunk %d: done is %v", index, done)
		}
	}
	if err := ndb.Finalize(ctx, []node.Root{m.Root}); err != nil {
		t.Fatal(err)
	}
	tree := mkvs.NewWithRoot(ndb, m.Root)
	defer tree.Close()
	it := tree.NewIterator(ctx)
	defer it.Close()
	var pairs []vectors.Pair
	for it.Rewind(); it.Valid(); it.Next() {
		pairs = append(pairs, vectors.Pair{Key: bytes.Clone(it.Key()), Value: bytes.Clone(it.Value())})
	}
	if err := it.Err(); err != nil {
		t.Fatal(err)
	}
	return pairs, nil
}

// verifyAll verifies chunks as a checkpoint of files.
func verifyAll(t *rapid.T, dir string, m *Metadata, chunks [][]byte) (*Report, error) {
	if err := os.MkdirAll(filepath.Join(dir, chunksName), dirMode); err != nil {
		t.Fatal(err)
	}
	for i, c := range chunks {
		if err := os.WriteFile(chunkPath(dir, uint64(i)), c, fileMode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, metadataName), EncodeMetadata(m), fileMode); err != nil {
		t.Fatal(err)
	}
	return Verify(context.Background(), dir)
}

func metadataOf(d *treeDB, chunks [][]byte) *Metadata {
	m := &Metadata{Version: 1, Root: d.root}
	for _, c := range chunks {
		m.Chunks = append(m.Chunks, hash.Sum(c))
	}
	return m
}

// TestAnyLayout checks that whatever the tree and the layout are, the checkpoint is complete, restores
// in any order, and gives the same entries.
func TestAnyLayout(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		pairs := drawPairs(rt)
		d := newTreeDB(t, pairs, 1, rapid.SampledFrom([]int{0, 50, 512}).Draw(rt, "embed"))
		chunks, entries := drawLayout(rt, d)
		if entries != uint64(len(pairs)) {
			rt.Errorf("%d entries were counted, want %d", entries, len(pairs))
		}
		m := metadataOf(d, chunks)
		report, err := verifyAll(rt, dir, m, chunks)
		if err != nil {
			rt.Fatal(err)
		}
		if report.Entries != uint64(len(pairs)) {
			rt.Errorf("%d entries were verified, want %d", report.Entries, len(pairs))
		}
		order := make([]int, len(chunks))
		for i := range order {
			order[i] = i
		}
		got, err := restoreAll(rt, m, chunks, rapid.Permutation(order).Draw(rt, "order"))
		if err != nil {
			rt.Fatal(err)
		}
		if !equalPairs(got, pairs) {
			rt.Error("other entries")
		}
	})
}

// TestAnyChunks puts chunks of several layouts of one tree together, each a valid proof: mostly they
// leave something out, or hold something twice. What Verify accepts has to restore, with all entries, and
// what it refuses must not.
func TestAnyChunks(t *testing.T) {
	dir := t.TempDir()
	accepted, refused := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		pairs := rapid.Custom(drawPairs).Filter(func(p []vectors.Pair) bool { return len(p) > 0 }).Draw(rt, "pairs")
		d := newTreeDB(t, pairs, 1, 512)
		chunks, _ := drawLayout(rt, d)
		others, _ := drawLayout(rt, d)
		for range rapid.IntRange(0, 3).Draw(rt, "changes") {
			i := rapid.IntRange(0, len(chunks)-1).Draw(rt, "at")
			other := rapid.SampledFrom(others).Draw(rt, "other")
			switch rapid.IntRange(0, 2).Draw(rt, "change") {
			case 0:
				chunks[i] = other
			case 1:
				chunks = slices.Insert(slices.Clone(chunks), i, other)
			case 2:
				if len(chunks) > 1 {
					chunks = slices.Delete(slices.Clone(chunks), i, i+1)
				}
			}
		}
		m := metadataOf(d, chunks)
		report, verr := verifyAll(rt, dir, m, chunks)
		order := make([]int, len(chunks))
		for i := range order {
			order[i] = i
		}
		got, rerr := restoreAll(rt, m, chunks, order)
		for _, err := range []error{verr, rerr} {
			if err != nil && !errors.Is(err, ErrChunkProofVerificationFailed) {
				rt.Fatalf("another error: %v", err)
			}
		}
		if verr == nil {
			accepted++
			if report.Entries != uint64(len(pairs)) {
				rt.Errorf("verified with %d of %d entries", report.Entries, len(pairs))
			}
		} else {
			refused++
		}
		if (verr == nil) != (rerr == nil) {
			rt.Fatalf("verification: %v\nrestore: %v", verr, rerr)
		}
		if rerr == nil && !equalPairs(got, pairs) {
			rt.Errorf("restored with %d of %d entries", len(got), len(pairs))
		}
	})
	if accepted == 0 || refused == 0 {
		t.Errorf("%d were accepted, %d refused: the test tests little", accepted, refused)
	}
}
