package node_test

import (
	"bytes"
	"testing"

	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/hash/lanes"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// Nodes hashed together have the hashes that they have one by one.
func TestHashBatch(t *testing.T) {
	long := bytes.Repeat([]byte{0xf0}, node.MaxKeyBytes)
	for _, kernel := range lanes.Kernels() {
		var batch node.HashBatch
		batch.Use(kernel)
		var got, want []hash.Hash
		digest := func(w hash.Hash) *hash.Hash {
			got, want = append(got, hash.Hash{}), append(want, w)
			return &got[len(got)-1]
		}
		got = make([]hash.Hash, 0, 1000) // the digests' places must stay
		for i := range 300 {
			key, value := long[:i], long[:i*7%301]
			batch.AddLeaf(digest(node.LeafHash(key, value)), key, value)
			bits := node.Depth(i * 5)
			own, left, right := hash.EmptyHash, hash.Sum(key), hash.Sum(value)
			batch.AddInternal(digest(node.InternalHash(long, bits, own, left, right)), long, bits, &own, &left, &right)
			place := digest(node.InternalHash(long, bits, left, own, right))
			*place = left
			batch.AddInternal(place, long, bits, place, &own, &right)
		}
		for _, n := range []int{5000, 8191} {
			batch.AddLeaf(digest(node.LeafHash(long[:n], long)), long[:n], long)
		}
		batch.Sum()
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("%s: node %d: %s, want %s", kernel, i, got[i], want[i])
			}
		}
	}
}
