package mkvs

import "github.com/ckpt-project/ckpt/framework/common/errors"

const moduleName = "storage/mkvs"

// The errors of this package. Those of the node database come through with their identity.
var (
	// ErrClosed is returned by a tree or overlay that has been closed.
	ErrClosed = errors.New(moduleName, 1, "mkvs: tree is closed")
	// ErrKnownRootMismatch is returned by CommitKnown when the tree's root is another one.
	ErrKnownRootMismatch = errors.New(moduleName, 2, "mkvs: known root mismatch")
	// ErrNotAscending is returned by Builder.Add for a key that does not come after the one before.
	ErrNotAscending = errors.New(moduleName, 3, "mkvs: keys do not ascend")
)
