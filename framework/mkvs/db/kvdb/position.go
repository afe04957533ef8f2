package kvdb

import (
	"bytes"

	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// groupBits is the number of bits of a position's last byte; groupEnds says whether it can be a last
// one (a byte of seven bits is followed by another).
var (
	groupBits [256]uint8
	groupEnds [256]bool
)

func init() {
	for c := range 256 {
		if _, n, err := (node.Position{byte(c)}).Bits(); err == nil {
			groupBits[c], groupEnds[c] = uint8(n), true
		}
	}
}

// validPosition says whether p is what node.AppendPosition makes, without taking memory.
func validPosition(p node.Position) bool {
	last := len(p) - 1
	if last < 0 || len(p) > node.MaxPositionBytes {
		return false
	}
	for _, c := range p[:last] {
		if groupEnds[c] || c == 0xff {
			return false
		}
	}
	return groupEnds[p[last]] && last*7+int(groupBits[p[last]]) <= int(node.MaxDepth)
}

// reaches says whether q is p or a position below it. Both must be valid.
func reaches(p, q node.Position) bool {
	last := len(p) - 1
	if len(q) < len(p) || !bytes.Equal(p[:last], q[:last]) {
		return false
	}
	// The strings of up to seven bits that begin with one of n bits are 2^(8-n)-1 and follow it in rank.
	span := 1<<(8-groupBits[p[last]]) - 1
	return q[last] >= p[last] && int(q[last]) < int(p[last])+span
}
