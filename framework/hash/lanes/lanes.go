// Package lanes computes the hashes of many messages together, in the lanes of the CPU's vector registers.
//
// A single hash can't be split, for every block of it needs the one before. Independent messages can go
// side by side: with AVX-512 eight of them take about as long as two do alone, with AVX2 four. A tree has
// its messages in plenty, all leaves to begin with. The results are those of hash.Sum, on every machine: where
// there are no such instructions, and in programs that are built with the tag purego, hash.Sum makes them.
//
// The assembly is written by tools/lanesgen.
package lanes

import (
	"crypto/sha512"
	"encoding/binary"
	"slices"

	"github.com/ckpt-project/ckpt/framework/hash"
)

const (
	blockBytes = 128
	// lengthBytes is the size of the message's length at its end, and padBytes the least that is added.
	lengthBytes = 16
	padBytes    = 1 + lengthBytes

	// maxMessageBytes is the length of the longest message that is copied to be hashed with others.
	maxMessageBytes = 16 << 10
	maxBlocks       = (maxMessageBytes + padBytes + blockBytes - 1) / blockBytes

	// Messages are hashed when there are so many, or of so many bytes with their padding: enough that most go
	// with others of the same length, and little enough to stay in the cache.
	maxMessages   = 256
	maxBatchBytes = 256 << 10
)

// maxLanes is the number of lanes of the widest kernel.
const maxLanes = 8

// Kernel is a way to compute hashes.
type Kernel struct {
	name  string
	lanes int
	// sum hashes as many messages as there are lanes (see sum8); nil where hash.Sum is to do it.
	sum func(digests *[maxLanes][hash.Size]byte, blocks *byte, offsets, counts *[maxLanes]uint64, most uint64)
}

// String returns the name of the instructions used.
func (k *Kernel) String() string { return k.name }

var portable = &Kernel{name: "portable", lanes: 1}

// kernels are those that the CPU has, the best first.
var kernels = append(vectorKernels(), portable)

// Kernels returns the kernels that work on this machine, the best first, which is what a Batch uses unless it
// is told another. The last is the portable one.
func Kernels() []*Kernel { return slices.Clone(kernels) }

// Batch collects messages and hashes them together. The zero value is ready. A Batch keeps its memory, at most
// some 300 KiB, for the messages to come. It belongs to one goroutine.
type Batch struct {
	kernel *Kernel
	// blocks holds the messages, each padded to whole blocks.
	blocks   []byte
	messages []message
	// order has the messages' indices, the longest first.
	order []uint16

	digests         [maxLanes][hash.Size]byte
	offsets, counts [maxLanes]uint64
}

type message struct {
	digest *hash.Hash
	offset uint32
	// bytes is the message's length, blocks its length with the padding.
	bytes  uint16
	blocks uint16
}

// Use makes the batch, which must hold no messages, use a kernel.
func (b *Batch) Use(k *Kernel) { b.kernel = k }

// Add adds the message that is the concatenation of parts. Its hash is in digest once Sum has returned, and
// maybe before; parts may be used again at once.
func (b *Batch) Add(digest *hash.Hash, parts ...[]byte) {
	if b.kernel == nil {
		b.kernel = kernels[0]
	}
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	if n > maxMessageBytes {
		sumAlone(digest, parts)
		return
	}
	padded := (n + padBytes + blockBytes - 1) &^ (blockBytes - 1)
	if len(b.messages) == maxMessages || len(b.blocks)+padded > maxBatchBytes {
		b.Sum()
	}
	offset := len(b.blocks)
	b.blocks = slices.Grow(b.blocks, padded)[:offset+padded]
	m := b.blocks[offset:]
	at := 0
	for _, p := range parts {
		at += copy(m[at:], p)
	}
	if b.kernel.sum == nil {
		*digest = hash.Sum(m[:n])
		b.blocks = b.blocks[:offset]
		return
	}
	clear(m[n:])
	m[n] = 0x80
	binary.BigEndian.PutUint64(m[padded-8:], uint64(n)*8)
	b.messages = append(b.messages, message{digest: digest, offset: uint32(offset), bytes: uint16(n), blocks: uint16(padded / blockBytes)})
}

func sumAlone(digest *hash.Hash, parts [][]byte) {
	h := sha512.New512_256()
	for _, p := range parts {
		h.Write(p)
	}
	h.Sum(digest[:0])
}

// Sum computes the hashes of all messages added. The batch is empty afterwards.
func (b *Batch) Sum() {
	b.sort()
	for rest := b.order; len(rest) > 0; {
		group := rest[:min(b.kernel.lanes, len(rest))]
		if !b.together(group) {
			group = group[:1]
			m := &b.messages[group[0]]
			*m.digest = hash.Sum(b.blocks[m.offset:][:m.bytes])
		}
		rest = rest[len(group):]
	}
	b.blocks, b.order = b.blocks[:0], b.order[:0]
	clear(b.messages) // holds on to nobody's digest
	b.messages = b.messages[:0]
}

// sort sets the order: the longest come first, so that those that go together are of about the same length,
// and the last group, which may not be full, is short.
func (b *Batch) sort() {
	var at [maxBlocks + 1]uint16
	for i := range b.messages {
		at[b.messages[i].blocks]++
	}
	before := uint16(0)
	for i := maxBlocks; i >= 0; i-- {
		at[i], before = before, before+at[i]
	}
	b.order = slices.Grow(b.order[:0], len(b.messages))[:len(b.messages)]
	for i := range b.messages {
		n := &at[b.messages[i].blocks]
		b.order[*n] = uint16(i)
		*n++
	}
}

// together hashes messages, not more than there are lanes and the longest first, unless it would be quicker to
// hash the longest by itself: a block takes a kernel about as long as two take hash.Sum.
func (b *Batch) together(group []uint16) bool {
	b.offsets, b.counts = [maxLanes]uint64{}, [maxLanes]uint64{}
	total := uint64(0)
	for lane, i := range group {
		m := &b.messages[i]
		b.offsets[lane], b.counts[lane] = uint64(m.offset), uint64(m.blocks)
		total += uint64(m.blocks)
	}
	most := b.counts[0]
	if total <= 2*most {
		return false
	}
	b.kernel.sum(&b.digests, &b.blocks[0], &b.offsets, &b.counts, most)
	for lane, i := range group {
		*b.messages[i].digest = b.digests[lane]
	}
	return true
}
