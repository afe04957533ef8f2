package node

import (
	"encoding/binary"

	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/hash/lanes"
)

// HashBatch computes the hashes of many nodes together, which on most machines takes a fraction of the time of
// one after the other (package lanes). The nodes of a batch don't wait for each other: an internal node can be
// added when the hashes of its parts are known. The zero value is ready; one is best kept, with its memory, for
// the next nodes. It belongs to one goroutine.
type HashBatch struct {
	lanes lanes.Batch
}

// Use makes the batch, which must hold no nodes, use a kernel other than the best.
func (b *HashBatch) Use(k *lanes.Kernel) { b.lanes.Use(k) }

// AddLeaf adds a leaf. Its hash, LeafHash(key, value), is in digest once Sum has returned, and maybe before.
// Key and value are not kept.
func (b *HashBatch) AddLeaf(digest *hash.Hash, key, value []byte) {
	var head [prefixSize + 4]byte
	var valueLength [4]byte
	head[0] = PrefixLeafNode
	binary.LittleEndian.PutUint32(head[prefixSize:], uint32(len(key)))
	binary.LittleEndian.PutUint32(valueLength[:], uint32(len(value)))
	b.lanes.Add(digest, head[:], key, valueLength[:], value)
}

// AddInternal adds an internal node, given its parts' hashes. Its hash, InternalHash of the same, is in digest
// once Sum has returned, and maybe before. Nothing else is kept, and digest may be one of the parts' places.
func (b *HashBatch) AddInternal(digest *hash.Hash, label Key, bits Depth, leaf, left, right *hash.Hash) {
	var head [prefixSize + depthSize]byte
	head[0] = PrefixInternalNode
	binary.LittleEndian.PutUint16(head[prefixSize:], uint16(bits))
	b.lanes.Add(digest, head[:], label[:bits.ToBytes()], leaf[:], left[:], right[:])
}

// Sum computes the hashes of all nodes added. The batch is empty afterwards.
func (b *HashBatch) Sum() { b.lanes.Sum() }
