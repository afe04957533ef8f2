// Package common holds the types that every layer of the framework names things with.
package common

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/ckpt-project/ckpt/framework/hash"
)

const (
	// NamespaceSize is the length of a Namespace in bytes: 8 of flags, NamespaceIDSize of identifier.
	NamespaceSize = 32
	// NamespaceIDSize is the length of a namespace's identifier in bytes.
	NamespaceIDSize = 24
)

// Flags of a namespace, in its first eight bytes, big-endian. All other bits are reserved and zero.
const (
	// NamespaceTest marks a namespace that is for tests only.
	NamespaceTest NamespaceFlags = 1 << 63
	// NamespaceKeyManager marks the namespace of a key manager.
	NamespaceKeyManager NamespaceFlags = 1 << 62

	namespaceReserved = ^(NamespaceTest | NamespaceKeyManager)
)

// ErrMalformedNamespace is returned for bytes or text that are not a namespace.
var ErrMalformedNamespace = errors.New("common: malformed namespace")

// NamespaceFlags are the first eight bytes of a namespace.
type NamespaceFlags uint64

// Namespace tells states apart that live side by side. It is part of every root. Its text form is 64
// lower-case hexadecimal digits.
type Namespace [NamespaceSize]byte

// NewNamespace makes a namespace of an identifier and flags.
func NewNamespace(id [NamespaceIDSize]byte, flags NamespaceFlags) (Namespace, error) {
	var n Namespace
	binary.BigEndian.PutUint64(n[:], uint64(flags))
	copy(n[NamespaceSize-NamespaceIDSize:], id[:])
	return n, n.validate()
}

// NewTestNamespaceFromSeed makes a namespace for tests of the hash of a seed.
func NewTestNamespaceFromSeed(seed []byte, flags NamespaceFlags) Namespace {
	h := hash.NewFromBytes(seed)
	n, err := NewNamespace([NamespaceIDSize]byte(h[:NamespaceIDSize]), flags|NamespaceTest)
	if err != nil {
		panic(err) // a reserved flag: a mistake in the calling test
	}
	return n
}

func (n Namespace) validate() error {
	if reserved := n.Flags() & namespaceReserved; reserved != 0 {
		return fmt.Errorf("%w: reserved bits %016x are set", ErrMalformedNamespace, uint64(reserved))
	}
	return nil
}

// Flags returns the namespace's first eight bytes.
func (n Namespace) Flags() NamespaceFlags { return NamespaceFlags(binary.BigEndian.Uint64(n[:])) }

// IsTest says whether the namespace is for tests only.
func (n Namespace) IsTest() bool { return n.Flags()&NamespaceTest != 0 }

// IsKeyManager says whether the namespace is that of a key manager.
func (n Namespace) IsKeyManager() bool { return n.Flags()&NamespaceKeyManager != 0 }

// Equal says whether n and other are the same; two nil pointers are equal to nothing.
func (n *Namespace) Equal(other *Namespace) bool {
	return n != nil && other != nil && bytes.Equal(n[:], other[:])
}

// Hex returns the text form.
func (n Namespace) Hex() string { return hex.EncodeToString(n[:]) }

// String returns the text form.
func (n Namespace) String() string { return n.Hex() }

// MarshalBinary returns the 32 bytes of the namespace.
func (n Namespace) MarshalBinary() ([]byte, error) { return bytes.Clone(n[:]), nil }

// UnmarshalBinary takes exactly 32 bytes whose reserved bits are zero.
func (n *Namespace) UnmarshalBinary(data []byte) error {
	if len(data) != NamespaceSize {
		return fmt.Errorf("%w: %d bytes, want %d", ErrMalformedNamespace, len(data), NamespaceSize)
	}
	parsed := Namespace(data)
	if err := parsed.validate(); err != nil {
		return err
	}
	*n = parsed
	return nil
}

// MarshalText returns the text form.
func (n Namespace) MarshalText() ([]byte, error) { return []byte(n.Hex()), nil }

// UnmarshalText takes exactly 64 hexadecimal digits, of either case, whose reserved bits are zero.
func (n *Namespace) UnmarshalText(text []byte) error {
	if len(text) != 2*NamespaceSize {
		return fmt.Errorf("%w: %d characters, want %d hexadecimal digits", ErrMalformedNamespace, len(text), 2*NamespaceSize)
	}
	b := make([]byte, NamespaceSize)
	if _, err := hex.Decode(b, text); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformedNamespace, err)
	}
	return n.UnmarshalBinary(b)
}

// UnmarshalHex takes exactly 64 hexadecimal digits, of either case, whose reserved bits are zero.
func (n *Namespace) UnmarshalHex(text string) error { return n.UnmarshalText([]byte(text)) }
