package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// What a loss of power can cost: so many bytes of records, or what came in for so long. A crash of the
// process loses no chunk that is done either way.
const (
	syncBytes = 8 << 20
	syncEvery = time.Second
)

// chunkState is where the restoring of a chunk has come to.
type chunkState uint8

const (
	chunkPending chunkState = iota
	chunkRunning
	chunkDone
)

// session is one restore, from StartRestore to its end. A call of RestoreChunk belongs to the session
// that was going when it began, and counts for no other.
type session struct {
	metadata *Metadata
	// ctx ends when the session does; its cause says why.
	ctx    context.Context
	cancel context.CancelCauseFunc
	// opened says that the multipart insert is of no use without this restore's root.
	opened bool

	mu     sync.Mutex
	states []chunkState
	marked []bool // the database has the chunk's mark
	left   int    // chunks that are not done
	// writers counts the calls of RestoreChunk that use the database. changed is closed, and made anew,
	// when a call ends.
	writers  int
	changed  chan struct{}
	ended    bool
	complete bool // and so ended: what it wrote is the owner's now

	// sync makes all chunks that were committed safe from a loss of power.
	sync func(ctx context.Context) error
	// committed counts the bytes of records of the chunks that were committed without being made safe,
	// safe those of them that are by now, and committing those of chunks whose commit is under way.
	committed, safe, committing int64
	// syncing is the call of sync that comes syncEvery after the first chunk that is not safe; nil where
	// all are. syncs are such calls under way, for whoever ends the session to wait for.
	syncing *time.Timer
	syncs   sync.WaitGroup
}

func newSession(m *Metadata, opened bool, done []uint64, sync func(context.Context) error) *session {
	ctx, cancel := context.WithCancelCause(context.Background())
	s := &session{
		metadata: m.clone(),
		ctx:      ctx,
		cancel:   cancel,
		opened:   opened,
		states:   make([]chunkState, len(m.Chunks)),
		marked:   make([]bool, len(m.Chunks)),
		left:     len(m.Chunks),
		changed:  make(chan struct{}),
		sync:     sync,
	}
	for _, index := range done {
		if index < uint64(len(s.states)) && s.states[index] != chunkDone {
			s.states[index], s.marked[index] = chunkDone, true
			s.left--
		}
	}
	return s
}

// enter begins a call of RestoreChunk. Where another one restores the same chunk, it waits for that.
func (s *session) enter(ctx context.Context, index uint64) (marked bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if index >= uint64(len(s.states)) {
		_, err := s.metadata.GetChunkMetadata(index)
		return false, err
	}
	for {
		switch {
		case s.ended:
			return false, ErrNoRestoreInProgress
		case s.states[index] == chunkDone:
			return false, ErrChunkAlreadyRestored
		case s.states[index] == chunkPending:
			s.states[index] = chunkRunning
			return s.marked[index], nil
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		s.mu.Lock()
		if err := ctx.Err(); err != nil {
			return false, err
		}
	}
}

// written notes that the database has the chunk's mark. It says whether it is the last chunk, with all
// others done: then its caller has to complete the restore before it leaves.
func (s *session) written(index uint64) (last bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.marked[index] = true
	if s.ended {
		return false, ErrNoRestoreInProgress
	}
	if s.left > 1 {
		s.states[index] = chunkDone
		s.left--
		return false, nil
	}
	return true, nil
}

// leave ends a call of RestoreChunk. A chunk that isn't done is pending again.
func (s *session) leave(index uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.states[index] == chunkRunning {
		s.states[index] = chunkPending
	}
	s.wake()
}

// beginWrite lets a call of RestoreChunk use the database, until endWrite.
func (s *session) beginWrite() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return ErrNoRestoreInProgress
	}
	s.writers++
	return nil
}

func (s *session) endWrite() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writers--
	s.wake()
}

func (s *session) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// end makes every call of RestoreChunk fail from now on, and those that are going as soon as they can.
// It says whether this call was the first to do so.
func (s *session) end() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return false
	}
	s.ended = true
	s.cancel(ErrNoRestoreInProgress)
	s.wake()
	return true
}

// finish ends the session as complete. It returns false where it was ended before.
func (s *session) finish() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return false
	}
	s.ended, s.complete = true, true
	s.cancel(ErrNoRestoreInProgress)
	s.wake()
	return true
}

func (s *session) isComplete() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.complete
}

// drain waits until no call of RestoreChunk uses the database. One that is still reading or verifying
// its chunk is not waited for: it won't begin to write.
func (s *session) drain(ctx context.Context) error {
	for {
		s.mu.Lock()
		writers, changed := s.writers, s.changed
		s.mu.Unlock()
		if writers == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *session) isEnded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// pending returns the indices of the chunks that are not done, ascending.
func (s *session) pending() []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	indices := make([]uint64, 0, s.left)
	for i, state := range s.states {
		if state != chunkDone {
			indices = append(indices, uint64(i))
		}
	}
	return indices
}

// whole says that every chunk was done before the session began.
func (s *session) whole() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.left == 0
}

// beginCommit says whether the commit of a chunk of so many bytes is to make it safe from a loss of
// power, and with it those that were committed before. The caller calls endCommit after the commit.
func (s *session) beginCommit(bytes int64) (c chunkCommit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.committing += bytes
	return chunkCommit{bytes: bytes, before: s.committed, sync: s.committed-s.safe+s.committing >= syncBytes}
}

// chunkCommit is the commit of a chunk.
type chunkCommit struct {
	bytes  int64
	before int64 // committed when it began
	sync   bool
}

func (s *session) endCommit(c chunkCommit, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.committing -= c.bytes
	switch {
	case err != nil:
	case c.sync:
		s.madeSafe(c.before)
	default:
		s.committed += c.bytes
		s.syncLater()
	}
}

// madeSafe notes that what was committed first, so many bytes, is safe. The caller has mu.
func (s *session) madeSafe(committed int64) {
	s.safe = max(s.safe, committed)
	if s.safe == s.committed && s.syncing != nil && s.syncing.Stop() {
		s.syncing = nil
		s.syncs.Done()
	}
}

// syncLater sees to it that what was committed is safe before long, also where no other chunk comes. The
// caller has mu.
func (s *session) syncLater() {
	if s.ended || s.syncing != nil || s.safe == s.committed {
		return
	}
	s.syncs.Add(1)
	s.syncing = time.AfterFunc(syncEvery, func() {
		defer s.syncs.Done()
		s.mu.Lock()
		committed := s.committed
		s.mu.Unlock()
		err := s.sync(s.ctx)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.syncing = nil
		switch {
		case err == nil:
			s.safe = max(s.safe, committed)
		case errors.Is(err, db.ErrClosed):
			return // by whoever gave the restore up
		}
		s.syncLater() // what came meanwhile, or all of it again
	})
}

// stopSyncing waits until nobody makes the session's chunks safe any more. The session must have ended.
func (s *session) stopSyncing() {
	s.mu.Lock()
	if s.syncing != nil && s.syncing.Stop() {
		s.syncing = nil
		s.syncs.Done()
	}
	s.mu.Unlock()
	s.syncs.Wait()
}

// onlyRoot says whether a multipart insert holds no root but perhaps this session's.
func (s *session) onlyRoot(mp *db.Multipart) bool {
	return !slices.ContainsFunc(mp.Roots, func(r db.MultipartRoot) bool { return r.Root != s.metadata.Root })
}

// describeInsert names what a multipart insert holds.
func describeInsert(mp *db.Multipart) string {
	if len(mp.Roots) == 0 {
		return fmt.Sprintf("a multipart insert of version %d, of no root yet", mp.Version)
	}
	parts := make([]string, len(mp.Roots))
	for i, r := range mp.Roots {
		parts[i] = fmt.Sprintf("%s (%d of %d chunks)", r.Root, len(r.Done), r.Chunks)
		if r.Complete {
			parts[i] = fmt.Sprintf("%s (complete, not finalized)", r.Root)
		}
	}
	return "the restore of " + strings.Join(parts, " and of ")
}
