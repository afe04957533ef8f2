package node

import (
	"fmt"

	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/hash"
)

// RootType tells the trees of one version apart.
type RootType uint8

// The root types.
const (
	RootTypeInvalid RootType = 0
	// RootTypeState is a state: the next version's state descends from it.
	RootTypeState RootType = 1
	// RootTypeIO is what went in and out at one version: nothing descends from it.
	RootTypeIO RootType = 2
	// RootTypeMax is the highest root type in use.
	RootTypeMax = RootTypeIO
)

// String returns the root type's name.
func (t RootType) String() string {
	switch t {
	case RootTypeState:
		return "state"
	case RootTypeIO:
		return "io"
	default:
		return fmt.Sprintf("invalid root type %d", uint8(t))
	}
}

// ParseRootType is the inverse of String.
func ParseRootType(s string) (RootType, error) {
	switch s {
	case "state":
		return RootTypeState, nil
	case "io":
		return RootTypeIO, nil
	default:
		return RootTypeInvalid, fmt.Errorf("mkvs/node: %q is no root type: state or io", s)
	}
}

// IsValid says whether t is one of the root types in use.
func (t RootType) IsValid() bool { return t >= RootTypeState && t <= RootTypeMax }

// Root names one tree: where it belongs, when, of which type, and what it holds.
type Root struct {
	// Namespace is the namespace that the tree belongs to.
	Namespace common.Namespace `json:"ns"`
	// Version is the version that the tree is one of.
	Version uint64 `json:"version"`
	// Type is the tree's type.
	Type RootType `json:"root_type"`
	// Hash is the hash of the tree's root node; hash.EmptyHash where the tree is empty.
	Hash hash.Hash `json:"hash"`
}

// Empty makes r the root of an empty tree of an invalid type.
func (r *Root) Empty() {
	*r = Root{Hash: hash.EmptyHash}
}

// IsEmpty says whether the root's tree is empty.
func (r *Root) IsEmpty() bool { return r.Hash.IsEmpty() }

// Equal says whether r and other are the same; two nil pointers are equal to nothing.
func (r *Root) Equal(other *Root) bool { return r != nil && other != nil && *r == *other }

// Follows says whether a tree at r can be made by changing one at other: the same namespace and type,
// and the same version or the next.
func (r *Root) Follows(other *Root) bool {
	return r.Namespace == other.Namespace && r.Type == other.Type &&
		(r.Version == other.Version || r.Version == other.Version+1 && r.Version != 0)
}

// String returns type, version and hash.
func (r Root) String() string { return fmt.Sprintf("%s:%d:%s", r.Type, r.Version, r.Hash) }
