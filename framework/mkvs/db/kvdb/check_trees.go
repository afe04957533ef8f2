package kvdb

import (
	"context"
	"fmt"

	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// checkFrame is the number of nodes that are looked at under one snapshot.
const checkFrame = 4096

// treeCheck goes through a root's tree in pre-order, and hashes what it comes to.
type treeCheck struct {
	c       *check
	version uint64
	root    *rootRecord
	// whole says that nodes of older versions are gone through like the version's own; otherwise only
	// their hashes are compared.
	whole bool

	stack []hashed
	path  node.Key
	p     node.Position

	finders finders
	// own and nodes count the stored nodes that were found: those that the version wrote, and all.
	own, nodes uint64
	// broken says that something was missing or damaged.
	broken bool
}

// hashed is a node that is still to be visited, and the hash that it must have.
type hashed struct {
	pending
	hash hash.Hash
}

func newTreeCheck(c *check, version uint64, r *rootRecord) *treeCheck {
	t := &treeCheck{c: c, version: version, root: r, path: make(node.Key, node.MaxKeyBytes+1)}
	if !r.isEmpty() {
		t.stack = append(t.stack, hashed{pending{address: r.address}, r.hash})
	}
	return t
}

func (t *treeCheck) run(ctx context.Context) error {
	for len(t.stack) > 0 {
		if err := t.c.d.carryOn(ctx); err != nil {
			return err
		}
		if err := t.frame(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (t *treeCheck) frame(ctx context.Context) (err error) {
	s, err := t.c.d.snapshot(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, storeError(s.Close())) }()
	t.finders = newFinders(s, t.root.typ)
	defer func() { err = errors.Join(err, t.finders.close()) }()
	for n := 0; len(t.stack) > 0 && n < checkFrame; n++ {
		next := t.stack[len(t.stack)-1]
		t.stack = t.stack[:len(t.stack)-1]
		if err := t.visit(next); err != nil {
			if err := t.c.notes(next.address.Version, err); err != nil {
				return err
			}
			t.broken = true
		}
	}
	return nil
}

// visit finds a node and compares its hash, and then adds its children to the stack.
func (t *treeCheck) visit(n hashed) error {
	if n.depth > 0 {
		t.path.SetBit(n.depth-1, n.last)
	}
	t.p = node.AppendPosition(t.p[:0], t.path, n.depth)
	f, err := t.finders.at(n.address)
	if err != nil {
		return err
	}
	record, err := f.find(t.p)
	if isEngineDamage(err) {
		// The cursor may not move any more: the address's other nodes are looked for with a new one.
		return errors.Join(err, t.finders.drop(f))
	}
	if err != nil {
		return err
	}
	if record == nil {
		return f.corrupted(t.p, "node is missing")
	}
	r, err := parse(record, n.address, t.p)
	if err != nil {
		return err
	}
	if h := r.ComputeHash(); h != n.hash {
		return f.corrupted(t.p, fmt.Sprintf("node's hash is %s, its parent says %s", h, n.hash))
	}
	t.c.did(len(record))
	mine := n.address.Version == t.version
	if mine {
		t.own++
	}
	if !mine && !t.whole {
		return nil
	}
	t.nodes++
	return t.below(&r, n.pending, f)
}

// below counts what a node holds and adds its children to the stack.
func (t *treeCheck) below(r *node.Record, n pending, f *finder) error {
	report := t.c.report
	report.Nodes++
	if r.Leaf {
		report.Entries++
		if !leadsThrough(r.Key, t.path, n.depth) {
			return f.corrupted(t.p, "leaf's key does not lead to it")
		}
		return nil
	}
	end, err := endOf(r.LabelBitLength, n.depth, n.address, t.p)
	if err != nil {
		return err
	}
	if n.depth > 0 && r.Label.GetBit(0) != n.last {
		return f.corrupted(t.p, "node's label does not fit its position")
	}
	t.path.CopyBits(end-r.LabelBitLength, r.Label, r.LabelBitLength)
	if r.OwnLeaf != nil {
		report.Nodes++
		report.Entries++
		if r.OwnKey.BitLength() != end || !leadsThrough(r.OwnKey, t.path, end) {
			return f.corrupted(t.p, "own leaf's key does not end at its node")
		}
	}
	for side := node.Right; side >= node.Left; side-- {
		child := &r.Children[side]
		if !child.Present {
			continue
		}
		if end == node.MaxDepth {
			return f.corrupted(t.p, "node's children lie too deep")
		}
		last := side == node.Right
		if child.Embedded == nil {
			t.stack = append(t.stack, hashed{pending{address: child.Address, depth: end + 1, last: last}, child.Hash})
			continue
		}
		report.Nodes++
		report.Entries++
		leaf, _, err := node.ParseCompactV0(child.Embedded)
		if err != nil {
			return f.corrupted(t.p, err.Error())
		}
		if leaf.Key.BitLength() <= end || leaf.Key.GetBit(end) != last || !leadsThrough(leaf.Key, t.path, end) {
			return f.corrupted(t.p, "embedded leaf's key does not lead to it")
		}
	}
	return nil
}

// leadsThrough says whether a key begins with the first n bits of a path.
func leadsThrough(key, path node.Key, n node.Depth) bool {
	return key.BitLength() >= n && key.CommonPrefixLen(n, path, n) == n
}

// stored counts the nodes stored under an address that are not marked dead.
func (c *check) stored(ctx context.Context, typ node.RootType, version uint64, candidate uint16) (uint64, error) {
	prefix := prefixKey(kindBlock, typ, node.Address{Version: version, Candidate: candidate})
	return c.countLive(ctx, prefix, successor(prefix), nil)
}

// storedBetween counts the nodes of finalized roots that versions from one to another wrote, and that
// are not marked dead. What unfinished work has left is about to be removed, and does not count.
func (c *check) storedBetween(ctx context.Context, typ node.RootType, first, last uint64) (uint64, error) {
	return c.countLive(ctx, typeKey(kindBlock, typ, first), successor(typeKey(kindBlock, typ, last)), func(a node.Address) bool {
		_, is := c.unowned[owner{typ, a}]
		return !is
	})
}

// countLive counts the nodes in the blocks from one key to another, without those that are marked dead or
// whose address is not counted.
func (c *check) countLive(ctx context.Context, from, to []byte, counted func(node.Address) bool) (live uint64, err error) {
	var slots []byte
	err = c.eachRecord(ctx, from, to, func(s kv.Snapshot, key, value []byte) error {
		if a, _, ok := addressOfKey(key); !ok || counted != nil && !counted(a) {
			return nil
		}
		b, reason := openBlock(key, value)
		if reason != "" {
			return nil // it is noted as damaged already
		}
		stored, deadKey, err := deadBitmap(s, key)
		if err != nil {
			return err
		}
		slots = c.d.deadSlots(&b, deadKey, stored, slots)
		for i := range b.n {
			if !isDead(slots, i) {
				live++
			}
		}
		return nil
	})
	return live, err
}

// deadBitmap returns what is stored of a block's dead slots, nil where nothing is, and its key.
func deadBitmap(s kv.Snapshot, blockKey []byte) (stored, key []byte, err error) {
	key = append([]byte(nil), blockKey...)
	key[0] = key[0] - kindBlock + kindDead
	stored, err = getOrNil(s, key)
	return stored, key, err
}

// due counts the nodes that are stored, not marked dead, and named by the lists of versions after one up
// to another: they are freed when these lists are applied.
func (c *check) due(ctx context.Context, w *collection, after, last uint64) (n uint64, err error) {
	for after < last {
		upTo, refs, err := w.due(ctx, after, last)
		if err != nil {
			return n, err
		}
		for len(refs) > 0 {
			if _, refs, err = w.readLists(ctx, refs); err != nil {
				return n, err
			}
			for i := 0; i < len(w.list.entries); {
				next, found, err := c.countNamed(ctx, w, i)
				if err != nil {
					return n, err
				}
				i, n = next, n+found
			}
		}
		after = upTo
	}
	return n, nil
}

// countNamed counts the entries of a list from one on that are stored and not marked dead, as far as one
// snapshot goes, and returns where to go on.
func (c *check) countNamed(ctx context.Context, w *collection, i int) (next int, n uint64, err error) {
	if err := c.d.carryOn(ctx); err != nil {
		return i, 0, err
	}
	s, err := c.d.snapshot(ctx)
	if err != nil {
		return i, 0, err
	}
	defer func() { err = errors.Join(err, storeError(s.Close())) }()
	blocks := forward{cursor: s.Cursor()}
	defer func() { err = errors.Join(err, storeError(blocks.cursor.Close())) }()
	var want, slots []byte
	for range collectBlocks {
		if i == len(w.list.entries) {
			break
		}
		a, p := w.list.at(i)
		want = append(appendPrefix(want[:0], kindBlock, node.RootTypeState, a), p...)
		found, err := blocks.to(want)
		if err != nil {
			return i, n, err
		}
		if !found {
			return len(w.list.entries), n, nil
		}
		key := blocks.cursor.Key()
		if string(key[:min(len(key), prefixSize)]) != string(want[:prefixSize]) {
			i++
			continue
		}
		end := w.list.upTo(i, a, node.Position(key[prefixSize:]))
		b, reason := openBlock(key, blocks.cursor.Value())
		if reason != "" {
			i = end
			continue
		}
		stored, deadKey, err := deadBitmap(s, key)
		if err != nil {
			return i, n, err
		}
		slots = c.d.deadSlots(&b, deadKey, stored, slots)
		for ; i < end; i++ {
			_, p := w.list.at(i)
			if slot, found, bad := b.find(p); found && !bad && !isDead(slots, slot) {
				n++
			}
		}
	}
	return i, n, nil
}

// logs sees that the parts of a root's write log and garbage list are there; what is in them is looked
// at with the records.
func (c *check) logs(ctx context.Context, version uint64, r *rootRecord) (err error) {
	if r.bare {
		return nil
	}
	s, err := c.d.snapshot(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, storeError(s.Close())) }()
	a := node.Address{Version: version, Candidate: r.candidate}
	for _, list := range []struct {
		kind  byte
		parts uint32
		what  string
	}{{kindWriteLog, r.logParts, "write log"}, {kindGarbage, r.garbageParts, "garbage list"}} {
		if list.kind == kindGarbage && c.state.any && version <= c.state.earliest {
			// It was applied, in part or whole: the collection may have been broken off. Where a part is missing
			// that was not, what it names is found to be unreachable.
			continue
		}
		for i := range list.parts {
			value, err := getOrNil(s, partKey(list.kind, r.typ, a, i))
			if errors.Is(err, db.ErrCorrupted) {
				if err := c.notes(version, err); err != nil {
					return err
				}
				continue
			}
			if err != nil {
				return err
			}
			if value == nil {
				c.problem(version, nil, fmt.Sprintf("part %d of the %s of %s is missing", i, list.what, c.d.nameOf(version, r)))
			}
		}
	}
	return nil
}
