package checkpoint

import (
	"bytes"
	"context"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ckpt-project/ckpt/backends/memory"
	"github.com/ckpt-project/ckpt/conformance/vectors"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// openDB opens an empty database in memory.
func openDB(t testing.TB) db.NodeDB {
	t.Helper()
	ndb, err := memory.New().New(context.Background(), &db.Config{Namespace: testNamespace(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ndb.Close(context.Background()); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	return ndb
}

// dataSet returns the pairs of a data set, and the root hash of their tree.
func dataSet(kind string, n uint64) []vectors.Pair {
	v := vectors.Vector{Kind: kind, Seed: 1, N: n}
	return v.Final()
}

// commit makes a version of the given type that holds pairs, from an empty tree, and does not finalize
// it.
func commit(t testing.TB, ndb db.NodeDB, version uint64, typ node.RootType, pairs []vectors.Pair) node.Root {
	t.Helper()
	tree := mkvs.New(ndb, typ)
	defer tree.Close()
	for _, p := range pairs {
		if err := tree.Insert(t.Context(), p.Key, p.Value); err != nil {
			t.Fatal(err)
		}
	}
	_, h, err := tree.Commit(t.Context(), testNamespace(t), version)
	if err != nil {
		t.Fatal(err)
	}
	return node.Root{Namespace: testNamespace(t), Version: version, Type: typ, Hash: h}
}

func finalize(t testing.TB, ndb db.NodeDB, roots ...node.Root) {
	t.Helper()
	if err := ndb.Finalize(t.Context(), roots); err != nil {
		t.Fatal(err)
	}
}

// load makes the state of a vector, with its versions, and returns its root.
func load(t testing.TB, ndb db.NodeDB, v *vectors.Vector) node.Root {
	t.Helper()
	tree := mkvs.New(ndb, node.RootTypeState)
	defer tree.Close()
	for i := range v.N {
		key, value := v.DataSet().Entry(i)
		if err := tree.Insert(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
	}
	root := node.Root{Namespace: testNamespace(t), Type: node.RootTypeState}
	var err error
	for root.Version = 1; ; root.Version++ {
		if _, root.Hash, err = tree.Commit(t.Context(), root.Namespace, root.Version); err != nil {
			t.Fatal(err)
		}
		finalize(t, ndb, root)
		if root.Version == v.Version() {
			break
		}
		for _, key := range v.RemovedKeys() {
			if err := tree.Remove(t.Context(), key); err != nil {
				t.Fatal(err)
			}
		}
	}
	if root.Hash != v.Root {
		t.Fatalf("root %s, want %s", root.Hash, v.Root)
	}
	return root
}

// entriesOf returns what a root holds.
func entriesOf(t testing.TB, ndb db.NodeDB, root node.Root) []vectors.Pair {
	t.Helper()
	tree := mkvs.NewWithRoot(ndb, root)
	defer tree.Close()
	it := tree.NewIterator(t.Context())
	defer it.Close()
	var pairs []vectors.Pair
	for it.Rewind(); it.Valid(); it.Next() {
		pairs = append(pairs, vectors.Pair{Key: bytes.Clone(it.Key()), Value: bytes.Clone(it.Value())})
	}
	if err := it.Err(); err != nil {
		t.Fatal(err)
	}
	return pairs
}

func equalPairs(a, b []vectors.Pair) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !bytes.Equal(a[i].Key, b[i].Key) || !bytes.Equal(a[i].Value, b[i].Value) {
			return false
		}
	}
	return true
}

// made is a checkpoint that was made for a test.
type made struct {
	*Metadata
	creator Creator
	path    string
}

// makeCheckpoint makes a checkpoint in a directory of its own.
func makeCheckpoint(t testing.TB, ndb db.NodeDB, root node.Root, chunkSize uint64, threads int) made {
	t.Helper()
	c, err := NewFileCreator(t.TempDir(), ndb, WithThreads(threads))
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.CreateCheckpoint(t.Context(), root, chunkSize)
	if err != nil {
		t.Fatal(err)
	}
	_, path, err := c.(Inspector).Describe(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	return made{Metadata: m, creator: c, path: path}
}

// chunk returns a chunk's bytes.
func (m *made) chunk(t testing.TB, index uint64) []byte {
	t.Helper()
	cm, err := m.GetChunkMetadata(index)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := m.creator.GetCheckpointChunk(t.Context(), cm, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// replace puts other bytes in the place of a chunk, with their digest in the metadata.
func (m *made) replace(t testing.TB, index uint64, chunk []byte) {
	t.Helper()
	m.Chunks[index] = hash.Sum(chunk)
	for name, b := range map[string][]byte{chunkPath(m.path, index): chunk, m.path + "/meta": EncodeMetadata(m.Metadata)} {
		if err := os.WriteFile(name, b, fileMode); err != nil {
			t.Fatal(err)
		}
	}
}

// sourceOf makes a database with one version of pairs, and its checkpoint.
func sourceOf(t testing.TB, pairs []vectors.Pair, chunkSize uint64, threads int) made {
	t.Helper()
	ndb := openDB(t)
	root := commit(t, ndb, 1, node.RootTypeState, pairs)
	finalize(t, ndb, root)
	return makeCheckpoint(t, ndb, root, chunkSize, threads)
}

func newRestorer(t testing.TB, ndb db.NodeDB, opts ...RestorerOption) Restorer {
	t.Helper()
	r, err := NewRestorer(ndb, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// restore restores all chunks, one after the other.
func restore(t testing.TB, r Restorer, m made) {
	t.Helper()
	if err := r.StartRestore(t.Context(), m.Metadata); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(len(m.Chunks)) {
		done, err := r.RestoreChunk(t.Context(), i, bytes.NewReader(m.chunk(t, i)))
		if err != nil {
			t.Fatal(err)
		}
		if last := i == uint64(len(m.Chunks))-1; done != last {
			t.Fatalf("chunk %d of %d: done is %v", i, len(m.Chunks), done)
		}
	}
}

// nothingVisible checks that a database holds no version and no multipart insert.
func nothingVisible(t testing.TB, ndb db.NodeDB, root node.Root) {
	t.Helper()
	if v, ok, err := ndb.GetLatestVersion(t.Context()); err != nil || ok {
		t.Errorf("latest version %d %v, %v", v, ok, err)
	}
	if roots, err := ndb.GetRootsForVersion(t.Context(), root.Version); err != nil || len(roots) != 0 {
		t.Errorf("roots %v, %v", roots, err)
	}
	if ok, err := ndb.HasRoot(t.Context(), root); err != nil || ok {
		t.Errorf("has the root: %v, %v", ok, err)
	}
	if mp, err := ndb.Multipart(t.Context()); err != nil || mp != nil {
		t.Errorf("multipart insert %v, %v", mp, err)
	}
}

// promptly is more time than anything takes that waits for nothing.
const promptly = 10 * time.Second

// receive receives from a channel what has to come promptly.
func receive[T any](t *testing.T, from <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(promptly):
		t.Fatalf("within %s there was no %s", promptly, what)
	}
	return v
}
