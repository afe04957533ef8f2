package proof_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/ckpt-project/ckpt/conformance/vectors"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/hash/lanes"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/proof"
)

func decode(version uint16, entries [][]byte) (*proof.Tree, error) {
	d := proof.NewDecoder(version, proof.Limits{})
	for _, e := range entries {
		if err := d.Add(e); err != nil {
			return nil, err
		}
	}
	return d.Finish()
}

func TestDecodeVectors(t *testing.T) {
	for _, v := range vectors.All() {
		if v.N > 5000 {
			continue // the sets are the same, only longer
		}
		t.Run(v.Name(), func(t *testing.T) {
			t.Parallel()
			var pairs []pair
			for _, p := range v.Final() {
				pairs = append(pairs, pair{p.Key, p.Value})
			}
			for version := range proof.LatestVersion + 1 {
				tree, err := decode(version, refTree(pairs).entries(version, all))
				if err != nil {
					t.Fatal(err)
				}
				if tree.Root() != v.Root {
					t.Errorf("version %d: root %s, want %s", version, tree.Root(), v.Root)
				}
			}
		})
	}
}

// collect lists the nodes that the proof has an entry for, in pre-order.
func (n *refNode) collect(version uint16, include func(*refNode) bool) (nodes []*refNode) {
	if n == nil {
		return nil
	}
	nodes = append(nodes, n)
	if n.leaf != nil || !include(n) {
		return nodes
	}
	if version == proof.Version1 {
		nodes = append(nodes, n.own.collect(version, include)...)
	}
	nodes = append(nodes, n.children[0].collect(version, include)...)
	return append(nodes, n.children[1].collect(version, include)...)
}

func (n *refNode) whole(version uint16, include func(*refNode) bool) bool {
	if n == nil {
		return true
	}
	return include(n) && (version == proof.Version0 || n.own.whole(version, include)) &&
		n.children[0].whole(version, include) && n.children[1].whole(version, include)
}

func TestDecodeAnyPart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		root := refTree(drawPairs(t, 0))
		version := rapid.Uint16Range(0, proof.LatestVersion).Draw(t, "version")
		included := map[*refNode]bool{}
		include := func(n *refNode) bool {
			in, known := included[n]
			if !known {
				in = rapid.IntRange(0, 9).Draw(t, "include") > 0
				included[n] = in
			}
			return in
		}
		tree, err := decode(version, root.entries(version, include))
		if err != nil {
			t.Fatal(err)
		}
		if tree.Root() != root.getHash() {
			t.Fatalf("root %s, want %s", tree.Root(), root.getHash())
		}
		want := root.collect(version, include)
		if len(want) != len(tree.Nodes) {
			t.Fatalf("%d nodes, want %d", len(tree.Nodes), len(want))
		}
		index := map[*refNode]int32{nil: proof.None}
		for i, n := range want {
			index[n] = int32(i)
		}
		for i, w := range want {
			n := &tree.Nodes[i]
			if n.Hash != w.hash || n.Whole != w.whole(version, include) {
				t.Fatalf("node %d: hash %s, whole %v", i, n.Hash, n.Whole)
			}
			switch {
			case !include(w):
				if n.Kind != proof.KindHash || n.Encoding != nil {
					t.Fatalf("node %d: %+v was left out", i, n)
				}
			case w.leaf != nil:
				if n.Kind != proof.KindLeaf || !bytes.Equal(n.Compact().Key, w.leaf.key) || !bytes.Equal(n.Compact().Value, w.leaf.value) {
					t.Fatalf("node %d: %+v is a leaf", i, n)
				}
			default:
				if n.Kind != proof.KindInternal || n.Children != [2]int32{index[w.children[0]], index[w.children[1]]} {
					t.Fatalf("node %d: %+v is an internal node", i, n)
				}
				if version == proof.Version1 && n.OwnLeaf != index[w.own] {
					t.Fatalf("node %d: own leaf %d, want %d", i, n.OwnLeaf, index[w.own])
				}
				if version == proof.Version0 && (n.Compact().OwnLeaf != nil) != (w.own != nil) {
					t.Fatalf("node %d: own leaf %x", i, n.Compact().OwnLeaf)
				}
			}
		}
		var last node.Position
		for i, p := range tree.Positions() {
			w := node.RootPosition()
			if i > 0 {
				w = want[i].position()
			}
			if !bytes.Equal(p, w) {
				t.Fatalf("node %d: position %s, want %s", i, p, w)
			}
			if last.Compare(p) >= 0 {
				t.Fatalf("position %s comes after %s", p, last)
			}
			last = bytes.Clone(p)
		}
	})
}

// A proof with any bit changed is refused or proves another root.
func TestDecodeBitFlips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		root := refTree(drawPairs(t, 1))
		version := rapid.Uint16Range(0, proof.LatestVersion).Draw(t, "version")
		entries := root.entries(version, func(n *refNode) bool { return n == root || len(n.path) != 3 })
		i := rapid.IntRange(0, len(entries)-1).Draw(t, "entry")
		if entries[i] == nil {
			entries[i] = []byte{}
		} else {
			bit := rapid.IntRange(0, len(entries[i])*8-1).Draw(t, "bit")
			entries[i][bit/8] ^= 0x80 >> (bit % 8)
		}
		tree, err := decode(version, entries)
		if err == nil && tree.Root() == root.getHash() {
			t.Fatalf("entry %d, changed to %x, still proves the root", i, entries[i])
		}
		if err != nil && !errors.Is(err, proof.ErrMalformed) && !errors.Is(err, proof.ErrLimitExceeded) {
			t.Fatalf("refused with %v", err)
		}
	})
}

func leafEntry(key string) []byte { return node.AppendLeaf([]byte{0x01}, []byte(key), []byte("v")) }

func hashEntry(h hash.Hash) []byte { return append([]byte{0x02}, h[:]...) }

// inner makes the entry of an internal node with a label of bits, and an own leaf where own is not "-".
func inner(label string, bits node.Depth, own string) []byte {
	e := node.AppendInternalHead([]byte{0x01}, node.Key(label), bits)
	if own == "-" {
		return append(e, 0x02)
	}
	return node.AppendLeaf(e, []byte(own), []byte("v"))
}

func TestDecodeRefuses(t *testing.T) {
	some := hash.Sum([]byte("something"))
	type entries = [][]byte
	cases := []struct {
		name    string
		version uint16
		entries entries
		want    string // in the error's text; none where the entries are good
	}{
		{"good", 0, entries{inner("a", 8, "a"), nil, leafEntry("a\x80")}, ""},
		{"good, version 1", 1, entries{inner("a", 8, "-"), leafEntry("a"), nil, leafEntry("a\x80")}, ""},
		{"good, all left out", 0, entries{inner("", 0, "-"), hashEntry(some), hashEntry(some)}, ""},
		{"good, a proof of nothing", 0, entries{hashEntry(some)}, ""},
		{"good, empty tree", 0, entries{nil}, ""},
		{"good, child's key ends with its bit", 0, entries{inner("`", 7, "-"), leafEntry("`"), leafEntry("a")}, ""},
		{"good, own leaf left out", 1, entries{inner("a", 8, "-"), hashEntry(some), nil, leafEntry("a\x80")}, ""},

		{"no entries", 0, entries{}, "missing"},
		{"entries missing", 0, entries{inner("a", 8, "a"), nil}, "missing"},
		{"surplus entry", 0, entries{leafEntry("a"), leafEntry("a")}, "surplus"},
		{"surplus nil", 0, entries{nil, nil}, "surplus"},
		{"empty entry", 0, entries{{}}, "empty entry"},
		{"unknown kind", 0, entries{{0x03}}, "kind of entry"},
		{"no node", 0, entries{{0x01}}, "no bytes"},
		{"unknown node", 0, entries{{0x01, 0x05}}, "unknown"},
		{"nil node", 0, entries{{0x01, 0x02}}, "unknown"},
		{"bytes after a leaf", 0, entries{append(leafEntry("a"), 0)}, "1 bytes after"},
		{"bytes after an internal node", 0, entries{append(inner("a", 8, "-"), 0)}, "1 bytes after"},
		{"leaf cut short", 0, entries{leafEntry("a")[:6]}, "cut short"},
		{"hash too short", 0, entries{hashEntry(some)[:32]}, "hash of 31 bytes"},
		{"hash too long", 0, entries{append(hashEntry(some), 0)}, "hash of 33 bytes"},
		{"hash of nothing", 0, entries{inner("a", 8, "a"), hashEntry(hash.EmptyHash), leafEntry("a\x80")}, "hash of nothing"},
		{"hash of nothing as root", 0, entries{hashEntry(hash.EmptyHash)}, "hash of nothing"},
		{"hash of nothing as own leaf", 1, entries{inner("a", 8, "-"), hashEntry(hash.EmptyHash)}, "hash of nothing"},
		{"bits beyond the label", 0, entries{inner("a", 7, "-")}, "beyond the label"},
		{"no part", 0, entries{inner("a", 8, "-"), nil, nil}, "two parts"},
		{"own leaf alone", 0, entries{inner("a", 8, "a"), nil, nil}, "two parts"},
		{"left alone", 0, entries{inner("a", 8, "-"), leafEntry("a\x00"), nil}, "two parts"},
		{"right alone", 0, entries{inner("a", 8, "-"), nil, leafEntry("a\x80")}, "two parts"},
		{"own leaf alone, version 1", 1, entries{inner("a", 8, "-"), leafEntry("a"), nil, nil}, "two parts"},
		{"left leaf's bit is 1", 0, entries{inner("a", 8, "a"), leafEntry("a\x80"), nil}, "wrong side"},
		{"right leaf's bit is 0", 0, entries{inner("a", 8, "a"), nil, leafEntry("a\x00")}, "wrong side"},
		{"left leaf ends at its parent", 0, entries{inner("a", 8, "-"), leafEntry("a"), leafEntry("a\x80")}, "ends at its parent"},
		{"right leaf ends at its parent", 0, entries{inner("a", 8, "-"), leafEntry("a\x00"), leafEntry("a")}, "ends at its parent"},
		{"leaf ends above its parent", 0, entries{inner("ab", 16, "-"), leafEntry("a")}, "leaves the labels"},
		{"leaf off its path", 0, entries{inner("a", 8, "a"), leafEntry("b\x00"), nil}, "leaves the labels"},
		{"leaf off its path, within a byte", 0, entries{inner("\xe0", 3, "-"), leafEntry("\xc0")}, "leaves the labels"},
		{"leaf off its path two nodes up", 0, entries{inner("a", 8, "a"), inner("b", 8, "ab"), leafEntry("xb\x00")}, "leaves the labels"},
		{"child's label empty", 0, entries{inner("a", 8, "a"), inner("", 0, "-")}, "empty label"},
		{"left child's label starts with 1", 0, entries{inner("a", 8, "a"), inner("\x80", 8, "a\x80")}, "other side"},
		{"right child's label starts with 0", 0, entries{inner("a", 8, "a"), nil, inner("b", 8, "ab")}, "other side"},
		{"own leaf too long", 0, entries{inner("a", 8, "ab")}, "does not end at its node"},
		{"own leaf too short", 0, entries{inner("ab", 16, "a")}, "does not end at its node"},
		{"own leaf off the path", 0, entries{inner("a", 8, "b")}, "does not end at its node"},
		{"own leaf within a byte", 0, entries{inner("`", 7, "a")}, "does not end at its node"},
		{"own leaf off the path, version 1", 1, entries{inner("a", 8, "-"), leafEntry("b")}, "does not end at its node"},
		{"own leaf left out within a byte", 1, entries{inner("`", 7, "-"), hashEntry(some)}, "depth of 7 bits"},
		{"own leaf is no leaf", 1, entries{inner("a", 8, "-"), inner("a", 8, "-")}, "in the place of an own leaf"},
		{"own leaf within its node, version 1", 1, entries{inner("a", 8, "a")}, "version 1"},
		{"own leaf is an internal node", 0, entries{append(inner("a", 8, "-")[:5], 0x01)}, "of own leaf"},
		{"label below the longest key", 0, entries{inner(string(make([]byte, 8191)), node.MaxDepth, "-")}, "below the longest key"},
		{"label of 65,535 bits", 0, entries{inner(string(make([]byte, 8192)), 65535, "-")}, "65535"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := decode(c.version, c.entries)
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (!errors.Is(err, proof.ErrMalformed) || !bytes.Contains([]byte(err.Error()), []byte(c.want))):
				t.Errorf("error %v, want one that says %q", err, c.want)
			}
		})
	}
}

func TestDecodeLimits(t *testing.T) {
	long := [][]byte{inner("abcd", 32, "abcd"), leafEntry("abcd\x00"), nil}
	for _, c := range []struct {
		limits  proof.Limits
		refused bool
	}{
		{proof.Limits{}, false},
		{proof.Limits{KeyBytes: 5, ValueBytes: 1, Entries: 3}, false},
		{proof.Limits{KeyBytes: 4}, true}, // a child below the node needs a longer key
		{proof.Limits{KeyBytes: 3}, true},
		{proof.Limits{Entries: 2}, true},
	} {
		d := proof.NewDecoder(0, c.limits)
		var err error
		for _, e := range long {
			err = errors.Join(err, d.Add(e))
		}
		if errors.Is(err, proof.ErrLimitExceeded) != c.refused || err != nil && !c.refused {
			t.Errorf("limits %+v: %v", c.limits, err)
		}
		if c.refused {
			if _, again := d.Finish(); !errors.Is(again, proof.ErrLimitExceeded) {
				t.Errorf("limits %+v: finished with %v after %v", c.limits, again, err)
			}
		}
	}
	for name, entry := range map[string][]byte{
		"own value":   node.AppendLeaf(node.AppendInternalHead([]byte{1}, node.Key("a"), 8), []byte("a"), make([]byte, 11)),
		"value":       node.AppendLeaf([]byte{1}, []byte("a"), make([]byte, 11)),
		"key":         node.AppendLeaf([]byte{1}, make([]byte, 21), nil),
		"key at once": inner("aaaaaaaaaaaaaaaaaaaa", 160, "-"),
	} {
		if err := proof.NewDecoder(0, proof.Limits{KeyBytes: 20, ValueBytes: 10}).Add(entry); !errors.Is(err, proof.ErrLimitExceeded) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := proof.NewDecoder(2, proof.Limits{}).Add(nil); !errors.Is(err, proof.ErrUnsupportedVersion) {
		t.Errorf("version 2: %v", err)
	}
}

// A chain of nested prefixes is as deep as a tree with a node at every byte can be.
func TestDecodeDeep(t *testing.T) {
	key := bytes.Repeat([]byte{0xff}, node.MaxKeyBytes)
	var entries [][]byte
	for n := range node.MaxKeyBytes {
		label := key[:min(n, 1)]
		entries = append(entries, node.AppendLeaf(node.AppendInternalHead([]byte{1}, label, node.Depth(len(label)*8)), key[:n], nil), nil)
	}
	entries = append(entries, node.AppendLeaf([]byte{1}, key, nil))
	tree, err := decode(0, entries)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(tree.Nodes); n != node.MaxKeyBytes+1 || !tree.Nodes[0].Whole {
		t.Errorf("%d nodes, whole %v", n, tree.Nodes[0].Whole)
	}
	want := node.LeafHash(key, nil)
	for n := node.MaxKeyBytes - 1; n >= 0; n-- {
		want = node.InternalHash(key[:min(n, 1)], node.Depth(min(n, 1)*8), node.LeafHash(key[:n], nil), hash.EmptyHash, want)
	}
	if tree.Root() != want {
		t.Errorf("root %s, want %s", tree.Root(), want)
	}
}

// manyPairs returns so many entries, among them keys that others begin with, and values of all lengths.
func manyPairs(n int) []pair {
	random := rand.NewChaCha8([32]byte{1})
	below := func(n uint64) int { return int(random.Uint64() % n) }
	bytes := make([]byte, 20_000)
	_, _ = random.Read(bytes)
	pairs := make([]pair, 0, n)
	seen := make(map[string]bool)
	for len(pairs) < n {
		var key []byte
		if len(pairs) > 0 && below(3) == 0 {
			key = slices.Clone(pairs[below(uint64(len(pairs)))].key)
		}
		from := below(10_000)
		key = append(key, bytes[from:from+below(12)]...)
		if seen[string(key)] {
			continue
		}
		seen[string(key)] = true
		longest := []uint64{5, 300, 300, 1500}[below(4)]
		if below(100) == 0 {
			longest = uint64(len(bytes))
		}
		pairs = append(pairs, pair{key, bytes[:below(longest+1)]})
	}
	return pairs
}

// In a tree of many times the nodes that are hashed together, each gets its own hash, whatever way they are
// hashed, and whatever is left out.
func TestDecodeManyTogether(t *testing.T) {
	root := refTree(manyPairs(3000))
	for _, kernel := range lanes.Kernels() {
		for version := range proof.LatestVersion + 1 {
			for name, include := range map[string]func(*refNode) bool{
				"all": all,
				"some": func(n *refNode) bool {
					return n == root || n.hash[0] < 200 || len(n.path) > 0 && n.path[0] < 100 && n.hash[0] < 253
				},
				"no leaves": func(n *refNode) bool { return n.leaf == nil },
			} {
				d := proof.NewDecoder(version, proof.Limits{})
				d.Use(kernel)
				for _, e := range root.entries(version, include) {
					if err := d.Add(e); err != nil {
						t.Fatal(err)
					}
					if n := d.Queued(); n >= proof.QueueLength {
						t.Fatalf("%d nodes wait", n)
					}
				}
				tree, err := d.Finish()
				if err != nil {
					t.Fatal(err)
				}
				nodes := root.collect(version, include)
				if len(tree.Nodes) != len(nodes) {
					t.Fatalf("%d nodes, want %d", len(tree.Nodes), len(nodes))
				}
				for i, n := range nodes {
					if tree.Nodes[i].Hash != n.hash {
						t.Fatalf("%s, version %d, %s: node %d of %d: %s, want %s", kernel, version, name, i, len(nodes), tree.Nodes[i].Hash, n.hash)
					}
				}
			}
		}
	}
}

// Where nearly each node that is hashed is all that its parent waited for, the queue stays nearly full, and must
// not grow.
func TestDecoderQueueStaysFull(t *testing.T) {
	var pairs []pair
	for i := range 8 * proof.QueueLength {
		key := []byte{byte(i >> 8), byte(i), 0}
		pairs = append(pairs, pair{key, nil}, pair{append(key[:2:2], 0x80), nil})
	}
	root := refTree(pairs)
	included := func(n *refNode) bool { return n.leaf == nil || n.path[2] == 0 }
	d := proof.NewDecoder(0, proof.Limits{})
	for _, e := range root.entries(0, included) {
		if err := d.Add(e); err != nil {
			t.Fatal(err)
		}
		if n := d.Queued(); n >= proof.QueueLength {
			t.Fatalf("%d nodes wait", n)
		}
	}
	if tree, err := d.Finish(); err != nil || tree.Root() != root.hash {
		t.Fatalf("%v, %v", tree.Root(), err)
	}
}

// A decoder that met with an error forgets all that was still to be hashed.
func TestDecoderResetMidway(t *testing.T) {
	first, second := refTree(manyPairs(700)), refTree(manyPairs(500))
	entries := first.entries(0, all)
	d := proof.NewDecoder(0, proof.Limits{})
	for n := 0; n < len(entries); n += 37 {
		for _, e := range entries[:n] {
			if err := d.Add(e); err != nil {
				t.Fatal(err)
			}
		}
		if err := d.Add([]byte{}); !errors.Is(err, proof.ErrMalformed) {
			t.Fatalf("an empty entry: %v", err)
		}
		d.Reset()
		for _, e := range second.entries(0, all) {
			if err := d.Add(e); err != nil {
				t.Fatal(err)
			}
		}
		tree, err := d.Finish()
		if err != nil || tree.Root() != second.hash {
			t.Fatalf("after %d entries and an error: %v, %v", n, tree.Root(), err)
		}
		d.Reset()
	}
}

func TestDecoderReset(t *testing.T) {
	d := proof.NewDecoder(0, proof.Limits{})
	for i := range 3 {
		if err := d.Add([]byte{}); err == nil {
			t.Fatal("an empty entry was taken")
		}
		d.Reset()
		pairs := []pair{{fmt.Append(nil, "key", i), []byte("a")}, {[]byte("k"), []byte("b")}, {[]byte("kez"), []byte("c")}}
		root := refTree(pairs)
		for _, e := range root.entries(0, all) {
			if err := d.Add(e); err != nil {
				t.Fatal(err)
			}
		}
		tree, err := d.Finish()
		if err != nil || tree.Root() != root.hash {
			t.Fatalf("%v, %v", tree, err)
		}
		d.Reset()
	}
}

// BenchmarkDecoder measures decoding as it is, and with each of the slower ways to hash.
func BenchmarkDecoder(b *testing.B) {
	set := vectors.DataSet{Kind: "uniform", Seed: 1, N: 50_000}
	var pairs []pair
	for i := range set.N {
		key, value := set.Entry(i)
		pairs = append(pairs, pair{key, value})
	}
	entries := refTree(pairs).entries(0, all)
	for _, kernel := range lanes.Kernels() {
		b.Run(kernel.String(), func(b *testing.B) {
			d := proof.NewDecoder(0, proof.Limits{})
			d.Use(kernel)
			b.ReportAllocs()
			for b.Loop() {
				d.Reset()
				for _, e := range entries {
					if err := d.Add(e); err != nil {
						b.Fatal(err)
					}
				}
				if _, err := d.Finish(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(set.N), "ns/key")
		})
	}
}
