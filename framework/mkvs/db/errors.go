package db

import (
	"fmt"
	"math"

	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// ModuleName is the module of this package's errors.
const ModuleName = "storage/mkvs/db"

// The errors of a node database. Module and code are part of the API.
var (
	// ErrNodeNotFound is returned for a node that is not there.
	ErrNodeNotFound = errors.New(ModuleName, 1, "mkvs: node not found in node db")
	// ErrWriteLogNotFound is returned for a write log that was not kept.
	ErrWriteLogNotFound = errors.New(ModuleName, 2, "mkvs: write log not found in node db")
	// ErrNotFinalized is returned where a version has to be finalized first.
	ErrNotFinalized = errors.New(ModuleName, 3, "mkvs: version is not yet finalized")
	// ErrAlreadyFinalized is returned for a change to a version that is finalized.
	ErrAlreadyFinalized = errors.New(ModuleName, 4, "mkvs: version has already been finalized")
	// ErrVersionNotFound is returned for a version that is not there.
	ErrVersionNotFound = errors.New(ModuleName, 5, "mkvs: version not found")
	// ErrVersionNotNext is returned for a version that does not come after the latest.
	ErrVersionNotNext = errors.New(ModuleName, 6, "mkvs: version does not follow the latest version")
	// ErrRootNotFound is returned for a root that is not there.
	ErrRootNotFound = errors.New(ModuleName, 8, "mkvs: root not found")
	// ErrRootMustFollowOld is returned for a root that can't be made from the old one.
	ErrRootMustFollowOld = errors.New(ModuleName, 9, "mkvs: root must follow old root")
	// ErrBadNamespace is returned for a root of another namespace, or a database of one.
	ErrBadNamespace = errors.New(ModuleName, 10, "mkvs: bad namespace")
	// ErrNotEarliest is returned for pruning another version than the earliest.
	ErrNotEarliest = errors.New(ModuleName, 11, "mkvs: version is not the earliest version")
	// ErrReadOnly is returned for a change to a database that is open for reading only.
	ErrReadOnly = errors.New(ModuleName, 12, "mkvs: read-only database")
	// ErrMultipartInProgress is returned where an open multipart insert stands in the way.
	ErrMultipartInProgress = errors.New(ModuleName, 13, "mkvs: multipart insert already in progress")
	// ErrInvalidMultipartVersion is returned for a multipart insert of a version that can't have one.
	ErrInvalidMultipartVersion = errors.New(ModuleName, 14, "mkvs: operation called with different version than current multipart version")
	// ErrCannotPruneLatestVersion is returned for pruning the latest version.
	ErrCannotPruneLatestVersion = errors.New(ModuleName, 16, "mkvs: cannot prune latest version")

	// ErrUnavailable is returned when the database can't be asked: its process has gone.
	ErrUnavailable = errors.New(ModuleName, 100, "mkvs: database is unavailable")
	// ErrClosed is returned by a database that has been closed.
	ErrClosed = errors.New(ModuleName, 101, "mkvs: database is closed")
	// ErrCorrupted is returned when stored bytes are not what was written. See CorruptedError.
	ErrCorrupted = errors.New(ModuleName, 102, "mkvs: database is corrupted")
	// ErrVersionPruned is returned for what belongs to a version that was pruned.
	ErrVersionPruned = errors.New(ModuleName, 103, "mkvs: version was pruned")
	// ErrVersionPinned is returned for pruning a version that is being read.
	ErrVersionPinned = errors.New(ModuleName, 104, "mkvs: version is pinned")
	// ErrNoMultipart is returned where no multipart insert, or none of this root, is open.
	ErrNoMultipart = errors.New(ModuleName, 105, "mkvs: no multipart insert in progress")
	// ErrNotComplete is returned when nodes of a root that is restored are missing.
	ErrNotComplete = errors.New(ModuleName, 106, "mkvs: multipart root is not complete")
	// ErrChunksOverlap is returned when two chunks claim the same nodes.
	ErrChunksOverlap = errors.New(ModuleName, 107, "mkvs: chunks overlap")
	// ErrLimitExceeded is returned for what is larger than a limit allows; its text names the limit.
	ErrLimitExceeded = errors.New(ModuleName, 108, "mkvs: limit exceeded")
	// ErrLocked is returned for opening a database that another process holds; its text names the holder.
	ErrLocked = errors.New(ModuleName, 109, "mkvs: database is in use by another process")
	// ErrForeign is returned for opening a directory that holds something else.
	ErrForeign = errors.New(ModuleName, 110, "mkvs: not a database of this kind")
	// ErrFormatVersion is returned for opening a database of a format that this program does not read.
	ErrFormatVersion = errors.New(ModuleName, 111, "mkvs: database has another format version")
	// ErrBadSettings is returned for opening a database with settings that it does not know or accept.
	ErrBadSettings = errors.New(ModuleName, 112, "mkvs: bad settings")
	// ErrMalformed is returned for entries or requests that break the contract.
	ErrMalformed = errors.New(ModuleName, 113, "mkvs: malformed request")
	// ErrUnsupported is returned for what this database can't do.
	ErrUnsupported = errors.New(ModuleName, 114, "mkvs: not supported by this database")
)

// UnknownVersion stands in a CorruptedError for a version that nobody can tell, or where the damage is in what
// belongs to no version. No chain comes as far as this number.
const UnknownVersion uint64 = math.MaxUint64

// CorruptedError is ErrCorrupted with where the damage is.
type CorruptedError struct {
	// Version is the version that wrote what is damaged; UnknownVersion where nobody can tell.
	Version uint64
	// Position is the position of the node that was looked for; nil where the damage is not in a node.
	Position node.Position
	// Reason says what is wrong.
	Reason string
}

// Error names version and position, as far as they are known, and the reason.
func (e *CorruptedError) Error() string {
	switch {
	case e.Version == UnknownVersion:
		return fmt.Sprintf("%s: %s", ErrCorrupted, e.Reason)
	case e.Position == nil:
		return fmt.Sprintf("%s: version %d: %s", ErrCorrupted, e.Version, e.Reason)
	default:
		return fmt.Sprintf("%s: version %d, position %s: %s", ErrCorrupted, e.Version, e.Position, e.Reason)
	}
}

// Unwrap returns ErrCorrupted.
func (e *CorruptedError) Unwrap() error { return ErrCorrupted }
