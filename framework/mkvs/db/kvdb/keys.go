package kvdb

import (
	"encoding/binary"

	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// The kinds of keys: the package's documentation lists them.
const (
	kindStamp     byte = 0x00
	kindState     byte = 0x01
	kindMultipart byte = 0x02
	kindVersion   byte = 0x03

	kindCandidate  byte = 0x10
	kindBlock      byte = 0x20
	kindDead       byte = 0x30
	kindGarbage    byte = 0x40
	kindInsertRoot byte = 0x60
	kindInsertTag  byte = 0x70
	kindMark       byte = 0x80
	kindSpine      byte = 0x90
	kindWriteLog   byte = 0xa0
)

const (
	// kindSize, versionSize and candidateSize are the lengths of the parts of a key.
	kindSize      = 1
	versionSize   = 8
	candidateSize = 2
	// prefixSize is the length of a key up to and with the candidate.
	prefixSize = kindSize + versionSize + candidateSize
)

// spineBit marks the candidate number under which the spine of a restored root is packed; the rest of
// the number is that of the root's other nodes.
const spineBit uint16 = 0x8000

var (
	stampKey     = []byte{kindStamp}
	stateKey     = []byte{kindState}
	multipartKey = []byte{kindMultipart}
)

func versionKey(version uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{kindVersion}, version)
}

// typeKey is the beginning of all keys of a kind and root type from a version on.
func typeKey(kind byte, t node.RootType, version uint64) []byte {
	return binary.BigEndian.AppendUint64(append(make([]byte, 0, prefixSize), kind|byte(t)), version)
}

// appendPrefix appends the beginning of all keys of a kind that belong to an address.
func appendPrefix(dst []byte, kind byte, t node.RootType, a node.Address) []byte {
	dst = binary.BigEndian.AppendUint64(append(dst, kind|byte(t)), a.Version)
	return binary.BigEndian.AppendUint16(dst, a.Candidate)
}

func prefixKey(kind byte, t node.RootType, a node.Address) []byte {
	return appendPrefix(make([]byte, 0, prefixSize), kind, t, a)
}

// nodeKey is a key that ends with a position: a block's, a dead slots', a raw spine node's.
func nodeKey(kind byte, t node.RootType, a node.Address, p node.Position) []byte {
	return append(appendPrefix(make([]byte, 0, prefixSize+len(p)), kind, t, a), p...)
}

func partKey(kind byte, t node.RootType, a node.Address, part uint32) []byte {
	return binary.BigEndian.AppendUint32(appendPrefix(make([]byte, 0, prefixSize+4), kind, t, a), part)
}

// partOfKey is the part in what follows the address in a key that has one.
func partOfKey(rest []byte) (part uint32, ok bool) {
	if len(rest) != 4 {
		return 0, false
	}
	return binary.BigEndian.Uint32(rest), true
}

func markKey(t node.RootType, a node.Address, index uint64) []byte {
	return binary.BigEndian.AppendUint64(appendPrefix(make([]byte, 0, prefixSize+8), kindMark, t, a), index)
}

// addressOfKey is the address in a key that has one.
func addressOfKey(key []byte) (a node.Address, rest []byte, ok bool) {
	if len(key) < prefixSize {
		return a, nil, false
	}
	a.Version = binary.BigEndian.Uint64(key[kindSize:])
	a.Candidate = binary.BigEndian.Uint16(key[kindSize+versionSize:])
	return a, key[prefixSize:], true
}

// successor is the first key after all that begin with prefix; nil where there is none.
func successor(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] != 0xff {
			next := append([]byte(nil), prefix[:i+1]...)
			next[i]++
			return next
		}
	}
	return nil
}

func isVersionKey(key []byte) bool { return len(key) == kindSize+versionSize && key[0] == kindVersion }

func versionOfKey(key []byte) uint64 { return binary.BigEndian.Uint64(key[kindSize:]) }
