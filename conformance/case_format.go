package conformance

import (
	"bytes"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/ckpt-project/ckpt/conformance/vectors"
	"github.com/ckpt-project/ckpt/framework/checkpoint"

	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

const (
	// A restore is tried with one checkpoint of each state, of not more entries and chunks than these.
	restoreEntries, restoreChunks = 20_000, 150
	// statesAtOnce is how many states are worked on at the same time: most of it is waiting for the disk.
	statesAtOnce = 4
)

// formatVectors makes the states and checkpoints of the known answers, byte for byte, and restores them
// into databases of the same kind, which then make the same checkpoints again.
func formatVectors(e *env) {
	e.check(e.cfg.Namespace.UnmarshalHex(vectors.Namespace))
	states := map[string][]vectors.Vector{}
	for _, v := range vectors.All() {
		of := v
		of.ChunkSize, of.Threads = 0, 0
		states[of.Name()] = append(states[of.Name()], v)
	}
	var workers errgroup.Group
	workers.SetLimit(statesAtOnce)
	for _, layouts := range states {
		at := newEnv(e.trial, e.h)
		at.cfg.Namespace = e.cfg.Namespace
		workers.Go(func() (err error) {
			at.guarded(func() { err = at.formatState(layouts) })
			return err
		})
	}
	e.check(workers.Wait())
}

// use opens a database for f, and closes it.
func (e *env) use(f func(ndb db.NodeDB) error) error {
	ndb, err := e.h.Open(e.ctx, &e.cfg)
	if err != nil {
		return err
	}
	return errors.Join(f(ndb), ndb.Close(e.ctx))
}

// formatState checks the vectors of one state.
func (e *env) formatState(layouts []vectors.Vector) error {
	return e.use(func(ndb db.NodeDB) error {
		root, err := loadVector(e, ndb, &layouts[0])
		if err != nil {
			return fmt.Errorf("%s: %w", layouts[0].Name(), err)
		}
		restored := false
		for _, v := range layouts {
			dir := e.TempDir()
			metadata, err := makeCheckpoint(e, ndb, dir, root, &v)
			if err == nil && !restored && v.N <= restoreEntries && v.Chunks <= restoreChunks {
				err, restored = restoreAgain(e, dir, metadata, &v), true
			}
			if err != nil {
				return fmt.Errorf("%s: %w", v.Name(), err)
			}
		}
		return nil
	})
}

// loadVector makes a vector's versions.
func loadVector(e *env, ndb db.NodeDB, v *vectors.Vector) (node.Root, error) {
	tree := mkvs.New(ndb, stateType)
	defer tree.Close()
	root := node.Root{Namespace: e.cfg.Namespace, Type: stateType}
	for i := range v.N {
		key, value := v.DataSet().Entry(i)
		if err := tree.Insert(e.ctx, key, value); err != nil {
			return root, err
		}
	}
	for root.Version = 1; ; root.Version++ {
		var err error
		if _, root.Hash, err = tree.Commit(e.ctx, root.Namespace, root.Version); err != nil {
			return root, err
		}
		if err := ndb.Finalize(e.ctx, []node.Root{root}); err != nil {
			return root, err
		}
		if root.Version == v.Version() {
			break
		}
		for _, key := range v.RemovedKeys() {
			if err := tree.Remove(e.ctx, key); err != nil {
				return root, err
			}
		}
	}
	if root.Hash != v.Root {
		return root, wrong("root", root.Hash, v.Root)
	}
	return root, nil
}

// makeCheckpoint makes a vector's checkpoint and compares it with the known answer.
func makeCheckpoint(e *env, ndb db.NodeDB, dir string, root node.Root, v *vectors.Vector) (*checkpoint.Metadata, error) {
	creator, err := checkpoint.NewFileCreator(dir, ndb, checkpoint.WithThreads(v.Threads))
	if err != nil {
		return nil, err
	}
	metadata, err := creator.CreateCheckpoint(e.ctx, root, v.ChunkSize)
	if err != nil {
		return nil, err
	}
	for i, digest := range v.ChunkDigests {
		if i >= len(metadata.Chunks) || metadata.Chunks[i] != digest {
			return nil, errors.New("chunk digests are not those of the vector")
		}
	}
	if h := metadata.EncodedHash(); h != v.MetadataHash {
		return nil, wrong("metadata's hash", h, v.MetadataHash)
	}
	return metadata, nil
}

// restoreAgain restores a checkpoint into a fresh database and makes it there again.
func restoreAgain(from *env, dir string, metadata *checkpoint.Metadata, v *vectors.Vector) error {
	e := newEnv(from.trial, from.h)
	e.cfg.Namespace = from.cfg.Namespace
	return e.use(func(ndb db.NodeDB) error {
		if err := restoreFrom(e, ndb, dir, metadata); err != nil {
			return fmt.Errorf("restore: %w", err)
		}
		if _, err := makeCheckpoint(e, ndb, e.TempDir(), metadata.Root, v); err != nil {
			return fmt.Errorf("after a restore: %w", err)
		}
		return nil
	})
}

func restoreFrom(e *env, ndb db.NodeDB, dir string, metadata *checkpoint.Metadata) error {
	source, err := checkpoint.NewFileCreator(dir, ndb)
	if err != nil {
		return err
	}
	restorer, err := checkpoint.NewRestorer(ndb)
	if err != nil {
		return err
	}
	if err := restorer.StartRestore(e.ctx, metadata); err != nil {
		return err
	}
	complete := false
	for i := range metadata.Chunks {
		chunk, err := metadata.GetChunkMetadata(uint64(i))
		if err != nil {
			return err
		}
		var b bytes.Buffer
		if err := source.GetCheckpointChunk(e.ctx, chunk, &b); err != nil {
			return err
		}
		if complete, err = restorer.RestoreChunk(e.ctx, uint64(i), &b); err != nil {
			return err
		}
	}
	if !complete {
		return errors.New("all chunks are restored, and the checkpoint is not complete")
	}
	return ndb.Finalize(e.ctx, []node.Root{metadata.Root})
}

// wrong is the error for a hash that is not the known one.
func wrong(what string, got, want hash.Hash) error {
	return fmt.Errorf("%s %s, want %s", what, got, want)
}
