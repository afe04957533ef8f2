package faulty

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// insertReplaced gives an insert up for another.
type insertReplaced struct{ db.NodeDB }

func (d *insertReplaced) StartMultipart(ctx context.Context, version uint64) error {
	err := d.NodeDB.StartMultipart(ctx, version)
	if !errors.Is(err, db.ErrMultipartInProgress) {
		return err
	}
	if err := d.AbortMultipart(ctx); err != nil {
		return err
	}
	return d.NodeDB.StartMultipart(ctx, version)
}

// tagLost keeps the first bytes of a tag.
func tagLost(ndb db.NodeDB) db.NodeDB {
	return &insert{ndb, func(m *db.Multipart) {
		for i := range m.Roots {
			m.Roots[i].Tag = m.Roots[i].Tag[:min(len(m.Roots[i].Tag), 255)]
		}
	}}
}

// rootRetold takes a root that is told of again, as something else, without a word.
type rootRetold struct{ db.NodeDB }

func (d *rootRetold) AddMultipartRoot(ctx context.Context, root node.Root, chunks uint64, tag []byte) error {
	if err := d.NodeDB.AddMultipartRoot(ctx, root, chunks, tag); !errors.Is(err, db.ErrMultipartInProgress) {
		return err
	}
	return nil
}

// chunksInOrder takes chunks only in their order.
type chunksInOrder struct{ db.NodeDB }

func (d *chunksInOrder) NewChunk(ctx context.Context, root node.Root, index uint64) (db.ChunkWriter, error) {
	m, err := d.Multipart(ctx)
	if err != nil {
		return nil, err
	}
	if m != nil {
		for _, r := range m.Roots {
			if r.Root == root && index != uint64(len(r.Done)) {
				return nil, fmt.Errorf("chunk %d after %d", index, len(r.Done))
			}
		}
	}
	return d.NodeDB.NewChunk(ctx, root, index)
}

// chunkOnce refuses a chunk that is done.
type chunkOnce struct{ db.NodeDB }

func (d *chunkOnce) NewChunk(ctx context.Context, root node.Root, index uint64) (db.ChunkWriter, error) {
	m, err := d.Multipart(ctx)
	if err != nil {
		return nil, err
	}
	if m != nil {
		for _, r := range m.Roots {
			if r.Root == root && slices.Contains(r.Done, index) {
				return nil, fmt.Errorf("chunk %d is there already", index)
			}
		}
	}
	return d.NodeDB.NewChunk(ctx, root, index)
}

// writing is a writer that tells when it ends.
type writing struct {
	db.ChunkWriter
	once  sync.Once
	ended func()
}

func (w *writing) Commit(ctx context.Context, sync bool) error {
	defer w.once.Do(w.ended)
	return w.ChunkWriter.Commit(ctx, sync)
}

func (w *writing) Abort(ctx context.Context) error {
	defer w.once.Do(w.ended)
	return w.ChunkWriter.Abort(ctx)
}

// oneChunkAtATime has one writer.
type oneChunkAtATime struct {
	db.NodeDB
	mu   sync.Mutex
	busy bool
}

func (d *oneChunkAtATime) NewChunk(ctx context.Context, root node.Root, index uint64) (db.ChunkWriter, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.busy {
		return nil, errors.New("another chunk is being written")
	}
	w, err := d.NodeDB.NewChunk(ctx, root, index)
	if err != nil {
		return nil, err
	}
	d.busy = true
	return &writing{ChunkWriter: w, ended: func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.busy = false
	}}, nil
}

// chunkUnchecked takes whatever a chunk holds.
type chunkUnchecked struct{ db.ChunkWriter }

func (w *chunkUnchecked) Put(ctx context.Context, position node.Position, record []byte, whole bool) error {
	if err := w.ChunkWriter.Put(ctx, position, record, whole); !errors.Is(err, db.ErrMalformed) {
		return err
	}
	return nil
}

func (w *chunkUnchecked) Commit(ctx context.Context, sync bool) error {
	if err := w.ChunkWriter.Commit(ctx, sync); !errors.Is(err, db.ErrMalformed) {
		return err
	}
	return nil
}

// markForgotten loses the mark of a chunk: one, the last.
func markForgotten(ndb db.NodeDB) db.NodeDB {
	return &insert{ndb, func(m *db.Multipart) {
		for i := range m.Roots {
			done := m.Roots[i].Done
			m.Roots[i].Done = done[:max(len(done)-1, 0)]
		}
	}}
}

// markBefore marks a chunk when it begins, before its nodes are there.
type markBefore struct {
	insert
	mu    sync.Mutex
	begun map[node.Root][]uint64
}

func newMarkBefore(ndb db.NodeDB) db.NodeDB {
	d := &markBefore{begun: make(map[node.Root][]uint64)}
	d.insert = insert{ndb, func(m *db.Multipart) {
		d.mu.Lock()
		defer d.mu.Unlock()
		for i := range m.Roots {
			r := &m.Roots[i]
			r.Done = append(slices.Clone(r.Done), d.begun[r.Root]...)
			slices.Sort(r.Done)
			r.Done = slices.Compact(r.Done)
		}
	}}
	return d
}

func (d *markBefore) NewChunk(ctx context.Context, root node.Root, index uint64) (db.ChunkWriter, error) {
	w, err := d.NodeDB.NewChunk(ctx, root, index)
	if err == nil {
		d.mu.Lock()
		d.begun[root] = append(d.begun[root], index)
		d.mu.Unlock()
	}
	return w, err
}

// markInterrupted marks a chunk whose Commit is interrupted, for which it waits, until it has told of one.
type markInterrupted struct {
	insert
	mu     sync.Mutex
	root   node.Root
	marked []uint64 // chunks of root whose Commit was interrupted
	told   bool
}

type markInterruptedChunk struct {
	db.ChunkWriter
	d     *markInterrupted
	root  node.Root
	index uint64
}

func newMarkInterrupted(ndb db.NodeDB) db.NodeDB {
	d := &markInterrupted{}
	d.insert = insert{ndb, func(m *db.Multipart) {
		d.mu.Lock()
		defer d.mu.Unlock()
		for i := range m.Roots {
			if r := &m.Roots[i]; r.Root == d.root && len(d.marked) > 0 {
				d.told = true
				r.Done = append(slices.Clone(r.Done), d.marked...)
				slices.Sort(r.Done)
				r.Done = slices.Compact(r.Done)
			}
		}
	}}
	return d
}

func (d *markInterrupted) NewChunk(ctx context.Context, root node.Root, index uint64) (db.ChunkWriter, error) {
	w, err := d.NodeDB.NewChunk(ctx, root, index)
	if err != nil {
		return nil, err
	}
	return &markInterruptedChunk{w, d, root, index}, nil
}

func (w *markInterruptedChunk) Commit(ctx context.Context, sync bool) error {
	w.d.mu.Lock()
	told := w.d.told
	w.d.mu.Unlock()
	if told {
		return w.ChunkWriter.Commit(ctx, sync)
	}
	if err := interruptible(ctx, onlyOne); err != nil {
		w.d.mu.Lock()
		defer w.d.mu.Unlock()
		w.d.root, w.d.marked = w.root, append(w.d.marked, w.index)
		return err
	}
	return w.ChunkWriter.Commit(ctx, sync)
}

// completeUnchecked finds every root whole.
type completeUnchecked struct{ db.NodeDB }

func (d *completeUnchecked) CompleteRoot(ctx context.Context, root node.Root) error {
	if err := d.NodeDB.CompleteRoot(ctx, root); !errors.Is(err, db.ErrNotComplete) {
		return err
	}
	return nil
}

// completeByMarks counts the marks, and does not look whether the nodes are there.
type completeByMarks struct{ db.NodeDB }

func (d *completeByMarks) CompleteRoot(ctx context.Context, root node.Root) error {
	err := d.NodeDB.CompleteRoot(ctx, root)
	if !errors.Is(err, db.ErrNotComplete) {
		return err
	}
	m, multipartErr := d.Multipart(ctx)
	if multipartErr != nil || m == nil {
		return errors.Join(err, multipartErr)
	}
	for _, r := range m.Roots {
		if r.Root == root && uint64(len(r.Done)) == r.Chunks {
			return nil
		}
	}
	return err
}

// overlapUnseen does not compare what chunks claim.
type overlapUnseen struct{ db.NodeDB }

func (d *overlapUnseen) CompleteRoot(ctx context.Context, root node.Root) error {
	if err := d.NodeDB.CompleteRoot(ctx, root); !errors.Is(err, db.ErrChunksOverlap) {
		return err
	}
	return nil
}

// completeVisible has a root in its index when it is complete.
type completeVisible struct {
	db.NodeDB
	complete roots
}

func (d *completeVisible) CompleteRoot(ctx context.Context, root node.Root) error {
	err := d.NodeDB.CompleteRoot(ctx, root)
	if err == nil {
		d.complete.add(root)
	}
	return err
}

func (d *completeVisible) HasRoot(ctx context.Context, root node.Root) (bool, error) {
	has, err := d.NodeDB.HasRoot(ctx, root)
	return has || err == nil && d.complete.has(root), err
}

// finalizesComplete leaves out the roots that are not complete.
type finalizesComplete struct{ db.NodeDB }

func (d *finalizesComplete) Finalize(ctx context.Context, all []node.Root) error {
	m, err := d.Multipart(ctx)
	if err != nil {
		return err
	}
	if m != nil {
		complete := make(map[node.Root]bool)
		for _, r := range m.Roots {
			complete[r.Root] = r.Complete
		}
		left := slices.DeleteFunc(slices.Clone(all), func(root node.Root) bool { return !complete[root] })
		if len(left) > 0 {
			all = left
		}
	}
	return d.NodeDB.Finalize(ctx, all)
}

// restoredElsewhere has no batches on top of what was restored: nobody has written down where its nodes are.
type restoredElsewhere struct {
	db.NodeDB
	mu       sync.Mutex
	restored map[uint64]bool
}

func (d *restoredElsewhere) Finalize(ctx context.Context, all []node.Root) error {
	m, err := d.Multipart(ctx)
	if err != nil {
		return err
	}
	if err = d.NodeDB.Finalize(ctx, all); err == nil && m != nil {
		d.mu.Lock()
		d.restored[m.Version] = true
		d.mu.Unlock()
	}
	return err
}

func (d *restoredElsewhere) NewBatch(ctx context.Context, oldRoot node.Root, version uint64) (db.Batch, error) {
	d.mu.Lock()
	restored := d.restored[oldRoot.Version]
	d.mu.Unlock()
	if restored && !oldRoot.IsEmpty() {
		return nil, fmt.Errorf("%w: %s is no candidate of its version", db.ErrRootMustFollowOld, oldRoot)
	}
	return d.NodeDB.NewBatch(ctx, oldRoot, version)
}

// abortRootAll aborts the whole insert with one root.
type abortRootAll struct{ db.NodeDB }

func (d *abortRootAll) AbortRoot(ctx context.Context, _ node.Root) error {
	return d.AbortMultipart(ctx)
}

// abortRootKeepsMarks takes a root away, and finds its marks again when it is told of again.
type abortRootKeepsMarks struct {
	insert
	mu   sync.Mutex
	kept map[node.Root][]uint64
}

func newAbortRootKeepsMarks(ndb db.NodeDB) db.NodeDB {
	d := &abortRootKeepsMarks{kept: make(map[node.Root][]uint64)}
	d.insert = insert{ndb, func(m *db.Multipart) {
		d.mu.Lock()
		defer d.mu.Unlock()
		for i := range m.Roots {
			if r := &m.Roots[i]; len(r.Done) < len(d.kept[r.Root]) {
				r.Done = slices.Clone(d.kept[r.Root])
			}
		}
	}}
	return d
}

func (d *abortRootKeepsMarks) AbortRoot(ctx context.Context, root node.Root) error {
	m, err := d.NodeDB.Multipart(ctx)
	if err != nil {
		return err
	}
	if m != nil {
		d.mu.Lock()
		for _, r := range m.Roots {
			if r.Root == root {
				d.kept[root] = slices.Clone(r.Done)
			}
		}
		d.mu.Unlock()
	}
	return d.NodeDB.AbortRoot(ctx, root)
}

// abortForgets lets the writers of an insert that was aborted go on as if nothing were.
type abortForgets struct{ db.ChunkWriter }

func (w *abortForgets) Put(ctx context.Context, position node.Position, record []byte, whole bool) error {
	if err := w.ChunkWriter.Put(ctx, position, record, whole); !errors.Is(err, db.ErrNoMultipart) {
		return err
	}
	return nil
}

func (w *abortForgets) Commit(ctx context.Context, sync bool) error {
	if err := w.ChunkWriter.Commit(ctx, sync); !errors.Is(err, db.ErrNoMultipart) {
		return err
	}
	return nil
}

// abortKeepsInsert aborts the roots, and leaves the insert open.
type abortKeepsInsert struct{ db.NodeDB }

func (d *abortKeepsInsert) AbortMultipart(ctx context.Context) error {
	m, err := d.Multipart(ctx)
	if err != nil || m == nil {
		return err
	}
	for _, r := range m.Roots {
		if err := d.AbortRoot(ctx, r.Root); err != nil {
			return err
		}
	}
	return nil
}

// chunkContextIgnored has writers of chunks that can't be interrupted.
type chunkContextIgnored struct{ db.ChunkWriter }

func (w *chunkContextIgnored) Put(ctx context.Context, position node.Position, record []byte, whole bool) error {
	return w.ChunkWriter.Put(context.WithoutCancel(ctx), position, record, whole)
}

func (w *chunkContextIgnored) Commit(ctx context.Context, sync bool) error {
	return w.ChunkWriter.Commit(context.WithoutCancel(ctx), sync)
}

// chunkOutlives is a writer of a chunk to whom it is all the same whether the database is open.
type chunkOutlives struct{ db.ChunkWriter }

func (w *chunkOutlives) Put(ctx context.Context, position node.Position, record []byte, whole bool) error {
	if err := w.ChunkWriter.Put(ctx, position, record, whole); !errors.Is(err, db.ErrClosed) {
		return err
	}
	return nil
}

// chunkOfAnyRoot writes chunks of roots that nobody told of, to nowhere.
type chunkOfAnyRoot struct{ db.NodeDB }

type chunkOfNoRoot struct{ address node.Address }

func (d *chunkOfAnyRoot) NewChunk(ctx context.Context, root node.Root, index uint64) (db.ChunkWriter, error) {
	w, err := d.NodeDB.NewChunk(ctx, root, index)
	if errors.Is(err, db.ErrNoMultipart) {
		return &chunkOfNoRoot{node.Address{Version: root.Version}}, nil
	}
	return w, err
}

func (w *chunkOfNoRoot) Address() node.Address                                  { return w.address }
func (w *chunkOfNoRoot) Put(context.Context, node.Position, []byte, bool) error { return nil }
func (w *chunkOfNoRoot) Commit(context.Context, bool) error                     { return nil }
func (w *chunkOfNoRoot) Abort(context.Context) error                            { return nil }

// insertHidden does not tell of an insert any more when its roots are complete.
type insertHidden struct{ db.NodeDB }

func (d *insertHidden) Multipart(ctx context.Context) (*db.Multipart, error) {
	m, err := d.NodeDB.Multipart(ctx)
	if m == nil || len(m.Roots) == 0 {
		return m, err
	}
	for _, r := range m.Roots {
		if !r.Complete {
			return m, err
		}
	}
	return nil, err
}

// chunkLate begins a chunk, as far as the insert knows, when it is committed: whatever was aborted and
// begun again in between.
type chunkLate struct{ db.NodeDB }

type lateChunk struct {
	db.ChunkWriter
	d     db.NodeDB
	root  node.Root
	index uint64
	put   []lateEntry
}

type lateEntry struct {
	position, record []byte
	whole            bool
}

func (d *chunkLate) NewChunk(ctx context.Context, root node.Root, index uint64) (db.ChunkWriter, error) {
	w, err := d.NodeDB.NewChunk(ctx, root, index)
	if err != nil {
		return nil, err
	}
	return &lateChunk{ChunkWriter: w, d: d.NodeDB, root: root, index: index}, w.Abort(ctx)
}

func (w *lateChunk) Put(_ context.Context, position node.Position, record []byte, whole bool) error {
	w.put = append(w.put, lateEntry{slices.Clone(position), slices.Clone(record), whole})
	return nil
}

func (w *lateChunk) Commit(ctx context.Context, sync bool) error {
	now, err := w.d.NewChunk(ctx, w.root, w.index)
	if err != nil {
		return err
	}
	for _, e := range w.put {
		if err := now.Put(ctx, e.position, e.record, e.whole); err != nil {
			return errors.Join(err, now.Abort(ctx))
		}
	}
	return now.Commit(ctx, sync)
}

// startAgainRefused refuses to open an insert that is open.
type startAgainRefused struct{ db.NodeDB }

func (d *startAgainRefused) StartMultipart(ctx context.Context, version uint64) error {
	if m, err := d.Multipart(ctx); err != nil || m != nil {
		return errors.Join(err, db.ErrMultipartInProgress)
	}
	return d.NodeDB.StartMultipart(ctx, version)
}

// rootAgainRefused refuses a root that it was told of.
type rootAgainRefused struct{ db.NodeDB }

func (d *rootAgainRefused) AddMultipartRoot(ctx context.Context, root node.Root, chunks uint64, tag []byte) error {
	m, err := d.Multipart(ctx)
	if err != nil {
		return err
	}
	if m != nil {
		for _, r := range m.Roots {
			if r.Root == root {
				return db.ErrMultipartInProgress
			}
		}
	}
	return d.NodeDB.AddMultipartRoot(ctx, root, chunks, tag)
}

// insertAnywhere opens an insert of a version that is not above the latest, or says so.
type insertAnywhere struct{ db.NodeDB }

func (d *insertAnywhere) StartMultipart(ctx context.Context, version uint64) error {
	if err := d.NodeDB.StartMultipart(ctx, version); !errors.Is(err, db.ErrInvalidMultipartVersion) {
		return err
	}
	return nil
}

// sameChunkRefused refuses a chunk that another writer has begun.
type sameChunkRefused struct {
	db.NodeDB
	mu   sync.Mutex
	busy map[uint64]bool
}

func (d *sameChunkRefused) NewChunk(ctx context.Context, root node.Root, index uint64) (db.ChunkWriter, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.busy[index] {
		return nil, fmt.Errorf("chunk %d is being written", index)
	}
	w, err := d.NodeDB.NewChunk(ctx, root, index)
	if err != nil {
		return nil, err
	}
	d.busy[index] = true
	return &writing{ChunkWriter: w, ended: func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.busy, index)
	}}, nil
}

// insertUntold does not tell of an insert before all its roots are complete.
type insertUntold struct{ db.NodeDB }

func (d *insertUntold) Multipart(ctx context.Context) (*db.Multipart, error) {
	m, err := d.NodeDB.Multipart(ctx)
	if m == nil || err != nil {
		return nil, err
	}
	for _, r := range m.Roots {
		if !r.Complete {
			return nil, nil
		}
	}
	return m, nil
}

// insertInvented tells of an insert without roots where none is open.
type insertInvented struct{ db.NodeDB }

func (d *insertInvented) Multipart(ctx context.Context) (*db.Multipart, error) {
	m, err := d.NodeDB.Multipart(ctx)
	if m == nil && err == nil {
		m = &db.Multipart{}
	}
	return m, err
}

// markWide marks, with a chunk, the one behind it.
func markWide(ndb db.NodeDB) db.NodeDB {
	return &insert{ndb, func(m *db.Multipart) {
		for i := range m.Roots {
			r := &m.Roots[i]
			wide := make([]uint64, 0, 2*len(r.Done))
			for _, index := range r.Done {
				wide = append(wide, index, index+1)
			}
			slices.Sort(wide)
			r.Done = slices.Compact(wide)
		}
	}}
}

// commitsAlone refuses chunks while one is being committed. Until it has refused one, a Commit takes a while: until
// another comes to be refused, if one does.
type commitsAlone struct {
	db.NodeDB
	mu sync.Mutex
	// refused is closed when a chunk is refused; nil while none is being committed.
	refused chan struct{}
	// any says that one was.
	any bool
}

type commitAlone struct {
	db.ChunkWriter
	d *commitsAlone
}

// committing is how long a Commit of commitsAlone takes at most, as long as none was refused.
const committing = 5 * time.Second

var errCommitting = errors.New("a chunk is being committed")

func (d *commitsAlone) NewChunk(ctx context.Context, root node.Root, index uint64) (db.ChunkWriter, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.refused != nil {
		d.refuse()
		return nil, errCommitting
	}
	w, err := d.NodeDB.NewChunk(ctx, root, index)
	if err != nil {
		return nil, err
	}
	return &commitAlone{w, d}, nil
}

// refuse tells who commits that somebody was refused, under mu.
func (d *commitsAlone) refuse() {
	d.any = true
	select {
	case <-d.refused:
	default:
		close(d.refused)
	}
}

func (w *commitAlone) Commit(ctx context.Context, sync bool) error {
	w.d.mu.Lock()
	if w.d.refused != nil {
		w.d.refuse()
		w.d.mu.Unlock()
		return errCommitting
	}
	refused := make(chan struct{})
	w.d.refused = refused
	any := w.d.any
	w.d.mu.Unlock()
	if !any {
		timer := time.NewTimer(committing)
		defer timer.Stop()
		select {
		case <-refused:
		case <-timer.C:
		}
	}
	err := w.ChunkWriter.Commit(ctx, sync)
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	w.d.refused = nil
	return err
}
