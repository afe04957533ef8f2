package quickstart

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/config"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/exit"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/host"
	"github.com/ckpt-project/ckpt/framework/checkpoint"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// restoreWorkers is how many chunks are restored at once: each takes a core and a few chunks of memory.
const restoreWorkers = 2

// abortTimeout is how long giving up a restore may take after it failed.
const abortTimeout = 30 * time.Second

// restore restores a checkpoint into an empty database, and finalizes its version there.
func restore(ctx context.Context, ndb db.NodeDB, from checkpoint.ChunkProvider, m *checkpoint.Metadata, progress func(done uint64)) error {
	restorer, err := checkpoint.NewRestorer(ndb)
	if err != nil {
		return err
	}
	if err := restorer.StartRestore(ctx, m); err != nil {
		return err
	}
	if err := restoreChunks(ctx, restorer, from, m, progress); err != nil {
		abortCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
		defer cancel()
		return errors.Join(err, restorer.AbortRestore(abortCtx))
	}
	return ndb.Finalize(ctx, []node.Root{m.Root})
}

func restoreChunks(ctx context.Context, restorer checkpoint.Restorer, from checkpoint.ChunkProvider, m *checkpoint.Metadata, progress func(done uint64)) error {
	var done atomic.Uint64
	var complete atomic.Bool
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(restoreWorkers)
	for index := range uint64(len(m.Chunks)) {
		if ctx.Err() != nil {
			break // Wait has the reason
		}
		group.Go(func() error {
			all, err := restoreChunk(ctx, restorer, from, m, index)
			if err != nil {
				return fmt.Errorf("chunk %d: %w", index, err)
			}
			if all {
				complete.Store(true)
			}
			progress(done.Add(1))
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if !complete.Load() {
		return errors.Join(errors.New("the restore is not complete after its last chunk"), ctx.Err())
	}
	return nil
}

// restoreChunk hands one chunk on from where it is to the restorer, as it is read.
func restoreChunk(ctx context.Context, restorer checkpoint.Restorer, from checkpoint.ChunkProvider, m *checkpoint.Metadata, index uint64) (bool, error) {
	chunk, err := m.GetChunkMetadata(index)
	if err != nil {
		return false, err
	}
	r, w := io.Pipe()
	var group errgroup.Group
	group.Go(func() error {
		err := from.GetCheckpointChunk(ctx, chunk, w)
		w.CloseWithError(err) // nil: the end of the chunk
		if errors.Is(err, io.ErrClosedPipe) {
			return nil // the restorer wants no more, and says why
		}
		return err
	})
	complete, err := restorer.RestoreChunk(ctx, index, r)
	r.Close()
	if readErr := group.Wait(); err == nil {
		err = readErr
	}
	return complete, err
}

// clear removes the database that an earlier run restored into. Its process may yet be on its way out,
// where that run was killed, so that the database is opened first: that waits for its lock.
func (r *run) clear(ctx context.Context, ns *config.Namespace) error {
	dir := ns.DatabaseDir()
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	if inside, err := filepath.Rel(r.dir.path, dir); err != nil || inside == ".." || strings.HasPrefix(inside, ".."+string(filepath.Separator)) {
		return exit.Errorf(exit.Failed, "the database to restore into, %s, is there already, and is not in %s", dir, r.dir.path).
			WithHint("remove it, or put data_dir back to %q in %s", dataName, r.dir.config.File)
	}
	r.Note("Removing the copy that an earlier run restored: %s", dir)
	h := host.New(r.Logger)
	h.Tell = r.Note
	_, err := h.Open(ctx, ns, host.Write)
	if closeErr := h.Close(ctx); err == nil {
		err = closeErr
	}
	// A copy that is damaged, or of another backend, goes all the same.
	if errors.Is(err, db.ErrLocked) || ctx.Err() != nil {
		return err
	}
	return os.RemoveAll(dir)
}
