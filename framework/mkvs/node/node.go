package node

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/ckpt-project/ckpt/framework/hash"
)

// The first byte of a node's encoding.
const (
	PrefixLeafNode     byte = 0x00
	PrefixInternalNode byte = 0x01
	PrefixNilNode      byte = 0x02
)

const (
	prefixSize      = 1
	depthSize       = 2
	keyLengthSize   = 2
	valueLengthSize = 4

	// LeafOverhead is what a leaf's encoding has beside its key and value, in bytes.
	LeafOverhead = prefixSize + keyLengthSize + valueLengthSize
)

// ErrMalformedNode is returned for bytes that are not the one encoding of a node.
var ErrMalformedNode = errors.New("mkvs/node: malformed node")

// Address is, with a Position, where a node is stored: what wrote it.
type Address struct {
	// Version is the version that wrote the node.
	Version uint64
	// Candidate is the number, counted for a version and root type, of the root that it was written for.
	Candidate uint16
}

// String returns version and candidate.
func (a Address) String() string { return fmt.Sprintf("%d.%d", a.Version, a.Candidate) }

// Node is a leaf or an internal node.
type Node interface {
	// GetHash returns the node's hash as it was last updated.
	GetHash() hash.Hash
	// UpdateHash computes the node's hash from its parts; those of its children must be up to date.
	UpdateHash()
	// AppendCompactV0 appends the encoding that proofs of version 0 hold: an internal node with its own
	// leaf.
	AppendCompactV0(dst []byte) []byte
	// AppendCompactV1 appends the encoding that proofs of version 1 hold: an internal node without it.
	AppendCompactV1(dst []byte) []byte
	// AppendFull appends the encoding that says everything the node's hash does.
	AppendFull(dst []byte) []byte
}

// Pointer points to a node, which may or may not be in memory.
type Pointer struct {
	// Clean says that Hash and Address are those of the stored node.
	Clean bool
	// Embedded says that the stored node is a leaf that lies in its parent's record and has no entry of
	// its own. It means nothing where Clean is false.
	Embedded bool
	// Hash is the node's hash.
	Hash hash.Hash
	// Address says what wrote the stored node. It means nothing where Clean is false.
	Address Address
	// Node is the node, nil where it is not in memory.
	Node Node
}

// GetHash returns the hash of what p points to; that of an absent child for a nil pointer.
func (p *Pointer) GetHash() hash.Hash {
	if p == nil {
		return hash.EmptyHash
	}
	return p.Hash
}

// LeafNode holds a key and its value.
type LeafNode struct {
	Hash  hash.Hash
	Key   Key
	Value []byte
}

// GetHash returns the node's hash as it was last updated.
func (n *LeafNode) GetHash() hash.Hash { return n.Hash }

// UpdateHash computes the node's hash.
func (n *LeafNode) UpdateHash() { n.Hash = LeafHash(n.Key, n.Value) }

// AppendCompactV0 appends the node's encoding; a leaf has only one.
func (n *LeafNode) AppendCompactV0(dst []byte) []byte { return AppendLeaf(dst, n.Key, n.Value) }

// AppendCompactV1 appends the node's encoding; a leaf has only one.
func (n *LeafNode) AppendCompactV1(dst []byte) []byte { return AppendLeaf(dst, n.Key, n.Value) }

// AppendFull appends the node's encoding; a leaf has only one.
func (n *LeafNode) AppendFull(dst []byte) []byte { return AppendLeaf(dst, n.Key, n.Value) }

// Size is the length of the node's encoding in bytes.
func (n *LeafNode) Size() int { return LeafOverhead + len(n.Key) + len(n.Value) }

// InternalNode holds the label of the edge that leads to it, its own leaf and its children, at least
// two of these three.
type InternalNode struct {
	Hash hash.Hash
	// Label holds the edge's bits, left-aligned, unused bits zero.
	Label          Key
	LabelBitLength Depth
	// LeafNode is the leaf whose key ends here. It is always in memory with its node.
	LeafNode    *Pointer
	Left, Right *Pointer
}

// GetHash returns the node's hash as it was last updated.
func (n *InternalNode) GetHash() hash.Hash { return n.Hash }

// UpdateHash computes the node's hash from its label and its parts' hashes.
func (n *InternalNode) UpdateHash() {
	n.Hash = InternalHash(n.Label, n.LabelBitLength, n.LeafNode.GetHash(), n.Left.GetHash(), n.Right.GetHash())
}

// AppendCompactV0 appends the encoding with the own leaf.
func (n *InternalNode) AppendCompactV0(dst []byte) []byte {
	dst = AppendInternalHead(dst, n.Label, n.LabelBitLength)
	if n.LeafNode == nil {
		return append(dst, PrefixNilNode)
	}
	return n.LeafNode.Node.AppendCompactV0(dst)
}

// AppendCompactV1 appends the encoding without the own leaf.
func (n *InternalNode) AppendCompactV1(dst []byte) []byte {
	return append(AppendInternalHead(dst, n.Label, n.LabelBitLength), PrefixNilNode)
}

// AppendFull appends the encoding with the own leaf and the children's hashes.
func (n *InternalNode) AppendFull(dst []byte) []byte {
	dst = n.AppendCompactV0(dst)
	left, right := n.Left.GetHash(), n.Right.GetHash()
	return append(append(dst, left[:]...), right[:]...)
}

// LeafHash is the hash of a leaf.
func LeafHash(key, value []byte) hash.Hash {
	var stack [512]byte
	b := append(stack[:0], PrefixLeafNode)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(key)))
	b = append(b, key...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(value)))
	if len(value) > cap(b)-len(b) {
		return hash.NewFromBytes(b, value) // saves a copy of a large value
	}
	return hash.Sum(append(b, value...))
}

// InternalHash is the hash of an internal node, given its parts' hashes.
func InternalHash(label Key, bits Depth, leaf, left, right hash.Hash) hash.Hash {
	var stack [prefixSize + depthSize + 64 + 3*hash.Size]byte
	b := append(stack[:0], PrefixInternalNode)
	b = binary.LittleEndian.AppendUint16(b, uint16(bits))
	b = append(b, label[:bits.ToBytes()]...)
	b = append(b, leaf[:]...)
	b = append(b, left[:]...)
	b = append(b, right[:]...)
	return hash.Sum(b)
}

// AppendLeaf appends the encoding of a leaf.
func AppendLeaf(dst, key, value []byte) []byte {
	dst = append(dst, PrefixLeafNode)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(key)))
	dst = append(dst, key...)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(value)))
	return append(dst, value...)
}

// AppendInternalHead appends the encoding of an internal node up to its own leaf.
func AppendInternalHead(dst []byte, label Key, bits Depth) []byte {
	dst = append(dst, PrefixInternalNode)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(bits))
	return append(dst, label[:bits.ToBytes()]...)
}

// Compact is a node's compact encoding taken apart. Its slices lie in the encoding.
type Compact struct {
	// Leaf says whether the node is a leaf: then Key and Value are set, otherwise the rest.
	Leaf  bool
	Key   Key
	Value []byte

	Label          Key
	LabelBitLength Depth
	// OwnLeaf is the encoding of the own leaf, nil where there is none; its key and value are OwnKey and
	// OwnValue.
	OwnLeaf  []byte
	OwnKey   Key
	OwnValue []byte
}

// ParseCompactV0 takes the first node's compact encoding off b and returns what follows. It refuses
// what no builder makes of one node: label bits set beyond the label's length, lengths beyond b or
// beyond MaxKeyBytes. It takes no memory.
func ParseCompactV0(b []byte) (c Compact, rest []byte, err error) {
	rest, err = c.ParseV0(b)
	return c, rest, err
}

// ParseV0 is ParseCompactV0 into c, whatever it held, for those who take many apart.
func (c *Compact) ParseV0(b []byte) (rest []byte, err error) {
	*c = Compact{}
	if len(b) == 0 {
		return nil, fmt.Errorf("%w: no bytes", ErrMalformedNode)
	}
	switch b[0] {
	case PrefixLeafNode:
		c.Leaf = true
		c.Key, c.Value, rest, err = parseLeaf(b)
		return rest, err
	case PrefixInternalNode:
	default:
		return nil, fmt.Errorf("%w: unknown kind %#02x", ErrMalformedNode, b[0])
	}
	if len(b) < prefixSize+depthSize {
		return nil, fmt.Errorf("%w: internal node cut short", ErrMalformedNode)
	}
	c.LabelBitLength = Depth(binary.LittleEndian.Uint16(b[prefixSize:]))
	b = b[prefixSize+depthSize:]
	n := c.LabelBitLength.ToBytes()
	if c.LabelBitLength > MaxDepth || len(b) < n+prefixSize {
		return nil, fmt.Errorf("%w: label of %d bits cut short", ErrMalformedNode, c.LabelBitLength)
	}
	c.Label, b = Key(b[:n:n]), b[n:]
	if used := c.LabelBitLength & 7; used != 0 && c.Label[n-1]&(0xff>>used) != 0 {
		return nil, fmt.Errorf("%w: bits set beyond the label's %d", ErrMalformedNode, c.LabelBitLength)
	}
	switch b[0] {
	case PrefixNilNode:
		return b[prefixSize:], nil
	case PrefixLeafNode:
		c.OwnKey, c.OwnValue, rest, err = parseLeaf(b)
		if err == nil {
			end := len(b) - len(rest)
			c.OwnLeaf = b[:end:end]
		}
		return rest, err
	default:
		return nil, fmt.Errorf("%w: unknown kind %#02x of own leaf", ErrMalformedNode, b[0])
	}
}

func parseLeaf(b []byte) (key Key, value, rest []byte, err error) {
	if len(b) < prefixSize+keyLengthSize {
		return nil, nil, nil, fmt.Errorf("%w: leaf cut short", ErrMalformedNode)
	}
	n := int(binary.LittleEndian.Uint16(b[prefixSize:]))
	b = b[prefixSize+keyLengthSize:]
	if n > MaxKeyBytes || len(b) < n+valueLengthSize {
		return nil, nil, nil, fmt.Errorf("%w: key of %d bytes cut short or too long", ErrMalformedNode, n)
	}
	key, b = Key(b[:n:n]), b[n:]
	v := binary.LittleEndian.Uint32(b)
	b = b[valueLengthSize:]
	if uint64(len(b)) < uint64(v) {
		return nil, nil, nil, fmt.Errorf("%w: value of %d bytes cut short", ErrMalformedNode, v)
	}
	return key, b[:v:v], b[v:], nil
}
