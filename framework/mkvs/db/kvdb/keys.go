package kvdb

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// The kinds of keys. Each stands in the table below, too: a check takes a key of any other for damage, so
// that one which is forgotten there is noticed at once.
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

	// firstWithType is the first kind that has a root type in its lower half.
	firstWithType = kindCandidate
)

// keyForm is what follows the kind in a key, in the words of the package's documentation.
type keyForm string

const (
	formAlone     keyForm = ""
	formVersion   keyForm = "version"
	formCandidate keyForm = "version candidate"
	formPart      keyForm = "version candidate part"
	formIndex     keyForm = "version candidate index"
	formPosition  keyForm = "version candidate position"
)

// keyKind is what there is to know of a kind.
type keyKind struct {
	kind byte
	name string
	form keyForm
}

// kinds lists all of them, in their order.
var kinds = []keyKind{
	{kindStamp, "stamp", formAlone},
	{kindState, "state", formAlone},
	{kindMultipart, "open multipart insert", formAlone},
	{kindVersion, "finalized version", formVersion},
	{kindCandidate, "candidate", formCandidate},
	{kindBlock, "block", formPosition},
	{kindDead, "dead slots", formPosition},
	{kindGarbage, "garbage list", formPart},
	{kindInsertRoot, "multipart insert's root", formCandidate},
	{kindInsertTag, "multipart root's tag", formPart},
	{kindMark, "chunk's mark", formIndex},
	{kindSpine, "raw spine", formPosition},
	{kindWriteLog, "write log", formPart},
}

// kindOfKey returns the kind of a key, and the root type of one that has it; false for a key of no bytes, or
// one whose first byte means nothing.
func kindOfKey(key []byte) (k keyKind, t node.RootType, ok bool) {
	if len(key) == 0 {
		return k, 0, false
	}
	kind := key[0]
	if kind >= firstWithType {
		kind, t = kind&0xf0, node.RootType(kind&0x0f)
		if !t.IsValid() {
			return k, t, false
		}
	}
	i, ok := slices.BinarySearchFunc(kinds, kind, func(k keyKind, kind byte) int { return cmp.Compare(k.kind, kind) })
	if !ok {
		return k, t, false
	}
	return kinds[i], t, true
}

// fits says whether a key has what its kind asks for, and nothing behind it.
func (f keyForm) fits(key []byte) bool {
	switch f {
	case formAlone:
		return len(key) == kindSize
	case formVersion:
		return len(key) == kindSize+versionSize
	case formCandidate:
		return len(key) == prefixSize
	case formPart:
		return len(key) == prefixSize+partSize
	case formIndex:
		return len(key) == prefixSize+indexSize
	case formPosition:
		return len(key) > prefixSize && validPosition(key[prefixSize:])
	default:
		return false
	}
}

const (
	// The lengths of the parts of a key.
	kindSize      = 1
	versionSize   = 8
	candidateSize = 2
	partSize      = 4
	indexSize     = 8
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
	return binary.BigEndian.AppendUint32(appendPrefix(make([]byte, 0, prefixSize+partSize), kind, t, a), part)
}

// partOfKey is the part in what follows the address in a key that has one.
func partOfKey(rest []byte) (part uint32, ok bool) {
	if len(rest) != partSize {
		return 0, false
	}
	return binary.BigEndian.Uint32(rest), true
}

func markKey(t node.RootType, a node.Address, index uint64) []byte {
	return binary.BigEndian.AppendUint64(appendPrefix(make([]byte, 0, prefixSize+indexSize), kindMark, t, a), index)
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

// versionIn is the version that a key names, db.UnknownVersion where it names none.
func versionIn(key []byte) uint64 {
	if k, _, ok := kindOfKey(key); !ok || k.form == formAlone || len(key) < kindSize+versionSize {
		return db.UnknownVersion
	}
	return versionOfKey(key)
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

func isVersionKey(key []byte) bool { return key[0] == kindVersion && formVersion.fits(key) }

func versionOfKey(key []byte) uint64 { return binary.BigEndian.Uint64(key[kindSize:]) }
