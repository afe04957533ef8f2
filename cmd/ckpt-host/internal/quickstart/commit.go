package quickstart

import (
	"context"
	"fmt"

	"github.com/ckpt-project/ckpt/framework/mkvs"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// committer puts a history into a database, version by version.
type committer struct {
	ndb     db.NodeDB
	tree    *mkvs.Tree
	src     source
	journal *journal
	watch   watcher
	root    node.Root
}

// watcher is told how a history goes in.
type watcher interface {
	// changed is told of each entry that was changed.
	changed()
	// finalized is told of each version that is there for good.
	finalized(version uint64)
}

// cachedNodes is how many nodes the tree keeps in memory, with their values: each can be a file, so it is
// fewer than the default.
const cachedNodes = 10_000

// commitAll puts in all versions after that of root, and returns the last one's root.
func commitAll(ctx context.Context, ndb db.NodeDB, src source, journal *journal, root node.Root, watch watcher) (node.Root, error) {
	c := &committer{
		ndb:     ndb,
		tree:    mkvs.NewWithRoot(ndb, root, mkvs.WithoutWriteLog(), mkvs.WithCapacity(cachedNodes)),
		src:     src,
		journal: journal,
		watch:   watch,
		root:    root,
	}
	defer c.tree.Close()
	if err := src.Replay(ctx, root.Version, limitsOf(ndb), c); err != nil {
		return c.root, err
	}
	if c.root.Version != src.Versions() {
		return c.root, fmt.Errorf("the history ended with version %d of %d", c.root.Version, src.Versions())
	}
	return c.root, nil
}

func limitsOf(ndb db.NodeDB) limits {
	info := ndb.Info()
	return limits{keyBytes: info.MaxKeyBytes, valueBytes: info.MaxValueBytes}
}

func (c *committer) put(ctx context.Context, key, value []byte) error {
	c.watch.changed()
	return c.tree.Insert(ctx, key, value)
}

func (c *committer) remove(ctx context.Context, key []byte) error {
	c.watch.changed()
	return c.tree.Remove(ctx, key)
}

// end commits and finalizes a version.
func (c *committer) end(ctx context.Context, version uint64) error {
	_, hash, err := c.tree.Commit(ctx, c.root.Namespace, version)
	if err != nil {
		return fmt.Errorf("committing version %d (%.12s): %w", version, c.src.ID(version), err)
	}
	root := c.root
	root.Version, root.Hash = version, hash
	if err := c.journal.add(journalLine{version: version, id: c.src.ID(version), root: hash}); err != nil {
		return err
	}
	if err := c.ndb.Finalize(ctx, []node.Root{root}); err != nil {
		return fmt.Errorf("finalizing version %d (%.12s): %w", version, c.src.ID(version), err)
	}
	c.root = root
	c.watch.finalized(version)
	return nil
}
