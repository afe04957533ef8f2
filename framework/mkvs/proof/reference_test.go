package proof_test

import (
	"bytes"
	"slices"

	"pgregory.net/rapid"

	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/proof"
)

type pair struct{ key, value []byte }

// refNode is a tree built by the definition of the format, with none of the code under test, and
// recursively, which only a test may do.
type refNode struct {
	leaf     *pair
	label    node.Key
	bits     node.Depth
	start    node.Depth
	path     node.Key // a key that goes through the node
	own      *refNode
	children [2]*refNode
	hash     hash.Hash
}

func refTree(pairs []pair) *refNode {
	sorted := slices.Clone(pairs)
	slices.SortFunc(sorted, func(a, b pair) int { return bytes.Compare(a.key, b.key) })
	return refBuild(sorted, 0)
}

func refBuild(pairs []pair, depth node.Depth) *refNode {
	switch len(pairs) {
	case 0:
		return nil
	case 1:
		return &refNode{leaf: &pairs[0], start: depth, path: pairs[0].key, hash: node.LeafHash(pairs[0].key, pairs[0].value)}
	}
	first, last := node.Key(pairs[0].key), node.Key(pairs[len(pairs)-1].key)
	end := first.CommonPrefixLen(first.BitLength(), last, last.BitLength())
	n := &refNode{label: first.Slice(depth, end), bits: end - depth, start: depth, path: last}
	if first.BitLength() == end {
		n.own = refBuild(pairs[:1], end)
		pairs = pairs[1:]
	}
	right := slices.IndexFunc(pairs, func(p pair) bool { return node.Key(p.key).GetBit(end) })
	if right < 0 {
		right = len(pairs)
	}
	n.children[0], n.children[1] = refBuild(pairs[:right], end), refBuild(pairs[right:], end)
	n.hash = node.InternalHash(n.label, n.bits, n.own.getHash(), n.children[0].getHash(), n.children[1].getHash())
	return n
}

func (n *refNode) getHash() hash.Hash {
	if n == nil {
		return hash.EmptyHash
	}
	return n.hash
}

// position is the position of a child; the root's has no bits, own leaves have none.
func (n *refNode) position() node.Position { return node.NewPosition(n.path, n.start+1) }

// entries makes a proof's entries; include says which nodes are in it.
func (n *refNode) entries(version uint16, include func(*refNode) bool) [][]byte {
	if n == nil {
		return [][]byte{nil}
	}
	if !include(n) {
		return [][]byte{append([]byte{0x02}, n.hash[:]...)}
	}
	if n.leaf != nil {
		return [][]byte{node.AppendLeaf([]byte{0x01}, n.leaf.key, n.leaf.value)}
	}
	e := node.AppendInternalHead([]byte{0x01}, n.label, n.bits)
	if n.own != nil && version == proof.Version0 {
		e = node.AppendLeaf(e, n.own.leaf.key, n.own.leaf.value)
	} else {
		e = append(e, 0x02)
	}
	out := [][]byte{e}
	if version == proof.Version1 {
		out = append(out, n.own.entries(version, include)...)
	}
	out = append(out, n.children[0].entries(version, include)...)
	return append(out, n.children[1].entries(version, include)...)
}

func all(*refNode) bool { return true }

// drawPairs draws a set of keys, many of which are prefixes of each other, with values.
func drawPairs(t *rapid.T, least int) []pair {
	keys := rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) string {
		alphabet := rapid.SampledFrom([]string{"\x00\x01\x80\xff", "ab", ""}).Draw(t, "alphabet")
		n := rapid.IntRange(0, 6).Draw(t, "length")
		key := make([]byte, n)
		for i := range key {
			if alphabet == "" {
				key[i] = rapid.Byte().Draw(t, "byte")
			} else {
				key[i] = alphabet[rapid.IntRange(0, len(alphabet)-1).Draw(t, "byte")]
			}
		}
		return string(key)
	}), least, 40, rapid.ID[string]).Draw(t, "keys")
	pairs := make([]pair, len(keys))
	for i, key := range keys {
		pairs[i] = pair{[]byte(key), rapid.SliceOfN(rapid.Byte(), 0, 5).Draw(t, "value")}
	}
	return pairs
}
