package node

import (
	"encoding/binary"
	"fmt"

	"github.com/ckpt-project/ckpt/framework/hash"
)

// A record is what is stored of a node, and what travels between a tree and its database: the node's
// compact encoding (version 0), and for each child either the child itself, a small leaf embedded in
// its parent's record, or the child's hash and address. A record does not hold its own address or
// position; who reads it knows both.
//
//	leaf:      0x80 ‖ leaf's encoding
//	internal:  flags ‖ compact encoding V0 ‖ left ‖ right   (each child where the flags say so)
//	child:     uvarint(length) ‖ leaf's encoding, embedded; or
//	           hash ‖ uvarint(own version − child's version) [‖ uvarint(child's candidate), where it is not 0]
const (
	recordLeaf        byte = 0x80
	recordPresent     byte = 1 << 0 // << side
	recordEmbedded    byte = 1 << 2 // << side
	recordCandidate   byte = 1 << 4 // << side
	recordUnusedFlags byte = 1 << 6
)

// The sides of an internal node.
const (
	Left  = 0
	Right = 1
)

// ErrMalformedRecord is returned for bytes that are not a node's record.
var ErrMalformedRecord = fmt.Errorf("mkvs/node: malformed record")

// Child is what a record says of a child.
type Child struct {
	Present bool
	// Embedded is the child leaf's encoding where the child is embedded; then Hash and Address are unset.
	Embedded []byte
	Hash     hash.Hash
	Address  Address
}

// ComputeHash returns the child's hash, computing it where the child is embedded.
func (c *Child) ComputeHash() hash.Hash {
	switch {
	case !c.Present:
		return hash.EmptyHash
	case c.Embedded != nil:
		return EncodedLeafHash(c.Embedded)
	default:
		return c.Hash
	}
}

// Record is a record taken apart. Its slices lie in the record.
type Record struct {
	Compact
	// Encoding is the node's compact encoding, as a proof of version 0 holds it.
	Encoding []byte
	// Children are the left and the right child; both absent for a leaf.
	Children [2]Child
}

// ComputeHash computes the node's hash from the record.
func (r *Record) ComputeHash() hash.Hash {
	if r.Leaf {
		return LeafHash(r.Key, r.Value)
	}
	own := hash.EmptyHash
	if r.OwnLeaf != nil {
		own = LeafHash(r.OwnKey, r.OwnValue)
	}
	return InternalHash(r.Label, r.LabelBitLength, own, r.Children[Left].ComputeHash(), r.Children[Right].ComputeHash())
}

// EncodedLeafHash is the hash of a leaf given its encoding, which must be one.
func EncodedLeafHash(encoding []byte) hash.Hash {
	key, value, _, err := parseLeaf(encoding)
	if err != nil {
		panic(err) // a record that ParseRecord or a caller let through: a mistake in the program
	}
	return LeafHash(key, value)
}

// AppendLeafRecord appends the record of a leaf given its encoding.
func AppendLeafRecord(dst, encoding []byte) []byte {
	return append(append(dst, recordLeaf), encoding...)
}

// AppendInternalRecord appends the record of an internal node that is stored at self, given its compact
// encoding (version 0) and its children. No child's version may lie above self's.
func AppendInternalRecord(dst, encoding []byte, self Address, children *[2]Child) []byte {
	flags := len(dst)
	dst = append(append(dst, 0), encoding...)
	for side := range children {
		c := &children[side]
		if !c.Present {
			continue
		}
		dst[flags] |= recordPresent << side
		if c.Embedded != nil {
			dst[flags] |= recordEmbedded << side
			dst = binary.AppendUvarint(dst, uint64(len(c.Embedded)))
			dst = append(dst, c.Embedded...)
			continue
		}
		dst = append(dst, c.Hash[:]...)
		dst = binary.AppendUvarint(dst, self.Version-c.Address.Version)
		if c.Address.Candidate != 0 {
			dst[flags] |= recordCandidate << side
			dst = binary.AppendUvarint(dst, uint64(c.Address.Candidate))
		}
	}
	return dst
}

// IsLeafRecord says whether bytes that are a record are that of a leaf.
func IsLeafRecord(b []byte) bool { return len(b) > 0 && b[0] == recordLeaf }

// ParseRecord takes a record that is stored at self apart. It refuses anything that is not exactly one
// record of a well-formed node, and takes no memory.
func ParseRecord(b []byte, self Address) (r Record, err error) {
	err = r.Parse(b, self)
	return r, err
}

// Parse is ParseRecord into r, whatever it held, for those who take many apart.
func (r *Record) Parse(b []byte, self Address) (err error) {
	r.Encoding, r.Children = nil, [2]Child{}
	if len(b) == 0 {
		r.Compact = Compact{}
		return fmt.Errorf("%w: no bytes", ErrMalformedRecord)
	}
	flags := b[0]
	var rest []byte
	if rest, err = r.ParseV0(b[1:]); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformedRecord, err)
	}
	end := len(b) - len(rest)
	r.Encoding = b[1:end:end]
	if r.Leaf {
		if flags != recordLeaf || len(rest) != 0 {
			return fmt.Errorf("%w: leaf with flags %#02x and %d more bytes", ErrMalformedRecord, flags, len(rest))
		}
		return nil
	}
	if flags&(recordLeaf|recordUnusedFlags) != 0 {
		return fmt.Errorf("%w: internal node with flags %#02x", ErrMalformedRecord, flags)
	}
	parts := 0
	if r.OwnLeaf != nil {
		parts++
	}
	for side := range r.Children {
		c := &r.Children[side]
		if c.Present = flags&(recordPresent<<side) != 0; !c.Present {
			if flags&((recordEmbedded|recordCandidate)<<side) != 0 {
				return fmt.Errorf("%w: flags %#02x of an absent child", ErrMalformedRecord, flags)
			}
			continue
		}
		parts++
		if flags&(recordEmbedded<<side) != 0 {
			if flags&(recordCandidate<<side) != 0 {
				return fmt.Errorf("%w: flags %#02x of an embedded child", ErrMalformedRecord, flags)
			}
			if rest, err = c.parseEmbedded(rest); err != nil {
				return err
			}
			continue
		}
		if rest, err = c.parseReference(rest, self, flags&(recordCandidate<<side) != 0); err != nil {
			return err
		}
	}
	if parts < 2 || len(rest) != 0 {
		return fmt.Errorf("%w: internal node with %d parts and %d more bytes", ErrMalformedRecord, parts, len(rest))
	}
	return nil
}

func (c *Child) parseEmbedded(b []byte) (rest []byte, err error) {
	n, k := uvarint(b)
	if k <= 0 || n > uint64(len(b)-k) {
		return nil, fmt.Errorf("%w: embedded leaf cut short", ErrMalformedRecord)
	}
	end := k + int(n)
	c.Embedded = b[k:end:end]
	if _, _, more, err := parseLeaf(c.Embedded); err != nil || len(more) != 0 || c.Embedded[0] != PrefixLeafNode {
		return nil, fmt.Errorf("%w: embedded leaf is none", ErrMalformedRecord)
	}
	return b[end:], nil
}

func (c *Child) parseReference(b []byte, self Address, withCandidate bool) (rest []byte, err error) {
	if len(b) < hash.Size {
		return nil, fmt.Errorf("%w: child's hash cut short", ErrMalformedRecord)
	}
	copy(c.Hash[:], b)
	return c.Address.parse(b[hash.Size:], self, withCandidate)
}

// parse takes the address of a child of a node at self off b.
func (a *Address) parse(b []byte, self Address, withCandidate bool) (rest []byte, err error) {
	delta, k := uvarint(b)
	if k <= 0 || delta > self.Version {
		return nil, fmt.Errorf("%w: child's version", ErrMalformedRecord)
	}
	b = b[k:]
	a.Version = self.Version - delta
	if withCandidate {
		n, k := uvarint(b)
		if k <= 0 || n == 0 || n > 0xffff {
			return nil, fmt.Errorf("%w: child's candidate", ErrMalformedRecord)
		}
		b = b[k:]
		a.Candidate = uint16(n)
	}
	return b, nil
}

// uvarint takes a number off b, and returns no bytes for one that is cut short or longer than it need be.
func uvarint(b []byte) (uint64, int) {
	n, k := binary.Uvarint(b)
	if k > 1 && b[k-1] == 0 {
		return 0, 0
	}
	return n, k
}
