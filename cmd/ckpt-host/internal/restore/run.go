package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/console"
	"github.com/ckpt-project/ckpt/framework/checkpoint"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// abortTimeout is how long removing a restore that failed may take.
const abortTimeout = time.Minute

// ErrNotOlder is returned for a database that has the version, or a later one, already.
var ErrNotOlder = errors.New("the database is not older than the checkpoint")

// Outcome is what a restore did.
type Outcome struct {
	// AlreadyThere says that the version was finalized with these very roots, and nothing was done.
	AlreadyThere bool
	// Resumed is the number of chunks that an earlier run had restored.
	Resumed int
}

// Run restores what the plan says into ndb, and finalizes it. Nothing of it is visible before that.
//
// Where the checkpoint turns out to be bad, what was written is removed. Where something else ends the
// restore (the context, the disk, the database's process), it is kept, and a later run goes on with it. What
// an unfinished restore of something else has left is in the way: ErrUnfinished.
func Run(ctx context.Context, ndb db.NodeDB, plan *Plan, progress *console.Meter, logger hclog.Logger) (Outcome, error) {
	var outcome Outcome
	roots := plan.Roots()
	there, err := AlreadyThere(ctx, ndb, plan.Version, roots)
	if there || err != nil {
		outcome.AlreadyThere = there
		return outcome, err
	}
	if err := refuseOther(ctx, ndb, plan); err != nil {
		return outcome, err
	}
	outcome.Resumed, err = restoreAll(ctx, ndb, plan, progress, logger)
	if err != nil {
		return outcome, failed(ctx, ndb, err)
	}
	if err := ndb.Finalize(ctx, roots); err != nil {
		err = fmt.Errorf("finalizing version %d: %w", plan.Version, err)
		if resumable(ctx, err) {
			err = &KeptError{err}
		}
		return outcome, err
	}
	return outcome, nil
}

// restoreAll restores all roots into one multipart insert, and returns how many chunks were there
// already.
func restoreAll(ctx context.Context, ndb db.NodeDB, plan *Plan, progress *console.Meter, logger hclog.Logger) (resumed int, err error) {
	restorer, err := checkpoint.NewRestorer(ndb, checkpoint.WithRestorerLogger(logger), checkpoint.WithLimits(plan.Limits))
	if err != nil {
		return 0, err
	}
	sources, err := inOrder(ctx, ndb, plan)
	if err != nil {
		return 0, err
	}
	for _, source := range sources {
		there, err := restoreRoot(ctx, restorer, source, progress)
		resumed += there
		if err != nil {
			return resumed, err
		}
	}
	return resumed, nil
}

// inOrder returns the plan's sources, the root first that an earlier run has begun and not completed:
// nothing else can be restored beside it.
func inOrder(ctx context.Context, ndb db.NodeDB, plan *Plan) ([]*Source, error) {
	open, err := ndb.Multipart(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking for an unfinished restore: %w", err)
	}
	var begun, others []*Source
	for i := range plan.Sources {
		s := &plan.Sources[i]
		if open != nil && slices.ContainsFunc(open.Roots, func(r db.MultipartRoot) bool { return r.Root == s.Metadata.Root && !r.Complete }) {
			begun = append(begun, s)
		} else {
			others = append(others, s)
		}
	}
	return append(begun, others...), nil
}

// AlreadyThere says whether the version is finalized with these roots. It is ErrNotOlder where the
// database is at the version or beyond otherwise.
func AlreadyThere(ctx context.Context, ndb db.NodeDB, version uint64, roots []node.Root) (bool, error) {
	latest, exists, err := ndb.GetLatestVersion(ctx)
	if err != nil {
		return false, fmt.Errorf("asking for the latest version: %w", err)
	}
	if !exists || latest < version {
		return false, nil
	}
	finalized, err := ndb.GetRootsForVersion(ctx, version)
	if err != nil && !errors.Is(err, db.ErrVersionPruned) {
		return false, fmt.Errorf("asking for the roots of version %d: %w", version, err)
	}
	if len(finalized) > 0 && sameTrees(finalized, roots) {
		return true, nil
	}
	return false, fmt.Errorf("%w: it is at version %d, and the checkpoint is of version %d", ErrNotOlder, latest, version)
}

// sameTrees says whether both are the same roots. An empty root is as good as none.
func sameTrees(a, b []node.Root) bool {
	full := func(roots []node.Root) []node.Root {
		roots = slices.DeleteFunc(slices.Clone(roots), func(r node.Root) bool { return r.IsEmpty() })
		slices.SortFunc(roots, func(x, y node.Root) int { return int(x.Type) - int(y.Type) })
		return roots
	}
	return slices.Equal(full(a), full(b))
}

// restoreRoot restores one root, chunks side by side, and returns how many of them were there already.
func restoreRoot(ctx context.Context, restorer checkpoint.Restorer, s *Source, progress *console.Meter) (resumed int, err error) {
	if err := restorer.StartRestore(ctx, s.Metadata); err != nil {
		return 0, err
	}
	pending := pendingChunks(restorer, s.Metadata)
	resumed = len(s.Metadata.Chunks) - len(pending)
	amounts, err := s.amounts()
	if err != nil {
		return resumed, err
	}
	there := func(index uint64) { progress.Earlier(amounts.of(index)) }
	if restorer.GetCurrentCheckpoint() == nil {
		progress.Earlier(amounts.sum())
		return resumed, nil // an earlier run had all chunks, and the start was all that was left
	}

	var complete atomic.Bool
	err = s.each(ctx, pending, func(ctx context.Context, index uint64, r io.Reader) error {
		done, err := restorer.RestoreChunk(ctx, index, r)
		if err != nil {
			return err
		}
		progress.Add(amounts.of(index))
		if done {
			complete.Store(true)
		}
		return nil
	}, there)
	if err != nil {
		return resumed, err
	}
	if err := ctx.Err(); err != nil {
		return resumed, err
	}
	if !complete.Load() {
		return resumed, fmt.Errorf("restoring %s: all chunks are in, but the restore is not complete", s.Metadata.Root)
	}
	return resumed, nil
}

// pendingChunks returns the chunks that are to be restored yet.
func pendingChunks(restorer checkpoint.Restorer, m *checkpoint.Metadata) []uint64 {
	if p, ok := restorer.(checkpoint.Progress); ok {
		return p.PendingChunks()
	}
	all := make([]uint64, len(m.Chunks))
	for i := range all {
		all[i] = uint64(i)
	}
	return all
}

// committing is how many chunks are being made durable while others are verified: that is waiting for the disk
// and the backend's process, and takes little memory.
const committing = 2

// each gives the pending chunks, several at a time, and names every other chunk, each once: at the latest in the
// end, and where all chunks are made again, when that one is.
func (s *Source) each(ctx context.Context, pending []uint64, take takeChunk, there func(index uint64)) error {
	if s.tree != nil {
		return s.tree.each(ctx, pending, take, there)
	}
	for index := range uint64(len(s.Metadata.Chunks)) {
		if _, is := slices.BinarySearch(pending, index); !is {
			there(index)
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0) + committing)
	for _, index := range pending {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error {
			f, err := os.Open(s.chunk(index))
			if err != nil {
				return err
			}
			defer f.Close()
			return take(ctx, index, f)
		})
	}
	return group.Wait()
}

// takeChunk restores a chunk.
type takeChunk func(ctx context.Context, index uint64, r io.Reader) error

// failed is the end of a restore that did not work: where another run can't go on with what is there,
// it is removed.
func failed(ctx context.Context, ndb db.NodeDB, err error) error {
	if errors.Is(err, checkpoint.ErrRestoreAlreadyInProgress) {
		return err // what is there is not this restore's
	}
	if resumable(ctx, err) {
		return &KeptError{err}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
	defer cancel()
	if aborted := ndb.AbortMultipart(ctx); aborted != nil {
		return errors.Join(err, fmt.Errorf("removing what was restored: %w", aborted))
	}
	return err
}

// resumable says whether the same restore can work later.
func resumable(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return true
	}
	for _, bad := range []error{
		checkpoint.ErrChunkCorrupted,
		checkpoint.ErrChunkProofVerificationFailed,
		checkpoint.ErrChunkNotFound,
		checkpoint.ErrLimitExceeded,
		checkpoint.ErrMalformedMetadata,
		checkpoint.ErrDamaged,
		db.ErrBadNamespace,
		db.ErrLimitExceeded,
		os.ErrNotExist,
	} {
		if errors.Is(err, bad) {
			return false
		}
	}
	return true
}

// KeptError is an error after which what was restored so far is kept for a later run.
type KeptError struct{ err error }

// Error returns the error's text.
func (e *KeptError) Error() string { return e.err.Error() }

// Unwrap returns the error.
func (e *KeptError) Unwrap() error { return e.err }
