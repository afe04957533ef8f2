package main

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// avx512 is AVX-512 F and BW: eight lanes; the 16 words of the schedule stay in registers.
type avx512 struct {
	*generator
	// left counts the blocks that are still to come, down to below zero; active has the lanes where that is
	// above zero.
	left vector
}

var active = reg.K1

func (v *avx512) lanes() int     { return 8 }
func (v *avx512) vector() vector { return v.ZMM() }

func (v *avx512) move(from, to operand.Op)                { v.VMOVDQU64(from, to) }
func (v *avx512) broadcast(word operand.Mem, to vector)   { v.VPBROADCASTQ(word, to) }
func (v *avx512) add(x operand.Op, to vector)             { v.VPADDQ(x, to, to) }
func (v *avx512) addConstant(word operand.Mem, to vector) { v.VPADDQ_BCST(word, to, to) }
func (v *avx512) choose(x, y, z vector) vector            { return v.logic(0xca, x, y, z) }
func (v *avx512) majority(x, y, z vector) vector          { return v.logic(0xe8, x, y, z) }
func (v *avx512) rotations(x vector, a, b, c uint64) vector {
	return v.combine(v.rotated(x, a), v.rotated(x, b), v.rotated(x, c))
}

func (v *avx512) shifted(x vector, a, b, shift uint64) vector {
	s := v.vector()
	v.VPSRLQ(operand.U8(shift), x, s)
	return v.combine(v.rotated(x, a), v.rotated(x, b), s)
}

func (v *avx512) rotated(x vector, bits uint64) vector {
	r := v.vector()
	v.VPRORQ(operand.U8(bits), x, r)
	return r
}

// combine sets x to x^y^z and returns it.
func (v *avx512) combine(x, y, z vector) vector {
	v.VPTERNLOGQ(operand.U8(0x96), z, y, x)
	return x
}

// logic returns the function of x, y and z with the given truth table.
func (v *avx512) logic(table uint8, x, y, z vector) vector {
	r := v.vector()
	v.VMOVDQA64(x, r)
	v.VPTERNLOGQ(operand.U8(table), z, y, r)
	return r
}

func (v *avx512) schedule() []operand.Op {
	words := make([]operand.Op, 16)
	for i := range words {
		words[i] = v.vector()
	}
	return words
}

func (v *avx512) loadBlocks(pointers operand.Mem, schedule []operand.Op) {
	swap := v.vector()
	v.move(v.swapBytes, swap)
	for half := range 2 {
		rows := make([]vector, 8)
		for lane := range rows {
			block := v.GP64()
			v.MOVQ(pointers.Offset(lane*wordBytes), block)
			rows[lane] = v.vector()
			v.move(operand.Mem{Base: block, Disp: half * 8 * wordBytes}, rows[lane])
			v.VPSHUFB(swap, rows[lane], rows[lane])
		}
		var even, odd [4]vector
		for i := range 4 {
			even[i], odd[i] = v.vector(), v.vector()
			v.VPUNPCKLQDQ(rows[2*i+1], rows[2*i], even[i])
			v.VPUNPCKHQDQ(rows[2*i+1], rows[2*i], odd[i])
		}
		words := schedule[8*half:]
		v.transpose(even, words[0], words[2], words[4], words[6])
		v.transpose(odd, words[1], words[3], words[5], words[7])
	}
}

// transpose takes four registers of four times 128 bits as a matrix, and writes its columns.
func (v *avx512) transpose(rows [4]vector, columns ...operand.Op) {
	const even, odd = operand.U8(0x88), operand.U8(0xdd)
	half := func(parts operand.U8, a, b vector) vector {
		r := v.vector()
		v.VSHUFI64X2(parts, b, a, r)
		return r
	}
	for i, parts := range []operand.U8{even, odd} {
		low, high := half(parts, rows[0], rows[1]), half(parts, rows[2], rows[3])
		v.VSHUFI64X2(even, high, low, columns[i])
		v.VSHUFI64X2(odd, high, low, columns[i+2])
	}
}

func (v *avx512) begin(counts operand.Mem) {
	v.left = v.vector()
	v.move(counts, v.left)
	v.setActive()
}

func (v *avx512) setActive() {
	zero := v.vector()
	v.VPXORQ(zero, zero, zero)
	v.VPCMPGTQ(zero, v.left, active)
}

func (v *avx512) addActive(x vector, to operand.Mem) {
	sum := v.vector()
	v.move(to, sum)
	v.VPADDQ(sum, x, active, sum)
	v.move(sum, to)
}

func (v *avx512) endBlock(pointers operand.Mem) {
	v.VPSUBQ_BCST(v.one, v.left, v.left)
	v.setActive()
	advance, p := v.vector(), v.vector()
	v.broadcast(v.oneBlock, advance)
	v.move(pointers, p)
	v.VPADDQ(advance, p, active, p)
	v.move(p, pointers)
}

func (v *avx512) storeDigests(state [4]vector, to operand.Mem) {
	swap := v.vector()
	v.move(v.swapBytes, swap)
	for _, s := range state {
		v.VPSHUFB(swap, s, s)
	}
	a, b, c, d := state[0], state[1], state[2], state[3]
	rows := [4]vector{v.vector(), v.vector(), v.vector(), v.vector()}
	v.VPUNPCKLQDQ(b, a, rows[0])
	v.VPUNPCKLQDQ(d, c, rows[1])
	v.VPUNPCKHQDQ(b, a, rows[2])
	v.VPUNPCKHQDQ(d, c, rows[3])
	pairs := []operand.Op{v.vector(), v.vector(), v.vector(), v.vector()}
	v.transpose(rows, pairs...)
	for i, p := range pairs {
		v.move(p, to.Offset(2*i*digestBytes))
	}
}
