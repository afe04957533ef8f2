// Package hash is the one hash of the format, SHA-512/256, and its text form.
package hash

import (
	"bytes"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
)

// Size is the length of a Hash in bytes.
const Size = 32

// ErrMalformed is returned for bytes or text that are not a hash.
var ErrMalformed = errors.New("hash: malformed hash")

// Hash is a SHA-512/256 digest. Its text form is 64 lower-case hexadecimal digits.
//
// The zero value is not the hash of anything known; the hash of nothing is EmptyHash.
type Hash [Size]byte

// EmptyHash is the hash of no bytes: the root hash of an empty tree, and what stands for an absent
// child in the hash of an internal node.
var EmptyHash = Hash(sha512.Sum512_256(nil))

// Sum returns the hash of b.
func Sum(b []byte) Hash { return sha512.Sum512_256(b) }

// NewFromBytes returns the hash of the concatenation of data.
func NewFromBytes(data ...[]byte) (h Hash) {
	h.FromBytes(data...)
	return h
}

// FromBytes sets h to the hash of the concatenation of data.
func (h *Hash) FromBytes(data ...[]byte) {
	if len(data) == 1 {
		*h = sha512.Sum512_256(data[0])
		return
	}
	hasher := sha512.New512_256()
	for _, d := range data {
		hasher.Write(d)
	}
	hasher.Sum(h[:0])
}

// Empty sets h to EmptyHash.
func (h *Hash) Empty() { *h = EmptyHash }

// IsEmpty says whether h is EmptyHash.
func (h *Hash) IsEmpty() bool { return *h == EmptyHash }

// Equal says whether h and other are the same; two nil pointers are equal to nothing.
func (h *Hash) Equal(other *Hash) bool {
	return h != nil && other != nil && bytes.Equal(h[:], other[:])
}

// Hex returns the text form.
func (h Hash) Hex() string { return hex.EncodeToString(h[:]) }

// String returns the text form.
func (h Hash) String() string { return h.Hex() }

// MarshalBinary returns the 32 bytes of the hash.
func (h Hash) MarshalBinary() ([]byte, error) { return bytes.Clone(h[:]), nil }

// UnmarshalBinary takes exactly 32 bytes.
func (h *Hash) UnmarshalBinary(data []byte) error {
	if len(data) != Size {
		return fmt.Errorf("%w: %d bytes, want %d", ErrMalformed, len(data), Size)
	}
	copy(h[:], data)
	return nil
}

// MarshalText returns the text form.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.Hex()), nil }

// UnmarshalText takes exactly 64 hexadecimal digits, of either case.
func (h *Hash) UnmarshalText(text []byte) error {
	if len(text) != 2*Size {
		return fmt.Errorf("%w: %d characters, want %d hexadecimal digits", ErrMalformed, len(text), 2*Size)
	}
	var b Hash
	if _, err := hex.Decode(b[:], text); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	*h = b
	return nil
}

// UnmarshalHex takes exactly 64 hexadecimal digits, of either case.
func (h *Hash) UnmarshalHex(text string) error { return h.UnmarshalText([]byte(text)) }
