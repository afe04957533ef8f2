package kvdb

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// part gathers operations up to what one atomic write takes.
type part struct {
	limits *limits
	batch  kv.Batch
	arena  arena
}

// full says whether so many further operations of so many bytes have to wait for the next write.
func (p *part) full(ops, bytes int) bool {
	return p.batch.Len() > 0 && (p.batch.Len()+ops > p.limits.ops || p.batch.Bytes()+bytes > p.limits.part)
}

// takes says whether so many further operations of so many bytes fit into the same write. What one write
// does not take at all, part by part, is not asked for.
func (p *part) takes(ops, bytes int) bool {
	return p.batch.Len()+ops <= p.limits.ops && p.batch.Bytes()+bytes <= p.limits.part
}

// check refuses what the store does not take.
func (p *part) check(key, value []byte) error {
	switch l := p.limits; {
	case l.KeyBytes > 0 && len(key) > l.KeyBytes:
		return fmt.Errorf("%w: key of %d bytes, the store's limit KeyBytes is %d", db.ErrLimitExceeded, len(key), l.KeyBytes)
	case l.ValueBytes > 0 && len(value) > l.ValueBytes:
		return fmt.Errorf("%w: value of %d bytes, the store's limit ValueBytes is %d", db.ErrLimitExceeded, len(value), l.ValueBytes)
	case l.BatchBytes > 0 && len(key)+len(value) > l.BatchBytes:
		return fmt.Errorf("%w: %d bytes, the store's limit BatchBytes is %d", db.ErrLimitExceeded, len(key)+len(value), l.BatchBytes)
	}
	return nil
}

func (p *part) reset() {
	p.batch.Reset()
	p.arena.reset()
}

// arena hands out memory that is given back all at once.
type arena struct {
	chunks [][]byte
	used   int // chunks in use
}

// arenaChunk is the size of chunks; the first ones are smaller, for most batches are small.
const (
	arenaChunk      = 256 << 10
	firstArenaChunk = 16 << 10
)

// grow returns an empty slice with room for n bytes; keep tells how much of it was used.
func (a *arena) grow(n int) []byte {
	if a.used > 0 {
		if c := a.chunks[a.used-1]; cap(c)-len(c) >= n {
			return c[len(c):len(c):cap(c)]
		}
	}
	if a.used < len(a.chunks) && cap(a.chunks[a.used]) >= n {
		a.chunks[a.used] = a.chunks[a.used][:0]
	} else {
		size := min(arenaChunk, firstArenaChunk<<min(a.used, 4))
		a.chunks = append(a.chunks[:a.used], make([]byte, 0, max(n, size)))
	}
	a.used++
	return a.chunks[a.used-1][:0]
}

// keep claims the bytes of b, which grow returned last.
func (a *arena) keep(b []byte) []byte {
	c := &a.chunks[a.used-1]
	*c = (*c)[:len(*c)+len(b)]
	return b[:len(b):len(b)]
}

// copy keeps a copy of b.
func (a *arena) copy(b []byte) []byte {
	return a.keep(append(a.grow(len(b)), b...))
}

func (a *arena) reset() {
	kept := a.chunks[:0]
	for _, c := range a.chunks { // one large value does not hold its memory for ever
		if cap(c) <= arenaChunk && len(kept) < 64 {
			kept = append(kept, c[:0])
		}
	}
	clear(a.chunks[len(kept):])
	a.chunks, a.used = kept, 0
}

// dropRange removes the keys from one up to, not including, another (nil: to the end), in parts. more is
// asked, with the turn, before each part, and may be nil.
func (d *DB) dropRange(ctx context.Context, from, to []byte, more func() error) error {
	p := &part{limits: &d.limits}
	for from != nil {
		if err := d.carryOn(ctx); err != nil {
			return err
		}
		next, err := d.gatherKeys(ctx, p, from, to)
		if err != nil {
			return err
		}
		if p.batch.Len() > 0 {
			if err := d.write(ctx, p, false, more); err != nil {
				return err
			}
		}
		from = next
	}
	return nil
}

// maxDropOps bounds the deletions of one write, so that others get their turn.
const maxDropOps = 8192

// gatherKeys adds deletions of the keys of a range to a part, and returns the key to go on from.
func (d *DB) gatherKeys(ctx context.Context, p *part, from, to []byte) (next []byte, err error) {
	s, err := d.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, storeError(s.Close())) }()
	c := s.Cursor()
	defer func() { err = errors.Join(err, storeError(c.Close())) }()
	for ok := c.Seek(from); ok; ok = c.Next() {
		key := c.Key()
		if to != nil && string(key) >= string(to) {
			return nil, nil
		}
		if p.full(1, len(key)) || p.batch.Len() >= maxDropOps {
			return append([]byte(nil), key...), nil
		}
		p.batch.Delete(p.arena.copy(key))
	}
	return nil, storeError(c.Err())
}

// write takes the turn, asks check (which may be nil) whether the part may still be written, writes it
// and empties it.
func (d *DB) write(ctx context.Context, p *part, sync bool, check func() error) error {
	if err := d.take(ctx, d.turn); err != nil {
		return err
	}
	defer give(d.turn)
	if check != nil {
		if err := check(); err != nil {
			return err
		}
	}
	if err := d.apply(ctx, &p.batch, sync); err != nil {
		return err
	}
	p.reset()
	return nil
}

// dropPrefix removes all keys with a prefix.
func (d *DB) dropPrefix(ctx context.Context, prefix []byte, more func() error) error {
	return d.dropRange(ctx, prefix, successor(prefix), more)
}

// leftover is what is to be removed: the keys of some kinds that belong to an address.
type leftover struct {
	kinds   []byte
	typ     node.RootType
	address node.Address
}

var (
	// nodeKinds are the kinds that belong to what was written for one root, in the order in which they are
	// dropped.
	nodeKinds = []byte{kindWriteLog, kindGarbage, kindDead, kindBlock}
	// candidateKinds are those of a candidate. Its record goes last: it tells an open what to go on with.
	candidateKinds = append(slices.Clone(nodeKinds), kindCandidate)
	// insertKinds are the kinds that a root of a multipart insert has only as long as the insert is open.
	// What tells that it is being removed comes last.
	insertKinds = []byte{kindMark, kindSpine, kindInsertTag, kindInsertRoot}
)

// drop removes a leftover.
func (d *DB) drop(ctx context.Context, l leftover) error {
	for _, kind := range l.kinds {
		if err := d.dropPrefix(ctx, prefixKey(kind, l.typ, l.address), nil); err != nil {
			return err
		}
	}
	return nil
}

// later notes what is to be removed.
func (d *DB) later(ls ...leftover) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.leftovers = append(d.leftovers, ls...)
}

// tidy removes what is noted. What fails stays noted for the next time.
func (d *DB) tidy(ctx context.Context) {
	d.mu.Lock()
	todo := d.leftovers
	d.leftovers = nil
	d.dropping = append(d.dropping, todo...)
	d.tidying++
	d.mu.Unlock()
	var failed []leftover
	for i, l := range todo {
		if err := d.drop(ctx, l); err != nil {
			d.log.Warn("leftovers stay until later", "version", l.address.Version, "error", err)
			failed = todo[i:]
			break
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.tidying--; d.tidying == 0 {
		d.dropping = nil
	}
	d.leftovers = append(d.leftovers, failed...)
}

// presentAndUnowned returns what is known of the database as a whole and, of the same moment, what stores
// nodes that belong to no root that counts: batches that are not committed, whose nodes go when they are
// aborted or the database is opened next, and what is about to be removed.
func (d *DB) presentAndUnowned() (state, map[owner]struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	unowned := maps.Clone(d.writing)
	for _, ls := range [][]leftover{d.leftovers, d.dropping} {
		for _, l := range ls {
			if slices.Contains(l.kinds, kindBlock) {
				unowned[owner{l.typ, l.address}] = struct{}{}
			}
		}
	}
	return d.state, unowned
}
