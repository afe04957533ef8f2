package checkpoint

import (
	"fmt"

	"github.com/ckpt-project/ckpt/framework/common/errors"
)

const moduleName = "storage/mkvs/checkpoint"

// The errors of checkpoints. Module and code are part of the API.
var (
	// ErrCheckpointNotFound is the error when a checkpoint is not found.
	ErrCheckpointNotFound = errors.New(moduleName, 1, "checkpoint: not found")
	// ErrChunkNotFound is the error when a chunk is not found.
	ErrChunkNotFound = errors.New(moduleName, 2, "checkpoint: chunk not found")
	// ErrRestoreAlreadyInProgress is the error when a checkpoint restore is already in progress and the
	// caller wanted to start another restore.
	ErrRestoreAlreadyInProgress = errors.New(moduleName, 3, "checkpoint: restore already in progress")
	// ErrNoRestoreInProgress is the error when no checkpoint restore is currently in progress.
	ErrNoRestoreInProgress = errors.New(moduleName, 4, "checkpoint: no restore in progress")
	// ErrChunkAlreadyRestored is the error when a chunk has already been restored.
	ErrChunkAlreadyRestored = errors.New(moduleName, 5, "checkpoint: chunk already restored")
	// ErrChunkProofVerificationFailed is the error when a chunk fails proof verification: its digest is
	// right, so the checkpoint is bad, and no other source will help.
	ErrChunkProofVerificationFailed = errors.New(moduleName, 6, "chunk: chunk proof verification failed")
	// ErrChunkCorrupted is the error when a chunk is corrupted: its digest is wrong, and another source may
	// help.
	ErrChunkCorrupted = errors.New(moduleName, 7, "chunk: corrupted chunk")

	// ErrLimitExceeded is the error when something is larger than a limit allows. Its text names the field
	// of Limits.
	ErrLimitExceeded = errors.New(moduleName, 100, "checkpoint: limit exceeded")
	// ErrParametersDiffer is the error when a checkpoint is there already, made with another chunk size or
	// number of threads than it was asked for.
	ErrParametersDiffer = errors.New(moduleName, 101, "checkpoint: made with other parameters")
	// ErrMalformedMetadata is the error when metadata is not what a creator makes.
	ErrMalformedMetadata = errors.New(moduleName, 102, "checkpoint: malformed metadata")
	// ErrDamaged is the error when the files of a checkpoint are not what was written.
	ErrDamaged = errors.New(moduleName, 103, "checkpoint: damaged")
	// ErrCheckpointerEnded is the error when a checkpointer that has ended is asked for something.
	ErrCheckpointerEnded = errors.New(moduleName, 104, "checkpoint: checkpointer has ended")
	// ErrChunkSizeTooSmall is the error when chunks of the size asked for would hold little but the paths to
	// where they begin.
	ErrChunkSizeTooSmall = errors.New(moduleName, 105, "checkpoint: chunk size too small for the tree")
	// ErrCheckpointInUse is the error when a checkpoint that is being served is not deleted.
	ErrCheckpointInUse = errors.New(moduleName, 106, "checkpoint: in use")
	// ErrCheckpointKept is the error when a checkpoint that is marked to be kept is not deleted.
	ErrCheckpointKept = errors.New(moduleName, 107, "checkpoint: marked to be kept")
	// ErrCheckpointerPaused is the error when a checkpointer that is paused is to do what there is to do.
	ErrCheckpointerPaused = errors.New(moduleName, 108, "checkpoint: checkpointer is paused")
	// ErrWatcherTooSlow is the error when a subscription has ended because its versions were not received.
	ErrWatcherTooSlow = errors.New(moduleName, 109, "checkpoint: watcher too slow")
	// ErrMalformedArchive is the error when a file is not an archive of a checkpoint, or not all of one.
	ErrMalformedArchive = errors.New(moduleName, 110, "checkpoint: malformed archive")
)

// errIncomplete is what a checkpoint is whose chunks, each a valid proof, leave nodes out.
var errIncomplete = fmt.Errorf("%w: checkpoint incomplete", ErrChunkProofVerificationFailed)
