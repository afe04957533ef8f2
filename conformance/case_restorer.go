package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/ckpt-project/ckpt/framework/checkpoint"
	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// chunk gives a restorer one chunk.
func (m *made) chunk(e *env, r checkpoint.Restorer, i int) (bool, error) {
	return r.RestoreChunk(e.ctx, uint64(i), bytes.NewReader(m.chunks[i]))
}

// started is a restore of version 5 that has begun, in a fresh database.
func (e *env) started() (*made, db.NodeDB, checkpoint.Restorer) {
	e.Helper()
	m := e.makeOf(stateType, 5, 50)
	ndb := e.open()
	r := e.restorer(ndb)
	e.check(r.StartRestore(e.ctx, m.metadata))
	return m, ndb, r
}

// pending fails the case where the chunks that are to come are not these.
func (e *env) pending(r checkpoint.Restorer, want ...uint64) {
	e.Helper()
	progress, ok := r.(checkpoint.Progress)
	if !ok {
		e.Fatalf("a %T does not tell its progress", r)
	}
	if got := progress.PendingChunks(); !slices.Equal(got, want) {
		e.Errorf("chunks %d are to come, want %d", got, want)
	}
}

// marks fails the case where the chunks that have marks in the database are not these, or where a restorer
// that takes the restore up would ask for others than those that have none. It returns that restorer.
func (m *made) marks(e *env, ndb db.NodeDB, want ...uint64) checkpoint.Restorer {
	e.Helper()
	if got := e.multipart(ndb, m.metadata.Root.Version).Roots[0].Done; !slices.Equal(got, want) {
		e.Errorf("chunks %d have marks, want %d", got, want)
	}
	var left []uint64
	for i := range uint64(len(m.chunks)) {
		if !slices.Contains(want, i) {
			left = append(left, i)
		}
	}
	r := e.restorer(ndb)
	e.check(r.StartRestore(e.ctx, m.metadata))
	e.pending(r, left...)
	return r
}

// goesOn restores the chunks that are still to come, finalizes, and reads back.
func (m *made) goesOn(e *env, ndb db.NodeDB, r checkpoint.Restorer) {
	e.Helper()
	progress, ok := r.(checkpoint.Progress)
	if current := r.GetCurrentCheckpoint(); !ok || current == nil || current.EncodedHash() != m.metadata.EncodedHash() {
		e.Fatalf("the restore does not go on: the current checkpoint is %v", current)
	}
	done := false
	for _, i := range progress.PendingChunks() {
		var err error
		done, err = m.chunk(e, r, int(i))
		e.check(err)
	}
	if !done {
		e.Fatalf("all chunks are in, and the restore is not complete")
	}
	m.restored(e, ndb)
}

// restored finalizes what a restore has completed, and reads it back.
func (m *made) restored(e *env, ndb db.NodeDB) {
	e.Helper()
	e.has(ndb, m.metadata.Root, false) // complete, and not yet visible
	e.check(ndb.Finalize(e.ctx, []node.Root{m.metadata.Root}))
	e.adopt(ndb, m.metadata.Root, m.c)
}

func noRestoreInProgress(e *env) {
	m := e.makeOf(stateType, 5, 50)
	ndb := e.open()
	r := e.restorer(ndb)
	none := func(when string) {
		e.Helper()
		_, err := m.chunk(e, r, 0)
		e.is("a chunk "+when, err, checkpoint.ErrNoRestoreInProgress)
		if current := r.GetCurrentCheckpoint(); current != nil {
			e.Errorf("%s: the current checkpoint is %v", when, current)
		}
		e.pending(r)
		e.check(r.AbortRestore(e.ctx))
	}
	none("before the start")
	e.noMultipart(ndb)
	e.check(r.StartRestore(e.ctx, m.metadata))
	e.check(r.AbortRestore(e.ctx))
	none("after the abort")
	e.nothingLeft(ndb, m.metadata.Root)
	e.check(r.StartRestore(e.ctx, m.metadata))
	_, err := m.restore(e, r)
	e.check(err)
	none("after the end")
	m.restored(e, ndb) // the abort has not taken away what is complete
}

func restoreInProgress(e *env) {
	m, ndb, r := e.started()
	_, err := m.chunk(e, r, 2)
	e.check(err)
	other := e.makeOf(stateType, 6, 20)
	e.is("the same restore again", r.StartRestore(e.ctx, m.metadata), checkpoint.ErrRestoreAlreadyInProgress)
	e.is("another restore", r.StartRestore(e.ctx, other.metadata), checkpoint.ErrRestoreAlreadyInProgress)
	second := e.restorer(ndb) // there should be one a database, and the insert tells if there isn't
	e.is("another restore of another restorer", second.StartRestore(e.ctx, other.metadata), checkpoint.ErrRestoreAlreadyInProgress)
	_, err = m.chunk(e, r, 2)
	e.is("a chunk that is restored", err, checkpoint.ErrChunkAlreadyRestored)
	m.goesOn(e, ndb, r)
}

func chunkBeyond(e *env) {
	m, ndb, r := e.started()
	n := uint64(len(m.chunks))
	_, err := m.chunk(e, r, int(n-1))
	e.check(err)
	for _, beyond := range []uint64{n, n + 1, 1<<32 + 1, 1<<64 - 1} {
		_, err := r.RestoreChunk(e.ctx, beyond, bytes.NewReader(m.chunks[0]))
		e.is(fmt.Sprintf("chunk %d of %d", beyond, n), err, checkpoint.ErrChunkNotFound)
	}
	m.marks(e, ndb, n-1)
	m.goesOn(e, ndb, r)
}

func chunkAgain(e *env) {
	m, ndb, r := e.started()
	var done []uint64
	for i := range len(m.chunks) - 1 {
		_, err := m.chunk(e, r, i)
		e.check(err)
		done = append(done, uint64(i))
		_, err = m.chunk(e, m.marks(e, ndb, done...), i)
		e.is(fmt.Sprintf("chunk %d again, of who takes the restore up", i), err, checkpoint.ErrChunkAlreadyRestored)
		_, err = m.chunk(e, r, i)
		e.is(fmt.Sprintf("chunk %d again", i), err, checkpoint.ErrChunkAlreadyRestored)
		_, err = r.RestoreChunk(e.ctx, uint64(i), bytes.NewReader(nil)) // it is not read
		e.is(fmt.Sprintf("chunk %d again, with nothing in it", i), err, checkpoint.ErrChunkAlreadyRestored)
	}
	e.pending(r, uint64(len(m.chunks)-1))
	m.goesOn(e, ndb, r)
}

// errReading is what a reader fails with.
var errReading = errors.New("the chunk can't be read")

// failing reads some bytes, and then fails.
type failing struct{ io.Reader }

func (f failing) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	if err == io.EOF {
		err = errReading
	}
	return n, err
}

func corruptedChunk(e *env) {
	m, ndb, r := e.started()
	_, err := m.chunk(e, r, 0)
	e.check(err)
	var all []uint64
	for i := 1; i < len(m.chunks); i++ {
		all = append(all, uint64(i))
	}
	whole := m.chunks[1]
	changed := func(at int) []byte {
		c := slices.Clone(whole)
		c[at] ^= 0x10
		return c
	}
	for name, bad := range map[string][]byte{
		"with its first byte changed": changed(0), "with a byte changed": changed(len(whole) / 2),
		"with its last byte changed": changed(len(whole) - 1), "without its last byte": whole[:len(whole)-1],
		"of no bytes": nil, "with a byte too many": append(slices.Clone(whole), 0), "that is another one": m.chunks[0],
	} {
		_, err := r.RestoreChunk(e.ctx, 1, bytes.NewReader(bad))
		e.is("a chunk "+name, err, checkpoint.ErrChunkCorrupted)
		e.pending(r, all...)
	}
	_, err = r.RestoreChunk(e.ctx, 1, failing{bytes.NewReader(whole[:len(whole)/2])})
	e.is("a chunk that can't be read", err, errReading)
	ctx, cancel := context.WithCancel(e.ctx)
	cancel()
	_, err = r.RestoreChunk(ctx, 1, bytes.NewReader(whole))
	e.is("a chunk whose context is done", err, context.Canceled)
	e.pending(r, all...)
	m.marks(e, ndb, 0)
	m.goesOn(e, ndb, r)
}

func badProof(e *env) {
	m, other := e.makeOf(stateType, 5, 50), e.makeOf(stateType, 6, 50)
	chunks := slices.Clone(m.chunks)
	chunks[1] = other.chunks[1]
	bad := m.with(chunks...)
	ndb := e.open()
	r := e.restorer(ndb)
	e.check(r.StartRestore(e.ctx, bad.metadata))
	_, err := bad.chunk(e, r, 0)
	e.check(err)
	_, err = bad.chunk(e, r, 1)
	e.is("another tree's proof", err, checkpoint.ErrChunkProofVerificationFailed)
	_, err = bad.chunk(e, r, 2)
	e.is("a chunk after that", err, checkpoint.ErrNoRestoreInProgress)
	e.nothingLeft(ndb, m.metadata.Root)
	e.check(r.StartRestore(e.ctx, m.metadata))
	m.goesOn(e, ndb, r)
}

func restoreBeyondLimits(e *env) {
	m := e.makeOf(stateType, 5, 50)
	ndb := e.open()
	for name, limits := range map[string]checkpoint.Limits{
		"ChunkBytes": {ChunkBytes: 10}, "RawBytes": {RawBytes: 10}, "Entries": {Entries: 1},
		"KeyBytes": {KeyBytes: 1}, "ValueBytes": {ValueBytes: 1},
	} {
		r, err := checkpoint.NewRestorer(ndb, checkpoint.WithLimits(limits))
		e.check(err)
		e.check(r.StartRestore(e.ctx, m.metadata))
		_, err = m.chunk(e, r, 0)
		e.is("a chunk beyond "+name, err, checkpoint.ErrLimitExceeded)
		if r.GetCurrentCheckpoint() == nil {
			e.Errorf("a chunk beyond %s ends the restore", name)
		}
		e.check(r.AbortRestore(e.ctx))
	}
	// The database's own limits bound a restore, too.
	for name, limit := range map[string]func(cfg *db.Config){
		"MaxKeyBytes": func(cfg *db.Config) { cfg.MaxKeyBytes = 1 }, "MaxValueBytes": func(cfg *db.Config) { cfg.MaxValueBytes = 1 },
	} {
		at := newEnv(e.trial, e.h)
		limit(&at.cfg)
		bounded := at.open()
		r := at.restorer(bounded)
		e.check(r.StartRestore(e.ctx, m.metadata))
		_, err := m.chunk(at, r, 0)
		e.is("a chunk beyond the database's "+name, err, checkpoint.ErrLimitExceeded)
		e.check(r.AbortRestore(e.ctx))
		e.check(bounded.Close(e.ctx))
	}
	r := e.restorer(ndb)
	e.check(r.StartRestore(e.ctx, m.metadata))
	m.goesOn(e, ndb, r)
}

func restoreOfBadMetadata(e *env) {
	m := e.makeOf(stateType, 5, 50)
	ndb := e.open()
	r := e.restorer(ndb)
	e.is("no metadata", r.StartRestore(e.ctx, nil), checkpoint.ErrMalformedMetadata)
	for _, bad := range []struct {
		what   string
		change func(*checkpoint.Metadata)
		want   error
	}{
		{"another version of the format", func(m *checkpoint.Metadata) { m.Version = 2 }, checkpoint.ErrMalformedMetadata},
		{"no version of the format", func(m *checkpoint.Metadata) { m.Version = 0 }, checkpoint.ErrMalformedMetadata},
		{"no chunks", func(m *checkpoint.Metadata) { m.Chunks = nil }, checkpoint.ErrMalformedMetadata},
		{"no type", func(m *checkpoint.Metadata) { m.Root.Type = node.RootTypeInvalid }, checkpoint.ErrMalformedMetadata},
		{"several chunks of nothing", func(m *checkpoint.Metadata) { m.Root = emptyRootOf(stateType, 5) }, checkpoint.ErrMalformedMetadata},
		{"another namespace", func(m *checkpoint.Metadata) {
			m.Root.Namespace = common.NewTestNamespaceFromSeed([]byte("another"), 0)
		}, db.ErrBadNamespace},
	} {
		changed := *m.metadata
		bad.change(&changed)
		e.is("a restore of "+bad.what, r.StartRestore(e.ctx, &changed), bad.want)
		if r.GetCurrentCheckpoint() != nil {
			e.Errorf("a restore of %s has begun", bad.what)
		}
		e.noMultipart(ndb)
	}
	e.check(r.StartRestore(e.ctx, m.metadata))
	m.goesOn(e, ndb, r)
}

func restoreOfOldVersion(e *env) {
	ndb := e.open()
	_, second := e.twoVersions(ndb)
	r := e.restorer(ndb)
	for _, version := range []uint64{1, 2} {
		m := e.makeOf(stateType, version, 20)
		e.is(fmt.Sprintf("a restore of version %d of 2", version), r.StartRestore(e.ctx, m.metadata), db.ErrInvalidMultipartVersion)
		if r.GetCurrentCheckpoint() != nil {
			e.Errorf("the restore has begun")
		}
		e.noMultipart(ndb)
	}
	e.versions(ndb, 1, 2)
	e.readable(ndb, second)
	m := e.makeOf(stateType, 3, 20)
	e.check(r.StartRestore(e.ctx, m.metadata))
	m.goesOn(e, ndb, r)
}

func restoreOfEmptyRoot(e *env) {
	elsewhere := newEnv(e.trial, e.h)
	source := elsewhere.open()
	top := elsewhere.version(source, elsewhere.version(source, empty(stateType, 3), 4, content{"a": "1"}), 5, content{})
	c := elsewhere.creator(source)
	m := &made{metadata: elsewhere.createdOf(c, top), c: content{}}
	chunk, err := m.metadata.GetChunkMetadata(0)
	e.check(err)
	var b bytes.Buffer
	e.check(c.GetCheckpointChunk(e.ctx, chunk, &b))
	m.chunks = [][]byte{b.Bytes()}

	ndb := e.open()
	r := e.restorer(ndb)
	e.check(r.StartRestore(e.ctx, m.metadata))
	done, err := m.chunk(e, r, 0)
	e.check(err)
	if !done {
		e.Errorf("the only chunk is in, and the restore is not complete")
	}
	e.check(ndb.Finalize(e.ctx, []node.Root{m.metadata.Root}))
	e.versions(ndb, 5, 5)
	e.readable(ndb, top)
	e.readable(ndb, e.version(ndb, empty(stateType, 5), 6, content{"a": "1"}))
}

// sameChunkAtOnce has two restorers, one of which has taken up what the other goes on with, as it is for a
// moment when a host is replaced: each lets one goroutine have a chunk, and the database takes it twice.
func sameChunkAtOnce(e *env) {
	m, ndb, r := e.started()
	other := m.marks(e, ndb) // with none yet, it will restore them all
	for i := range len(m.chunks) - 1 {
		var restoring sync.WaitGroup
		firsts := make([]atomic.Int32, 2)
		for which, r := range []checkpoint.Restorer{r, other} {
			for range 4 {
				restoring.Go(func() {
					switch _, err := m.chunk(e, r, i); {
					case err == nil:
						firsts[which].Add(1)
					default:
						e.is(fmt.Sprintf("chunk %d, for which another was first", i), err, checkpoint.ErrChunkAlreadyRestored)
					}
				})
			}
		}
		restoring.Wait()
		for which := range firsts {
			if n := firsts[which].Load(); n != 1 {
				e.Errorf("chunk %d was restored by %d of 4 of restorer %d", i, n, which)
			}
		}
	}
	m.goesOn(e, ndb, r)
}

func restoreInAnyOrder(e *env) {
	m := e.makeOf(stateType, 5, 120)
	for seed := range uint64(3) {
		at := newEnv(e.trial, e.h)
		ndb := at.open()
		r := at.restorer(ndb)
		at.check(r.StartRestore(at.ctx, m.metadata))
		order := newRandom(70 + seed).Perm(len(m.chunks))
		for n, i := range order {
			done, err := m.chunk(at, r, i)
			at.check(err)
			if last := n == len(order)-1; done != last {
				at.Errorf("order %v: complete %t after %d of %d chunks", order, done, n+1, len(order))
			}
		}
		m.restored(at, ndb)
		at.check(ndb.Close(at.ctx))
	}
}

func restoreAtOnce(e *env) {
	m := e.makeOf(stateType, 5, 300)
	ndb := e.open()
	r := e.restorer(ndb)
	e.check(r.StartRestore(e.ctx, m.metadata))
	var restoring sync.WaitGroup
	var complete atomic.Int32
	for first := range 4 {
		restoring.Go(func() {
			for i := first; i < len(m.chunks); i += 4 {
				done, err := m.chunk(e, r, i)
				if err != nil {
					e.Errorf("chunk %d: %v", i, err)
				}
				if done {
					complete.Add(1)
				}
			}
		})
	}
	restoring.Wait()
	if n := complete.Load(); n != 1 {
		e.Errorf("%d of %d chunks have completed the restore", n, len(m.chunks))
	}
	m.restored(e, ndb)
}

// waiting hands out a chunk's first half, tells that it did, and the rest when it may go on.
type waiting struct {
	io.Reader
	rest  io.Reader
	began func()
	goOn  <-chan struct{}
	over  bool
}

func (w *waiting) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	if err == io.EOF && !w.over {
		w.over = true
		w.began()
		<-w.goOn
		w.Reader = w.rest
		return w.Reader.Read(p)
	}
	return n, err
}

// abortWithChunksInFlight aborts a restore while chunks are being read and written.
func abortWithChunksInFlight(e *env) {
	m, ndb, r := e.started()
	_, err := m.chunk(e, r, 0)
	e.check(err)
	goOn := make(chan struct{})
	var reading, restoring sync.WaitGroup
	for i := 1; i < 4; i++ {
		reading.Add(1)
		half := len(m.chunks[i]) / 2
		chunk := &waiting{
			Reader: bytes.NewReader(m.chunks[i][:half]), rest: bytes.NewReader(m.chunks[i][half:]), began: reading.Done, goOn: goOn,
		}
		restoring.Go(func() {
			_, err := r.RestoreChunk(e.ctx, uint64(i), chunk)
			e.is(fmt.Sprintf("chunk %d of a restore that was aborted", i), err, checkpoint.ErrNoRestoreInProgress)
		})
	}
	for i := 4; i < len(m.chunks); i++ {
		restoring.Go(func() {
			if _, err := m.chunk(e, r, i); err != nil { // one that was faster is removed
				e.is(fmt.Sprintf("chunk %d of a restore that was aborted", i), err, checkpoint.ErrNoRestoreInProgress)
			}
		})
	}
	reading.Wait()
	aborted := r.AbortRestore(e.ctx)
	close(goOn)
	restoring.Wait()
	e.check(aborted)
	e.nothingLeft(ndb, m.metadata.Root)
	e.check(r.StartRestore(e.ctx, m.metadata)) // from the beginning
	all := make([]uint64, len(m.chunks))
	for i := range all {
		all[i] = uint64(i)
	}
	e.pending(r, all...)
	m.goesOn(e, ndb, r)
}

// restoreTakenUpAgain goes on with a restore in another restorer, as after a restart of the host.
func restoreTakenUpAgain(e *env) {
	m, ndb, r := e.started()
	_, err := m.chunk(e, r, 1)
	e.check(err)
	if ndb.Info().Capabilities.Durable {
		ndb = e.reopen(ndb)
	}
	r = e.restorer(ndb)
	e.check(r.StartRestore(e.ctx, m.metadata))
	_, err = m.chunk(e, r, 1)
	e.is("a chunk from before", err, checkpoint.ErrChunkAlreadyRestored)
	m.goesOn(e, ndb, r)
}
