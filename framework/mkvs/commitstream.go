package mkvs

import (
	"context"
	"fmt"

	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/writelog"
)

// streams says whether Commit writes what it makes of the changes at once: where these are many, none is applied
// yet, and there will be something to write.
func (t *Tree) streams(version uint64) bool {
	n := len(t.changes.pending)
	applied := t.root != nil && !t.root.Clean || t.removed.len() > 0 // also where that has left nothing
	return t.ndb != nil && !applied && n == t.changes.list.len() && n > 4*min(t.runChanges, keptChanges) &&
		(t.base.IsEmpty() || version != t.base.Version)
}

// drops says whether Commit keeps nothing in memory of what it makes of the changes but the uppermost nodes:
// where it is more than the tree may keep.
func (t *Tree) drops() bool {
	n := len(t.changes.pending)
	return n > 4*t.runChanges &&
		(n > share(t.capacity, 4) || t.changes.memory.used+n*nodeOverhead > share(t.capacityBytes, 4))
}

// commitStream is Commit that applies changes, and hashes and writes nodes, at the same time.
func (t *Tree) commitStream(ctx context.Context, ns common.Namespace, version uint64) (_ writelog.WriteLog, _ hash.Hash, err error) {
	keeps, forks := !t.drops(), newForks(t.root != nil)
	defer func() {
		if err != nil || !keeps {
			t.cached = t.nodesInMemory()
		}
	}()
	fail := func(err error) (writelog.WriteLog, hash.Hash, error) {
		return nil, hash.Hash{}, fmt.Errorf("mkvs: commit version %d: %w", version, err)
	}
	r := t.changes.sorted(t.changes.pending, forks)
	batch, err := t.newBatch(ctx, ns, version)
	if err != nil {
		return fail(err)
	}
	c, err := t.applyAndPut(ctx, batch, r, forks, keeps)
	if err != nil {
		return fail(giveUp(ctx, batch, err))
	}
	c.root = t.rootAs(ns, version, c.node)
	if err := t.write(ctx, batch, c); err != nil {
		return fail(giveUp(ctx, batch, err))
	}
	if err := t.settleAs(ctx, c); err != nil {
		return nil, hash.Hash{}, err
	}
	return c.log, c.root.Hash, nil
}

// applyAndPut applies a run, and puts what that makes of nodes, all but the uppermost ones, into a batch. keeps
// says whether they stay in memory.
func (t *Tree) applyAndPut(ctx context.Context, batch db.Batch, r run, forks forks, keeps bool) (*candidate, error) {
	working, cancel := context.WithCancel(ctx)
	defer cancel()
	s := newStream(batch, t.ndb.Info().EmbedBytes, t.runChanges, forks)
	if s.keeps = keeps; keeps {
		s.runChanges = min(t.runChanges, keptChanges)
	}
	var c candidate
	var loaded held
	var applyErr error
	go func() {
		defer close(s.runs)
		var a *applier
		c.node, a, applyErr = t.apply(working, r, forks, s)
		c.removed, c.written, c.passes, loaded = a.removed, a.written, a.passes, a.loaded
	}()
	log := &logWriter{}
	if t.writeLog && t.ndb.Info().Capabilities.WriteLogs {
		log.rest = r
	}
	// What is set belongs on the write log whatever was there before, so there is no need to wait.
	early := log
	if r.hasRemovals() {
		early = &logWriter{}
	}
	if err := s.putRuns(ctx, batch, early); err != nil {
		cancel()
		for range s.runs { // until the others have ended
		}
		return nil, err
	}
	if applyErr != nil {
		return nil, applyErr
	}
	if keeps {
		t.cached.add(loaded)
	}
	for !log.done() {
		if err := log.put(ctx, batch); err != nil {
			return nil, err
		}
	}
	if c.logPut = true; t.writeLog && !t.storeLog {
		c.log = t.changes.writeLog(r)
	}
	return &c, nil
}

// nodesInMemory tells how much of stored nodes is in memory.
func (t *Tree) nodesInMemory() (all held) {
	stack := []*node.Pointer{t.root}
	for len(stack) > 0 {
		ptr := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if ptr == nil || ptr.Node == nil {
			continue
		}
		if ptr.Clean {
			all.add(weigh(ptr.Node))
		}
		if n, ok := ptr.Node.(*node.InternalNode); ok {
			stack = append(stack, n.LeafNode, n.Left, n.Right)
		}
	}
	return all
}
