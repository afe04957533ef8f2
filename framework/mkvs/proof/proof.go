// Package proof shows that entries are, or are not, in a tree of a known root hash.
//
// A proof is a list of entries, one a node, in pre-order: a node that is included, one that is left
// out and stands there with its hash, or nil for an absent child.
//
//	included:  0x01 ‖ compact encoding of the proof's version
//	left out:  0x02 ‖ hash
//
// In a proof of version 0 an internal node's own leaf is part of its encoding; in one of version 1 it is
// a child of its own, before left and right.
//
// A Decoder rebuilds the nodes from the entries as they come, a Builder makes proofs, and a Verifier
// checks one as a whole and gives the part of the tree that it holds. Decoding is strict: what no
// builder makes is refused, so that two proofs of the same nodes are the same bytes. Nothing here
// recurses: a proof can be as deep as the longest key has bits.
package proof

import (
	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// The versions of the proof's encoding.
const (
	// Version0 has own leaves within their nodes. Checkpoints' chunks are of this version.
	Version0 uint16 = 0
	// Version1 has own leaves as children, so that they can be left out.
	Version1 uint16 = 1
	// LatestVersion is the highest version.
	LatestVersion = Version1
)

// The first byte of an entry that is not nil.
const (
	entryFull byte = 0x01
	entryHash byte = 0x02
)

const hashEntrySize = 1 + hash.Size

const moduleName = "storage/mkvs/proof"

// The errors of this package.
var (
	// ErrMalformed is returned for entries that no builder makes.
	ErrMalformed = errors.New(moduleName, 1, "mkvs/proof: malformed proof")
	// ErrLimitExceeded is returned for entries beyond the limits in force; its text names the limit.
	ErrLimitExceeded = errors.New(moduleName, 2, "mkvs/proof: limit exceeded")
	// ErrRootMismatch is returned for a well-formed proof of another root.
	ErrRootMismatch = errors.New(moduleName, 3, "mkvs/proof: proof of another root")
	// ErrUnsupportedVersion is returned for a version of the encoding that is not known.
	ErrUnsupportedVersion = errors.New(moduleName, 4, "mkvs/proof: unsupported proof version")
	// ErrOwnLeafUnknown is returned for building a proof of version 0 of a node whose own leaf was left out
	// of the proof of version 1 that the node is from.
	ErrOwnLeafUnknown = errors.New(moduleName, 5, "mkvs/proof: own leaf of an included node is not known")
)

// Proof is a proof as it travels.
type Proof struct {
	// V is the version of the entries' encoding.
	V uint16 `json:"v,omitempty"`
	// UntrustedRoot is the root hash that the maker says the proof is for. It helps to find a mistake;
	// who verifies has to know the root hash from elsewhere.
	UntrustedRoot hash.Hash `json:"untrusted_root"`
	// Entries are the proof's entries in pre-order; a nil entry is an absent child.
	Entries [][]byte `json:"entries"`
}

// Limits bounds what a proof may hold. A zero field means the default.
type Limits struct {
	// KeyBytes is the length of the longest key.
	KeyBytes int
	// ValueBytes is the length of the longest value.
	ValueBytes int
	// Entries is the largest number of entries, nil ones included.
	Entries int
}

// Defaults of Limits.
const (
	DefaultKeyBytes   = node.MaxKeyBytes
	DefaultValueBytes = 64 << 20
	DefaultEntries    = 1 << 24
)

func (l Limits) withDefaults() Limits {
	if l.KeyBytes <= 0 || l.KeyBytes > node.MaxKeyBytes {
		l.KeyBytes = DefaultKeyBytes
	}
	if l.ValueBytes <= 0 {
		l.ValueBytes = DefaultValueBytes
	}
	if l.Entries <= 0 || l.Entries > 1<<30 {
		l.Entries = DefaultEntries
	}
	return l
}
