package node

import (
	"encoding/binary"
	"fmt"

	"github.com/ckpt-project/ckpt/framework/hash"
)

// Outline is what leads from a node's record on to those of its children, for walks that pass records on
// without looking at what they hold. Its slices lie in the record.
type Outline struct {
	Leaf           bool
	Label          Key
	LabelBitLength Depth
	// Stored says which children have records of their own; Addresses are theirs.
	Stored    [2]bool
	Addresses [2]Address
}

// Parse takes the outline of a record that is stored at self, whatever o held. It refuses what it can't
// follow, and takes the leaves in the record on trust: Record's Parse looks at all of it. It takes no memory.
func (o *Outline) Parse(b []byte, self Address) error {
	*o = Outline{}
	if len(b) < 2 {
		return fmt.Errorf("%w: %d bytes", ErrMalformedRecord, len(b))
	}
	flags, rest := b[0], b[1:]
	if flags == recordLeaf {
		o.Leaf = true
		return nil
	}
	rest, err := o.parseLabel(rest)
	if err != nil {
		return err
	}
	for side := range o.Stored {
		switch {
		case flags&(recordPresent<<side) == 0:
		case flags&(recordEmbedded<<side) != 0:
			n, k := uvarint(rest)
			if k <= 0 || n > uint64(len(rest)-k) {
				return fmt.Errorf("%w: embedded leaf cut short", ErrMalformedRecord)
			}
			rest = rest[k+int(n):]
		default:
			if len(rest) < hash.Size {
				return fmt.Errorf("%w: child's hash cut short", ErrMalformedRecord)
			}
			o.Stored[side] = true
			if rest, err = o.Addresses[side].parse(rest[hash.Size:], self, flags&(recordCandidate<<side) != 0); err != nil {
				return err
			}
		}
	}
	if len(rest) != 0 {
		return fmt.Errorf("%w: %d more bytes", ErrMalformedRecord, len(rest))
	}
	return nil
}

// parseLabel takes an internal node's compact encoding off b: the label, and the own leaf, which it skips.
func (o *Outline) parseLabel(b []byte) (rest []byte, err error) {
	const head = prefixSize + depthSize
	if len(b) < head || b[0] != PrefixInternalNode {
		return nil, fmt.Errorf("%w: no internal node", ErrMalformedRecord)
	}
	o.LabelBitLength = Depth(binary.LittleEndian.Uint16(b[prefixSize:]))
	n := o.LabelBitLength.ToBytes()
	if b = b[head:]; o.LabelBitLength > MaxDepth || len(b) < n+prefixSize {
		return nil, fmt.Errorf("%w: label of %d bits cut short", ErrMalformedRecord, o.LabelBitLength)
	}
	o.Label, b = Key(b[:n:n]), b[n:]
	if b[0] == PrefixNilNode {
		return b[prefixSize:], nil
	}
	if _, _, rest, err = parseLeaf(b); err != nil || b[0] != PrefixLeafNode {
		return nil, fmt.Errorf("%w: own leaf is none", ErrMalformedRecord)
	}
	return rest, nil
}
