package kvdb

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

const (
	// maxTagBytes bounds what is kept in memory for a root's tag; tagPart is what is stored at once.
	maxTagBytes = 256 << 20
	tagPart     = 512 << 10
)

// StartMultipart opens a multipart insert.
func (d *DB) StartMultipart(ctx context.Context, version uint64) error {
	if err := d.beginWrite(ctx); err != nil {
		return err
	}
	defer d.end()
	d.tidy(ctx)
	if err := d.take(ctx, d.turn); err != nil {
		return err
	}
	defer give(d.turn)
	d.mu.Lock()
	s, ins := d.state, d.insert
	d.mu.Unlock()
	switch {
	case s.any && version <= s.latest:
		return fmt.Errorf("%w: version %d, the latest is %d", db.ErrInvalidMultipartVersion, version, s.latest)
	case ins != nil && ins.version == version:
		return nil
	case ins != nil:
		return fmt.Errorf("%w: of version %d", db.ErrMultipartInProgress, ins.version)
	}
	var b kv.Batch
	b.Put(multipartKey, encodeInsert(version))
	if err := d.apply(ctx, &b, true); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.insert = &insert{version: version}
	return nil
}

// Multipart tells the open multipart insert.
func (d *DB) Multipart(ctx context.Context) (*db.Multipart, error) {
	if err := d.begin(ctx); err != nil {
		return nil, err
	}
	defer d.end()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.insert == nil {
		return nil, nil
	}
	m := &db.Multipart{Version: d.insert.version}
	for _, ir := range d.insert.roots {
		r := db.MultipartRoot{
			Root:   node.Root{Namespace: d.info.Namespace, Version: d.insert.version, Type: ir.typ, Hash: ir.hash},
			Chunks: ir.chunks, Tag: bytes.Clone(ir.tag), Complete: ir.complete,
			Done: make([]uint64, 0, len(ir.marks)),
		}
		for i := range ir.marks {
			r.Done = append(r.Done, i)
		}
		slices.Sort(r.Done)
		m.Roots = append(m.Roots, r)
	}
	return m, nil
}

// AddMultipartRoot tells of a root that will be restored.
func (d *DB) AddMultipartRoot(ctx context.Context, root node.Root, chunks uint64, tag []byte) error {
	if err := d.beginWrite(ctx); err != nil {
		return err
	}
	defer d.end()
	switch {
	case root.Namespace != d.info.Namespace:
		return d.checkName(&root)
	case !root.Type.IsValid() || chunks == 0:
		return fmt.Errorf("%w: %s of %d chunks", db.ErrMalformed, root, chunks)
	case len(tag) > maxTagBytes:
		return fmt.Errorf("%w: tag of %d bytes, at most %d", db.ErrLimitExceeded, len(tag), maxTagBytes)
	}
	if err := d.take(ctx, d.turn); err != nil {
		return err
	}
	defer give(d.turn)
	d.mu.Lock()
	ins := d.insert
	known := ins.find(&root)
	d.mu.Unlock()
	switch {
	case ins == nil:
		return db.ErrNoMultipart
	case ins.version != root.Version:
		return fmt.Errorf("%w: version %d, not %d", db.ErrInvalidMultipartVersion, ins.version, root.Version)
	case known != nil && known.chunks == chunks && bytes.Equal(known.tag, tag):
		return nil
	case known != nil:
		return fmt.Errorf("%w: of %s, with %d chunks or another tag", db.ErrMultipartInProgress, root, known.chunks)
	}
	candidate, err := d.number(root.Version, root.Type)
	if err != nil {
		return err
	}
	defer func() { // the root is found by its record, not by what is being written
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.writing, owner{root.Type, node.Address{Version: root.Version, Candidate: candidate}})
	}()
	ir := &insertRoot{
		typ: root.Type, hash: root.Hash, candidate: candidate, chunks: chunks,
		tagBytes: uint64(len(tag)), tag: bytes.Clone(tag), marks: make(map[uint64]struct{}),
	}
	for _, r := range ins.roots {
		ir.order = max(ir.order, r.order+1)
	}
	if err := d.writeInsertRoot(ctx, ir, root.Version); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	ins.roots = append(slices.Clip(ins.roots), ir)
	return nil
}

// writeInsertRoot writes the tag of a new root, and then what makes the root count. The caller has the
// turn.
func (d *DB) writeInsertRoot(ctx context.Context, ir *insertRoot, version uint64) error {
	p := &part{limits: &d.limits}
	a := node.Address{Version: version, Candidate: ir.candidate}
	size := tagPart
	if l := d.limits.ValueBytes; l > 0 {
		size = min(size, l-crcSize)
	}
	i := uint32(0)
	for piece := range slices.Chunk(ir.tag, size) {
		key := partKey(kindInsertTag, ir.typ, a, i)
		if p.full(1, len(key)+len(piece)+crcSize) {
			if err := d.apply(ctx, &p.batch, false); err != nil {
				return err
			}
			p.reset()
		}
		p.batch.Put(key, seal(key, bytes.Clone(piece)))
		i++
	}
	key := prefixKey(kindInsertRoot, ir.typ, a)
	if p.full(1, len(key)+256) {
		if err := d.apply(ctx, &p.batch, false); err != nil {
			return err
		}
		p.reset()
	}
	p.batch.Put(key, ir.encode(key, false))
	return d.apply(ctx, &p.batch, true)
}

// loadTag reads a root's tag.
func (d *DB) loadTag(s kv.Snapshot, ins *insert, ir *insertRoot) error {
	bad := damaged(ins.version, "multipart root's tag")
	if ir.tagBytes > maxTagBytes {
		return bad
	}
	a := node.Address{Version: ins.version, Candidate: ir.candidate}
	for i := uint32(0); uint64(len(ir.tag)) < ir.tagBytes; i++ {
		key := partKey(kindInsertTag, ir.typ, a, i)
		value, err := getOrNil(s, key)
		if err != nil {
			return err
		}
		f, ok := unseal(key, value)
		if value == nil || !ok || len(f.b) == 0 || uint64(len(ir.tag)+len(f.b)) > ir.tagBytes {
			return bad
		}
		ir.tag = append(ir.tag, f.b...)
	}
	return nil
}

// mark is a durable chunk: the interval of its whole nodes, leaves that are embedded included.
type mark struct {
	any         bool
	first, last node.Position
}

func (m *mark) encode(key []byte) []byte {
	if !m.any {
		return seal(key, []byte{0})
	}
	v := binary.AppendUvarint([]byte{1}, uint64(len(m.first)))
	v = append(v, m.first...)
	return seal(key, append(v, m.last...))
}

func decodeMark(key, value []byte, version uint64) (m mark, err error) {
	f, ok := unseal(key, value)
	switch f.byte() {
	case 0:
		ok = ok && f.done()
	case 1:
		m.any = true
		m.first = bytes.Clone(f.bytes(f.uvarint()))
		m.last = bytes.Clone(f.bytes(uint64(len(f.b))))
		ok = ok && f.done() && validPosition(m.first) && validPosition(m.last)
	default:
		ok = false
	}
	if !ok {
		return mark{}, damaged(version, "chunk's mark")
	}
	return m, nil
}

// eachMark calls f with the marks of a root in the order of their chunks, or with the damage that a mark
// has taken.
func eachMark(c kv.Cursor, version uint64, ir *insertRoot, f func(index uint64, m mark, err error) error) error {
	prefix := prefixKey(kindMark, ir.typ, node.Address{Version: version, Candidate: ir.candidate})
	for ok := c.Seek(prefix); ok && bytes.HasPrefix(c.Key(), prefix); ok = c.Next() {
		rest := c.Key()[prefixSize:]
		if len(rest) != 8 || binary.BigEndian.Uint64(rest) >= ir.chunks {
			return damaged(version, "chunk's mark")
		}
		m, err := decodeMark(c.Key(), c.Value(), version)
		if err := f(binary.BigEndian.Uint64(rest), m, err); err != nil {
			return err
		}
	}
	return storeError(c.Err())
}

// loadMarks notes which chunks are durable. One whose mark is damaged is not: it can be written again.
func (d *DB) loadMarks(c kv.Cursor, ins *insert, ir *insertRoot) error {
	return eachMark(c, ins.version, ir, func(index uint64, _ mark, err error) error {
		if err != nil {
			d.log.Warn("a chunk's mark is damaged: the chunk has to be restored again", "chunk", index)
			return nil
		}
		ir.marks[index] = struct{}{}
		return nil
	})
}

// AbortRoot removes one root of the insert.
func (d *DB) AbortRoot(ctx context.Context, root node.Root) error {
	if err := d.beginWrite(ctx); err != nil {
		return err
	}
	defer d.end()
	if err := d.checkName(&root); err != nil {
		return err
	}
	if err := d.abortRoot(ctx, &root); err != nil {
		return err
	}
	d.tidy(ctx)
	return nil
}

// abortRoot says, safely, that a root is being removed. From then on none of its chunks counts.
func (d *DB) abortRoot(ctx context.Context, root *node.Root) error {
	if err := d.take(ctx, d.turn); err != nil {
		return err
	}
	defer give(d.turn)
	d.mu.Lock()
	ins := d.insert
	ir := ins.find(root)
	d.mu.Unlock()
	if ir == nil {
		return nil
	}
	a := node.Address{Version: ins.version, Candidate: ir.candidate}
	key := prefixKey(kindInsertRoot, ir.typ, a)
	var b kv.Batch
	b.Put(key, ir.encode(key, true))
	if err := d.apply(ctx, &b, true); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	ir.gone = true
	ins.roots = slices.DeleteFunc(slices.Clone(ins.roots), func(r *insertRoot) bool { return r == ir })
	d.leftovers = append(d.leftovers, leftover{kinds: []byte{kindMark}, typ: ir.typ, address: a})
	d.leftovers = append(d.leftovers, ir.nodes(ins.version)...)
	d.leftovers = append(d.leftovers, leftover{kinds: insertKinds, typ: ir.typ, address: a})
	return nil
}

// AbortMultipart removes the whole insert.
func (d *DB) AbortMultipart(ctx context.Context) error {
	if err := d.beginWrite(ctx); err != nil {
		return err
	}
	defer d.end()
	if err := d.abortInsert(ctx); err != nil {
		return err
	}
	d.tidy(ctx)
	return nil
}

// abortInsert says, safely, that there is no insert any more. What is stored of it then belongs to
// nothing, and is found as such.
func (d *DB) abortInsert(ctx context.Context) error {
	if err := d.take(ctx, d.turn); err != nil {
		return err
	}
	defer give(d.turn)
	d.mu.Lock()
	ins := d.insert
	d.mu.Unlock()
	if ins == nil {
		return nil
	}
	var b kv.Batch
	b.Delete(multipartKey)
	if err := d.apply(ctx, &b, true); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.leftovers = append(d.leftovers, ins.leftovers(&versionRecord{})...)
	d.endInsert()
	return nil
}

// current refuses to go on with a root that is not part of the open insert any more. The caller has the
// turn, or will ask again when it has.
func (d *DB) current(ir *insertRoot) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if ir.gone {
		return fmt.Errorf("%w: the root was removed", db.ErrNoMultipart)
	}
	return nil
}

// insertRoot returns a root of the open insert.
func (d *DB) insertRoot(root *node.Root) (*insertRoot, error) {
	if err := d.checkName(root); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if ir := d.insert.find(root); ir != nil {
		return ir, nil
	}
	return nil, fmt.Errorf("%w: %s", db.ErrNoMultipart, root)
}

// overlapping says which two of a root's marks claim the same nodes, if any do.
func overlapping(s kv.Snapshot, version uint64, ir *insertRoot) (err error) {
	c := s.Cursor()
	defer func() { err = errors.Join(err, storeError(c.Close())) }()
	type claim struct {
		mark
		index uint64
	}
	var claims []claim
	if err := eachMark(c, version, ir, func(index uint64, m mark, err error) error {
		if m.any {
			claims = append(claims, claim{m, index})
		}
		return err
	}); err != nil {
		return err
	}
	slices.SortFunc(claims, func(a, b claim) int {
		return cmp.Or(a.first.Compare(b.first), a.last.Compare(b.last))
	})
	for i := 1; i < len(claims); i++ {
		if claims[i-1].last.Compare(claims[i].first) >= 0 {
			return fmt.Errorf("%w: chunks %d and %d", db.ErrChunksOverlap, claims[i-1].index, claims[i].index)
		}
	}
	return nil
}
