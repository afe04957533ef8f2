package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ckpt-project/ckpt/framework/common/durable"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// keepName is the name of a mark: an empty file beside a checkpoint's metadata.
const keepName = "keep"

// Keeper marks checkpoints that are to be kept: DeleteCheckpoint refuses them with ErrCheckpointKept, whoever
// asks, and so no checkpointer deletes them, in whatever process. What NewFileCreator returns is one.
type Keeper interface {
	// Keep marks the checkpoint of a root. When it returns, the mark is safe from a loss of power. Marking one
	// again does nothing.
	Keep(ctx context.Context, root node.Root) error
	// Unkeep takes the mark away. Where there is none, it does nothing.
	Unkeep(ctx context.Context, root node.Root) error
}

// IsKept says whether the checkpoint in dir (the directory that its metadata lies in) is marked to be kept.
func IsKept(dir string) (bool, error) {
	_, err := os.Lstat(filepath.Join(dir, keepName))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func (c *fileCreator) Keep(ctx context.Context, root node.Root) error {
	unlock, err := c.lock(ctx, root)
	if err != nil {
		return err
	}
	defer unlock()
	dir, _, err := c.find(root)
	if err != nil {
		return err
	}
	// While the lease is held, no checkpointer deletes the checkpoint.
	release, err := c.leases.take(dir, 0)
	if err != nil {
		return err
	}
	defer release()
	if kept, err := IsKept(dir); err != nil {
		return err
	} else if kept {
		return durable.SyncTaken(dir) // who marked it may have been killed before the mark was safe
	}
	shop, err := openWorkshop(c.path)
	if err != nil {
		return err
	}
	defer c.closeWorkshop(shop)
	err = shop.replace(nil, filepath.Join(dir, keepName))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s", ErrCheckpointNotFound, root) // a person has deleted it just now
	}
	if err != nil {
		return fmt.Errorf("checkpoint: marking %s: %w", dir, err)
	}
	return nil
}

func (c *fileCreator) Unkeep(ctx context.Context, root node.Root) error {
	unlock, err := c.lock(ctx, root)
	if err != nil {
		return err
	}
	defer unlock()
	dir, _, err := c.find(root)
	if err != nil {
		return err
	}
	err = os.Remove(filepath.Join(dir, keepName))
	if errors.Is(err, fs.ErrNotExist) {
		return durable.SyncTaken(dir) // who took it away may have been killed before that was safe
	}
	if err != nil {
		return fmt.Errorf("checkpoint: taking the mark of %s away: %w", dir, err)
	}
	return durable.SyncDir(dir)
}

// remove makes the checkpoint in dir disappear, unless it is marked to be kept or, where a checkpointer asks, it is
// being served. Files of it that are open can be read on.
func (c *fileCreator) remove(ctx context.Context, dir string) error {
	unmarked := func() error {
		kept, err := IsKept(dir)
		if err != nil {
			return err
		}
		if kept {
			return fmt.Errorf("%w: %s", ErrCheckpointKept, dir)
		}
		return nil
	}
	// Before the lock is tried, too: a reader that comes just now takes who has it for one that deletes.
	if err := unmarked(); err != nil {
		return err
	}
	if originOf(ctx) != originCheckpointer {
		return discard(c.path, dir)
	}
	var gone string
	err := ifUnused(dir, func() (err error) {
		if err = unmarked(); err == nil {
			gone, err = setAside(c.path, dir)
		}
		return err
	})
	if err != nil {
		return err
	}
	return os.RemoveAll(gone)
}
