// This program uses the framework without a host: a state in memory, two versions of it, a checkpoint of
// the second, and a restore of that checkpoint into another database.
//
//	go run ./examples/library
package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/ckpt-project/ckpt/backends/memory"
	"github.com/ckpt-project/ckpt/framework/checkpoint"
	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, out io.Writer) (err error) {
	ns := common.NewTestNamespaceFromSeed([]byte("examples/library"), 0)
	dir, err := os.MkdirTemp("", "ckpt-example-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	source, err := memory.New().New(ctx, &db.Config{Namespace: ns})
	if err != nil {
		return err
	}
	defer source.Close(ctx)

	// Two versions: each is made by changing the one before, and counts once it is finalized.
	root := node.Root{Namespace: ns, Version: 0, Type: node.RootTypeState, Hash: hash.EmptyHash}
	for version, entries := range []map[string]string{
		{"apple": "red", "pear": "green"},
		{"apple": "yellow", "plum": "blue"},
	} {
		if root, err = commit(ctx, source, root, uint64(version)+1, entries); err != nil {
			return err
		}
		fmt.Fprintf(out, "version %d has root %s\n", root.Version, root.Hash)
	}

	// A checkpoint of the second, in chunks as small as they get.
	creator, err := checkpoint.NewFileCreator(dir, source)
	if err != nil {
		return err
	}
	metadata, err := creator.CreateCheckpoint(ctx, root, 8)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "its checkpoint has %d chunks\n", len(metadata.Chunks))

	// Into a fresh database: whoever trusts root need not trust where the chunks come from.
	target, err := memory.New().New(ctx, &db.Config{Namespace: ns})
	if err != nil {
		return err
	}
	defer target.Close(ctx)
	if err := restore(ctx, target, creator, metadata); err != nil {
		return err
	}
	tree := mkvs.NewWithRoot(target, root)
	defer tree.Close()
	it := tree.NewIterator(ctx)
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		fmt.Fprintf(out, "restored: %s is %s\n", string(it.Key()), it.Value()) // a Key prints as hexadecimal digits
	}
	return it.Err()
}

func commit(ctx context.Context, ndb db.NodeDB, old node.Root, version uint64, entries map[string]string) (node.Root, error) {
	tree := mkvs.NewWithRoot(ndb, old)
	defer tree.Close()
	for key, value := range entries {
		if err := tree.Insert(ctx, []byte(key), []byte(value)); err != nil {
			return node.Root{}, err
		}
	}
	_, rootHash, err := tree.Commit(ctx, old.Namespace, version)
	if err != nil {
		return node.Root{}, err
	}
	root := node.Root{Namespace: old.Namespace, Version: version, Type: old.Type, Hash: rootHash}
	return root, ndb.Finalize(ctx, []node.Root{root})
}

func restore(ctx context.Context, ndb db.NodeDB, provider checkpoint.ChunkProvider, metadata *checkpoint.Metadata) error {
	restorer, err := checkpoint.NewRestorer(ndb)
	if err != nil {
		return err
	}
	if err := restorer.StartRestore(ctx, metadata); err != nil {
		return err
	}
	for i := range metadata.Chunks {
		chunk, err := metadata.GetChunkMetadata(uint64(i))
		if err != nil {
			return err
		}
		var data bytes.Buffer
		if err := provider.GetCheckpointChunk(ctx, chunk, &data); err != nil {
			return err
		}
		if _, err := restorer.RestoreChunk(ctx, uint64(i), &data); err != nil {
			return err
		}
	}
	// Nothing is visible before this: the owner of the restore decides when the version counts.
	return ndb.Finalize(ctx, []node.Root{metadata.Root})
}
