//go:build !purego

package lanes

import (
	"bytes"
	"crypto/sha512"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// padded returns messages of any bytes, each of so many blocks with its padding, one after the other, and
// their digests. Where a message has no blocks, there is none.
func padded(counts []uint64) (blocks []byte, offsets [maxLanes]uint64, digests [maxLanes][32]byte) {
	random := rand.NewChaCha8([32]byte{2})
	for lane, count := range counts {
		if count == 0 {
			continue
		}
		m := make([]byte, count*blockBytes-padBytes)
		_, _ = random.Read(m)
		offsets[lane], digests[lane] = uint64(len(blocks)), sha512.Sum512_256(m)
		blocks = append(append(blocks, m...), 0x80)
		blocks = append(blocks, make([]byte, lengthBytes-8)...)
		blocks = binary.BigEndian.AppendUint64(blocks, uint64(len(m))*8)
	}
	return blocks, offsets, digests
}

// check runs a kernel on messages of so many blocks, which it makes in memory that place returns.
func check(t *testing.T, k *Kernel, counts [maxLanes]uint64, place func([]byte) []byte) {
	t.Helper()
	blocks, offsets, want := padded(counts[:k.lanes])
	most := uint64(0)
	for _, n := range counts[:k.lanes] {
		most = max(most, n)
	}
	if most == 0 {
		return
	}
	blocks = place(blocks)
	before := bytes.Clone(blocks)
	guarded := struct{ low, digests, high [maxLanes][32]byte }{}
	k.sum(&guarded.digests, &blocks[0], &offsets, &counts, most)
	for lane, n := range counts[:k.lanes] {
		if n > 0 && guarded.digests[lane] != want[lane] {
			t.Fatalf("%d blocks: lane %d: %x, want %x", counts[:k.lanes], lane, guarded.digests[lane], want[lane])
		}
	}
	for lane := k.lanes; lane < maxLanes; lane++ {
		if guarded.digests[lane] != [32]byte{} {
			t.Fatalf("wrote lane %d of %d", lane, k.lanes)
		}
	}
	if guarded.low != [maxLanes][32]byte{} || guarded.high != [maxLanes][32]byte{} || !bytes.Equal(before, blocks) {
		t.Fatal("wrote beside the digests")
	}
}

// eachMix runs a kernel on every pair of lengths, the one in one lane and the other in all others, and on
// mixtures of any lengths.
func eachMix(t *testing.T, place func([]byte) []byte) {
	for _, k := range vectorKernels() {
		t.Run(k.name, func(t *testing.T) {
			var counts [maxLanes]uint64
			for lane := range k.lanes {
				for one := range uint64(6) {
					for others := range uint64(6) {
						for i := range counts {
							counts[i] = others
						}
						counts[lane] = one
						check(t, k, counts, place)
					}
				}
			}
			random := rand.New(rand.NewPCG(1, 2))
			for range 1000 {
				for i := range counts {
					counts[i] = random.Uint64N(12)
				}
				check(t, k, counts, place)
			}
		})
	}
}

func TestKernelMixes(t *testing.T) {
	eachMix(t, func(b []byte) []byte { return b })
}
