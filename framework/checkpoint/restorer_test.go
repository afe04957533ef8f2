package checkpoint

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hashicorp/go-hclog"

	"github.com/ckpt-project/ckpt/conformance/vectors"
	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

func TestRestorerErrors(t *testing.T) {
	ctx := t.Context()
	m := sourceOf(t, dataSet("uniform", 100), 1024, 0)
	to := openDB(t)
	r := newRestorer(t, to)

	if _, err := r.RestoreChunk(ctx, 0, bytes.NewReader(nil)); !errors.Is(err, ErrNoRestoreInProgress) {
		t.Errorf("chunk without a restore: %v", err)
	}
	if err := r.AbortRestore(ctx); err != nil {
		t.Errorf("abort without a restore: %v", err)
	}
	if cp := r.GetCurrentCheckpoint(); cp != nil {
		t.Errorf("current checkpoint without a restore: %v", cp)
	}
	if p := r.(Progress).PendingChunks(); p != nil {
		t.Errorf("pending chunks without a restore: %v", p)
	}

	for name, c := range map[string]struct {
		change func(*Metadata)
		want   error
	}{
		"namespace": {func(m *Metadata) { m.Root.Namespace = common.Namespace{} }, db.ErrBadNamespace},
		"version":   {func(m *Metadata) { m.Version = 2 }, ErrMalformedMetadata},
		"root type": {func(m *Metadata) { m.Root.Type = 3 }, ErrMalformedMetadata},
		"chunks":    {func(m *Metadata) { m.Chunks = nil }, ErrMalformedMetadata},
		"empty":     {func(m *Metadata) { m.Root.Hash = hash.EmptyHash }, ErrMalformedMetadata},
	} {
		bad := m.clone()
		c.change(bad)
		if err := r.StartRestore(ctx, bad); !errors.Is(err, c.want) {
			t.Errorf("start with another %s: %v", name, err)
		}
	}
	if err := r.StartRestore(ctx, nil); !errors.Is(err, ErrMalformedMetadata) {
		t.Errorf("start with nothing: %v", err)
	}
	nothingVisible(t, to, m.Root)

	if err := r.StartRestore(ctx, m.Metadata); err != nil {
		t.Fatal(err)
	}
	if err := r.StartRestore(ctx, m.Metadata); !errors.Is(err, ErrRestoreAlreadyInProgress) {
		t.Errorf("second start: %v", err)
	}
	current := r.GetCurrentCheckpoint()
	if current.EncodedHash() != m.EncodedHash() {
		t.Errorf("current checkpoint: %+v", current)
	}
	current.Chunks[0] = hash.EmptyHash
	if r.GetCurrentCheckpoint().EncodedHash() != m.EncodedHash() {
		t.Error("a change to what GetCurrentCheckpoint returned changes the restore")
	}
	if _, err := r.RestoreChunk(ctx, uint64(len(m.Chunks)), bytes.NewReader(nil)); !errors.Is(err, ErrChunkNotFound) {
		t.Errorf("chunk beyond the last: %v", err)
	}
	if done, err := r.RestoreChunk(ctx, 3, bytes.NewReader(m.chunk(t, 3))); done || err != nil {
		t.Fatalf("%v, %v", done, err)
	}
	if _, err := r.RestoreChunk(ctx, 3, bytes.NewReader(m.chunk(t, 3))); !errors.Is(err, ErrChunkAlreadyRestored) {
		t.Errorf("chunk again: %v", err)
	}
	if p := r.(Progress).PendingChunks(); len(p) != len(m.Chunks)-1 || slices.Contains(p, 3) || !slices.IsSorted(p) {
		t.Errorf("pending chunks %v", p)
	}
	if err := r.AbortRestore(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := r.RestoreChunk(ctx, 0, bytes.NewReader(m.chunk(t, 0))); !errors.Is(err, ErrNoRestoreInProgress) {
		t.Errorf("chunk after the abort: %v", err)
	}
	nothingVisible(t, to, m.Root)
	restore(t, r, m) // and once more, from the beginning
}

// TestChunkFailuresThatPass checks what leaves a restore going.
func TestChunkFailuresThatPass(t *testing.T) {
	ctx := t.Context()
	m := sourceOf(t, dataSet("uniform", 100), 1024, 0)
	r := newRestorer(t, openDB(t))
	if err := r.StartRestore(ctx, m.Metadata); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(len(m.Chunks)) {
		good := m.chunk(t, i)
		flipped := bytes.Clone(good)
		flipped[int(i*37)%len(flipped)] ^= 1
		for name, bad := range map[string][]byte{
			"nothing": nil, "flipped": flipped, "cut": good[:len(good)-1], "longer": append(bytes.Clone(good), 0),
			"another": m.chunk(t, (i+1)%uint64(len(m.Chunks))),
		} {
			if done, err := r.RestoreChunk(ctx, i, bytes.NewReader(bad)); done || !errors.Is(err, ErrChunkCorrupted) {
				t.Errorf("chunk %d, %s: %v, %v", i, name, done, err)
			}
		}
		broken := io.MultiReader(bytes.NewReader(good[:len(good)/2]), iotest.ErrReader(errTest))
		if done, err := r.RestoreChunk(ctx, i, broken); done || !errors.Is(err, errTest) || errors.Is(err, ErrChunkCorrupted) {
			t.Errorf("chunk %d, read error: %v, %v", i, done, err)
		}
		cancelled, cancel := context.WithCancel(ctx)
		cancel()
		if done, err := r.RestoreChunk(cancelled, i, bytes.NewReader(good)); done || !errors.Is(err, context.Canceled) {
			t.Errorf("chunk %d, cancelled: %v, %v", i, done, err)
		}
		if _, err := r.RestoreChunk(ctx, i, bytes.NewReader(good)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLimits(t *testing.T) {
	m := sourceOf(t, dataSet("uniform", 100), 1<<20, 0)
	for name, limits := range map[string]Limits{
		"ChunkBytes": {ChunkBytes: 100},
		"RawBytes":   {RawBytes: 1000},
		"Entries":    {Entries: 10},
		"KeyBytes":   {KeyBytes: 31},
		"ValueBytes": {ValueBytes: 100},
	} {
		t.Run(name, func(t *testing.T) {
			to := openDB(t)
			r := newRestorer(t, to, WithLimits(limits))
			if err := r.StartRestore(t.Context(), m.Metadata); err != nil {
				t.Fatal(err)
			}
			_, err := r.RestoreChunk(t.Context(), 0, bytes.NewReader(m.chunk(t, 0)))
			if !errors.Is(err, ErrLimitExceeded) || errors.Is(err, ErrChunkProofVerificationFailed) || !strings.Contains(err.Error(), name) {
				t.Errorf("%v", err)
			}
			if r.GetCurrentCheckpoint() == nil {
				t.Error("the restore has ended")
			}
			if _, err := Verify(t.Context(), m.path, VerifyLimits(limits)); !errors.Is(err, ErrLimitExceeded) || !strings.Contains(err.Error(), name) {
				t.Errorf("verification: %v", err)
			}
		})
	}
}

// rawChunk makes a chunk of entries, however wrong they are.
func rawChunk(t testing.TB, entries ...[]byte) []byte {
	t.Helper()
	segment := &segment{}
	for _, e := range entries {
		if e == nil {
			segment.data = append(segment.data, cborNull)
		} else {
			segment.data = append(appendBytesHead(segment.data, len(e)), e...)
		}
		segment.ends = append(segment.ends, len(segment.data))
	}
	return packed(t, segment)
}

func packed(t testing.TB, s *segment) []byte {
	t.Helper()
	in := make(chan *segment, 1)
	in <- s
	close(in)
	var b bytes.Buffer
	if _, err := compress(&b, in); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// splitChunk takes a chunk's entries apart.
func splitChunk(t testing.TB, chunk []byte) (entries [][]byte) {
	t.Helper()
	raw, err := decompress(nil, chunk, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	for len(raw) > 0 {
		if raw[0] == cborNull {
			entries, raw = append(entries, nil), raw[1:]
			continue
		}
		n, head, err := bytesHead(raw)
		if err != nil {
			t.Fatal(err)
		}
		entries, raw = append(entries, raw[head:head+int(n)]), raw[head+int(n):]
	}
	return entries
}

func hashEntry(h hash.Hash) []byte { return append([]byte{entryLeftOut}, h[:]...) }

// TestBadProofs checks that chunks that are wrong under a right digest end the restore, leave nothing,
// and are refused by Verify, too.
func TestBadProofs(t *testing.T) {
	pairs := dataSet("prefixes", 300)
	other := sourceOf(t, dataSet("uniform", 50), 1<<20, 0)
	finer := sourceOf(t, pairs, 0, 0)
	whole := sourceOf(t, pairs, 4096, 0)
	const at = 1
	good := whole.chunk(t, at)
	entries := splitChunk(t, good)
	replaced := func(i int, e []byte) []byte {
		c := slices.Clone(entries)
		c[i] = e
		return rawChunk(t, c...)
	}
	lastLeaf := slices.IndexFunc(entries, func(e []byte) bool { return len(e) > 1 && e[0] == entryIncluded && e[1] == node.PrefixLeafNode })
	if lastLeaf < 0 {
		t.Fatal("no leaf in the chunk")
	}
	raw, err := decompress(nil, good, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	badSum := bytes.Clone(good)
	badSum[len(streamIdentifier)+frameHeadBytes] ^= 1
	// A chunk of the finer layout that lies within the chunk replaced: valid, and not all of it.
	part := finer.chunk(t, uint64(len(finer.Chunks)/2))

	type badProof struct {
		chunk      []byte
		incomplete bool
	}
	for name, c := range map[string]badProof{
		"no bytes":               {chunk: []byte{}},
		"not snappy":             {chunk: raw},
		"cut short":              {chunk: good[:len(good)-1]},
		"wrong checksum":         {chunk: badSum},
		"padding":                {chunk: append(bytes.Clone(good), 0xfe, 1, 0, 0, 0, 0, 0, 0)},
		"second stream":          {chunk: append(bytes.Clone(good), streamIdentifier...)},
		"no entries":             {chunk: rawChunk(t)},
		"proof of nothing":       {chunk: rawChunk(t, hashEntry(whole.Root.Hash))},
		"empty tree":             {chunk: rawChunk(t, nil)},
		"surplus entry":          {chunk: rawChunk(t, append(slices.Clone(entries), nil)...)},
		"surplus hash":           {chunk: rawChunk(t, append(slices.Clone(entries), hashEntry(whole.Root.Hash))...)},
		"entry missing":          {chunk: rawChunk(t, entries[:len(entries)-1]...)},
		"empty entry":            {chunk: replaced(lastLeaf, []byte{})},
		"hash of nothing":        {chunk: replaced(lastLeaf, hashEntry(hash.EmptyHash))},
		"hash of 31 bytes":       {chunk: replaced(lastLeaf, hashEntry(hash.EmptyHash)[:32])},
		"unknown kind":           {chunk: replaced(lastLeaf, append([]byte{3}, entries[lastLeaf][1:]...))},
		"bytes after a leaf":     {chunk: replaced(lastLeaf, append(bytes.Clone(entries[lastLeaf]), 0))},
		"another value":          {chunk: replaced(lastLeaf, flipLast(entries[lastLeaf]))},
		"another tree":           {chunk: other.chunk(t, 0)},
		"no CBOR":                {chunk: packed(t, &segment{data: []byte{0xff}, ends: []int{1}})},
		"CBOR number":            {chunk: packed(t, &segment{data: []byte{0x01}, ends: []int{1}})},
		"long CBOR head":         {chunk: packed(t, &segment{data: append([]byte{0x59, 0, 33}, hashEntry(whole.Root.Hash)...), ends: []int{36}})},
		"CBOR text":              {chunk: packed(t, &segment{data: append([]byte{0x78, 33}, hashEntry(whole.Root.Hash)...), ends: []int{35}})},
		"CBOR cut short":         {chunk: packed(t, &segment{data: []byte{0x5a, 0xff, 0xff, 0xff, 0xff}, ends: []int{5}})},
		"the chunk before again": {chunk: whole.chunk(t, at-1)},
		"a part of the chunk":    {chunk: part, incomplete: true},
	} {
		t.Run(name, func(t *testing.T) {
			m := sourceOf(t, pairs, 4096, 0)
			m.replace(t, at, c.chunk)
			to := openDB(t)
			r := newRestorer(t, to)
			if err := r.StartRestore(t.Context(), m.Metadata); err != nil {
				t.Fatal(err)
			}
			var failure error
			for i := range uint64(len(m.Chunks)) {
				done, err := r.RestoreChunk(t.Context(), i, bytes.NewReader(m.chunk(t, i)))
				if done {
					t.Fatal("the restore says that it is complete")
				}
				if err != nil {
					failure = err
					break
				}
			}
			if !errors.Is(failure, ErrChunkProofVerificationFailed) {
				t.Fatalf("the restore: %v", failure)
			}
			if got := strings.Contains(failure.Error(), "checkpoint incomplete"); got != c.incomplete {
				t.Errorf("the restore: %v", failure)
			}
			if _, err := r.RestoreChunk(t.Context(), at, bytes.NewReader(good)); !errors.Is(err, ErrNoRestoreInProgress) {
				t.Errorf("the restore goes on: %v", err)
			}
			if r.GetCurrentCheckpoint() != nil {
				t.Error("there is a current checkpoint")
			}
			nothingVisible(t, to, m.Root)

			_, err := Verify(t.Context(), m.path)
			if !errors.Is(err, ErrChunkProofVerificationFailed) || strings.Contains(err.Error(), "checkpoint incomplete") != c.incomplete {
				t.Errorf("verification: %v", err)
			}
		})
	}
}

func flipLast(b []byte) []byte {
	b = bytes.Clone(b)
	b[len(b)-1] ^= 1
	return b
}

func TestRestoreEmptyTree(t *testing.T) {
	m := sourceOf(t, nil, 1024, 4)
	to := openDB(t)
	restore(t, newRestorer(t, to), m)
	finalize(t, to, m.Root)
	if got := entriesOf(t, to, m.Root); len(got) != 0 {
		t.Errorf("%d entries", len(got))
	}
}

// TestRestoreTwoTypes restores a state and an IO root of one version into one multipart insert.
func TestRestoreTwoTypes(t *testing.T) {
	ctx := t.Context()
	from := openDB(t)
	states, ios := dataSet("uniform", 200), dataSet("accounts", 90)
	state := commit(t, from, 5, node.RootTypeState, states)
	io := commit(t, from, 5, node.RootTypeIO, ios)
	finalize(t, from, state, io)
	to := openDB(t)
	r := newRestorer(t, to)
	restore(t, r, makeCheckpoint(t, from, state, 2048, 0))
	restore(t, r, makeCheckpoint(t, from, io, 1024, 3))
	if _, ok, err := to.GetLatestVersion(ctx); err != nil || ok {
		t.Errorf("a version is visible: %v, %v", ok, err)
	}
	finalize(t, to, state, io)
	if !equalPairs(entriesOf(t, to, state), states) || !equalPairs(entriesOf(t, to, io), ios) {
		t.Error("other entries")
	}
}

// TestRestoreConcurrently restores each chunk by several goroutines at once.
func TestRestoreConcurrently(t *testing.T) {
	m := sourceOf(t, dataSet("uniform", 1000), 2048, 4)
	to := openDB(t)
	r := newRestorer(t, to)
	if err := r.StartRestore(t.Context(), m.Metadata); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	restored, complete := make(map[uint64]int), 0
	var group errgroup.Group
	for worker := range 4 {
		group.Go(func() error {
			for i := range uint64(len(m.Chunks)) {
				index := i
				if worker%2 == 1 {
					index = uint64(len(m.Chunks)) - 1 - i
				}
				done, err := r.RestoreChunk(t.Context(), index, bytes.NewReader(m.chunk(t, index)))
				mu.Lock()
				switch {
				case err == nil:
					restored[index]++
				case !errors.Is(err, ErrChunkAlreadyRestored) && !errors.Is(err, ErrNoRestoreInProgress):
					t.Errorf("chunk %d: %v", index, err)
				}
				if done {
					complete++
				}
				mu.Unlock()
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(len(m.Chunks)) {
		if restored[i] != 1 {
			t.Errorf("chunk %d was restored %d times", i, restored[i])
		}
	}
	if complete != 1 {
		t.Errorf("completed %d times", complete)
	}
	finalize(t, to, m.Root)
	if !equalPairs(entriesOf(t, to, m.Root), dataSet("uniform", 1000)) {
		t.Error("other entries")
	}
}

// gate is a reader that tells when it is read from first, and then waits.
type gate struct {
	io.Reader
	reached, open chan struct{}
	once          sync.Once
}

func newGate(b []byte) *gate {
	return &gate{Reader: bytes.NewReader(b), reached: make(chan struct{}), open: make(chan struct{})}
}

func (g *gate) Read(p []byte) (int, error) {
	g.once.Do(func() { close(g.reached); <-g.open })
	return g.Reader.Read(p)
}

// TestAbortWithChunkBeingRead aborts a restore, and begins another one, while a chunk of the first is
// being read: it counts for neither.
func TestAbortWithChunkBeingRead(t *testing.T) {
	ctx := t.Context()
	first := sourceOf(t, dataSet("uniform", 100), 1024, 0)
	second := sourceOf(t, dataSet("ragged", 100), 1024, 0)
	to := openDB(t)
	r := newRestorer(t, to)
	if err := r.StartRestore(ctx, first.Metadata); err != nil {
		t.Fatal(err)
	}
	g := newGate(first.chunk(t, 0))
	outcome := make(chan error, 1)
	go func() {
		done, err := r.RestoreChunk(ctx, 0, g)
		if done {
			err = errors.Join(err, errors.New("the stale chunk completes a restore"))
		}
		outcome <- err
	}()
	receive(t, g.reached, "chunk being read")
	if err := r.AbortRestore(ctx); err != nil {
		t.Fatal(err)
	}
	nothingVisible(t, to, first.Root)
	if err := r.StartRestore(ctx, second.Metadata); err != nil {
		t.Fatal(err)
	}
	close(g.open)
	if err := receive(t, outcome, "end of the stale chunk"); !errors.Is(err, ErrNoRestoreInProgress) {
		t.Errorf("the stale chunk: %v", err)
	}
	if p := r.(Progress).PendingChunks(); len(p) != len(second.Chunks) {
		t.Errorf("%d of %d chunks are pending", len(p), len(second.Chunks))
	}
	for i := range uint64(len(second.Chunks)) {
		if _, err := r.RestoreChunk(ctx, i, bytes.NewReader(second.chunk(t, i))); err != nil {
			t.Fatal(err)
		}
	}
	finalize(t, to, second.Root)
	if !equalPairs(entriesOf(t, to, second.Root), dataSet("ragged", 100)) {
		t.Error("other entries")
	}
}

// slowDB holds chunks up when they are committed, and can fail to complete.
type slowDB struct {
	db.NodeDB
	reached, open chan struct{}
	failures      int // of CompleteRoot
}

type slowChunk struct {
	db.ChunkWriter
	d *slowDB
}

func (d *slowDB) NewChunk(ctx context.Context, root node.Root, index uint64) (db.ChunkWriter, error) {
	w, err := d.NodeDB.NewChunk(ctx, root, index)
	return &slowChunk{w, d}, err
}

func (w *slowChunk) Commit(ctx context.Context, sync bool) error {
	if w.d.open != nil {
		close(w.d.reached)
		<-w.d.open
	}
	return w.ChunkWriter.Commit(ctx, sync)
}

func (d *slowDB) CompleteRoot(ctx context.Context, root node.Root) error {
	if d.failures > 0 {
		d.failures--
		return errTest
	}
	return d.NodeDB.CompleteRoot(ctx, root)
}

// TestAbortWithChunkBeingWritten checks that an abort waits for a chunk that is being written, and that
// the chunk is not taken for restored whether its commit succeeds or not.
func TestAbortWithChunkBeingWritten(t *testing.T) {
	m := sourceOf(t, dataSet("uniform", 50), 1<<20, 0) // one chunk: the last
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		to := openDB(t)
		slow := &slowDB{NodeDB: to, reached: make(chan struct{}), open: make(chan struct{})}
		r := newRestorer(t, slow)
		if err := r.StartRestore(ctx, m.Metadata); err != nil {
			t.Fatal(err)
		}
		chunk := make(chan error, 1)
		go func() {
			done, err := r.RestoreChunk(ctx, 0, bytes.NewReader(m.chunk(t, 0)))
			if done {
				err = errors.Join(err, errors.New("the restore is complete"))
			}
			chunk <- err
		}()
		receive(t, slow.reached, "chunk being written")
		short, cancel := context.WithCancel(ctx)
		cancel()
		if err := r.AbortRestore(short); !errors.Is(err, context.Canceled) {
			t.Errorf("the abort did not wait: %v", err)
		}
		if err := r.StartRestore(short, m.Metadata); !errors.Is(err, context.Canceled) {
			t.Errorf("a start before the abort's end: %v", err)
		}
		abort := make(chan error, 1)
		go func() { abort <- r.AbortRestore(ctx) }()
		synctest.Wait()
		select {
		case err := <-abort:
			t.Errorf("the abort did not wait: %v", err)
			abort <- err
		default:
		}
		close(slow.open)
		if err := receive(t, chunk, "end of the chunk"); !errors.Is(err, ErrNoRestoreInProgress) {
			t.Errorf("the chunk: %v", err)
		}
		if err := receive(t, abort, "end of the abort"); err != nil {
			t.Errorf("the abort: %v", err)
		}
		nothingVisible(t, to, m.Root)
	})
}

// TestCompletionFailing checks that a restore whose last step fails for another reason goes on.
func TestCompletionFailing(t *testing.T) {
	m := sourceOf(t, dataSet("uniform", 100), 4096, 0)
	to := openDB(t)
	r := newRestorer(t, &slowDB{NodeDB: to, failures: 1})
	if err := r.StartRestore(t.Context(), m.Metadata); err != nil {
		t.Fatal(err)
	}
	last := uint64(len(m.Chunks)) - 1
	for i := range last {
		if _, err := r.RestoreChunk(t.Context(), i, bytes.NewReader(m.chunk(t, i))); err != nil {
			t.Fatal(err)
		}
	}
	if done, err := r.RestoreChunk(t.Context(), last, bytes.NewReader(m.chunk(t, last))); done || !errors.Is(err, errTest) {
		t.Fatalf("%v, %v", done, err)
	}
	if p := r.(Progress).PendingChunks(); !slices.Equal(p, []uint64{last}) {
		t.Errorf("pending %v", p)
	}
	if done, err := r.RestoreChunk(t.Context(), last, bytes.NewReader(m.chunk(t, last))); !done || err != nil {
		t.Fatalf("%v, %v", done, err)
	}
	finalize(t, to, m.Root)
}

// TestRestoreTakenUp checks that a new restorer takes up what another one has left in the database.
func TestRestoreTakenUp(t *testing.T) {
	ctx := t.Context()
	pairs := dataSet("uniform", 100)
	m := sourceOf(t, pairs, 1024, 0)
	otherCut := sourceOf(t, pairs, 2048, 0)
	n := uint64(len(m.Chunks))
	for left := range n + 1 {
		t.Run(fmt.Sprintf("%d chunks left", left), func(t *testing.T) {
			to := openDB(t)
			r := newRestorer(t, to)
			if err := r.StartRestore(ctx, m.Metadata); err != nil {
				t.Fatal(err)
			}
			for i := range n - left {
				if _, err := r.RestoreChunk(ctx, i, bytes.NewReader(m.chunk(t, i))); err != nil {
					t.Fatal(err)
				}
			}

			r = newRestorer(t, to)
			if err := r.StartRestore(ctx, otherCut.Metadata); !errors.Is(err, ErrRestoreAlreadyInProgress) || !strings.Contains(err.Error(), m.Root.String()) {
				t.Errorf("another checkpoint of the root: %v", err)
			}
			older := m.clone()
			older.Root.Version--
			if err := r.StartRestore(ctx, older); !errors.Is(err, ErrRestoreAlreadyInProgress) || !errors.Is(err, db.ErrMultipartInProgress) {
				t.Errorf("a checkpoint of another version: %v", err)
			}
			if err := r.StartRestore(ctx, m.Metadata); err != nil {
				t.Fatal(err)
			}
			pending := r.(Progress).PendingChunks()
			if uint64(len(pending)) != left || left > 0 && pending[0] != n-left {
				t.Errorf("pending %v", pending)
			}
			if current := r.GetCurrentCheckpoint(); (current == nil) != (left == 0) {
				t.Errorf("current checkpoint %v", current)
			}
			for i, index := range pending {
				done, err := r.RestoreChunk(ctx, index, bytes.NewReader(m.chunk(t, index)))
				if err != nil || done != (i == len(pending)-1) {
					t.Fatalf("chunk %d: %v, %v", index, done, err)
				}
			}
			finalize(t, to, m.Root)
			if !equalPairs(entriesOf(t, to, m.Root), pairs) {
				t.Error("other entries")
			}
		})
	}
}

// TestRestoreAboveOlder restores into a database that has versions already, and refuses to below them.
func TestRestoreAboveOlder(t *testing.T) {
	from := openDB(t)
	pairs := dataSet("uniform", 300)
	root := commit(t, from, 9, node.RootTypeState, pairs)
	finalize(t, from, root)
	m := makeCheckpoint(t, from, root, 2048, 0)

	to := openDB(t)
	old := commit(t, to, 1, node.RootTypeState, pairs[:50])
	finalize(t, to, old)
	r := newRestorer(t, to)
	restore(t, r, m)
	finalize(t, to, root)
	if !equalPairs(entriesOf(t, to, root), pairs) || !equalPairs(entriesOf(t, to, old), pairs[:50]) {
		t.Error("other entries")
	}
	if err := r.StartRestore(t.Context(), m.Metadata); !errors.Is(err, db.ErrInvalidMultipartVersion) {
		t.Errorf("restoring a version that is there: %v", err)
	}
}

// TestDeepTree makes, verifies and restores checkpoints of trees that are one long path: keys that are
// all prefixes of the longest. (Each chunk begins with its whole path, so small chunks of such a tree
// are a burden that the format lays on everybody.)
func TestDeepTree(t *testing.T) {
	for _, c := range []struct {
		step      int
		chunkSize uint64
		threads   int
	}{{deepStep, 128 << 20, 1}, {8 * deepStep, 4 << 20 / deepStep, 1}, {8 * deepStep, 4 << 20 / deepStep, 5}} {
		t.Run(fmt.Sprintf("every %d bytes, %d threads", c.step, c.threads), func(t *testing.T) {
			key := bytes.Repeat([]byte{0xa5}, node.MaxKeyBytes)
			var pairs []vectors.Pair
			for n := 0; n <= node.MaxKeyBytes; n += c.step {
				pairs = append(pairs, vectors.Pair{Key: key[:n], Value: []byte{byte(n)}})
			}
			d := newTreeDB(t, pairs, 1, db.DefaultEmbedBytes)
			m := makeCheckpoint(t, d, d.root, c.chunkSize, c.threads)
			report, err := Verify(t.Context(), m.path)
			if err != nil {
				t.Fatal(err)
			}
			if report.Entries != uint64(len(pairs)) {
				t.Errorf("%d entries, want %d", report.Entries, len(pairs))
			}
			to := openDB(t)
			restore(t, newRestorer(t, to), m)
			finalize(t, to, m.Root)
			if again := makeCheckpoint(t, to, m.Root, c.chunkSize, c.threads); again.EncodedHash() != m.EncodedHash() {
				t.Error("another checkpoint after the restore")
			}
		})
	}
}

// TestBadProofBesideChunkBeingWritten checks that a chunk with a bad proof ends the restore for those
// that are being written at the time, and waits for them before it removes what they wrote.
func TestBadProofBesideChunkBeingWritten(t *testing.T) {
	m := sourceOf(t, dataSet("uniform", 100), 4096, 0)
	const bad = 1
	m.replace(t, bad, rawChunk(t, hashEntry(m.Root.Hash)))
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		to := openDB(t)
		slow := &slowDB{NodeDB: to, reached: make(chan struct{}), open: make(chan struct{})}
		r := newRestorer(t, slow)
		if err := r.StartRestore(ctx, m.Metadata); err != nil {
			t.Fatal(err)
		}
		written := make(chan error, 1)
		go func() {
			_, err := r.RestoreChunk(ctx, 0, bytes.NewReader(m.chunk(t, 0)))
			written <- err
		}()
		receive(t, slow.reached, "chunk being written")
		refused := make(chan error, 1)
		go func() {
			_, err := r.RestoreChunk(ctx, bad, bytes.NewReader(m.chunk(t, bad)))
			refused <- err
		}()
		synctest.Wait()
		if r.GetCurrentCheckpoint() != nil {
			t.Error("the restore goes on")
		}
		select {
		case err := <-refused:
			t.Errorf("it did not wait for the chunk being written: %v", err)
			refused <- err
		default:
		}
		close(slow.open)
		if err := receive(t, written, "end of the chunk that was being written"); !errors.Is(err, ErrNoRestoreInProgress) {
			t.Errorf("the chunk that was being written: %v", err)
		}
		if err := receive(t, refused, "end of the bad chunk"); !errors.Is(err, ErrChunkProofVerificationFailed) {
			t.Errorf("the bad chunk: %v", err)
		}
		nothingVisible(t, to, m.Root)
	})
}

// TestStartCompletes checks that a restore that has all of its chunks from before is completed when it is
// taken up, and that what keeps it from that is told there.
func TestStartCompletes(t *testing.T) {
	ctx := t.Context()
	whole := sourceOf(t, dataSet("uniform", 100), 4096, 0)
	lacking := whole
	lacking.Metadata = whole.clone()
	lacking.Chunks = lacking.Chunks[:len(lacking.Chunks)-1]
	for name, c := range map[string]struct {
		made
		want error
	}{"whole": {whole, nil}, "a chunk left out": {lacking, ErrChunkProofVerificationFailed}} {
		t.Run(name, func(t *testing.T) {
			to := openDB(t)
			r := newRestorer(t, &slowDB{NodeDB: to, failures: 1}) // it has all chunks, and then its process ends
			if err := r.StartRestore(ctx, c.Metadata); err != nil {
				t.Fatal(err)
			}
			for i := range uint64(len(c.Chunks)) {
				_, err := r.RestoreChunk(ctx, i, bytes.NewReader(c.chunk(t, i)))
				if last := i == uint64(len(c.Chunks))-1; last != errors.Is(err, errTest) {
					t.Fatalf("chunk %d: %v", i, err)
				}
			}

			r = newRestorer(t, &slowDB{NodeDB: to, failures: 1})
			if err := r.StartRestore(ctx, c.Metadata); !errors.Is(err, errTest) {
				t.Errorf("a start whose completion fails: %v", err)
			}
			if current := r.GetCurrentCheckpoint(); current != nil {
				t.Errorf("current checkpoint %v", current)
			}
			if err := r.StartRestore(ctx, c.Metadata); !errors.Is(err, c.want) {
				t.Errorf("start: %v", err)
			}
			if current := r.GetCurrentCheckpoint(); current != nil {
				t.Errorf("current checkpoint %v", current)
			}
			if _, err := r.RestoreChunk(ctx, 0, bytes.NewReader(c.chunk(t, 0))); !errors.Is(err, ErrNoRestoreInProgress) {
				t.Errorf("a chunk afterwards: %v", err)
			}
			if c.want != nil {
				nothingVisible(t, to, c.Root)
				return
			}
			if err := r.AbortRestore(ctx); err != nil { // it is finished, for good
				t.Fatal(err)
			}
			finalize(t, to, c.Root)
			if !equalPairs(entriesOf(t, to, c.Root), dataSet("uniform", 100)) {
				t.Error("other entries")
			}
		})
	}
}

// TestRootsInTheWay checks which roots of a version may be restored beside what another process has left:
// any beside complete ones, none beside one that has chunks to come.
func TestRootsInTheWay(t *testing.T) {
	ctx := t.Context()
	first := sourceOf(t, dataSet("uniform", 100), 1024, 0)
	second := sourceOf(t, dataSet("ragged", 100), 1024, 0)
	from := openDB(t)
	io := commit(t, from, 1, node.RootTypeIO, dataSet("accounts", 90))
	finalize(t, from, io)
	third := makeCheckpoint(t, from, io, 1024, 0)

	to := openDB(t)
	restore(t, newRestorer(t, to), first)
	r := newRestorer(t, to)
	if err := r.StartRestore(ctx, third.Metadata); err != nil {
		t.Fatal(err)
	}
	if _, err := r.RestoreChunk(ctx, 0, bytes.NewReader(third.chunk(t, 0))); err != nil {
		t.Fatal(err)
	}
	r = newRestorer(t, to)
	err := r.StartRestore(ctx, second.Metadata)
	if !errors.Is(err, ErrRestoreAlreadyInProgress) || !strings.Contains(err.Error(), io.String()) {
		t.Errorf("a root beside one that is not complete: %v", err)
	}
	later := second.clone()
	later.Root.Version++
	err = r.StartRestore(ctx, later)
	if !errors.Is(err, ErrRestoreAlreadyInProgress) || !strings.Contains(err.Error(), io.String()) || !strings.Contains(err.Error(), first.Root.String()) {
		t.Errorf("another version: %v", err)
	}
	if err := r.StartRestore(ctx, third.Metadata); err != nil {
		t.Fatal(err)
	}
	if err := r.AbortRestore(ctx); err != nil {
		t.Fatal(err)
	}
	mp, err := to.Multipart(ctx)
	if err != nil || mp == nil || len(mp.Roots) != 1 || mp.Roots[0].Root != first.Root || !mp.Roots[0].Complete {
		t.Fatalf("the insert after the abort: %+v, %v", mp, err)
	}
	restore(t, r, second) // of the type of the one that is complete
	restore(t, r, third)
	finalize(t, to, second.Root, io)
	if !equalPairs(entriesOf(t, to, second.Root), dataSet("ragged", 100)) || !equalPairs(entriesOf(t, to, io), dataSet("accounts", 90)) {
		t.Error("other entries")
	}
}

// TestWhenChunksAreSafe checks that no more is ever at stake than syncBytes, chunks in flight included,
// and nothing for longer than syncEvery.
func TestWhenChunksAreSafe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var syncs []time.Duration
		var fail error
		failWith := func(err error) {
			mu.Lock()
			defer mu.Unlock()
			fail = err
		}
		began := time.Now()
		m := &Metadata{Version: 1, Chunks: make([]hash.Hash, 9)}
		s := newSession(m, true, nil, func(context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			syncs = append(syncs, time.Since(began))
			return fail
		})
		check := func(what string, want ...time.Duration) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(syncs, want) {
				t.Errorf("%s: made safe after %v, want %v", what, syncs, want)
			}
			syncs = nil
		}
		const part = syncBytes * 5 / 8
		first, second := s.beginCommit(part), s.beginCommit(part)
		if first.sync || !second.sync {
			t.Errorf("side by side: %v, %v", first.sync, second.sync)
		}
		s.endCommit(first, nil) // after the other's began, which may not cover it
		s.endCommit(second, nil)
		time.Sleep(syncEvery)
		check("a chunk that no other comes after", syncEvery)
		time.Sleep(9 * syncEvery)
		check("nothing new")

		s.endCommit(s.beginCommit(part), nil)
		if c := s.beginCommit(part); !c.sync {
			t.Error("a chunk after one is not made safe")
		} else {
			s.endCommit(c, nil)
		}
		time.Sleep(9 * syncEvery)
		check("a chunk that the next one covers")

		failWith(errTest)
		late := time.Since(began)
		s.endCommit(s.beginCommit(1), nil)
		time.Sleep(2 * syncEvery)
		check("one that fails", late+syncEvery, late+2*syncEvery)
		failWith(db.ErrClosed)
		time.Sleep(9 * syncEvery)
		check("a database that is closed", late+3*syncEvery)

		failWith(nil)
		s.endCommit(s.beginCommit(1), nil)
		s.end()
		s.stopSyncing()
		time.Sleep(9 * syncEvery)
		check("an end before the time")
	})
}

// syncedDB counts what its chunks are committed with.
type syncedDB struct {
	db.NodeDB
	commits, synced, syncs atomic.Int64
	failing                atomic.Bool // Sync does
}

type syncedChunk struct {
	db.ChunkWriter
	d *syncedDB
}

func (d *syncedDB) NewChunk(ctx context.Context, root node.Root, index uint64) (db.ChunkWriter, error) {
	w, err := d.NodeDB.NewChunk(ctx, root, index)
	return &syncedChunk{w, d}, err
}

func (d *syncedDB) Sync(ctx context.Context) error {
	d.syncs.Add(1)
	if d.failing.Load() {
		return errors.New("no space")
	}
	return d.NodeDB.Sync(ctx)
}

func (w *syncedChunk) Commit(ctx context.Context, sync bool) error {
	w.d.commits.Add(1)
	if sync {
		w.d.synced.Add(1)
	}
	return w.ChunkWriter.Commit(ctx, sync)
}

// TestRestoreIsMadeSafe checks that a restorer asks its database for that: by size, and by time.
func TestRestoreIsMadeSafe(t *testing.T) {
	// Values that are as large as they can be, next to each other.
	var pairs []vectors.Pair
	for i := range byte(40) {
		pairs = append(pairs, vectors.Pair{Key: []byte{i}, Value: bytes.Repeat([]byte{i}, 1<<20)})
	}
	m := sourceOf(t, pairs, 3<<20, 0)
	synctest.Test(t, func(t *testing.T) {
		to := &syncedDB{NodeDB: openDB(t)}
		r := newRestorer(t, to)
		if err := r.StartRestore(t.Context(), m.Metadata); err != nil {
			t.Fatal(err)
		}
		for i := range uint64(len(m.Chunks)) - 1 {
			if _, err := r.RestoreChunk(t.Context(), i, bytes.NewReader(m.chunk(t, i))); err != nil {
				t.Fatal(err)
			}
		}
		if n := to.synced.Load(); n != 4 { // every third one
			t.Errorf("%d of %d chunks were made safe", n, to.commits.Load())
		}
		if n := to.syncs.Load(); n != 0 {
			t.Errorf("%d calls of Sync, and no time has passed", n)
		}
		time.Sleep(syncEvery)
		synctest.Wait()
		if n := to.syncs.Load(); n != 1 {
			t.Errorf("%d calls of Sync", n)
		}
		if err := r.AbortRestore(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// TestFailingToMakeSafe checks that a restore goes on where chunks can't be made safe, tries again each second,
// and says so once each time that it begins.
func TestFailingToMakeSafe(t *testing.T) {
	m := sourceOf(t, dataSet("uniform", 300), 1024, 0)
	synctest.Test(t, func(t *testing.T) {
		to := &syncedDB{NodeDB: openDB(t)}
		var log bytes.Buffer
		r := newRestorer(t, to, WithRestorerLogger(hclog.New(&hclog.LoggerOptions{Output: &log})))
		if err := r.StartRestore(t.Context(), m.Metadata); err != nil {
			t.Fatal(err)
		}
		for i := range uint64(2) {
			to.failing.Store(true)
			if _, err := r.RestoreChunk(t.Context(), i, bytes.NewReader(m.chunk(t, i))); err != nil {
				t.Fatal(err)
			}
			before := to.syncs.Load()
			time.Sleep(3 * syncEvery)
			synctest.Wait()
			if n := to.syncs.Load() - before; n != 3 {
				t.Errorf("%d calls of Sync", n)
			}
			if n := strings.Count(log.String(), "can't be made safe"); n != int(i)+1 || !strings.Contains(log.String(), "no space") {
				t.Errorf("told %d times: %s", n, log.String())
			}
			to.failing.Store(false)
			time.Sleep(syncEvery)
			synctest.Wait()
		}
		if err := r.AbortRestore(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}
