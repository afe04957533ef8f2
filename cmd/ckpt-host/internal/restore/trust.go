// Package restore restores the roots of one version from a directory of checkpoints into a database:
// it picks the checkpoints of the roots that are trusted, refuses what can't be restored before
// anything is written, and finalizes all roots at once.
package restore

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// Trusted is a root that the user trusts.
type Trusted struct {
	Type node.RootType
	Hash hash.Hash
	// Version is the root's version where HasVersion is set; otherwise any.
	Version    uint64
	HasVersion bool
}

// ParseTrusted reads a root as the command line has it: [state:|io:][VERSION:]HASH.
func ParseTrusted(text string) (Trusted, error) {
	t := Trusted{Type: node.RootTypeState}
	parts := strings.Split(text, ":")
	if len(parts) > 1 {
		if rootType, err := node.ParseRootType(parts[0]); err == nil {
			t.Type, parts = rootType, parts[1:]
		}
	}
	if len(parts) > 1 {
		version, err := strconv.ParseUint(parts[0], 10, 64)
		if err != nil {
			return t, fmt.Errorf("%q is no root: %q is neither a root type (state or io) nor a version", text, parts[0])
		}
		t.Version, t.HasVersion, parts = version, true, parts[1:]
	}
	if len(parts) > 1 {
		return t, fmt.Errorf("%q is no root: want [state:|io:][VERSION:]HASH", text)
	}
	if err := t.Hash.UnmarshalHex(parts[0]); err != nil {
		return t, fmt.Errorf("%q is no root: its hash is not 64 hexadecimal digits", text)
	}
	return t, nil
}

// String writes the root as ParseTrusted reads it.
func (t Trusted) String() string {
	if t.HasVersion {
		return fmt.Sprintf("%s:%d:%s", t.Type, t.Version, t.Hash)
	}
	return fmt.Sprintf("%s:%s", t.Type, t.Hash)
}

// names says whether the root is what is trusted.
func (t Trusted) names(root node.Root) bool {
	return root.Type == t.Type && root.Hash == t.Hash && (!t.HasVersion || root.Version == t.Version)
}

// CheckTrusted sees that the roots can be those of one version.
func CheckTrusted(roots []Trusted) error {
	for i, a := range roots {
		for _, b := range roots[:i] {
			if a.Type == b.Type {
				return fmt.Errorf("a version has one %s root, and two are given: %s and %s", a.Type, b, a)
			}
			if a.HasVersion && b.HasVersion && a.Version != b.Version {
				return fmt.Errorf("all roots are of one version, and two versions are given: %s and %s", b, a)
			}
		}
	}
	return nil
}
