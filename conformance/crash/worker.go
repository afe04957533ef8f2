package crash

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/ckpt-project/ckpt/conformance/reference"
	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/mkvs"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

var namespace = common.NewTestNamespaceFromSeed([]byte("crash"), 0)

// worker does operations on a database.
type worker struct {
	open func(ctx context.Context, cfg *db.Config) (db.NodeDB, error)

	mu   sync.Mutex
	ndb  db.NodeDB
	pins []db.Pin
}

// do does one operation. Several may be done at once.
func (w *worker) do(ctx context.Context, o *op) (a answer, err error) {
	switch o.Kind {
	case openDatabase:
		ndb, err := w.open(ctx, &db.Config{Dir: o.Dir, Namespace: namespace, Settings: o.Settings})
		if err != nil {
			return a, err
		}
		w.ndb = ndb
		return a, nil
	case closeDatabase:
		return a, w.ndb.Close(ctx)
	case commitRoot:
		return a, commit(ctx, w.ndb, o)
	case abandonBatch:
		return a, abandon(ctx, w.ndb, o)
	case finalizeRoots:
		return a, w.ndb.Finalize(ctx, o.Roots)
	case pruneVersion:
		return a, w.ndb.Prune(ctx, o.Version)
	case pruneBefore:
		_, err := w.ndb.PruneBefore(ctx, o.Version)
		return a, err
	case collectGarbage:
		return a, w.ndb.CollectGarbage(ctx, nil)
	case compactFiles:
		return a, w.ndb.Compact(ctx, nil)
	case syncFiles:
		return a, w.ndb.Sync(ctx)
	case pinVersion:
		return a, w.pin(ctx, o.Version)
	case unpinAll:
		return a, w.unpin(ctx)
	case readRoot:
		a.Content, err = readTree(ctx, w.ndb, o.Root)
		return a, err
	case startInsert:
		return a, w.ndb.StartMultipart(ctx, o.Version)
	case addInsertRoot:
		return a, w.ndb.AddMultipartRoot(ctx, o.Root, o.Index, []byte(o.Root.String()))
	case writeChunk:
		return a, chunk(ctx, w.ndb, o)
	case completeRoot:
		return a, w.ndb.CompleteRoot(ctx, o.Root)
	case abortRoot:
		return a, w.ndb.AbortRoot(ctx, o.Root)
	case abortInsert:
		return a, w.ndb.AbortMultipart(ctx)
	case lookAround:
		a.Sight, err = look(ctx, w.ndb, o.Version)
		return a, err
	default:
		return a, fmt.Errorf("crash: no operation %d", o.Kind)
	}
}

func (w *worker) pin(ctx context.Context, version uint64) error {
	p, err := w.ndb.Pin(ctx, version, "crash")
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pins = append(w.pins, p)
	return nil
}

func (w *worker) unpin(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var err error
	for _, p := range w.pins {
		err = errors.Join(err, p.Release(ctx))
	}
	w.pins = nil
	return err
}

// commit makes a tree at a root, changes it and commits it.
func commit(ctx context.Context, ndb db.NodeDB, o *op) error {
	tree := mkvs.NewWithRoot(ndb, o.Old)
	defer tree.Close()
	for _, c := range o.Changes {
		var err error
		if c.Remove {
			err = tree.Remove(ctx, []byte(c.Key))
		} else {
			err = tree.Insert(ctx, []byte(c.Key), []byte(c.Value))
		}
		if err != nil {
			return err
		}
	}
	_, err := tree.CommitKnown(ctx, o.Root)
	return err
}

// abandon puts entries in a batch, and leaves it.
func abandon(ctx context.Context, ndb db.NodeDB, o *op) error {
	b, err := ndb.NewBatch(ctx, o.Old, o.Version)
	if err != nil {
		return err
	}
	put, _ := reference.Settle(reference.Build(o.Content), nil, b.Address(), ndb.Info().EmbedBytes)
	for _, n := range put {
		if err := b.Put(ctx, n.Position, n.Record()); err != nil {
			return err
		}
	}
	if o.Sync { // the other half are left as they are
		return b.Abort(ctx)
	}
	return nil
}

// cut cuts a tree into about so many chunks, which end at leaves.
func cut(top *reference.Node, pieces int) []reference.Chunk {
	size := (len(top.List()) + pieces - 1) / pieces
	return reference.Cut(top, func(nodes []*reference.Node, start int) int {
		end := min(start+max(size, 1), len(nodes))
		for !nodes[end-1].Leaf {
			end++
		}
		return end
	})
}

func chunk(ctx context.Context, ndb db.NodeDB, o *op) error {
	c := cut(reference.Build(o.Content), o.Pieces)[o.Index]
	w, err := ndb.NewChunk(ctx, o.Root, o.Index)
	if err != nil {
		return err
	}
	if err := c.Put(ctx, w, ndb.Info().EmbedBytes); err != nil {
		return errors.Join(err, w.Abort(ctx))
	}
	return w.Commit(ctx, o.Sync)
}

func emptyRoot(t node.RootType, version uint64) node.Root {
	r := node.Root{Namespace: namespace, Version: version, Type: t}
	r.Hash.Empty()
	return r
}
