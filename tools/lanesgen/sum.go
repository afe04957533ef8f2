package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

const (
	blockBytes  = 128
	wordBytes   = 8
	digestBytes = 32
)

// generator writes the functions.
type generator struct {
	*build.Context
	roundConstants, initialState, swapBytes, rotate8, one, oneBlock operand.Mem
}

// vector is a register whose lanes are 64-bit words, one of each message.
type vector = reg.VecVirtual

// instructions is what differs between the sets of vector instructions. Where an operand is of type
// operand.Op it is a register or memory. Results come last, as in Go's assembly.
type instructions interface {
	lanes() int
	vector() vector
	move(from, to operand.Op)
	// broadcast sets all lanes to a word in memory.
	broadcast(word operand.Mem, to vector)
	// add adds x to to.
	add(x operand.Op, to vector)
	// addConstant adds a word in memory to all lanes.
	addConstant(word operand.Mem, to vector)
	// rotations returns x rotated right by a, by b and by c bits, combined by XOR; shifted the same of x rotated
	// by a and by b, and shifted by the last.
	rotations(x vector, a, b, c uint64) vector
	shifted(x vector, a, b, shift uint64) vector
	// choose returns x&y ^ ^x&z; majority the bits that at least two have.
	choose(x, y, z vector) vector
	majority(x, y, z vector) vector

	// schedule returns the place of the 16 words that a block's rounds work on.
	schedule() []operand.Op
	// loadBlocks fills them from one block of each message. pointers holds the blocks' addresses.
	loadBlocks(pointers operand.Mem, schedule []operand.Op)
	// begin takes the counts of blocks, by which the lanes are active or not. Then addActive adds x to what
	// is in memory, in the active lanes only; endBlock counts a block, and moves the pointers of the lanes
	// that have another.
	begin(counts operand.Mem)
	addActive(x vector, to operand.Mem)
	endBlock(pointers operand.Mem)
	// storeDigests writes the first four words of each lane.
	storeDigests(state [4]vector, to operand.Mem)
}

// sum writes a function that hashes as many messages as there are lanes.
func (g *generator) sum(name string, v instructions) {
	g.Function(name)
	g.Pragma("noescape")
	g.SignatureExpr("func(digests *[8][32]byte, blocks *byte, offsets, counts *[8]uint64, most uint64)")
	g.Doc(
		fmt.Sprintf("%s computes the digests of %d messages. Message i is counts[i] blocks, padding included, that", name, v.lanes()),
		"begin offsets[i] bytes after blocks; its digest goes to digests[i]. With a count of 0 the digest means",
		"nothing, and a block is read at the offset all the same. The greatest count, which is most, must not be 0.",
	)
	width := v.lanes() * wordBytes
	digests := g.Load(g.Param("digests"), g.GP64())
	blocks := g.Load(g.Param("blocks"), g.GP64())
	offsets := g.Load(g.Param("offsets"), g.GP64())
	counts := g.Load(g.Param("counts"), g.GP64())
	left := g.Load(g.Param("most"), g.GP64())

	pointers, before := g.AllocLocal(width), g.AllocLocal(8*width)
	address := g.GP64()
	for i := range v.lanes() {
		g.MOVQ(operand.Mem{Base: offsets, Disp: i * wordBytes}, address)
		g.ADDQ(blocks, address)
		g.MOVQ(address, pointers.Offset(i*wordBytes))
	}
	v.begin(operand.Mem{Base: counts})
	state := make([]vector, 8)
	for i := range state {
		state[i] = v.vector()
		v.broadcast(g.initialState.Offset(i*wordBytes), state[i])
		v.move(state[i], before.Offset(i*width))
	}
	schedule := v.schedule()
	constants, end := g.GP64(), g.GP64()
	g.LEAQ(g.roundConstants.Offset(64*wordBytes), end)

	g.Label(name + "Block")
	v.loadBlocks(pointers, schedule)
	g.LEAQ(g.roundConstants, constants)
	g.Label(name + "Rounds")
	g.rounds(v, state, schedule, constants, true)
	g.ADDQ(operand.U32(16*wordBytes), constants)
	g.CMPQ(constants, end)
	g.JNE(operand.LabelRef(name + "Rounds"))
	g.rounds(v, state, schedule, constants, false)
	for i := range state {
		v.addActive(state[i], before.Offset(i*width))
		v.move(before.Offset(i*width), state[i])
	}
	v.endBlock(pointers)
	g.DECQ(left)
	g.JNZ(operand.LabelRef(name + "Block"))

	v.storeDigests([4]vector(state), operand.Mem{Base: digests})
	g.VZEROUPPER()
	g.RET()
}

// rounds does 16 rounds, and, with expand, makes the words for the next 16. What was a is b after a round,
// and so on: the registers change their names, and after 16 rounds have their first ones again.
func (g *generator) rounds(v instructions, state []vector, schedule []operand.Op, constants reg.GPVirtual, expand bool) {
	for i := range 16 {
		name := func(n int) vector { return state[(n+16-i)%8] }
		a, b, c, d, e, f, g8, h := name(0), name(1), name(2), name(3), name(4), name(5), name(6), name(7)
		v.addConstant(operand.Mem{Base: constants, Disp: i * wordBytes}, h)
		v.add(schedule[i], h)
		v.add(v.choose(e, f, g8), h)
		v.add(v.rotations(e, 14, 18, 41), h)
		v.add(h, d)
		v.add(v.majority(a, b, c), h)
		v.add(v.rotations(a, 28, 34, 39), h)
		if !expand {
			continue
		}
		word := g.loaded(v, schedule[i])
		v.add(schedule[(i+9)%16], word)
		v.add(v.shifted(g.loaded(v, schedule[(i+1)%16]), 1, 8, 7), word)
		v.add(v.shifted(g.loaded(v, schedule[(i+14)%16]), 19, 61, 6), word)
		if _, inMemory := schedule[i].(operand.Mem); inMemory {
			v.move(word, schedule[i])
		}
	}
}

// loaded returns the register that x is, or one that x, in memory, is loaded to.
func (g *generator) loaded(v instructions, x operand.Op) vector {
	if r, ok := x.(vector); ok {
		return r
	}
	r := v.vector()
	v.move(x, r)
	return r
}

// tables writes the constants.
func (g *generator) tables() {
	table := func(name string, words []uint64) operand.Mem {
		m := g.StaticGlobal(name)
		g.DataAttributes(attr.RODATA | attr.NOPTR)
		for _, w := range words {
			g.AppendDatum(operand.U64(w))
		}
		return m
	}
	g.roundConstants = table("roundConstants", roundConstants[:])
	g.initialState = table("initialState", initialState[:])
	g.swapBytes = table("swapBytes", repeated(8, 0x0001020304050607, 0x08090a0b0c0d0e0f))
	g.rotate8 = table("rotate8", repeated(4, 0x0007060504030201, 0x080f0e0d0c0b0a09))
	g.one = table("one", []uint64{1})
	g.oneBlock = table("oneBlock", []uint64{blockBytes})
}

// repeated repeats two words, what an instruction needs for 16 bytes, until there are n.
func repeated(n int, low, high uint64) (words []uint64) {
	for len(words) < n {
		words = append(words, low, high)
	}
	return words
}
