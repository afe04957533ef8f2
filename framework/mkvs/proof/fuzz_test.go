package proof_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/proof"
)

// split cuts fuzzed bytes into entries: a length of 16 bits before each, 0xffff for nil.
func split(data []byte) (entries [][]byte) {
	for len(data) >= 2 {
		n := int(binary.LittleEndian.Uint16(data))
		data = data[2:]
		if n == 0xffff {
			entries = append(entries, nil)
			continue
		}
		n = min(n, len(data))
		entries = append(entries, data[:n:n])
		data = data[n:]
	}
	return entries
}

func join(entries [][]byte) (data []byte) {
	for _, e := range entries {
		n := len(e)
		if e == nil {
			n = 0xffff
		}
		data = append(binary.LittleEndian.AppendUint16(data, uint16(n)), e...)
	}
	return data
}

// rebuild makes the entries that a builder makes of a decoded tree.
func rebuild(version uint16, tree *proof.Tree) (entries [][]byte) {
	stack := []int32{proof.None}
	if len(tree.Nodes) > 0 {
		stack[0] = 0
	}
	for len(stack) > 0 {
		i := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if i == proof.None {
			entries = append(entries, nil)
			continue
		}
		n := &tree.Nodes[i]
		if n.Kind == proof.KindHash {
			entries = append(entries, append([]byte{0x02}, n.Hash[:]...))
			continue
		}
		e := []byte{0x01}
		c := n.Compact()
		switch {
		case c.Leaf:
			e = node.AppendLeaf(e, c.Key, c.Value)
		case c.OwnLeaf != nil:
			e = node.AppendLeaf(node.AppendInternalHead(e, c.Label, c.LabelBitLength), c.OwnKey, c.OwnValue)
		default:
			e = append(node.AppendInternalHead(e, c.Label, c.LabelBitLength), 0x02)
		}
		entries = append(entries, e)
		if n.Kind == proof.KindInternal {
			stack = append(stack, n.Children[node.Right], n.Children[node.Left])
			if version == proof.Version1 {
				stack = append(stack, n.OwnLeaf)
			}
		}
	}
	return entries
}

// FuzzDecoder holds that whatever is accepted is what a builder makes of the same nodes, that the root's
// hash is that of the nodes, and that nothing panics.
func FuzzDecoder(f *testing.F) {
	for _, pairs := range [][]pair{
		nil,
		{{[]byte("key"), []byte("value")}},
		{{nil, nil}, {[]byte{0}, []byte("left")}, {[]byte{0x80}, []byte("right")}},
		{{[]byte("a"), nil}, {[]byte("ab"), []byte("1")}, {[]byte("abc"), []byte("2")}, {[]byte("b"), []byte("3")}},
		{{bytes.Repeat([]byte("x"), 99), nil}, {bytes.Repeat([]byte("x"), 100), []byte("2")}},
	} {
		root := refTree(pairs)
		for _, include := range []func(*refNode) bool{all, func(n *refNode) bool { return n == root }, func(n *refNode) bool { return n.leaf == nil }} {
			f.Add(uint8(0), join(root.entries(0, include)))
			f.Add(uint8(1), join(root.entries(1, include)))
		}
	}
	f.Fuzz(func(t *testing.T, version uint8, data []byte) {
		entries := split(data)
		tree, err := decode(uint16(version), entries)
		if err != nil {
			if !errors.Is(err, proof.ErrMalformed) && !errors.Is(err, proof.ErrLimitExceeded) && !errors.Is(err, proof.ErrUnsupportedVersion) {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		again := rebuild(uint16(version), tree)
		if !bytes.Equal(join(again), join(entries)) {
			t.Fatalf("accepted %x, which is %x", entries, again)
		}
		for i, p := range tree.Positions() {
			if _, n, err := p.Bits(); err != nil || n != tree.Nodes[i].Depth {
				t.Fatalf("node %d: position %s of %d bits, %v", i, p, n, err)
			}
		}
	})
}
