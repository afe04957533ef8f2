package checkpoint

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/golang/snappy"

	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/proof"
)

// TestCompress checks compressing and its inverse against the snappy library, over entries of all sizes
// around a block's.
func TestCompress(t *testing.T) {
	random := rand.NewChaCha8([32]byte{1})
	for _, sizes := range [][]int{
		{0},
		{1},
		{23, 24, 255, 256},
		{65535},
		{65536},
		{65537},
		{100, 65536},
		{100, 65436, 1},
		{70000, 70000, 70000},
		{300000},
		{1, 300000, 1},
		{1 << 20, 5},
		{3 << 20},
		{40000, 40000, 200000, 17},
	} {
		var want bytes.Buffer
		w := snappy.NewBufferedWriter(&want)
		s := &segment{}
		var raw []byte
		for i, n := range sizes {
			entry := make([]byte, n)
			if i%2 == 0 {
				random.Read(entry)
			}
			start := len(s.data)
			s.data = append(appendBytesHead(s.data, n), entry...)
			s.ends = append(s.ends, len(s.data))
			if _, err := w.Write(s.data[start:]); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		raw = bytes.Clone(s.data)
		got := packed(t, s)
		if !bytes.Equal(got, want.Bytes()) {
			t.Errorf("entries of %v bytes: other bytes than one Write an entry gives", sizes)
		}
		back, err := decompress(nil, got, int64(len(raw)))
		if err != nil || !bytes.Equal(back, raw) {
			t.Errorf("entries of %v bytes: %v", sizes, err)
		}
		if _, err := decompress(nil, got, int64(len(raw))-1); !errors.Is(err, ErrLimitExceeded) {
			t.Errorf("entries of %v bytes, and one byte less is allowed: %v", sizes, err)
		}
	}
}

// TestBomb checks that a chunk that claims to be huge before compression takes no memory.
func TestBomb(t *testing.T) {
	bomb := []byte(streamIdentifier)
	block := append([]byte{frameCompressed, 0, 0, 0, 1, 2, 3, 4}, snappy.Encode(nil, make([]byte, frameMaxRaw))...)
	n := len(block) - frameHeadBytes
	block[1], block[2] = byte(n), byte(n>>8)
	for range 2000 {
		bomb = append(bomb, block...)
	}
	limits := Limits{RawBytes: 100 << 20}.withDefaults()
	allocated := testing.AllocsPerRun(1, func() {
		if _, err := newChunkDecoder(&limits).decode(bomb, hash.EmptyHash); !errors.Is(err, ErrLimitExceeded) {
			t.Errorf("%v", err)
		}
	})
	if allocated > 20 {
		t.Errorf("%v allocations", allocated)
	}
}

// FuzzDecodeChunk checks that no chunk does harm, that every error is one of two, and that what is
// accepted is the only encoding of what it holds.
func FuzzDecodeChunk(f *testing.F) {
	for _, size := range []uint64{0, 256, 1 << 20} {
		d := newTreeDB(f, dataSet("prefixes", 40), 1, 64)
		m := makeCheckpoint(f, d, d.root, size, 0)
		for i := range min(3, uint64(len(m.Chunks))) {
			f.Add(m.chunk(f, i))
		}
	}
	f.Add([]byte(streamIdentifier))
	f.Add(rawChunk(f, nil))
	f.Add(rawChunk(f, hashEntry(hash.Sum(nil))))
	limits := Limits{ChunkBytes: 1 << 20, RawBytes: 1 << 22, Entries: 1 << 12}.withDefaults()
	decoder := newChunkDecoder(&limits) // what one chunk leaves in it must not matter to the next
	f.Fuzz(func(t *testing.T, chunk []byte) {
		// Without the right root hash nothing would come through: so it is made right.
		root := hash.EmptyHash
		raw, err := decompress(nil, chunk, limits.RawBytes)
		if err == nil {
			decoder.raw = raw
			var tree *proof.Tree
			if tree, err = decoder.entries(); err == nil {
				root = tree.Root()
			}
			decoder.raw = nil
		}
		tree, err := decoder.decode(chunk, root)
		if err != nil {
			if !errors.Is(err, ErrChunkProofVerificationFailed) && !errors.Is(err, ErrLimitExceeded) {
				t.Fatalf("another error: %v", err)
			}
			return
		}
		if again := appendEntries(nil, tree); !bytes.Equal(again, raw) {
			t.Fatalf("%x encodes to %x", raw, again)
		}
		known := newKnownTree()
		known.add(tree)
		if _, ok := spanOf(tree, 0); !ok && known.complete() && len(tree.Nodes) > 0 {
			t.Fatal("complete without a whole node")
		}
	})
}

// appendEntries encodes a tree's entries again.
func appendEntries(dst []byte, tree *proof.Tree) []byte {
	if len(tree.Nodes) == 0 {
		return append(dst, cborNull)
	}
	stack := []int32{0}
	for len(stack) > 0 {
		i := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if i == proof.None {
			dst = append(dst, cborNull)
			continue
		}
		switch n := &tree.Nodes[i]; n.Kind {
		case proof.KindHash:
			dst = append(appendBytesHead(dst, 1+hash.Size), hashEntry(n.Hash)...)
		case proof.KindLeaf:
			dst = append(append(appendBytesHead(dst, 1+len(n.Encoding)), entryIncluded), n.Encoding...)
		default:
			dst = append(append(appendBytesHead(dst, 1+len(n.Encoding)), entryIncluded), n.Encoding...)
			stack = append(stack, n.Children[1], n.Children[0])
		}
	}
	return dst
}
