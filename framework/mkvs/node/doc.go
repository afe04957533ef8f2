// Package node is the format of the tree's parts: keys as strings of bits, leaves and internal nodes
// with their hashes and encodings (proof.go of package proof puts them together), roots, and the
// storage address of a node: the version and candidate that wrote it and its position.
//
// # The tree
//
// A binary Patricia tree over the bits of the key; bits are numbered from the most significant bit of
// the first byte. A leaf holds a whole key and a value. An internal node holds a label (the bits of
// the edge that leads to it, left-aligned, unused bits zero), an optional own leaf (for the key that
// ends exactly at the node's depth), a left child (next bit 0) and a right child (next bit 1), at
// least two of the three. A child's label begins with the bit that selected it; a leaf has no label.
// The tree is a function of its keys and values alone.
//
// # Hashes and encodings
//
//	leaf hash:      H(0x00 ‖ le32(len key) ‖ key ‖ le32(len value) ‖ value)
//	internal hash:  H(0x01 ‖ le16(label bits) ‖ label ‖ hash(own leaf) ‖ hash(left) ‖ hash(right))
//	leaf:           0x00 ‖ le16(len key) ‖ key ‖ le32(len value) ‖ value
//	internal, V0:   0x01 ‖ le16(label bits) ‖ label ‖ (own leaf's encoding, or 0x02)
//	internal, V1:   0x01 ‖ le16(label bits) ‖ label ‖ 0x02
//	internal, full: V0 ‖ hash(left) ‖ hash(right)
//
// H is SHA-512/256, and an absent part's hash is the hash of nothing.
package node
