package kvdb

import (
	"encoding/binary"
	"fmt"

	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

const (
	// magic says whose a store is. In every format version the stamp begins with it and the version, and
	// is sealed.
	magic = "ckpt-kvdb"
	// formatVersion is the version of all that is stored. It changes with every change that an older or
	// newer program could misread; migrate.go has what leads from one to the next.
	formatVersion = 2
	// oldestFormat is the oldest version that can be migrated.
	oldestFormat = 1
)

// encodeStamp makes the value that says what a store is: magic ‖ format version ‖ namespace.
func encodeStamp(ns common.Namespace) []byte {
	v := append([]byte(magic), binary.AppendUvarint(nil, formatVersion)...)
	return seal(stampKey, append(v, ns[:]...))
}

// checkStamp refuses a store that is not one of namespace ns, or of a format that this program does not
// know, and returns the format's version.
func checkStamp(value []byte, ns common.Namespace) (version uint64, err error) {
	if len(value) < len(magic) || string(value[:len(magic)]) != magic {
		return 0, fmt.Errorf("%w: its first key is not ours", db.ErrForeign)
	}
	f, ok := unseal(stampKey, value)
	f.bytes(uint64(len(magic)))
	version = f.uvarint()
	if ok && !f.bad && (version < oldestFormat || version > formatVersion) {
		return 0, fmt.Errorf("%w: it has %d, this program reads %d: use the program that wrote it, or restore a checkpoint into a new database",
			db.ErrFormatVersion, version, formatVersion)
	}
	stored := f.bytes(common.NamespaceSize)
	if !ok || !f.done() {
		return 0, damaged(db.UnknownVersion, "stamp")
	}
	if common.Namespace(stored) != ns {
		return 0, fmt.Errorf("%w: the database is one of %x, opened for %s", db.ErrBadNamespace, stored, ns)
	}
	return version, nil
}

// damaged is the error for a value, not a node, that is not what was written.
func damaged(version uint64, what string) error {
	return &db.CorruptedError{Version: version, Reason: what + " is damaged"}
}

// state is what the database as a whole knows.
type state struct {
	// any says whether a version is finalized. Where none is, the rest means nothing.
	any              bool
	earliest, latest uint64
	// first is the version that was finalized first, pruned or not.
	first uint64
	// applied is the version up to which garbage lists are applied; other things of versions below it are
	// gone as well.
	applied uint64
	// clean is the version from which on leftovers of unfinished work can lie about.
	clean uint64
}

func (s *state) encode() []byte {
	v := binary.AppendUvarint(nil, s.earliest)
	v = binary.AppendUvarint(v, s.latest)
	v = binary.AppendUvarint(v, s.first)
	v = binary.AppendUvarint(v, s.applied)
	return seal(stateKey, binary.AppendUvarint(v, s.clean))
}

func decodeState(value []byte) (state, error) {
	f, ok := unseal(stateKey, value)
	s := state{any: true, earliest: f.uvarint(), latest: f.uvarint(), first: f.uvarint(), applied: f.uvarint(), clean: f.uvarint()}
	if !ok || !f.done() || s.earliest > s.latest || s.applied > s.earliest || s.first > s.applied {
		return state{}, damaged(db.UnknownVersion, "state")
	}
	return s, nil
}

// rootRecord is what is known of a committed, restored or finalized root.
type rootRecord struct {
	typ  node.RootType
	hash hash.Hash
	// candidate is the number that its own nodes, garbage list and write log are stored under.
	candidate uint16
	// address is the root node's; it means nothing for the empty root.
	address node.Address
	// parent is the hash of the root of the version before that this one was made from; where that was
	// empty, or this one was restored, it is the empty hash.
	parent hash.Hash
	// multipart says that it was restored: it has nodes under candidate|spineBit, too.
	multipart bool
	// alone says that it shares nothing with older versions.
	alone bool
	// bare says that it was never committed, being empty: nothing is stored under a number of its own.
	bare bool
	// hasLog says that its write log was kept, in logParts parts.
	hasLog       bool
	logParts     uint32
	garbageParts uint32
}

const (
	rootMultipart = 1 << iota
	rootAlone
	rootHasLog
	rootBare
	rootUnusedFlags = ^byte(1<<iota - 1)
)

func (r *rootRecord) append(dst []byte) []byte {
	flags := byte(0)
	if r.multipart {
		flags |= rootMultipart
	}
	if r.alone {
		flags |= rootAlone
	}
	if r.hasLog {
		flags |= rootHasLog
	}
	if r.bare {
		flags |= rootBare
	}
	dst = append(dst, byte(r.typ), flags)
	dst = append(dst, r.hash[:]...)
	dst = append(dst, r.parent[:]...)
	dst = binary.AppendUvarint(dst, uint64(r.candidate))
	dst = binary.AppendUvarint(dst, r.address.Version)
	dst = binary.AppendUvarint(dst, uint64(r.address.Candidate))
	dst = binary.AppendUvarint(dst, uint64(r.logParts))
	return binary.AppendUvarint(dst, uint64(r.garbageParts))
}

func (f *fields) root() (r rootRecord) {
	r.typ = node.RootType(f.byte())
	flags := f.byte()
	r.multipart, r.alone, r.hasLog = flags&rootMultipart != 0, flags&rootAlone != 0, flags&rootHasLog != 0
	r.bare = flags&rootBare != 0
	r.hash, r.parent = f.hash(), f.hash()
	r.candidate = f.uint16()
	r.address = node.Address{Version: f.uvarint(), Candidate: f.uint16()}
	r.logParts, r.garbageParts = f.uint32(), f.uint32()
	f.bad = f.bad || flags&rootUnusedFlags != 0 || !r.typ.IsValid() || r.candidate&spineBit != 0
	return r
}

func (r *rootRecord) isEmpty() bool { return r.hash.IsEmpty() }

// owns says whether a candidate number is one that r's nodes are stored under.
func (r *rootRecord) owns(candidate uint16) bool {
	return !r.bare && (candidate == r.candidate || r.multipart && candidate == r.candidate|spineBit)
}

// encodeCandidate makes a candidate's record.
func encodeCandidate(key []byte, r *rootRecord) []byte { return seal(key, r.append(nil)) }

func decodeCandidate(key, value []byte, version uint64) (rootRecord, error) {
	f, ok := unseal(key, value)
	r := f.root()
	if !ok || !f.done() || r.address.Version > version {
		return rootRecord{}, damaged(version, "candidate's record")
	}
	return r, nil
}

// versionRecord is a finalized version: its roots, at most one of a type, ascending by type.
type versionRecord struct {
	roots []rootRecord
}

// root returns the version's root of a type, nil where it has none.
func (v *versionRecord) root(t node.RootType) *rootRecord {
	for i := range v.roots {
		if v.roots[i].typ == t {
			return &v.roots[i]
		}
	}
	return nil
}

// stateAlone says whether nothing older than this version is reached from its state or a later one.
func (v *versionRecord) stateAlone() bool {
	r := v.root(node.RootTypeState)
	return r == nil || r.alone
}

func (v *versionRecord) encode(key []byte) []byte {
	out := []byte{byte(len(v.roots))}
	for i := range v.roots {
		out = v.roots[i].append(out)
	}
	return seal(key, out)
}

func decodeVersion(key, value []byte, version uint64) (*versionRecord, error) {
	f, ok := unseal(key, value)
	v := &versionRecord{}
	last := node.RootTypeInvalid
	for range f.byte() {
		r := f.root()
		if f.bad || r.typ <= last || r.address.Version > version {
			return nil, damaged(version, "version's record")
		}
		v.roots, last = append(v.roots, r), r.typ
	}
	if !ok || !f.done() {
		return nil, damaged(version, "version's record")
	}
	return v, nil
}
