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
// WithoutWriteLog and with WithWriteLogStored. Its slices may not be changed. After an error the tree is as it
// was, and Commit can be called again; also where it isn't known whether the root was written.
func (t *Tree) Commit(ctx context.Context, ns common.Namespace, version uint64) (writelog.WriteLog, hash.Hash, error) {
	if err := t.begin(ctx); err != nil {
		return nil, hash.Hash{}, err
	}
	if t.streams(version) {
		return t.commitStream(ctx, ns, version)
	}
	root, err := t.newRoot(ctx, ns, version)
	if err != nil {
		return nil, hash.Hash{}, err
	}
	log, err := t.commit(ctx, root)
	if err != nil {
		return nil, hash.Hash{}, err
	}
	return t.returned(log), root.Hash, nil
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
	log, err := t.commit(ctx, root)
	return t.returned(log), err
}

// returned is what Commit returns of a write log.
func (t *Tree) returned(log writelog.WriteLog) writelog.WriteLog {
	if t.storeLog {
		return nil
	}
	return log
}

// newRoot computes the root that the tree has as a version.
func (t *Tree) newRoot(ctx context.Context, ns common.Namespace, version uint64) (node.Root, error) {
	if err := t.begin(ctx); err != nil {
		return node.Root{}, err
	}
	if err := t.applyChanges(ctx); err != nil {
		return node.Root{}, err
	}
	return t.rootAs(ns, version, t.root), nil
}

// rootAs names a tree, given its root node, as one of a version.
func (t *Tree) rootAs(ns common.Namespace, version uint64, root *node.Pointer) node.Root {
	return node.Root{Namespace: ns, Version: version, Type: t.rootType, Hash: partHash(root)}
}

// commit writes the tree, whose changes are all applied.
func (t *Tree) commit(ctx context.Context, root node.Root) (writelog.WriteLog, error) {
	log := t.sortedLog()
	if t.ndb == nil {
		t.settle(root, node.Address{}, t.dirtyPointers())
		return log, nil
	}
	if root.Hash == t.base.Hash && t.root != nil && !t.root.Clean {
		t.revert() // changed and changed back
	}
	if root == t.base && !root.IsEmpty() {
		t.settle(root, t.baseAddress, pieces[*node.Pointer]{}) // nothing to write
		return log, nil
	}
	batch, err := t.newBatch(ctx, root.Namespace, root.Version)
	if err != nil {
		return nil, commitError(root, err)
	}
	c := candidate{root: root, node: t.root, removed: t.removed, log: log}
	if err := t.write(ctx, batch, &c); err != nil {
		return nil, commitError(root, giveUp(ctx, batch, err))
	}
	return log, t.settleAs(ctx, &c)
}

// sortedLog returns the write log of changes that are all applied, nil without one.
func (t *Tree) sortedLog() writelog.WriteLog {
	if !t.writeLog {
		return nil
	}
	all := make([]uint32, t.changes.list.len())
	for i := range all {
		all[i] = uint32(i)
	}
	return t.changes.writeLog(t.changes.sorted(all, newForks(false)))
}

// newBatch begins a batch for the tree as one of a version.
func (t *Tree) newBatch(ctx context.Context, ns common.Namespace, version uint64) (db.Batch, error) {
	old, root := t.base, node.Root{Namespace: ns, Version: version, Type: t.rootType}
	switch {
	case old.IsEmpty() && !root.Follows(&old): // a tree that began empty: no version comes before
		old = root
		old.Hash = hash.EmptyHash
	case !old.IsEmpty() && t.rootType == node.RootTypeIO:
		return nil, fmt.Errorf("%w: an IO root has no descendants", db.ErrRootMustFollowOld)
	}
	batch, err := t.ndb.NewBatch(ctx, old, version)
	if err != nil {
		return nil, err
	}
	if err := t.checkBase(ctx); err != nil {
		return nil, giveUp(ctx, batch, err)
	}
	return batch, nil
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

// commitError says what could not be committed.
func commitError(root node.Root, err error) error {
	return fmt.Errorf("mkvs: commit root %s: %w", root, err)
}

// giveUp aborts a batch after an error.
func giveUp(ctx context.Context, batch db.Batch, err error) error {
	abortCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortWait)
	defer cancel()
	return errors.Join(err, batch.Abort(abortCtx))
}

// candidate is what is committed.
type candidate struct {
	root    node.Root
	node    *node.Pointer // nil: empty
	removed pieces[removal]
	log     writelog.WriteLog
	// logPut says that the batch has the write log already.
	logPut bool

	address node.Address
	// written are the pointers to the nodes that were written, with their new addresses.
	written pieces[*node.Pointer]
	// passes are those of them that are known to be in the batch, with all that is below.
	passes pieces[*node.Pointer]
}

// write fills a batch with what it does not have yet of a candidate, and commits it.
func (t *Tree) write(ctx context.Context, batch db.Batch, c *candidate) error {
	var nodes *nodeWriter
	switch {
	case c.node == nil:
	case c.node.Clean:
		c.address = c.node.Address
	default:
		c.address = batch.Address()
		nodes = newNodeWriter(ctx, c.address, t.ndb.Info().EmbedBytes, c.node, &c.passes)
		defer nodes.close()
	}
	if err := remove(ctx, batch, &c.removed); err != nil {
		return err
	}
	if t.ndb.Info().Capabilities.WriteLogs && !c.logPut {
		if err := putWriteLog(ctx, batch, c.log); err != nil {
			return err
		}
	}
	if nodes != nil {
		written, err := nodes.put(batch)
		if err != nil {
			return err
		}
		c.written.join(&written)
	}
	return batch.Commit(ctx, c.root, c.address)
}

// remove tells a batch of the entries that go.
func remove(ctx context.Context, batch db.Batch, removed *pieces[removal]) error {
	for r := range removed.all() {
		if err := batch.Remove(ctx, r.address, r.position); err != nil {
			return err
		}
	}
	return nil
}

// settleAs makes a candidate that was committed the tree's base.
func (t *Tree) settleAs(ctx context.Context, c *candidate) error {
	if c.root.IsEmpty() {
		t.root = nil
		t.settle(c.root, c.address, pieces[*node.Pointer]{})
		return nil
	}
	// The root may have been there already: committed by somebody else, or by a run that ended before it
	// was finalized. Then its nodes are those of that batch, and this one's are gone (clause DB34).
	counts, err := t.ndb.RootAddress(ctx, c.root)
	if err != nil {
		return commitError(c.root, err)
	}
	t.root = c.node
	t.settle(c.root, counts, c.written)
	if counts != c.address {
		t.revert()
	}
	return nil
}

// writeLogPart is how many bytes of changes are given to a batch at once, about.
const writeLogPart = 1 << 20

// putWriteLog gives the changes to a batch, in parts.
func putWriteLog(ctx context.Context, batch db.Batch, log writelog.WriteLog) (err error) {
	for len(log) > 0 && err == nil {
		n := logPart(log)
		err = batch.PutWriteLog(ctx, log[:n])
		log = log[n:]
	}
	return err
}

// logPart is how many of the changes are the next part.
func logPart(log writelog.WriteLog) (n int) {
	for size := 0; n < len(log) && size < writeLogPart; n++ {
		size += len(log[n].Key) + len(log[n].Value) + logEntryOverhead
	}
	return n
}

// logEntryOverhead is what a change takes beside its key and value, about.
const logEntryOverhead = 16

// revert goes back to the base, which the tree has the same hash as: what was changed was changed back, or
// is stored elsewhere than this tree put it.
func (t *Tree) revert() {
	t.root = basePointer(t.base, t.baseAddress)
	t.removed, t.cached = pieces[removal]{}, held{}
	t.generation++
}

// settle makes root the tree's base: written are the pointers to the nodes that are clean from now on.
func (t *Tree) settle(root node.Root, address node.Address, written pieces[*node.Pointer]) {
	for ptr := range written.all() {
		ptr.Clean = true
		t.cached.add(weigh(ptr.Node))
	}
	t.base, t.baseAddress, t.resolved = root, address, true
	t.removed = pieces[removal]{}
	t.changes = newChanges()
	t.generation++
	t.trim()
}
