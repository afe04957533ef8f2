package checkpoint

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"

	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/proof"
)

// Progress is what a Restorer can tell beside. What NewRestorer returns is one.
type Progress interface {
	// PendingChunks returns the indices, ascending, of the chunks that have yet to be restored; none where
	// no restore is in progress. After StartRestore has taken up a restore, these are the ones to fetch.
	// A restore that StartRestore itself has completed has none.
	PendingChunks() []uint64
}

// RestorerOption is an option of NewRestorer.
type RestorerOption func(*restorer)

// WithLimits bounds what checkpoints may hold. Keys and values are bound by the database's limits where these
// are lower.
func WithLimits(limits Limits) RestorerOption { return func(r *restorer) { r.limits = limits } }

// WithRestorerLogger sets where messages go; by default there are none.
func WithRestorerLogger(logger hclog.Logger) RestorerOption {
	return func(r *restorer) { r.logger = logger }
}

type restorer struct {
	ndb    db.NodeDB
	limits Limits
	logger hclog.Logger

	workspaces workspaces
	// decoding holds a value for each chunk that is being decoded and given to the database. There are as many as
	// can get on at once: what more calls would hold in memory would only wait.
	decoding chan struct{}

	// operations is held (by a value in it) by whoever begins or ends a session.
	operations chan struct{}

	mu      sync.Mutex
	current *session // also one that has ended, while its nodes are still in the database
}

var (
	_ Restorer = (*restorer)(nil)
	_ Progress = (*restorer)(nil)
)

// NewRestorer returns a restorer into ndb. Its methods may be called by any number of goroutines. There
// should be one restorer a database.
func NewRestorer(ndb db.NodeDB, opts ...RestorerOption) (Restorer, error) {
	if ndb == nil {
		return nil, errors.New("checkpoint: no database to restore into")
	}
	r := &restorer{ndb: ndb, logger: hclog.NewNullLogger(), operations: make(chan struct{}, 1)}
	for _, opt := range opts {
		opt(r)
	}
	info := ndb.Info()
	r.decoding = make(chan struct{}, runtime.GOMAXPROCS(0))
	r.limits = r.limits.withDefaults()
	r.workspaces.limits = &r.limits
	if n := info.MaxKeyBytes; n > 0 {
		r.limits.KeyBytes = min(r.limits.KeyBytes, n)
	}
	if n := info.MaxValueBytes; n > 0 {
		r.limits.ValueBytes = min(r.limits.ValueBytes, n)
	}
	return r, nil
}

// hold takes the right to begin and end sessions.
func (r *restorer) hold(ctx context.Context) (release func(), err error) {
	select {
	case r.operations <- struct{}{}:
		return func() { <-r.operations }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (r *restorer) session() *session {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.current
}

func (r *restorer) setSession(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current = s
}

// drop forgets a session.
func (r *restorer) drop(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current == s {
		r.current = nil
	}
}

func (r *restorer) GetCurrentCheckpoint() *Metadata {
	s := r.session()
	if s == nil || s.isEnded() {
		return nil
	}
	return s.metadata.clone()
}

func (r *restorer) PendingChunks() []uint64 {
	s := r.session()
	if s == nil || s.isEnded() {
		return nil
	}
	return s.pending()
}

func (r *restorer) StartRestore(ctx context.Context, checkpoint *Metadata) error {
	if err := r.validate(checkpoint); err != nil {
		return err
	}
	release, err := r.hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	if s := r.session(); s != nil {
		if !s.isEnded() {
			return fmt.Errorf("%w: that of %s", ErrRestoreAlreadyInProgress, s.metadata.Root)
		}
		if err := r.clean(ctx, s); err != nil {
			return err
		}
	}

	opened, done, err := r.openInsert(ctx, checkpoint)
	if err != nil {
		return fmt.Errorf("checkpoint: starting the restore of %s: %w", checkpoint.Root, err)
	}
	s := newSession(checkpoint, opened, done, r.syncer(checkpoint))
	r.setSession(s)
	if s.whole() {
		// Nothing is left to come that could complete it.
		return r.completeAtOnce(ctx, s)
	}
	return nil
}

// syncer makes chunks safe from a loss of power, for one session, and says where that begins to fail.
func (r *restorer) syncer(m *Metadata) func(context.Context) error {
	var failing atomic.Bool
	return func(ctx context.Context) error {
		err := r.ndb.Sync(ctx)
		if err == nil {
			failing.Store(false)
		} else if ctx.Err() == nil && !errors.Is(err, db.ErrClosed) && !failing.Swap(true) {
			r.logger.Warn("chunks can't be made safe from a loss of power now; it is tried again", "root", m.Root, "err", err)
		}
		return err
	}
}

// completeAtOnce completes a restore that has all of its chunks from before. Its caller holds operations.
// Where that fails, no restore is in progress: nobody could bring it to an end.
func (r *restorer) completeAtOnce(ctx context.Context, s *session) error {
	_, err := r.complete(ctx, s)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("checkpoint: completing the restore of %s: %w", s.metadata.Root, err)
	s.end()
	if !errors.Is(err, ErrChunkProofVerificationFailed) {
		r.drop(s) // what is in the database is good; the next start goes on with it
		return err
	}
	r.logger.Error("restore ends: the checkpoint is bad", "root", s.metadata.Root, "err", err)
	if cerr := r.clean(ctx, s); cerr != nil {
		r.logger.Warn("what the restore wrote can't be removed now", "err", cerr)
	}
	return err
}

func (r *restorer) validate(m *Metadata) error {
	if m == nil {
		return fmt.Errorf("%w: there is none", ErrMalformedMetadata)
	}
	if err := m.Validate(); err != nil {
		return err
	}
	if ns := r.ndb.Info().Namespace; m.Root.Namespace != ns {
		return fmt.Errorf("checkpoint: %w: checkpoint of %s, database of %s", db.ErrBadNamespace, m.Root.Namespace, ns)
	}
	return r.limits.checkMetadata(m)
}

// openInsert makes the checkpoint's root part of the database's multipart insert, which it opens where
// there is none. It returns whether the insert is of no use without the root, and the chunks that are
// there already.
func (r *restorer) openInsert(ctx context.Context, m *Metadata) (ours bool, done []uint64, err error) {
	mp, err := r.ndb.Multipart(ctx)
	if err != nil {
		return false, nil, err
	}
	tag := restoreTag(m)
	if mp != nil {
		for _, there := range mp.Roots {
			if there.Root == m.Root && there.Chunks == uint64(len(m.Chunks)) && bytes.Equal(there.Tag, tag) {
				return true, there.Done, nil
			}
		}
		if err := inTheWay(mp, m); err != nil {
			return false, nil, err
		}
	}
	if mp == nil {
		if err := r.ndb.StartMultipart(ctx, m.Root.Version); err != nil {
			return false, nil, err
		}
	}
	if err := r.ndb.AddMultipartRoot(ctx, m.Root, uint64(len(m.Chunks)), tag); err != nil {
		return false, nil, errors.Join(err, r.undoStart(ctx, m, mp == nil))
	}
	return mp == nil, nil, nil
}

// inTheWay says why the database's multipart insert keeps a checkpoint from being restored beside what
// it holds: another version has to be finalized or aborted, a root of which chunks are missing to be
// completed or aborted. A complete root is in the way of none but itself.
func inTheWay(mp *db.Multipart, m *Metadata) error {
	if mp.Version != m.Root.Version {
		return fmt.Errorf("%w: %s has to be finalized or aborted first: %w", ErrRestoreAlreadyInProgress, describeInsert(mp), db.ErrMultipartInProgress)
	}
	for _, there := range mp.Roots {
		if !there.Complete || there.Root == m.Root {
			return fmt.Errorf("%w: %s, from another checkpoint, has to be finished or aborted first", ErrRestoreAlreadyInProgress, describeInsert(mp))
		}
	}
	return nil
}

// undoStart removes what a start that failed has left, also where it failed because its context ended:
// an insert that nobody goes on with would be in the way of every other restore.
func (r *restorer) undoStart(ctx context.Context, m *Metadata, opened bool) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	if opened {
		return r.ndb.AbortMultipart(ctx)
	}
	return r.ndb.AbortRoot(ctx, m.Root)
}

// maxTagBytes is how much of the database's small change a restore takes.
const maxTagBytes = 1 << 20

// restoreTag is what tells restores of one root apart: the metadata's encoding, or its hash where that
// is long.
func restoreTag(m *Metadata) []byte {
	b := EncodeMetadata(m)
	if len(b) > maxTagBytes {
		h := hash.Sum(b)
		return h[:]
	}
	return b
}

func (r *restorer) AbortRestore(ctx context.Context) error {
	// The restore ends here and now; that what it wrote is removed can take longer than ctx.
	if s := r.session(); s != nil {
		s.end()
	}
	release, err := r.hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	s := r.session()
	if s == nil || !s.isEnded() {
		return nil // somebody else has removed it, and perhaps begun another one
	}
	return r.clean(ctx, s)
}

// clean removes what an ended session wrote. Its caller holds operations.
func (r *restorer) clean(ctx context.Context, s *session) error {
	if !s.isComplete() {
		if err := r.removeNodes(ctx, s); err != nil {
			return fmt.Errorf("checkpoint: aborting the restore of %s: %w", s.metadata.Root, err)
		}
	}
	r.drop(s)
	return nil
}

func (r *restorer) removeNodes(ctx context.Context, s *session) error {
	if err := s.drain(ctx); err != nil {
		return err
	}
	s.stopSyncing()
	if err := r.ndb.AbortRoot(ctx, s.metadata.Root); err != nil {
		return err
	}
	if !s.opened {
		return nil
	}
	mp, err := r.ndb.Multipart(ctx)
	if err != nil || mp == nil || mp.Version != s.metadata.Root.Version || !s.onlyRoot(mp) {
		return err
	}
	return r.ndb.AbortMultipart(ctx)
}

func (r *restorer) RestoreChunk(ctx context.Context, index uint64, rd io.Reader) (bool, error) {
	s := r.session()
	if s == nil {
		return false, ErrNoRestoreInProgress
	}
	marked, err := s.enter(ctx, index)
	if err != nil {
		return false, err
	}
	done, err := r.restoreChunk(ctx, s, index, marked, rd)
	s.leave(index)
	if err == nil {
		return done, nil
	}

	err = fmt.Errorf("checkpoint: chunk %d of %s: %w", index, s.metadata.Root, err)
	if errors.Is(err, ErrChunkProofVerificationFailed) && s.end() {
		r.logger.Error("restore ends: the checkpoint is bad", "root", s.metadata.Root, "err", err)
		if cerr := r.cleanAfter(ctx, s); cerr != nil {
			// The restore has ended all the same; the next StartRestore or AbortRestore removes what is left.
			r.logger.Warn("what the restore wrote can't be removed now", "err", cerr)
		}
	}
	return false, err
}

// cleanAfter removes what a session wrote that has ended by itself.
func (r *restorer) cleanAfter(ctx context.Context, s *session) error {
	release, err := r.hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	if r.session() != s {
		return nil // somebody was faster
	}
	return r.clean(ctx, s)
}

// restoreChunk restores a chunk that the session has let it have. marked says that the database has it
// already.
func (r *restorer) restoreChunk(ctx context.Context, s *session, index uint64, marked bool, rd io.Reader) (done bool, err error) {
	outer := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.ctx, func() { cancel(ErrNoRestoreInProgress) })()
	defer func() {
		// A session that has ended is why its calls fail, whatever else they ran into.
		if err != nil && s.isEnded() && outer.Err() == nil && !errors.Is(err, ErrChunkProofVerificationFailed) {
			done, err = false, ErrNoRestoreInProgress
		}
	}()

	w, bytes, err := r.takeChunk(ctx, s, index, marked, rd)
	if err != nil {
		return false, err
	}
	defer s.endWrite()
	if w != nil {
		c := s.beginCommit(bytes)
		err := w.Commit(ctx, c.sync)
		if err != nil {
			abandon(ctx, w)
		}
		if s.endCommit(c, err); err != nil {
			return false, err
		}
	}
	last, err := s.written(index)
	if err != nil || !last {
		return false, err
	}
	return r.complete(ctx, s)
}

// takeChunk reads and verifies a chunk, and gives its nodes to the database: what is left to do is to commit
// it, for which no memory is needed. It returns how many bytes of records these are, and no writer where the
// database has the chunk already. Where it succeeds, the caller ends the write of the session that it began.
func (r *restorer) takeChunk(ctx context.Context, s *session, index uint64, marked bool, rd io.Reader) (w db.ChunkWriter, bytes int64, err error) {
	reader := r.workspaces.reader()
	defer r.workspaces.putReader(reader)
	chunk, err := reader.read(&contextReader{ctx, rd}, s.metadata.Chunks[index])
	if err != nil {
		return nil, 0, err
	}

	select {
	case r.decoding <- struct{}{}:
		defer func() { <-r.decoding }()
	case <-ctx.Done():
		return nil, 0, context.Cause(ctx)
	}
	decoder := r.workspaces.decoder()
	var tree *proof.Tree
	defer func() { r.workspaces.putDecoder(decoder, tree) }()
	if tree, err = decoder.decode(chunk, s.metadata.Root.Hash); err != nil {
		return nil, 0, err
	}
	if err := s.beginWrite(); err != nil {
		return nil, 0, err
	}
	if marked {
		return nil, 0, nil
	}
	if w, err = r.ndb.NewChunk(ctx, s.metadata.Root, index); err == nil {
		if bytes, err = putNodes(ctx, w, tree, r.ndb.Info().EmbedBytes); err != nil {
			abandon(ctx, w)
		}
	}
	if err != nil {
		s.endWrite()
		return nil, 0, err
	}
	return w, bytes, nil
}

// complete ends a restore all of whose chunks are in.
func (r *restorer) complete(ctx context.Context, s *session) (bool, error) {
	switch err := r.ndb.CompleteRoot(ctx, s.metadata.Root); {
	case errors.Is(err, db.ErrNotComplete):
		return false, fmt.Errorf("%w: %w", errIncomplete, err)
	case errors.Is(err, db.ErrChunksOverlap):
		return false, fmt.Errorf("%w: %w", ErrChunkProofVerificationFailed, err)
	case err != nil:
		return false, err
	}
	if !s.finish() {
		return false, ErrNoRestoreInProgress // aborted meanwhile
	}
	s.stopSyncing()
	r.drop(s)
	return true, nil
}
