package quickstart

import (
	"context"
	"iter"
)

// source is a history that the quickstart replays. Its versions are numbered from 1 on, as they are in the
// database.
type source interface {
	// Origin says what the history is, for the summary.
	Origin() Origin
	// Versions is the number of versions.
	Versions() uint64
	// ID is what a version is known by there: the same version has the same ID in every run, and another
	// history another one.
	ID(version uint64) string
	// Replay visits the changes of all versions after a given one (0: of all).
	Replay(ctx context.Context, after uint64, limits limits, visit visitor) error
	// Expect yields what a version has to hold, sorted by the bytes of the keys, as the source itself says
	// it and not as Replay reported it. What it yields is valid until the next step.
	Expect(ctx context.Context, version uint64, limits limits) iter.Seq2[expected, error]
}

// limits are those of the namespace that the history is put into.
type limits struct {
	keyBytes, valueBytes int
}

// visitor is told of a history's changes in order. It may keep what it is given.
type visitor interface {
	put(ctx context.Context, key, value []byte) error
	remove(ctx context.Context, key []byte) error
	// end ends a version's changes.
	end(ctx context.Context, version uint64) error
}

// expected is an entry that a version has to hold.
type expected struct {
	key []byte
	// matches says whether a value is the right one.
	matches func(value []byte) bool
	// leftOut says whether the entry is one that is left out, and why; nil where none can be. It is asked
	// only where the entry is missing.
	leftOut func(ctx context.Context) (reason, error)
}

// reason is why an entry is left out.
type reason int

const (
	notLeftOut reason = iota
	isSubmodule
	keyTooLong
	valueTooLarge
)

// Origin is what history was read.
type Origin struct {
	// Kind is git or sample.
	Kind string `json:"kind"`
	// Path is the repository's directory; empty for the sample.
	Path string `json:"path,omitempty"`
	// Branch is the branch that HEAD names, empty where it names none.
	Branch string `json:"branch,omitempty"`
	// Commit is the commit that is the last version, and Time when it was made.
	Commit string `json:"commit,omitempty"`
	Time   string `json:"time,omitempty"`
	// Shallow says that the history was cut off when the repository was cloned.
	Shallow bool `json:"shallow,omitempty"`
}
