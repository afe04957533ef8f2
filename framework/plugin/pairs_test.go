//go:build unix

package plugin_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/ckpt-project/ckpt/conformance/vectors"
	"github.com/ckpt-project/ckpt/framework/checkpoint"
	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/mkvs"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// TestAnyBackendToAnyOther makes a checkpoint on each backend, restores it on each, and makes it there
// again: the entries are the same, and so is the metadata, byte for byte. Every backend is a process.
func TestAnyBackendToAnyOther(t *testing.T) {
	backends := []string{"memory", "bbolt", "leveldb"}
	const chunkSize = 4096
	data := vectors.DataSet{Kind: "ragged", Seed: 9, N: 1000}
	for _, from := range backends {
		t.Run(from, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			source := openPair(t, from)
			root := loadPair(t, source, data)
			creator, err := checkpoint.NewFileCreator(t.TempDir(), source)
			if err != nil {
				t.Fatal(err)
			}
			metadata, err := creator.CreateCheckpoint(ctx, root, chunkSize)
			if err != nil {
				t.Fatal(err)
			}
			if len(metadata.Chunks) < 10 {
				t.Fatalf("only %d chunks", len(metadata.Chunks))
			}
			entries := entriesOf(t, source, root)
			for _, to := range backends {
				t.Run(to, func(t *testing.T) {
					target := openPair(t, to)
					restorePair(t, target, creator, metadata)
					if got := entriesOf(t, target, root); !bytes.Equal(got, entries) {
						t.Error("the entries are others")
					}
					again, err := checkpoint.NewFileCreator(t.TempDir(), target)
					if err != nil {
						t.Fatal(err)
					}
					made, err := again.CreateCheckpoint(t.Context(), root, chunkSize)
					if err != nil {
						t.Fatal(err)
					}
					if got, want := made.EncodedHash(), metadata.EncodedHash(); got != want {
						t.Errorf("made again, the metadata has hash %s, want %s", got, want)
					}
				})
			}
		})
	}
}

var pairNamespace = common.NewTestNamespaceFromSeed([]byte("pairs"), 0)

func openPair(t *testing.T, backend string) db.NodeDB {
	t.Helper()
	ndb, err := builtin(t, backend).Harness().Open(t.Context(), &db.Config{Dir: t.TempDir() + "/db", Namespace: pairNamespace})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ndb.Close(context.Background()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return ndb
}

func loadPair(t *testing.T, ndb db.NodeDB, data vectors.DataSet) node.Root {
	t.Helper()
	tree := mkvs.New(ndb, node.RootTypeState)
	defer tree.Close()
	for i := range data.N {
		key, value := data.Entry(i)
		if err := tree.Insert(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
	}
	_, h, err := tree.Commit(t.Context(), pairNamespace, 1)
	if err != nil {
		t.Fatal(err)
	}
	root := node.Root{Namespace: pairNamespace, Version: 1, Type: node.RootTypeState, Hash: h}
	if err := ndb.Finalize(t.Context(), []node.Root{root}); err != nil {
		t.Fatal(err)
	}
	return root
}

func restorePair(t *testing.T, ndb db.NodeDB, provider checkpoint.ChunkProvider, metadata *checkpoint.Metadata) {
	t.Helper()
	restorer, err := checkpoint.NewRestorer(ndb)
	if err != nil {
		t.Fatal(err)
	}
	if err := restorer.StartRestore(t.Context(), metadata); err != nil {
		t.Fatal(err)
	}
	done := false
	for i := range metadata.Chunks {
		chunk, err := metadata.GetChunkMetadata(uint64(i))
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := provider.GetCheckpointChunk(t.Context(), chunk, &b); err != nil {
			t.Fatal(err)
		}
		if done, err = restorer.RestoreChunk(t.Context(), uint64(i), &b); err != nil {
			t.Fatal(err)
		}
	}
	if !done {
		t.Fatal("all chunks are in, and the restore is not complete")
	}
	if err := ndb.Finalize(t.Context(), []node.Root{metadata.Root}); err != nil {
		t.Fatal(err)
	}
}

// entriesOf is all keys and values of a root, in order, each encoded as a leaf.
func entriesOf(t *testing.T, ndb db.NodeDB, root node.Root) (all []byte) {
	t.Helper()
	tree := mkvs.NewWithRoot(ndb, root)
	defer tree.Close()
	it := tree.NewIterator(t.Context())
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		all = node.AppendLeaf(all, it.Key(), it.Value())
	}
	if err := it.Err(); err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("no entries")
	}
	return all
}
