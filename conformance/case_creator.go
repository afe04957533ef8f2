package conformance

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/ckpt-project/ckpt/framework/checkpoint"
	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// chunkSize makes several chunks of the trees here.
const chunkSize = 256

// numbered is a content of n pairs.
func numbered(n int, value string) content {
	c := content{}
	for i := range n {
		c[fmt.Sprintf("key %d", i*i)] = fmt.Sprintf("%s %d", value, i)
	}
	return c
}

func (e *env) creator(ndb db.NodeDB, opts ...checkpoint.CreatorOption) checkpoint.Creator {
	e.Helper()
	c, err := checkpoint.NewFileCreator(e.TempDir(), ndb, opts...)
	e.check(err)
	return c
}

// createdOf makes the checkpoint of a tree.
func (e *env) createdOf(c checkpoint.Creator, t *tree) *checkpoint.Metadata {
	e.Helper()
	m, err := c.CreateCheckpoint(e.ctx, t.root, chunkSize)
	e.check(err)
	return m
}

// listed fails the case where a request is not answered with the checkpoints of these roots, in this order.
func (e *env) listed(c checkpoint.Creator, request checkpoint.GetCheckpointsRequest, want ...node.Root) {
	e.Helper()
	all, err := c.GetCheckpoints(e.ctx, &request)
	e.check(err)
	var got []node.Root
	for _, m := range all {
		got = append(got, m.Root)
	}
	if !slices.Equal(got, want) {
		e.Errorf("checkpoints of %v are listed, want %v", got, want)
	}
}

func checkpointNotThere(e *env) {
	ndb := e.open()
	first, second := e.twoVersions(ndb)
	c := e.creator(ndb)
	e.listed(c, checkpoint.GetCheckpointsRequest{Version: 1, Namespace: namespace})
	metadata := e.createdOf(c, first)
	chunk, err := metadata.GetChunkMetadata(0)
	e.check(err)
	for _, absent := range []struct {
		what    string
		version uint16
		root    node.Root
		// unknown says that the database has no such root, of which no checkpoint can be made either.
		unknown bool
	}{
		{"of another version", 1, second.root, false},
		{"of another root", 1, unknownRootOf(stateType, 1), true},
		{"of another type", 1, node.Root{Namespace: namespace, Version: 1, Type: ioType, Hash: first.root.Hash}, true},
		{"of another format", 2, first.root, false},
	} {
		if absent.unknown {
			_, err := c.CreateCheckpoint(e.ctx, absent.root, chunkSize)
			e.is("CreateCheckpoint "+absent.what, err, db.ErrRootNotFound)
		}
		_, err := c.GetCheckpoint(e.ctx, absent.version, absent.root)
		e.is("GetCheckpoint "+absent.what, err, checkpoint.ErrCheckpointNotFound)
		e.is("DeleteCheckpoint "+absent.what, c.DeleteCheckpoint(e.ctx, absent.version, absent.root), checkpoint.ErrCheckpointNotFound)
		of := *chunk
		of.Version, of.Root = absent.version, absent.root
		e.is("GetCheckpointChunk "+absent.what, c.GetCheckpointChunk(e.ctx, &of, io.Discard), checkpoint.ErrCheckpointNotFound)
	}
	e.listed(c, checkpoint.GetCheckpointsRequest{Version: 1, Namespace: namespace}, first.root)
}

func rootsNotToBeCheckpointed(e *env) {
	e.cfg.GarbageRate = -1
	ndb := e.open()
	first, second := e.twoVersions(ndb)
	third := e.commit(ndb, second, 3, second.content.With("a", "candidate"))
	c := e.creator(ndb)
	e.check(ndb.Prune(e.ctx, 1))
	other := second.root
	other.Namespace = common.NewTestNamespaceFromSeed([]byte("another"), 0)
	noType := second.root
	noType.Type = node.RootTypeInvalid
	for _, bad := range []struct {
		what string
		root node.Root
		want []error
	}{
		{"that nobody committed", unknownRootOf(stateType, 2), []error{db.ErrRootNotFound}},
		{"of a version that is not there", unknownRootOf(stateType, 9), []error{db.ErrRootNotFound, db.ErrVersionNotFound, db.ErrNotFinalized}},
		{"that is not final", third.root, []error{db.ErrNotFinalized, db.ErrVersionNotFound}},
		{"that was pruned", first.root, []error{db.ErrVersionPruned}},
		{"of another namespace", other, []error{db.ErrBadNamespace}},
		{"of no type", noType, []error{db.ErrMalformed}},
	} {
		_, err := c.CreateCheckpoint(e.ctx, bad.root, chunkSize)
		e.is("a checkpoint of a root "+bad.what, err, bad.want...)
	}
	e.listed(c, checkpoint.GetCheckpointsRequest{Version: 1, Namespace: namespace})
	e.pinned(ndb)
}

func checkpointAgain(e *env) {
	ndb := e.open()
	_, second := e.twoVersions(ndb)
	c := e.creator(ndb)
	var making sync.WaitGroup
	made := make([]*checkpoint.Metadata, 3)
	for i := range made { // at once
		making.Go(func() {
			m, err := c.CreateCheckpoint(e.ctx, second.root, chunkSize)
			if err != nil {
				e.Errorf("made at once: %v", err)
				return
			}
			made[i] = m
		})
	}
	making.Wait()
	if e.Failed() {
		return
	}
	made = append(made, e.createdOf(c, second), e.createdOf(e.creator(ndb), second)) // again, and elsewhere
	for _, m := range made {
		if m.EncodedHash() != made[0].EncodedHash() {
			e.Errorf("made again, the checkpoint is another one")
		}
	}
	_, err := c.CreateCheckpoint(e.ctx, second.root, 2*chunkSize)
	e.is("the same in other chunks", err, checkpoint.ErrParametersDiffer)
	e.listed(c, checkpoint.GetCheckpointsRequest{Version: 1, Namespace: namespace}, second.root)
	e.pinned(ndb)
}

func deletedCheckpoint(e *env) {
	ndb := e.open()
	first, second := e.twoVersions(ndb)
	c := e.creator(ndb)
	all := checkpoint.GetCheckpointsRequest{Version: 1, Namespace: namespace}
	before := e.createdOf(c, first)
	e.createdOf(c, second)
	chunk, err := before.GetChunkMetadata(0)
	e.check(err)
	e.check(c.DeleteCheckpoint(e.ctx, 1, first.root))
	e.listed(c, all, second.root)
	_, err = c.GetCheckpoint(e.ctx, 1, first.root)
	e.is("GetCheckpoint after its deletion", err, checkpoint.ErrCheckpointNotFound)
	e.is("a chunk after the deletion", c.GetCheckpointChunk(e.ctx, chunk, io.Discard), checkpoint.ErrCheckpointNotFound)
	e.is("a second deletion", c.DeleteCheckpoint(e.ctx, 1, first.root), checkpoint.ErrCheckpointNotFound)
	if after := e.createdOf(c, first); after.EncodedHash() != before.EncodedHash() {
		e.Errorf("made again after its deletion, the checkpoint is another one")
	}
	e.listed(c, all, second.root, first.root)
	e.readable(ndb, first)
}

func listedCheckpoints(e *env) {
	ndb := e.open()
	first, second := e.twoVersions(ndb)
	c := e.creator(ndb)
	all := checkpoint.GetCheckpointsRequest{Version: 1, Namespace: namespace}
	m1, m2 := e.createdOf(c, first), e.createdOf(c, second)
	e.listed(c, all, second.root, first.root)
	for version, want := range map[uint64][]node.Root{1: {first.root}, 2: {second.root}, 3: nil} {
		of := all
		of.RootVersion = &version
		e.listed(c, of, want...)
	}
	other := all
	other.Namespace = common.NewTestNamespaceFromSeed([]byte("another"), 0)
	e.listed(c, other)
	other = all
	other.Version = 2
	e.listed(c, other)
	for _, m := range []*checkpoint.Metadata{m1, m2} {
		got, err := c.GetCheckpoint(e.ctx, 1, m.Root)
		e.check(err)
		if got.EncodedHash() != m.EncodedHash() {
			e.Errorf("GetCheckpoint of %s is another one than was made", m.Root)
		}
	}
	// A checkpoint outlasts its version, which it does not keep.
	e.check(ndb.Prune(e.ctx, 1))
	e.listed(c, all, second.root, first.root)
	chunk, err := m1.GetChunkMetadata(0)
	e.check(err)
	e.check(c.GetCheckpointChunk(e.ctx, chunk, io.Discard))
}

func checkpointOfEmptyRoot(e *env) {
	ndb := e.open()
	first := e.version(ndb, empty(stateType, 0), 1, content{"a": "1"})
	second := e.version(ndb, first, 2, content{})
	m := e.createdOf(e.creator(ndb), second)
	if len(m.Chunks) != 1 || m.Root != emptyRootOf(stateType, 2) {
		e.Errorf("the checkpoint of the empty root is %+v", m)
	}
}

// versionKeptWhileCheckpointed prunes while a checkpoint is being made.
func versionKeptWhileCheckpointed(e *env) {
	ndb := e.open()
	first := e.version(ndb, empty(stateType, 0), 1, numbered(400, "value"))
	e.version(ndb, first, 2, content{"a": "1"})
	var once sync.Once
	c := e.creator(ndb, checkpoint.WithProgress(func(node.Root, uint64, int64, uint64) {
		once.Do(func() {
			if err := ndb.Prune(e.ctx, 1); err == nil {
				e.Errorf("a version was pruned while a checkpoint of it was made")
			} else {
				e.is("a prune while a checkpoint is made", err, db.ErrVersionPinned)
			}
		})
	}))
	m := e.createdOf(c, first)
	if len(m.Chunks) < 3 {
		e.Fatalf("a checkpoint in %d chunks says little", len(m.Chunks))
	}
	e.pinned(ndb)
	e.check(ndb.Prune(e.ctx, 1))
}

// checkpointBrokenOff ends a context when the first chunk is made.
func checkpointBrokenOff(e *env) {
	ndb := e.open()
	first := e.version(ndb, empty(stateType, 0), 1, numbered(1000, "a value that takes some room"))
	e.version(ndb, first, 2, content{"a": "1"})
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	dir := e.TempDir()
	c, err := checkpoint.NewFileCreator(dir, ndb, checkpoint.WithProgress(func(node.Root, uint64, int64, uint64) { cancel() }))
	e.check(err)
	_, err = c.CreateCheckpoint(ctx, first.root, chunkSize)
	e.is("a checkpoint that is broken off", err, context.Canceled)
	e.listed(c, checkpoint.GetCheckpointsRequest{Version: 1, Namespace: namespace})
	e.pinned(ndb)
	c, err = checkpoint.NewFileCreator(dir, ndb)
	e.check(err)
	e.createdOf(c, first)
	e.listed(c, checkpoint.GetCheckpointsRequest{Version: 1, Namespace: namespace}, first.root)
	e.check(ndb.Prune(e.ctx, 1))
}

// killedWhileCheckpointed kills the database's process when the first chunk is made.
func killedWhileCheckpointed(e *env) {
	ndb := e.open()
	first := e.version(ndb, empty(stateType, 0), 1, numbered(2000, "a value that takes some room"))
	var once sync.Once
	c := e.creator(ndb, checkpoint.WithWorkers(1), checkpoint.WithProgress(func(node.Root, uint64, int64, uint64) {
		once.Do(func() {
			if err := e.h.Crash(ndb); err != nil {
				e.Errorf("killing the process: %v", err)
			}
		})
	}))
	m, err := c.CreateCheckpoint(e.ctx, first.root, chunkSize)
	if err != nil {
		e.is("a checkpoint whose database has gone", err, db.ErrUnavailable)
		e.listed(c, checkpoint.GetCheckpointsRequest{Version: 1, Namespace: namespace})
	} else { // all may have been read before, and then it is the whole
		elsewhere := newEnv(e.trial, e.h)
		again := elsewhere.open()
		whole := elsewhere.createdOf(elsewhere.creator(again), elsewhere.version(again, empty(stateType, 0), 1, first.content))
		if m.EncodedHash() != whole.EncodedHash() {
			e.Errorf("the checkpoint of a database that has gone is not that of the tree")
		}
	}
	_, err = c.CreateCheckpoint(e.ctx, unknownRootOf(stateType, 1), chunkSize)
	e.is("a checkpoint of an unknown root of what has gone", err, db.ErrUnavailable)
}
