package checkpoint

import (
	"context"
	"io"

	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// ChunkProvider is a chunk provider.
type ChunkProvider interface {
	// GetCheckpoints returns a list of checkpoint metadata for all known checkpoints: those of the
	// request's namespace, and of its root version where it names one, the newest first. One that can't be
	// read does not hide the others.
	GetCheckpoints(ctx context.Context, request *GetCheckpointsRequest) ([]*Metadata, error)

	// GetCheckpointChunk fetches a specific chunk from an existing checkpoint and writes its bytes to w.
	// They are not checked on the way: who receives them knows the digest.
	//
	// It returns ErrCheckpointNotFound where the chunk's checkpoint is not there, and ErrChunkNotFound where
	// that has no chunk of this index and digest.
	GetCheckpointChunk(ctx context.Context, chunk *ChunkMetadata, w io.Writer) error
}

// GetCheckpointsRequest is a GetCheckpoints request.
type GetCheckpointsRequest struct {
	Version   uint16           `json:"version"`
	Namespace common.Namespace `json:"namespace"`

	// RootVersion specifies an optional root version to limit the request to. If specified, only
	// checkpoints for roots with the specific version will be considered.
	RootVersion *uint64 `json:"root_version,omitempty"`
}

// Creator is a checkpoint creator.
type Creator interface {
	ChunkProvider

	// CreateCheckpoint creates a new checkpoint at the given root, cut into chunks of about chunkSize bytes
	// before compression. When it returns, the checkpoint is safe from a loss of power.
	//
	// A tree whose paths are too long for the chunk size is ErrChunkSizeTooSmall.
	//
	// A checkpoint that is there already is returned as it is; it is ErrParametersDiffer where it is known
	// to have been made with another chunk size.
	CreateCheckpoint(ctx context.Context, root node.Root, chunkSize uint64) (*Metadata, error)

	// GetCheckpoint retrieves checkpoint metadata for a specific checkpoint.
	GetCheckpoint(ctx context.Context, version uint16, root node.Root) (*Metadata, error)

	// DeleteCheckpoint deletes a specific checkpoint, also where chunks of it are being read: these are read to
	// their end. One that is marked to be kept is ErrCheckpointKept (see Keeper).
	DeleteCheckpoint(ctx context.Context, version uint16, root node.Root) error
}

// Restorer is a checkpoint restorer.
type Restorer interface {
	// StartRestore starts a checkpoint restoration process.
	//
	// It opens the database's multipart insert of the checkpoint's version where none is open. Where that
	// insert holds this very restore already (the process that began it has gone), it is taken up with the
	// chunks that are durable; where these are all, it is completed here, and no restore is in progress
	// afterwards.
	//
	// It returns ErrRestoreAlreadyInProgress while another restore is in progress, and where the insert
	// holds what has to be ended first: another version, until that is finalized or aborted, or a root that
	// is not complete. The error names it. Other roots of the version that are complete are in nobody's way.
	StartRestore(ctx context.Context, checkpoint *Metadata) error

	// AbortRestore aborts a checkpoint restore in progress. It waits for chunks in flight, which fail.
	//
	// It is not an error to call this method when no checkpoint restore is in progress.
	AbortRestore(ctx context.Context) error

	// GetCurrentCheckpoint returns the checkpoint that is being restored. If no restoration is in
	// progress, this method returns nil.
	GetCurrentCheckpoint() *Metadata

	// RestoreChunk restores the given chunk into the underlying node database.
	//
	// This method requires that a restoration is in progress. It may be called for several chunks at once.
	//
	// Returns true when the checkpoint has been fully restored: all of its nodes are there, verified and
	// durable. They become visible when the owner of the restore finalizes all roots of the version.
	//
	// ErrChunkCorrupted, ErrLimitExceeded and a failure to read leave the restore going.
	// ErrChunkProofVerificationFailed ends it.
	RestoreChunk(ctx context.Context, index uint64, r io.Reader) (bool, error)
}

// CreateRestorer is an interface that combines the checkpoint creator and restorer.
type CreateRestorer interface {
	Creator
	Restorer
}

type createRestorer struct {
	Creator
	Restorer
}

// NewCreateRestorer combines a checkpoint creator and a restorer.
func NewCreateRestorer(creator Creator, restorer Restorer) CreateRestorer {
	return &createRestorer{Creator: creator, Restorer: restorer}
}
