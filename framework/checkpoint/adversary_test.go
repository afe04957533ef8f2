package checkpoint

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"unsafe"

	"pgregory.net/rapid"

	"github.com/ckpt-project/ckpt/backends/memory"
	"github.com/ckpt-project/ckpt/conformance/vectors"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/proof"
)

// openWatched opens a database in memory, and returns its store, too.
func openWatched(t testing.TB) (db.NodeDB, kv.Store) {
	t.Helper()
	ctx := context.Background()
	cfg := &db.Config{Namespace: testNamespace(t)}
	store, err := memory.OpenStore(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ndb, err := kvdb.Open(ctx, store, cfg, kvdb.Options{Backend: "memory", BackendVersion: "1"})
	if err != nil {
		t.Fatal(err)
	}
	return ndb, store
}

// keysOf returns all keys of a store.
func keysOf(t testing.TB, store kv.Store) (keys []string) {
	t.Helper()
	s, err := store.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c := s.Cursor()
	defer c.Close()
	for ok := c.Seek(nil); ok; ok = c.Next() {
		keys = append(keys, string(c.Key()))
	}
	if err := c.Err(); err != nil {
		t.Fatal(err)
	}
	return keys
}

// wholeTree returns a tree as the one chunk that holds all of it, decoded.
func wholeTree(t *rapid.T, d *treeDB) *proof.Tree {
	chunks, _ := cutInMemory(t, d, 1<<40, 0)
	limits := Limits{}.withDefaults()
	tree, err := newChunkDecoder(&limits).decode(chunks[0], d.root.Hash)
	if err != nil || len(chunks) != 1 {
		t.Fatalf("%d chunks, %v", len(chunks), err)
	}
	return tree
}

// drawPart draws any part of a tree that is a proof: each node below an included one is included or
// not.
func drawPart(t *rapid.T, tree *proof.Tree) (entries [][]byte) {
	in := rapid.IntRange(1, 10).Draw(t, "share")
	stack := []int32{0}
	for len(stack) > 0 {
		i := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if i == proof.None {
			entries = append(entries, nil)
			continue
		}
		n := &tree.Nodes[i]
		if rapid.IntRange(1, 10).Draw(t, "in") > in {
			entries = append(entries, hashEntry(n.Hash))
			continue
		}
		entries = append(entries, append([]byte{entryIncluded}, n.Encoding...))
		if n.Kind == proof.KindInternal {
			stack = append(stack, n.Children[node.Right], n.Children[node.Left])
		}
	}
	return entries
}

// drawCut draws a cut of a tree into chunks, each node whose parent is in several chunks being in one of
// them; which is a checkpoint that may be fine, if by no rule.
func drawCut(t *rapid.T, tree *proof.Tree, parts int) (chunks [][][]byte) {
	chunks = make([][][]byte, parts)
	owner := make([]int, len(tree.Nodes)) // the chunk that holds the subtree, or -1 where it is cut further
	owner[0] = -1
	for i := range tree.Nodes {
		for _, c := range tree.Nodes[i].Children {
			if c == proof.None {
				continue
			}
			if owner[c] = owner[i]; owner[i] < 0 && rapid.IntRange(0, 2).Draw(t, "cut") > 0 {
				owner[c] = rapid.IntRange(0, parts-1).Draw(t, "owner")
			}
			if owner[c] < 0 && tree.Nodes[c].Kind == proof.KindLeaf {
				owner[c] = rapid.IntRange(0, parts-1).Draw(t, "owner")
			}
		}
	}
	for p := range chunks {
		stack := []int32{0}
		for len(stack) > 0 {
			i := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			switch {
			case i == proof.None:
				chunks[p] = append(chunks[p], nil)
			case owner[i] >= 0 && owner[i] != p:
				chunks[p] = append(chunks[p], hashEntry(tree.Nodes[i].Hash))
			default:
				n := &tree.Nodes[i]
				chunks[p] = append(chunks[p], append([]byte{entryIncluded}, n.Encoding...))
				if n.Kind == proof.KindInternal {
					stack = append(stack, n.Children[node.Right], n.Children[node.Left])
				}
			}
		}
	}
	return chunks
}

// TestAnyProofs restores checkpoints of any valid proofs: parts of the tree that no layout makes, which
// overlap, repeat, and leave out. A restore succeeds where Verify does, and holds then all that it
// should, and nothing else; otherwise it is a failed verification, and leaves not a key in the store.
func TestAnyProofs(t *testing.T) {
	dir := t.TempDir()
	accepted, refused := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		pairs := rapid.Custom(drawPairs).Filter(func(p []vectors.Pair) bool { return len(p) > 1 }).Draw(rt, "pairs")
		d := newTreeDB(t, pairs, 1, 512)
		tree := wholeTree(rt, d)
		var proofs [][][]byte
		if rapid.Bool().Draw(rt, "cut") {
			proofs = drawCut(rt, tree, rapid.IntRange(1, 3).Draw(rt, "parts"))
		}
		for range rapid.IntRange(0, 2).Draw(rt, "more") {
			proofs = append(proofs, drawPart(rt, tree))
		}
		var chunks [][]byte
		for _, entries := range proofs {
			chunks = append(chunks, rawChunk(t, entries...))
		}
		if len(chunks) == 0 {
			return
		}
		m := metadataOf(d, chunks)
		_, verr := verifyAll(rt, dir, m, chunks)
		rerr := restoreWatched(rt, t, m, chunks, pairs)
		for _, err := range []error{verr, rerr} {
			if err != nil && !errors.Is(err, ErrChunkProofVerificationFailed) {
				rt.Fatalf("another error: %v", err)
			}
		}
		if (verr == nil) != (rerr == nil) {
			rt.Fatalf("verification: %v\nrestore: %v", verr, rerr)
		}
		if rerr == nil {
			accepted++
		} else {
			refused++
		}
	})
	if accepted == 0 || refused == 0 {
		t.Errorf("%d were accepted, %d refused: the test tests little", accepted, refused)
	}
}

// restoreWatched restores chunks into a store that it looks into.
func restoreWatched(rt *rapid.T, t testing.TB, m *Metadata, chunks [][]byte, pairs []vectors.Pair) error {
	ctx := context.Background()
	ndb, store := openWatched(t)
	defer ndb.Close(ctx)
	before := keysOf(t, store)
	r := newRestorer(t, ndb)
	if err := r.StartRestore(ctx, m); err != nil {
		rt.Fatal(err)
	}
	for i, chunk := range chunks {
		done, err := r.RestoreChunk(ctx, uint64(i), bytes.NewReader(chunk))
		if err != nil {
			nothingVisible(t, ndb, m.Root)
			if keys := keysOf(t, store); !slices.Equal(keys, before) {
				rt.Fatalf("%d keys are left, %x", len(keys), keys)
			}
			if err := ndb.Finalize(ctx, []node.Root{m.Root}); !errors.Is(err, db.ErrRootNotFound) {
				rt.Fatalf("finalizing after %v", err)
			}
			return err
		}
		if done != (i == len(chunks)-1) {
			rt.Fatalf("chunk %d of %d: done is %v", i, len(chunks), done)
		}
	}
	if ok, err := ndb.HasRoot(ctx, m.Root); ok || err != nil {
		rt.Fatalf("visible before it is finalized: %v, %v", ok, err)
	}
	if err := ndb.Finalize(ctx, []node.Root{m.Root}); err != nil {
		rt.Fatal(err)
	}
	if !equalPairs(entriesOf(t, ndb, m.Root), pairs) {
		rt.Fatal("other entries")
	}
	// Replaced as a whole, it leaves no node behind.
	version := m.Root.Version
	tree := mkvs.NewWithRoot(ndb, m.Root)
	defer tree.Close()
	for _, p := range pairs {
		if err := tree.Remove(ctx, p.Key); err != nil {
			rt.Fatal(err)
		}
	}
	_, h, err := tree.Commit(ctx, m.Root.Namespace, version+1)
	if err != nil || h != hash.EmptyHash {
		rt.Fatalf("removing all: %s, %v", h, err)
	}
	next := m.Root
	next.Version, next.Hash = version+1, h
	if err := errors.Join(ndb.Finalize(ctx, []node.Root{next}), ndb.Prune(ctx, version)); err != nil {
		rt.Fatal(err)
	}
	return nil
}

// endedDB ends its caller's context when a root of a multipart insert is told of, and fails.
type endedDB struct {
	db.NodeDB
	end context.CancelFunc
}

func (d *endedDB) AddMultipartRoot(ctx context.Context, _ node.Root, _ uint64, _ []byte) error {
	d.end()
	return ctx.Err()
}

// TestStartEndedInTheMiddle checks that a start that fails because its context ends leaves no multipart
// insert, which would be in the way of every restore of another version.
func TestStartEndedInTheMiddle(t *testing.T) {
	m := sourceOf(t, dataSet("uniform", 20), 1024, 0)
	ndb, store := openWatched(t)
	defer ndb.Close(t.Context())
	before := keysOf(t, store)
	ctx, cancel := context.WithCancel(t.Context())
	r := newRestorer(t, &endedDB{ndb, cancel})
	if err := r.StartRestore(ctx, m.Metadata); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	nothingVisible(t, ndb, m.Root)
	if keys := keysOf(t, store); !slices.Equal(keys, before) {
		t.Errorf("keys are left: %x", keys)
	}
}

// TestNodesTakeMemoryOnce checks that the memory for a chunk's nodes is what they take, however many: a
// list that grows as they come is copied over and over, and its old copies stay for a while.
func TestNodesTakeMemoryOnce(t *testing.T) {
	pairs := make([]vectors.Pair, 1<<14)
	for i := range pairs {
		pairs[i].Key = []byte{byte(i >> 6), byte(i << 2)}
	}
	d := newTreeDB(t, pairs, 1, 512)
	m := makeCheckpoint(t, d, d.root, 1<<40, 0)
	chunk := m.chunk(t, 0)
	limits := Limits{}.withDefaults()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	tree, err := newChunkDecoder(&limits).decode(chunk, d.root.Hash)
	runtime.ReadMemStats(&after)
	if err != nil {
		t.Fatal(err)
	}
	if want := 2*len(pairs) - 1; len(tree.Nodes) != want {
		t.Fatalf("%d nodes, want %d", len(tree.Nodes), want)
	}
	most := uint64(len(tree.Nodes))*(uint64(unsafe.Sizeof(proof.Node{}))*5/4+hashingBytes) + 2<<20
	if got := after.TotalAlloc - before.TotalAlloc; got > most {
		t.Errorf("%d bytes of memory for %d nodes, want at most %d", got, len(tree.Nodes), most)
	}
}

// TestMetadataBombs checks that metadata takes memory for what it holds, and not for what it says.
func TestMetadataBombs(t *testing.T) {
	m := &Metadata{Version: 1, Root: node.Root{Namespace: testNamespace(t), Type: node.RootTypeState}, Chunks: []hash.Hash{{}}}
	good := EncodeMetadata(m)
	at := bytes.Index(good, []byte("chunks")) + len("chunks")
	for name, head := range map[string][]byte{
		"2^20":    {0x9a, 0x00, 0x10, 0x00, 0x00},
		"2^32":    {0x9a, 0xff, 0xff, 0xff, 0xff},
		"2^63":    {0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		"2^64":    {0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		"endless": {0x9f},
	} {
		t.Run(name, func(t *testing.T) {
			bad := slices.Concat(good[:at], head, good[at+1:])
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, metadataName), bad, fileMode); err != nil {
				t.Fatal(err)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if _, err := DecodeMetadata(bad); !errors.Is(err, ErrMalformedMetadata) {
				t.Fatal(err)
			}
			runtime.ReadMemStats(&after)
			if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
				t.Errorf("%d bytes of memory", n)
			}
			if _, err := Verify(t.Context(), dir); !errors.Is(err, ErrMalformedMetadata) {
				t.Errorf("verification: %v", err)
			}
		})
	}
}
