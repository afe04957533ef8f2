package kvdb

import (
	"encoding/binary"
	"slices"

	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// insert is the open multipart insert. What is in it is guarded by DB.mu.
type insert struct {
	version uint64
	// roots are in the order in which they were told of.
	roots []*insertRoot
}

// insertRoot is a root of a multipart insert.
type insertRoot struct {
	typ       node.RootType
	hash      hash.Hash
	candidate uint16
	// order is what roots are sorted by.
	order  uint64
	chunks uint64
	// tagBytes is the length of the tag, which is stored in parts.
	tagBytes uint64
	tag      []byte
	// complete says that nothing is missing; then address is the root node's.
	complete bool
	address  node.Address
	// marks are the chunks that are durable.
	marks map[uint64]struct{}
	// gone says that the root is not part of an open insert any more: what is still being written for it
	// must not be stored.
	gone bool
}

// owns says whether an address is one that the insert's nodes are stored under.
func (ins *insert) owns(t node.RootType, a node.Address) bool {
	return a.Version == ins.version && slices.ContainsFunc(ins.roots, func(r *insertRoot) bool {
		return r.typ == t && r.candidate == a.Candidate&^spineBit
	})
}

// find returns the root with a name, nil where there is none.
func (ins *insert) find(root *node.Root) *insertRoot {
	if ins == nil || ins.version != root.Version {
		return nil
	}
	for _, r := range ins.roots {
		if r.typ == root.Type && r.hash == root.Hash {
			return r
		}
	}
	return nil
}

// root returns the record that a root is finalized with, nil while it is not complete, and whether the
// insert has the root.
func (ins *insert) root(root *node.Root) (r *rootRecord, known bool) {
	ir := ins.find(root)
	if ir == nil || !ir.complete {
		return nil, ir != nil
	}
	return &rootRecord{
		typ: ir.typ, hash: ir.hash, candidate: ir.candidate, address: ir.address,
		parent: hash.EmptyHash, multipart: true, alone: true,
	}, true
}

// leftovers are what goes when the insert ends with a version's finalization.
func (ins *insert) leftovers(v *versionRecord) (gone []leftover) {
	for _, ir := range ins.roots {
		a := node.Address{Version: ins.version, Candidate: ir.candidate}
		gone = append(gone, leftover{kinds: insertKinds, typ: ir.typ, address: a})
		if won := v.root(ir.typ); won == nil || !won.multipart || won.candidate != ir.candidate {
			gone = append(gone, ir.nodes(a.Version)...)
		}
	}
	return gone
}

// nodes are all that is stored of a root's nodes.
func (ir *insertRoot) nodes(version uint64) []leftover {
	return []leftover{
		{kinds: candidateKinds, typ: ir.typ, address: node.Address{Version: version, Candidate: ir.candidate}},
		{kinds: candidateKinds, typ: ir.typ, address: node.Address{Version: version, Candidate: ir.candidate | spineBit}},
	}
}

// endInsert forgets the insert, so that nothing is written for it any more. The caller holds mu.
func (d *DB) endInsert() {
	for _, ir := range d.insert.roots {
		ir.gone = true
	}
	d.insert = nil
}

// encodeInsert makes the value that says which multipart insert is open.
func encodeInsert(version uint64) []byte {
	return seal(multipartKey, binary.AppendUvarint(nil, version))
}

func decodeInsert(value []byte) (version uint64, err error) {
	f, ok := unseal(multipartKey, value)
	version = f.uvarint()
	if !ok || !f.done() {
		return 0, damaged(db.UnknownVersion, "multipart insert")
	}
	return version, nil
}

const (
	insertRootComplete = 1 << iota
	insertRootAborting
	insertRootUnusedFlags = ^byte(1<<iota - 1)
)

// encode makes the value that tells of the root.
func (ir *insertRoot) encode(key []byte, aborting bool) []byte {
	flags := byte(0)
	if ir.complete {
		flags |= insertRootComplete
	}
	if aborting {
		flags |= insertRootAborting
	}
	v := append([]byte{flags}, ir.hash[:]...)
	v = binary.AppendUvarint(v, ir.order)
	v = binary.AppendUvarint(v, ir.chunks)
	v = binary.AppendUvarint(v, ir.tagBytes)
	v = binary.AppendUvarint(v, uint64(ir.address.Candidate))
	// What the blocks are made with: a chunk written again by a program that makes other blocks would not
	// replace what it wrote before.
	v = binary.AppendUvarint(v, blockTarget)
	return seal(key, v)
}

func decodeInsertRoot(key, value []byte, t node.RootType, a node.Address) (ir *insertRoot, aborting bool, err error) {
	f, ok := unseal(key, value)
	flags := f.byte()
	ir = &insertRoot{typ: t, candidate: a.Candidate, complete: flags&insertRootComplete != 0, marks: make(map[uint64]struct{})}
	ir.hash, ir.order, ir.chunks, ir.tagBytes = f.hash(), f.uvarint(), f.uvarint(), f.uvarint()
	ir.address = node.Address{Version: a.Version, Candidate: f.uint16()}
	target := f.uvarint()
	if !ok || !f.done() || flags&insertRootUnusedFlags != 0 || target != blockTarget || a.Candidate&spineBit != 0 {
		return nil, false, damaged(a.Version, "multipart insert's root")
	}
	return ir, flags&insertRootAborting != 0, nil
}

// loadInsert reads the open multipart insert into memory.
func (d *DB) loadInsert(s kv.Snapshot, c kv.Cursor) error {
	value, err := getOrNil(s, multipartKey)
	if err != nil || value == nil {
		return err
	}
	version, err := decodeInsert(value)
	if err != nil {
		return err
	}
	if d.state.any && version <= d.state.latest {
		return damaged(version, "multipart insert")
	}
	ins := &insert{version: version}
	for t := node.RootTypeState; t <= node.RootTypeMax; t++ {
		prefix := typeKey(kindInsertRoot, t, version)
		end := successor(prefix)
		for ok := c.Seek(prefix); ok && string(c.Key()) < string(end); ok = c.Next() {
			a, rest, ok := addressOfKey(c.Key())
			if !ok || len(rest) != 0 {
				return damaged(version, "multipart insert's root")
			}
			ir, aborting, err := decodeInsertRoot(c.Key(), c.Value(), t, a)
			if err != nil {
				return err
			}
			d.taken(version, t, a.Candidate)
			if !aborting { // one that is belongs to nothing, and is found as a leftover
				ins.roots = append(ins.roots, ir)
			}
		}
		if err := c.Err(); err != nil {
			return storeError(err)
		}
	}
	slices.SortFunc(ins.roots, func(a, b *insertRoot) int {
		if a.order < b.order {
			return -1
		}
		return 1
	})
	for _, ir := range ins.roots {
		if err := d.loadTag(s, ins, ir); err != nil {
			return err
		}
		if err := d.loadMarks(c, ins, ir); err != nil {
			return err
		}
	}
	d.insert = ins
	return nil
}
