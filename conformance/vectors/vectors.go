// Package vectors holds known answers for the checkpoint format, and the data sets that they are
// about: whoever makes a state of these entries and a checkpoint of that state must come to the same
// root, the same chunk digests and the same metadata, byte for byte.
package vectors

import (
	"bytes"
	_ "embed"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/ckpt-project/ckpt/framework/hash"
)

// Namespace is the namespace of all vectors, in text form.
const Namespace = "8000000000000000000000000000000000000000000000000000000000000000"

//go:embed checkpoints.json
var checkpointsJSON []byte

// Vector is one known answer: a data set, how its checkpoint is cut, and what comes out.
type Vector struct {
	// Kind, Seed and N name the data set.
	Kind string `json:"kind"`
	Seed uint64 `json:"seed"`
	N    uint64 `json:"n"`
	// RemoveEvery, where it is not 0, says that a version 2 follows in which the keys of every
	// RemoveEvery-th entry, from the first on, are removed; the answer is about that version.
	RemoveEvery uint64 `json:"remove_every"`

	// ChunkSize and Threads are the layout's parameters.
	ChunkSize uint64 `json:"chunk_size"`
	Threads   int    `json:"threads"`

	Root   hash.Hash `json:"root"`
	Chunks int       `json:"chunks"`
	// ChunkDigests is left out where it would be long; MetadataHash covers it.
	ChunkDigests []hash.Hash `json:"chunk_digests"`
	MetadataHash hash.Hash   `json:"metadata_hash"`
	// MetadataCBOR is the metadata's encoding in hexadecimal digits; it, too, is left out where long.
	MetadataCBOR string `json:"metadata_cbor"`
}

// Version is the version of the vector's root.
func (v *Vector) Version() uint64 {
	if v.RemoveEvery > 0 {
		return 2
	}
	return 1
}

// Name tells the vectors apart.
func (v *Vector) Name() string {
	return fmt.Sprintf("%s-%d-%d-r%d-c%d-t%d", v.Kind, v.Seed, v.N, v.RemoveEvery, v.ChunkSize, v.Threads)
}

// DataSet is the data set that the vector is about, its removals left out.
func (v *Vector) DataSet() DataSet { return DataSet{Kind: v.Kind, Seed: v.Seed, N: v.N} }

// RemovedKeys returns, in order, the keys to remove in version 2. Keys can repeat.
func (v *Vector) RemovedKeys() [][]byte {
	if v.RemoveEvery == 0 {
		return nil
	}
	var keys [][]byte
	for i := uint64(0); i < v.N; i += v.RemoveEvery {
		key, _ := v.DataSet().Entry(i)
		keys = append(keys, key)
	}
	return keys
}

var all = sync.OnceValue(func() []Vector {
	var vs []Vector
	if err := json.Unmarshal(checkpointsJSON, &vs); err != nil {
		panic(fmt.Sprintf("vectors: the embedded file is damaged: %v", err))
	}
	return vs
})

// All returns all vectors.
func All() []Vector { return slices.Clone(all()) }

// DataSet is a reproducible list of entries. Keys can repeat; the later entry wins.
type DataSet struct {
	// Kind is uniform (random keys of 32 bytes), ragged (of 0 to 99), prefixes (keys that are prefixes of
	// each other), accounts (three tables of JSON), decimal (counters), longkeys (up to 4 KiB) or bigvalues
	// (up to 200 kB).
	Kind string
	Seed uint64
	// N is the number of entries.
	N uint64
}

// bytesOf is the first n bytes of the hashes of label, seed, i and a counter.
func (d DataSet) bytesOf(label string, i, n uint64) []byte {
	out := make([]byte, 0, n+hash.Size)
	in := append(make([]byte, 0, len(label)+24), label...)
	in = binary.BigEndian.AppendUint64(in, d.Seed)
	in = binary.BigEndian.AppendUint64(in, i)
	for counter := uint64(0); uint64(len(out)) < n; counter++ {
		h := hash.Sum(binary.BigEndian.AppendUint64(in, counter))
		out = append(out, h[:]...)
	}
	return out[:n:n]
}

// numberOf is a number below m.
func (d DataSet) numberOf(label string, i, m uint64) uint64 {
	return binary.BigEndian.Uint64(d.bytesOf(label, i, 8)) % m
}

// Entry returns entry i. It panics for an unknown kind.
func (d DataSet) Entry(i uint64) (key, value []byte) {
	value = func() []byte {
		switch d.Kind {
		case "uniform":
			return d.bytesOf("value", i, d.numberOf("vlen", i, 200))
		case "ragged":
			return d.bytesOf("value", i, d.numberOf("vlen", i, 100))
		case "prefixes":
			return d.bytesOf("value", i, d.numberOf("vlen", i, 40))
		case "accounts":
			to := hex.EncodeToString(d.bytesOf("to", i%97, 20))
			return fmt.Appendf(nil, `{"balance":"%d","nonce":%d,"delegations":[{"to":"%s","shares":"%d"}]}`,
				d.numberOf("bal", i, 1e15), d.numberOf("nonce", i, 5000), to, d.numberOf("sh", i, 1e9))
		case "decimal":
			return fmt.Appendf(nil, "value %d", i*d.Seed)
		case "longkeys":
			return d.bytesOf("value", i, d.numberOf("vlen", i, 3000))
		case "bigvalues":
			return d.bytesOf("value", i, d.numberOf("vlen", i, 200000))
		default:
			panic(fmt.Sprintf("vectors: unknown kind of data set %q", d.Kind))
		}
	}()
	switch d.Kind {
	case "uniform":
		key = d.bytesOf("key", i, 32)
	case "ragged":
		key = d.bytesOf("key", i, d.numberOf("klen", i, 100))
	case "prefixes":
		key = d.bytesOf("stem", i/33, 33)[:i%33]
	case "accounts":
		key = append([]byte{byte(0x10 + i%3)}, d.bytesOf("addr", i/3, 20)...)
	case "decimal":
		key = strconv.AppendUint(nil, i, 10)
	case "longkeys":
		key = d.bytesOf("key", i, 1+d.numberOf("klen", i, 4095))
	case "bigvalues":
		key = d.bytesOf("key", i, 20)
	}
	return key, value
}

// Pair is a key and its value.
type Pair struct{ Key, Value []byte }

// Final returns what the vector's state holds in the end, sorted by key.
func (v *Vector) Final() []Pair {
	state := make(map[string][]byte, v.N)
	for i := range v.N {
		key, value := v.DataSet().Entry(i)
		state[string(key)] = value
	}
	for _, key := range v.RemovedKeys() {
		delete(state, string(key))
	}
	pairs := make([]Pair, 0, len(state))
	for key, value := range state {
		pairs = append(pairs, Pair{[]byte(key), value})
	}
	slices.SortFunc(pairs, func(a, b Pair) int { return bytes.Compare(a.Key, b.Key) })
	return pairs
}
