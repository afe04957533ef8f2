package conformance

import (
	"bytes"
	"fmt"
	"io"
	"slices"

	"github.com/golang/snappy"

	"github.com/ckpt-project/ckpt/framework/checkpoint"
	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// These cases are about the checkpoint API over the database: its creator and its restorer, each error
// by its identity, and that what was refused leaves nothing to be seen.

// made is a checkpoint with its chunks in memory, to be given to restorers, whole or spoilt.
type made struct {
	metadata *checkpoint.Metadata
	chunks   [][]byte
	c        content
}

// makeOf makes a version of a type with n entries in a database of its own, and its checkpoint.
func (e *env) makeOf(t node.RootType, version uint64, n int) *made {
	e.Helper()
	source := newEnv(e.trial, e.h)
	ndb := source.open()
	c := content{}
	for i := range n {
		c[fmt.Sprintf("key %d", i*i)] = fmt.Sprintf("value %d of version %d", i, version)
	}
	top := source.version(ndb, empty(t, version), version, c)
	creator, err := checkpoint.NewFileCreator(e.TempDir(), ndb)
	e.check(err)
	m := &made{c: c}
	m.metadata, err = creator.CreateCheckpoint(e.ctx, top.root, 256)
	e.check(err)
	for i := range m.metadata.Chunks {
		chunk, err := m.metadata.GetChunkMetadata(uint64(i))
		e.check(err)
		var b bytes.Buffer
		e.check(creator.GetCheckpointChunk(e.ctx, chunk, &b))
		m.chunks = append(m.chunks, b.Bytes())
	}
	if n > 10 && len(m.chunks) < 3 {
		e.Fatalf("a checkpoint of %d entries in %d chunks says little", n, len(m.chunks))
	}
	return m
}

// with returns the checkpoint with other chunks, and metadata that vouches for them.
func (m *made) with(chunks ...[]byte) *made {
	metadata := *m.metadata
	metadata.Chunks = nil
	for _, c := range chunks {
		metadata.Chunks = append(metadata.Chunks, hash.Sum(c))
	}
	return &made{&metadata, chunks, m.c}
}

// restore gives all chunks to a restorer, up to an error, and says whether the last one completed it.
func (m *made) restore(e *env, r checkpoint.Restorer) (done bool, err error) {
	for i, chunk := range m.chunks {
		if done, err = r.RestoreChunk(e.ctx, uint64(i), bytes.NewReader(chunk)); err != nil {
			return false, err
		}
	}
	return done, nil
}

func (e *env) restorer(ndb db.NodeDB) checkpoint.Restorer {
	e.Helper()
	r, err := checkpoint.NewRestorer(ndb)
	e.check(err)
	return r
}

// entriesOf is the decompressed bytes of a chunk.
func (e *env) entriesOf(chunk []byte) []byte {
	e.Helper()
	raw, err := io.ReadAll(snappy.NewReader(bytes.NewReader(chunk)))
	e.check(err)
	return raw
}

// chunkOf is a chunk of entries.
func (e *env) chunkOf(entries []byte) []byte {
	e.Helper()
	var b bytes.Buffer
	w := snappy.NewBufferedWriter(&b)
	_, err := w.Write(entries)
	e.check(errors.Join(err, w.Close()))
	return b.Bytes()
}

// nothingLeft fails the case where something of a restore can be seen, or stands in the way of the next.
func (e *env) nothingLeft(ndb db.NodeDB, root node.Root) {
	e.Helper()
	_, any, err := ndb.GetLatestVersion(e.ctx)
	e.check(err)
	if any {
		e.Errorf("%s: there is a version", root)
	}
	e.has(ndb, root, false)
	e.roots(ndb, root.Version)
	if _, err := e.walked(ndb, root, nil); err == nil {
		e.Errorf("%s can be walked", root)
	}
	mp, err := ndb.Multipart(e.ctx)
	e.check(err)
	if mp != nil {
		e.Errorf("%s: the multipart insert is still open: %+v", root, mp)
	}
}

func creatorErrors(e *env) {
	ndb := e.open()
	top := e.version(ndb, empty(stateType, 1), 1, content{"a": "1", "b": "2"})
	creator, err := checkpoint.NewFileCreator(e.TempDir(), ndb)
	e.check(err)

	_, err = creator.GetCheckpoint(e.ctx, 1, top.root)
	e.is("GetCheckpoint of none", err, checkpoint.ErrCheckpointNotFound)
	e.is("DeleteCheckpoint of none", creator.DeleteCheckpoint(e.ctx, 1, top.root), checkpoint.ErrCheckpointNotFound)
	_, err = creator.CreateCheckpoint(e.ctx, unknownRootOf(stateType, 1), 256)
	e.is("CreateCheckpoint of an unknown root", err, db.ErrRootNotFound)
	_, err = creator.CreateCheckpoint(e.ctx, unknownRootOf(stateType, 7), 256)
	e.is("CreateCheckpoint of an unknown version", err, db.ErrRootNotFound, db.ErrVersionNotFound, db.ErrNotFinalized)

	metadata, err := creator.CreateCheckpoint(e.ctx, top.root, 256)
	e.check(err)
	again, err := creator.CreateCheckpoint(e.ctx, top.root, 256)
	e.check(err)
	if metadata.EncodedHash() != again.EncodedHash() {
		e.Errorf("made again, the checkpoint is another one")
	}
	_, err = metadata.GetChunkMetadata(uint64(len(metadata.Chunks)))
	e.is("metadata of a chunk beyond", err, checkpoint.ErrChunkNotFound)
	chunk, err := metadata.GetChunkMetadata(0)
	e.check(err)
	beyond := *chunk
	beyond.Index = uint64(len(metadata.Chunks))
	e.is("a chunk beyond", creator.GetCheckpointChunk(e.ctx, &beyond, io.Discard), checkpoint.ErrChunkNotFound)
	absent := *chunk
	absent.Root = unknownRootOf(stateType, 1)
	e.is("a chunk of no checkpoint", creator.GetCheckpointChunk(e.ctx, &absent, io.Discard), checkpoint.ErrCheckpointNotFound)

	e.check(creator.DeleteCheckpoint(e.ctx, 1, top.root))
	_, err = creator.GetCheckpoint(e.ctx, 1, top.root)
	e.is("GetCheckpoint after its deletion", err, checkpoint.ErrCheckpointNotFound)
	all, err := creator.GetCheckpoints(e.ctx, &checkpoint.GetCheckpointsRequest{Version: 1, Namespace: namespace})
	e.check(err)
	if len(all) != 0 {
		e.Errorf("%d checkpoints after the only one was deleted", len(all))
	}
}

func restoreInOrder(e *env) {
	m := e.makeOf(stateType, 5, 50)
	ndb := e.open()
	r := e.restorer(ndb)
	first := func() error {
		_, err := r.RestoreChunk(e.ctx, 0, bytes.NewReader(m.chunks[0]))
		return err
	}
	e.is("a chunk before the start", first(), checkpoint.ErrNoRestoreInProgress)
	e.check(r.AbortRestore(e.ctx))
	e.check(r.StartRestore(e.ctx, m.metadata))
	e.is("a second start", r.StartRestore(e.ctx, m.metadata), checkpoint.ErrRestoreAlreadyInProgress)
	if current := r.GetCurrentCheckpoint(); current == nil || current.EncodedHash() != m.metadata.EncodedHash() {
		e.Errorf("the current checkpoint is %v", current)
	}
	_, err := r.RestoreChunk(e.ctx, uint64(len(m.chunks)), bytes.NewReader(m.chunks[0]))
	e.is("a chunk beyond", err, checkpoint.ErrChunkNotFound)

	spoilt := slices.Clone(m.chunks[0])
	spoilt[len(spoilt)/2] ^= 1
	_, err = r.RestoreChunk(e.ctx, 0, bytes.NewReader(spoilt))
	e.is("a corrupt chunk", err, checkpoint.ErrChunkCorrupted)
	e.check(first()) // which leaves the restore going
	e.is("a chunk twice", first(), checkpoint.ErrChunkAlreadyRestored)

	for i := len(m.chunks) - 1; i > 0; i-- { // in any order
		done, err := r.RestoreChunk(e.ctx, uint64(i), bytes.NewReader(m.chunks[i]))
		e.check(err)
		if done != (i == 1) {
			e.Errorf("with %d chunks to come: complete %t", i-1, done)
		}
	}
	if r.GetCurrentCheckpoint() != nil {
		e.Errorf("a complete restore is still in progress")
	}
	e.is("a chunk after the end", first(), checkpoint.ErrNoRestoreInProgress)
	e.has(ndb, m.metadata.Root, false) // complete, and not yet visible
	e.check(ndb.Finalize(e.ctx, []node.Root{m.metadata.Root}))
	e.versions(ndb, 5, 5)
	e.has(ndb, m.metadata.Root, true)
}

func restoreAborted(e *env) {
	m := e.makeOf(stateType, 5, 50)
	ndb := e.open()
	r := e.restorer(ndb)
	e.check(r.StartRestore(e.ctx, m.metadata))
	_, err := r.RestoreChunk(e.ctx, 1, bytes.NewReader(m.chunks[1]))
	e.check(err)
	e.check(r.AbortRestore(e.ctx))
	e.nothingLeft(ndb, m.metadata.Root)
	_, err = r.RestoreChunk(e.ctx, 0, bytes.NewReader(m.chunks[0]))
	e.is("a chunk after the abort", err, checkpoint.ErrNoRestoreInProgress)

	e.check(r.StartRestore(e.ctx, m.metadata)) // from the beginning: chunk 1 does not count any more
	done, err := m.restore(e, r)
	e.check(err)
	if !done {
		e.Errorf("all chunks are in, and the restore is not complete")
	}
}

func restoreOfBadProofs(e *env) {
	m, other := e.makeOf(stateType, 5, 50), e.makeOf(stateType, 6, 50)
	last := len(m.chunks) - 1
	root := m.metadata.Root.Hash
	nothing := e.chunkOf(append([]byte{0x58, 1 + hash.Size, 0x02}, root[:]...))
	cut := e.entriesOf(m.chunks[0])
	replaced := func(i int, chunk []byte) *made {
		chunks := slices.Clone(m.chunks)
		chunks[i] = chunk
		return m.with(chunks...)
	}
	for _, bad := range []struct {
		name string
		*made
		incomplete bool
	}{
		{"bytes that don't decode", replaced(last, []byte("no chunk at all")), false},
		{"a surplus entry", replaced(last, e.chunkOf(append(e.entriesOf(m.chunks[last]), 0xf6))), false},
		{"a chunk cut short", replaced(0, e.chunkOf(cut[:len(cut)/2])), false},
		{"another tree's proof", replaced(1, other.chunks[1]), false},
		{"a proof of nothing", m.with(nothing), false},
		{"a proof of nothing beside the others", replaced(last, nothing), false},
		{"a chunk that is missing", m.with(m.chunks[:last]...), true},
		{"a chunk in the place of another", replaced(last, m.chunks[0]), false},
	} {
		at := newEnv(e.trial, e.h)
		ndb := at.open()
		r := at.restorer(ndb)
		at.check(r.StartRestore(at.ctx, bad.metadata))
		_, err := bad.restore(at, r)
		at.is(bad.name, err, checkpoint.ErrChunkProofVerificationFailed)
		if bad.incomplete && (err == nil || !bytes.Contains([]byte(err.Error()), []byte("checkpoint incomplete"))) {
			at.Errorf("%s: error %v does not say so", bad.name, err)
		}
		if r.GetCurrentCheckpoint() != nil {
			at.Errorf("%s: the restore goes on", bad.name)
		}
		at.nothingLeft(ndb, m.metadata.Root)

		// The database is as good as new.
		at.check(r.StartRestore(at.ctx, m.metadata))
		_, err = m.restore(at, r)
		at.check(err)
		at.check(ndb.Finalize(at.ctx, []node.Root{m.metadata.Root}))
		at.check(ndb.Close(at.ctx))
	}
}

func restoreOfTwoRoots(e *env) {
	state, io := e.makeOf(stateType, 5, 50), e.makeOf(ioType, 5, 20)
	ndb := e.open()
	r := e.restorer(ndb)
	e.check(r.StartRestore(e.ctx, state.metadata))
	_, err := state.restore(e, r)
	e.check(err)

	// The other root fails, which takes nothing from the one that is complete.
	bad := io.with(append(slices.Clone(io.chunks[:len(io.chunks)-1]), state.chunks[0])...)
	e.check(r.StartRestore(e.ctx, bad.metadata))
	_, err = bad.restore(e, r)
	e.is("another tree's proof", err, checkpoint.ErrChunkProofVerificationFailed)

	e.check(r.StartRestore(e.ctx, io.metadata))
	_, err = io.restore(e, r)
	e.check(err)
	_, any, err := ndb.GetLatestVersion(e.ctx)
	e.check(err)
	if any {
		e.Errorf("there is a version before Finalize")
	}
	e.check(ndb.Finalize(e.ctx, []node.Root{state.metadata.Root, io.metadata.Root}))
	e.roots(ndb, 5, state.metadata.Root, io.metadata.Root)
}

func restoreOfOtherVersion(e *env) {
	m, later := e.makeOf(stateType, 5, 50), e.makeOf(stateType, 6, 50)
	ndb := e.open()
	r := e.restorer(ndb)
	e.check(r.StartRestore(e.ctx, m.metadata))
	_, err := m.restore(e, r)
	e.check(err)
	e.is("another version before Finalize", r.StartRestore(e.ctx, later.metadata), checkpoint.ErrRestoreAlreadyInProgress)
	e.check(ndb.Finalize(e.ctx, []node.Root{m.metadata.Root}))
	e.check(r.StartRestore(e.ctx, later.metadata))
	_, err = later.restore(e, r)
	e.check(err)
	e.check(ndb.Finalize(e.ctx, []node.Root{later.metadata.Root}))
	e.versions(ndb, 5, 6)
}

func restoreTakenUp(e *env) {
	m := e.makeOf(stateType, 5, 50)
	ndb := e.open()
	r := e.restorer(ndb)
	e.check(r.StartRestore(e.ctx, m.metadata))
	_, err := r.RestoreChunk(e.ctx, 1, bytes.NewReader(m.chunks[1]))
	e.check(err)
	ndb = e.killed(ndb)
	_, any, err := ndb.GetLatestVersion(e.ctx)
	e.check(err)
	if any {
		e.Errorf("half a restore is a version")
	}
	r = e.restorer(ndb)
	e.check(r.StartRestore(e.ctx, m.metadata))
	_, err = r.RestoreChunk(e.ctx, 1, bytes.NewReader(m.chunks[1]))
	e.is("a chunk from before the crash", err, checkpoint.ErrChunkAlreadyRestored)
	done := false
	for i, chunk := range m.chunks {
		if i != 1 {
			done, err = r.RestoreChunk(e.ctx, uint64(i), bytes.NewReader(chunk))
			e.check(err)
		}
	}
	if !done {
		e.Errorf("all chunks are in, and the restore is not complete")
	}
	e.check(ndb.Finalize(e.ctx, []node.Root{m.metadata.Root}))
	e.has(ndb, m.metadata.Root, true)
}
