package checkpoint

import (
	"context"
	"slices"
	"sync"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// syncBytes is after how many bytes of records a chunk is made safe from a loss of power, and those
// before it with it. A crash of the process loses no chunk either way.
const syncBytes = 64 << 20

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
	unsynced int64
}

func newSession(m *Metadata, opened bool, done []uint64) *session {
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
	}
	for _, index := range done {
		if index < uint64(len(s.states)) && s.states[index] != chunkDone {
			s.states[index], s.marked[index] = chunkDone, true
			s.left--
		}
	}
	if s.left == 0 {
		// Somebody has to come to say that the restore is complete: the last chunk's restorer.
		s.states[len(s.states)-1] = chunkPending
		s.left = 1
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

// sync says whether a chunk of so many bytes is to be made safe from a loss of power.
func (s *session) sync(bytes int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unsynced += bytes
	if s.unsynced < syncBytes {
		return false
	}
	s.unsynced = 0
	return true
}

// onlyRoot says whether a multipart insert holds no root but perhaps this session's.
func (s *session) onlyRoot(mp *db.Multipart) bool {
	return !slices.ContainsFunc(mp.Roots, func(r db.MultipartRoot) bool { return r.Root != s.metadata.Root })
}
