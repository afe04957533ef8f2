package main

import "github.com/mmcloughlin/avo/operand"

// avx2 is AVX2: four lanes. The words of the schedule, and what tells the active lanes, are on the stack.
type avx2 struct {
	*generator
	// left counts the blocks that are still to come, down to below zero; active is all ones in the lanes
	// where that is above zero.
	left, active operand.Mem
}

const avx2Bytes = 4 * wordBytes

func (v *avx2) lanes() int     { return 4 }
func (v *avx2) vector() vector { return v.YMM() }

func (v *avx2) move(from, to operand.Op)              { v.VMOVDQU(from, to) }
func (v *avx2) broadcast(word operand.Mem, to vector) { v.VPBROADCASTQ(word, to) }
func (v *avx2) add(x operand.Op, to vector)           { v.VPADDQ(x, to, to) }

func (v *avx2) addConstant(word operand.Mem, to vector) {
	constant := v.vector()
	v.broadcast(word, constant)
	v.add(constant, to)
}

func (v *avx2) rotations(x vector, a, b, c uint64) vector {
	r := v.rotated(x, a)
	v.xor(v.rotated(x, b), r)
	v.xor(v.rotated(x, c), r)
	return r
}

func (v *avx2) shifted(x vector, a, b, shift uint64) vector {
	r := v.rotated(x, a)
	v.xor(v.rotated(x, b), r)
	s := v.vector()
	v.VPSRLQ(operand.U8(shift), x, s)
	v.xor(s, r)
	return r
}

func (v *avx2) rotated(x vector, bits uint64) vector {
	right, left := v.vector(), v.vector()
	if bits == 8 {
		v.VPSHUFB(v.rotate8, x, right)
		return right
	}
	v.VPSRLQ(operand.U8(bits), x, right)
	v.VPSLLQ(operand.U8(64-bits), x, left)
	v.VPOR(left, right, right)
	return right
}

func (v *avx2) xor(x, to vector) { v.VPXOR(x, to, to) }

func (v *avx2) choose(x, y, z vector) vector {
	r := v.vector()
	v.VPXOR(y, z, r)
	v.VPAND(x, r, r)
	v.xor(z, r)
	return r
}

func (v *avx2) majority(x, y, z vector) vector {
	either, both := v.vector(), v.vector()
	v.VPOR(x, y, either)
	v.VPAND(x, y, both)
	v.VPAND(z, either, either)
	v.VPOR(both, either, either)
	return either
}

func (v *avx2) schedule() []operand.Op {
	memory := v.AllocLocal(16 * avx2Bytes)
	words := make([]operand.Op, 16)
	for i := range words {
		words[i] = memory.Offset(i * avx2Bytes)
	}
	return words
}

func (v *avx2) loadBlocks(pointers operand.Mem, schedule []operand.Op) {
	swap := v.vector()
	v.move(v.swapBytes, swap)
	for quarter := range 4 {
		var rows [4]vector
		for lane := range rows {
			block := v.GP64()
			v.MOVQ(pointers.Offset(lane*wordBytes), block)
			rows[lane] = v.vector()
			v.move(operand.Mem{Base: block, Disp: quarter * avx2Bytes}, rows[lane])
			v.VPSHUFB(swap, rows[lane], rows[lane])
		}
		for i, column := range v.transpose(rows) {
			v.move(column, schedule[4*quarter+i])
		}
	}
}

// transpose takes four registers of four words as a matrix, and returns its columns.
func (v *avx2) transpose(rows [4]vector) (columns [4]vector) {
	even, odd := [2]vector{v.vector(), v.vector()}, [2]vector{v.vector(), v.vector()}
	for i := range 2 {
		v.VPUNPCKLQDQ(rows[2*i+1], rows[2*i], even[i])
		v.VPUNPCKHQDQ(rows[2*i+1], rows[2*i], odd[i])
	}
	for i := range columns {
		columns[i] = v.vector()
	}
	const low, high = operand.U8(0x20), operand.U8(0x31)
	v.VPERM2I128(low, even[1], even[0], columns[0])
	v.VPERM2I128(low, odd[1], odd[0], columns[1])
	v.VPERM2I128(high, even[1], even[0], columns[2])
	v.VPERM2I128(high, odd[1], odd[0], columns[3])
	return columns
}

func (v *avx2) begin(counts operand.Mem) {
	v.left, v.active = v.AllocLocal(avx2Bytes), v.AllocLocal(avx2Bytes)
	left := v.vector()
	v.move(counts, left)
	v.setLeft(left)
}

// setLeft stores left and returns the active lanes.
func (v *avx2) setLeft(left vector) vector {
	v.move(left, v.left)
	zero, active := v.vector(), v.vector()
	v.VPXOR(zero, zero, zero)
	v.VPCMPGTQ(zero, left, active)
	v.move(active, v.active)
	return active
}

func (v *avx2) addActive(x vector, to operand.Mem) {
	v.VPAND(v.active, x, x)
	v.add(to, x)
	v.move(x, to)
}

func (v *avx2) endBlock(pointers operand.Mem) {
	left, one, advance := v.vector(), v.vector(), v.vector()
	v.move(v.left, left)
	v.broadcast(v.one, one)
	v.VPSUBQ(one, left, left)
	active := v.setLeft(left)
	v.broadcast(v.oneBlock, advance)
	v.VPAND(active, advance, advance)
	v.add(pointers, advance)
	v.move(advance, pointers)
}

func (v *avx2) storeDigests(state [4]vector, to operand.Mem) {
	for i, digest := range v.transpose(state) {
		v.VPSHUFB(v.swapBytes, digest, digest)
		v.move(digest, to.Offset(i*digestBytes))
	}
}
