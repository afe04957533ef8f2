package quickstart

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/config"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/console"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/exit"
	"github.com/ckpt-project/ckpt/framework/checkpoint"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

func (r *run) creatorOptions() []checkpoint.CreatorOption {
	options := []checkpoint.CreatorOption{
		checkpoint.WithCreatorLogger(r.Logger),
	}
	if c := r.dir.history.Checkpoints; c != nil {
		options = append(options, checkpoint.WithThreads(c.Threads))
	}
	return options
}

// chunkSize is the size that the configuration has checkpoints cut at.
func (r *run) chunkSize() uint64 {
	if c := r.dir.history.Checkpoints; c != nil {
		return c.ChunkSize
	}
	return config.DefaultChunkSize
}

// checkpoint makes the checkpoint of the last version, where the checkpointer has not made it already.
func (r *run) checkpoint(ctx context.Context, creator checkpoint.Creator, root node.Root) (*checkpoint.Metadata, error) {
	began := time.Now()
	defer func() { r.result.Times.Checkpointing = seconds(time.Since(began)) }()
	_, err := creator.GetCheckpoint(ctx, checkpointFormat, root)
	there := err == nil
	if err != nil && !errors.Is(err, checkpoint.ErrCheckpointNotFound) {
		return nil, err
	}
	r.progress.phase("Making the checkpoint of the last version", "", 0, 0)
	m, err := creator.CreateCheckpoint(ctx, root, r.chunkSize())
	if errors.Is(err, checkpoint.ErrParametersDiffer) {
		return nil, exit.Errorf(exit.Failed, "%w", err).
			WithHint("put chunk_size and threads back in %s, or remove that checkpoint, and the next run makes it again", r.dir.config.File)
	}
	if err != nil {
		return nil, err
	}
	made := "Made"
	if there {
		made = "There is"
	}
	r.Note("%s a checkpoint of version %s: %s chunks", made, console.Count(root.Version), console.Count(len(m.Chunks)))
	r.result.Checkpoint = Checkpoint{
		Root:         m.Root,
		MetadataHash: m.EncodedHash(),
		Chunks:       len(m.Chunks),
		Path:         checkpoint.CheckpointDir(r.dir.history.CheckpointsDir(), root),
	}
	return m, nil
}

// checkpointFormat is the version of the checkpoint format that is made here.
const checkpointFormat = 1

// measure takes stock of what there is in the end.
func (r *run) measure(ctx context.Context, from, to db.NodeDB, creator checkpoint.Creator) error {
	r.progress.phase("Taking stock", "", 0, 0)
	all, err := creator.GetCheckpoints(ctx, &checkpoint.GetCheckpointsRequest{
		Version: checkpointFormat, Namespace: r.dir.history.ID,
	})
	if err != nil {
		return err
	}
	r.result.Checkpoints = len(all)
	if r.result.Checkpoint.Bytes, err = fileBytes(r.result.Checkpoint.Path); err != nil {
		return err
	}
	if r.result.Sizes.Checkpoints, err = fileBytes(r.dir.history.CheckpointsDir()); err != nil {
		return err
	}
	for _, database := range []struct {
		ndb  db.NodeDB
		into *int64
	}{
		{from, &r.result.Sizes.From}, {to, &r.result.Sizes.To},
	} {
		size, err := database.ndb.Size(ctx)
		if err != nil {
			return err
		}
		*database.into = size.File
		if size.File == 0 {
			*database.into = size.Live // it is in memory
		}
	}
	return nil
}

// fileBytes adds up the files below a directory.
func fileBytes(dir string) (total int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			total += info.Size()
		}
		return err
	})
	return total, err
}
