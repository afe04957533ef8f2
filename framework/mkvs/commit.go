package mkvs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/writelog"
)

// abortWait is how long giving up a batch may take after its commit failed.
const abortWait = 10 * time.Second

// Commit writes the tree as a candidate root of a version, and returns the changes since the root before
// and the new root's hash. The tree then stands at the new root.
//
// The version is the one after that of the root that the tree was opened at or last committed as; for a
// tree that began empty, what the database takes (clause DB30). An IO root has no descendants: its tree
// begins empty. When Commit returns, the root survives the end of every process, where the database is
// durable; it becomes a version with NodeDB.Finalize.
//
// The write log is sorted by key and has each key once, with what was last done to it; it is nil with
// WithoutWriteLog. Its slices may not be changed. After an error the tree is as it was, and Commit can be
// called again; also where it isn't known whether the root was written.
func (t *Tree) Commit(ctx context.Context, ns common.Namespace, version uint64) (writelog.WriteLog, hash.Hash, error) {
	root, err := t.newRoot(ctx, ns, version)
	if err != nil {
		return nil, hash.Hash{}, err
	}
	log, err := t.commit(ctx, root)
	if err != nil {
		return nil, hash.Hash{}, err
	}
	return log, root.Hash, nil
}

// CommitKnown is Commit of a root that is known beforehand: where the tree has another hash (or type),
// nothing is written, and the error is ErrKnownRootMismatch.
func (t *Tree) CommitKnown(ctx context.Context, root node.Root) (writelog.WriteLog, error) {
	got, err := t.newRoot(ctx, root.Namespace, root.Version)
	if err != nil {
		return nil, err
	}
	if got != root {
		return nil, fmt.Errorf("%w: the tree's root is %s, want %s", ErrKnownRootMismatch, got, root)
	}
	return t.commit(ctx, root)
}

// newRoot computes the root that the tree has as a version.
func (t *Tree) newRoot(ctx context.Context, ns common.Namespace, version uint64) (node.Root, error) {
	if err := t.begin(ctx); err != nil {
		return node.Root{}, err
	}
	h, err := t.updateHashes(ctx)
	if err != nil {
		return node.Root{}, err
	}
	return node.Root{Namespace: ns, Version: version, Type: t.rootType, Hash: h}, nil
}

func (t *Tree) commit(ctx context.Context, root node.Root) (writelog.WriteLog, error) {
	log := t.writeLog()
	if t.ndb == nil {
		t.settle(root, node.Address{}, t.dirtyPointers())
		return log, nil
	}
	if root.Hash == t.base.Hash && t.root != nil && !t.root.Clean {
		t.revert() // changed and changed back
	}
	if root == t.base && !root.IsEmpty() {
		t.settle(root, t.baseAddress, nil) // nothing to write
		return log, nil
	}

	oldRoot := t.base
	switch {
	case oldRoot.IsEmpty() && !root.Follows(&oldRoot): // a tree that began empty: no version comes before
		oldRoot = node.Root{Namespace: root.Namespace, Version: root.Version, Type: t.rootType, Hash: hash.EmptyHash}
	case !oldRoot.IsEmpty() && t.rootType == node.RootTypeIO:
		return nil, fmt.Errorf("mkvs: commit root %s: %w: an IO root has no descendants", root, db.ErrRootMustFollowOld)
	}
	batch, err := t.ndb.NewBatch(ctx, oldRoot, root.Version)
	if err != nil {
		return nil, fmt.Errorf("mkvs: commit root %s: %w", root, err)
	}
	rootAddress, written, err := node.Address{}, []*node.Pointer(nil), t.checkBase(ctx)
	if err == nil {
		rootAddress, written, err = t.write(ctx, batch, log, root)
	}
	if err != nil {
		abortCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortWait)
		defer cancel()
		return nil, fmt.Errorf("mkvs: commit root %s: %w", root, errors.Join(err, batch.Abort(abortCtx)))
	}
	if root.IsEmpty() {
		t.settle(root, rootAddress, nil)
		return log, nil
	}
	// The root may have been there already: committed by somebody else, or by a run that ended before it
	// was finalized. Then its nodes are those of that batch, and this one's are gone (clause DB34).
	counts, err := t.ndb.RootAddress(ctx, root)
	if err != nil {
		return nil, fmt.Errorf("mkvs: commit root %s: %w", root, err)
	}
	t.settle(root, counts, written)
	if counts != rootAddress {
		t.revert()
	}
	return log, nil
}

// checkBase refuses a base whose nodes are not where they were. A candidate goes with all its nodes where
// the same root is restored (clause DB42), and the tree has addresses of the one that went. The batch was
// begun before this looks: it will not commit if the base goes afterwards.
func (t *Tree) checkBase(ctx context.Context) error {
	if t.base.IsEmpty() {
		return nil
	}
	address, err := t.ndb.RootAddress(ctx, t.base)
	if err == nil && address != t.baseAddress {
		err = fmt.Errorf("%w: %s was replaced by the same root, restored", db.ErrRootMustFollowOld, t.base)
	}
	return err
}

// write fills a batch and commits it. It returns the root's address and the pointers to the nodes that
// were written, with their new addresses.
func (t *Tree) write(ctx context.Context, batch db.Batch, log writelog.WriteLog, root node.Root) (node.Address, []*node.Pointer, error) {
	w := &writer{batch: batch, self: batch.Address(), embedBytes: t.ndb.Info().EmbedBytes}
	rootAddress := node.Address{}
	switch {
	case t.root == nil:
	case t.root.Clean:
		rootAddress = t.root.Address
	default:
		rootAddress = w.self
		if err := w.writeTree(ctx, t.root); err != nil {
			return node.Address{}, nil, err
		}
		if err := batch.EndRun(ctx); err != nil {
			return node.Address{}, nil, err
		}
	}
	for _, r := range t.removed {
		if err := batch.Remove(ctx, r.address, r.position); err != nil {
			return node.Address{}, nil, err
		}
	}
	if t.ndb.Info().Capabilities.WriteLogs {
		if err := putWriteLog(ctx, batch, log); err != nil {
			return node.Address{}, nil, err
		}
	}
	return rootAddress, w.written, batch.Commit(ctx, root, rootAddress)
}

// writeLogPart is how many bytes of changes are given to a batch at once, about.
const writeLogPart = 1 << 20

// putWriteLog gives the changes to a batch, in parts.
func putWriteLog(ctx context.Context, batch db.Batch, log writelog.WriteLog) error {
	for len(log) > 0 {
		n, size := 0, 0
		for n < len(log) && size < writeLogPart {
			size += len(log[n].Key) + len(log[n].Value) + logEntryOverhead
			n++
		}
		if err := batch.PutWriteLog(ctx, log[:n]); err != nil {
			return err
		}
		log = log[n:]
	}
	return nil
}

// logEntryOverhead is what a change takes beside its key and value, about.
const logEntryOverhead = 16

// revert goes back to the base, which the tree has the same hash as: what was changed was changed back, or
// is stored elsewhere than this tree put it.
func (t *Tree) revert() {
	t.root = basePointer(t.base, t.baseAddress)
	t.removed, t.cached = nil, 0
	t.generation++
}

// settle makes root the tree's base: written are the pointers to the nodes that are clean from now on.
func (t *Tree) settle(root node.Root, address node.Address, written []*node.Pointer) {
	for _, ptr := range written {
		ptr.Clean = true
	}
	t.cached += len(written)
	t.base, t.baseAddress, t.resolved = root, address, true
	t.removed = nil
	if t.changes != nil {
		t.changes = make(map[string]change)
	}
	t.generation++
	t.trim()
}
