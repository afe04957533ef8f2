// Package exit is what a command's end tells the shell: the exit codes, and errors that carry one, with
// a word on what to do next.
package exit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/ckpt-project/ckpt/framework/checkpoint"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/plugin"
)

// The exit codes. They are part of the program's interface: docs/commands.md.
const (
	// OK: what was asked for is so, also where nothing had to be done for it.
	OK = 0
	// Failed: anything that has no code of its own.
	Failed = 1
	// Usage: the command line is wrong.
	Usage = 2
	// Config: the configuration file is wrong or can't be read.
	Config = 3
	// NotFound: what was named (a version, a root, a checkpoint, a file, a database) is not there.
	NotFound = 4
	// Invalid: a checkpoint does not verify or is not what was trusted, a database is damaged, or a backend
	// does not pass its conformance profile.
	Invalid = 5
	// BadInput: the data to import is wrong.
	BadInput = 6
	// Unavailable: a database is in use by another process, or its process could not be asked.
	Unavailable = 7
	// Partial: all that was tried of a conformance profile passed, and that was not all of it.
	Partial = 8
	// Interrupted: a signal ended the command.
	Interrupted = 130
	// BrokenPipe: whoever read stdout stopped reading.
	BrokenPipe = 141
)

// Error is an error with an exit code and, where there is one, advice.
type Error struct {
	Code int
	Err  error
	// Hint says what to do next, in a sentence.
	Hint string
}

// Error returns the error's text, without the hint.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the error.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an error with a code.
func Errorf(code int, format string, args ...any) *Error {
	return &Error{Code: code, Err: fmt.Errorf(format, args...)}
}

// WithHint adds what to do next.
func (e *Error) WithHint(format string, args ...any) *Error {
	e.Hint = fmt.Sprintf(format, args...)
	return e
}

// identities are the errors of other packages that have an exit code of their own, the first match
// counting: a restore that the user interrupted is interrupted, whatever else it says.
var identities = []struct {
	err  error
	code int
	hint string
}{
	{context.Canceled, Interrupted, ""},
	{syscall.EPIPE, BrokenPipe, ""},
	{db.ErrLocked, Unavailable, "wait for the other process to end, or stop it"},
	{db.ErrCorrupted, Invalid, "restore the namespace from a checkpoint into a fresh data directory"},
	{db.ErrUnavailable, Unavailable, "the backend's process has gone; its last messages are above"},
	{checkpoint.ErrChunkCorrupted, Invalid, ""},
	{checkpoint.ErrChunkProofVerificationFailed, Invalid, ""},
	{checkpoint.ErrDamaged, Invalid, ""},
	{checkpoint.ErrMalformedMetadata, Invalid, ""},
	{checkpoint.ErrMalformedArchive, Invalid, ""},
	{plugin.ErrChecksum, Config, ""},
	{plugin.ErrLaunchFailed, Unavailable, ""},
	{db.ErrBadSettings, Config, ""},
	{db.ErrBadNamespace, Config, "the id in the configuration is not the one that the database was made with"},
	{db.ErrForeign, Config, "nothing was changed there; name another data_dir or backend in the configuration"},
	{checkpoint.ErrCheckpointNotFound, NotFound, ""},
	{checkpoint.ErrChunkNotFound, NotFound, ""},
	{db.ErrVersionPruned, NotFound, ""},
	{db.ErrVersionNotFound, NotFound, ""},
	{db.ErrRootNotFound, NotFound, ""},
	{fs.ErrNotExist, NotFound, ""},
	{checkpoint.ErrLimitExceeded, Failed, "the limits block of the configuration has the bounds, see docs/commands.md"},
}

// Of returns the exit code and hint of an error.
func Of(err error) (code int, hint string) {
	if err == nil {
		return OK, ""
	}
	var own *Error
	hasOwn := errors.As(err, &own)
	for _, known := range identities {
		if errors.Is(err, known.err) {
			code, hint = known.code, known.hint
			break
		}
	}
	switch {
	case code == Interrupted || code == BrokenPipe:
		if hasOwn {
			hint = own.Hint
		}
		return code, hint
	case hasOwn && own.Hint != "":
		return own.Code, own.Hint
	case hasOwn:
		return own.Code, hint
	case code != 0:
		return code, hint
	default:
		return Failed, ""
	}
}
