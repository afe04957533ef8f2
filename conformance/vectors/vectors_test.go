package vectors_test

import (
	"encoding/hex"
	"slices"
	"testing"

	"github.com/ckpt-project/ckpt/conformance/vectors"
	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// build computes a root from sorted pairs by the definition of the tree, with none of the framework's
// trees: the data sets and the answers have to agree by themselves.
func build(pairs []vectors.Pair, depth node.Depth) hash.Hash {
	switch len(pairs) {
	case 0:
		return hash.EmptyHash
	case 1:
		return node.LeafHash(pairs[0].Key, pairs[0].Value)
	}
	first, last := node.Key(pairs[0].Key), node.Key(pairs[len(pairs)-1].Key)
	end := first.CommonPrefixLen(first.BitLength(), last, last.BitLength())
	own := hash.EmptyHash
	if first.BitLength() == end {
		own = node.LeafHash(pairs[0].Key, pairs[0].Value)
		pairs = pairs[1:]
	}
	right := slices.IndexFunc(pairs, func(p vectors.Pair) bool { return node.Key(p.Key).GetBit(end) })
	if right < 0 {
		right = len(pairs)
	}
	return node.InternalHash(first.Slice(depth, end), end-depth, own, build(pairs[:right], end), build(pairs[right:], end))
}

func TestRoots(t *testing.T) {
	if len(vectors.All()) < 35 {
		t.Fatalf("%d vectors", len(vectors.All()))
	}
	for _, v := range vectors.All() {
		t.Run(v.Name(), func(t *testing.T) {
			t.Parallel()
			if got := build(v.Final(), 0); got != v.Root {
				t.Errorf("root %s, want %s", got, v.Root)
			}
			metadata, err := hex.DecodeString(v.MetadataCBOR)
			if err != nil {
				t.Fatal(err)
			}
			if got := hash.Sum(metadata); len(metadata) != 0 && got != v.MetadataHash {
				t.Errorf("metadata's hash %s, want %s", got, v.MetadataHash)
			}
			if len(v.ChunkDigests) != 0 && len(v.ChunkDigests) != v.Chunks {
				t.Errorf("%d digests, want %d", len(v.ChunkDigests), v.Chunks)
			}
		})
	}
	var ns common.Namespace
	if err := ns.UnmarshalHex(vectors.Namespace); err != nil {
		t.Fatal(err)
	}
}
