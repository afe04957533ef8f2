package mkvs

import (
	"bytes"
	"context"
	"fmt"
	"math"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/writelog"
)

// Builder makes a root of entries that come in the order of their keys, from nothing. What it makes is what a
// tree would that began empty, node by node, but it holds only the last entries and what is on the way to
// them: of the rest it knows the hashes of the subtrees that lead off that way. So it takes as much memory
// for any number of entries.
//
// It belongs to one goroutine. Meanwhile others make nodes of what was added and write them.
type Builder struct {
	// settings is a tree that holds the options, and commits.
	settings *Tree
	root     node.Root
	batch    db.Batch
	ctx      context.Context
	cancel   context.CancelCauseFunc

	// filling takes what is added, and last is the key that was added last.
	filling changes
	last    node.Key
	added   bool
	// most is how many entries are handed over at once, at most.
	most int
	// full takes what is to be made nodes of. What these come to is in node when written is closed, and what
	// failed is ctx's cause.
	full    chan changes
	empty   chan changes // what was full, and can be filled again
	stream  *stream
	node    *node.Pointer
	written chan struct{}
	over    bool
}

// How much is gathered before nodes are made of it: enough that several goroutines have work, and that what
// is left over for the next time is little.
const (
	builderBytes   = 8 << 20
	builderChanges = 1 << 16
)

// NewBuilder begins a root, of whose name the hash is not known yet: of a version that NodeDB.NewBatch takes
// with an empty root before it. Of the options, that on write logs has a meaning. ctx is that of all the
// work: when it ends, so does the builder. Close has to be called.
func NewBuilder(ctx context.Context, ndb db.NodeDB, root node.Root, opts ...Option) (*Builder, error) {
	t := New(ndb, root.Type, opts...)
	batch, err := t.newBatch(ctx, root.Namespace, root.Version)
	if err != nil {
		return nil, fmt.Errorf("mkvs: build version %d: %w", root.Version, err)
	}
	b := &Builder{
		settings: t, root: root, batch: batch, filling: newChanges(), most: builderChanges,
		full: make(chan changes), empty: make(chan changes, 1), written: make(chan struct{}),
	}
	b.ctx, b.cancel = context.WithCancelCause(ctx)
	forks := newForks(false)
	b.stream = newStream(batch, ndb.Info().EmbedBytes, t.runChanges, forks)
	full := b.full // the field is this goroutine's
	go func() {
		defer close(b.stream.runs)
		if err := b.build(full, forks); err != nil {
			b.cancel(err)
		}
	}()
	go func() {
		defer close(b.written)
		if err := b.stream.putRuns(b.ctx, batch, new(logWriter)); err != nil {
			b.cancel(err)
		}
		for range b.stream.runs { // until the other has ended
		}
	}()
	return b, nil
}

// Add adds an entry; nil is the empty value. It copies both. A key that does not come after the one before is
// refused with ErrNotAscending, and a key or value beyond the namespace's limits with db.ErrLimitExceeded:
// these change nothing, and after any other error only Close is left to call.
func (b *Builder) Add(key, value []byte) error {
	if b.over {
		return ErrClosed
	}
	if err := b.settings.checkEntry(key, value); err != nil {
		return err
	}
	if b.added && bytes.Compare(b.last, key) >= 0 {
		return fmt.Errorf("%w: %x comes after %x", ErrNotAscending, key, []byte(b.last))
	}
	if b.filling.memory.used >= builderBytes || b.filling.list.len() >= b.most {
		if err := b.handOver(); err != nil {
			return err
		}
	}
	b.filling.append(key, value)
	b.last, b.added = append(b.last[:0], key...), true
	return nil
}

// handOver has nodes made of what was added.
func (b *Builder) handOver() error {
	select {
	case b.full <- b.filling:
		select {
		case b.filling = <-b.empty:
		default:
			b.filling = newChanges()
		}
		return nil
	case <-b.ctx.Done():
		return context.Cause(b.ctx)
	}
}

// Commit writes the root, as Tree.Commit does, and returns it. After an error, also where it isn't known whether
// the root was written, only Close is left to call.
func (b *Builder) Commit() (node.Root, error) {
	if b.over {
		return node.Root{}, ErrClosed
	}
	fail := func(err error) (node.Root, error) {
		b.cancel(err) // whoever calls again hears of it
		return node.Root{}, fmt.Errorf("mkvs: build version %d: %w", b.root.Version, err)
	}
	if err := b.handOver(); err != nil {
		return fail(err)
	}
	b.end()
	if err := context.Cause(b.ctx); err != nil {
		return fail(err)
	}
	c := &candidate{node: b.node, logPut: true}
	c.root = b.settings.rootAs(b.root.Namespace, b.root.Version, c.node)
	if err := b.settings.write(b.ctx, b.batch, c); err != nil {
		return fail(err)
	}
	b.over = true
	b.cancel(nil)
	return c.root, nil
}

// end waits until what was handed over is written. Nothing more can be.
func (b *Builder) end() {
	if b.full != nil {
		close(b.full)
		b.full = nil
	}
	<-b.written
}

// Close gives up what is not committed. It can be called again.
func (b *Builder) Close() error {
	if b.over {
		return nil
	}
	b.over = true
	b.cancel(ErrClosed)
	b.end()
	return giveUp(b.ctx, b.batch, nil)
}

// build makes nodes of what is handed over, until there is no more.
func (b *Builder) build(full <-chan changes, forks forks) error {
	e := &edge{applier: &applier{
		application: &application{ctx: b.ctx, cancel: b.cancel, forks: forks, forkFrom: forkChanges, stream: b.stream},
		nodes:       nodes{copies: true},
	}}
	e.encoder = newEncoder(b.stream.self, b.stream.embedBytes)
	logs := b.settings.writeLog && b.settings.ndb.Info().Capabilities.WriteLogs
	var rest []byte // what is left over, the last entry so far: its key, and its value behind it
	keyLength := 0
	for {
		select {
		case c, more := <-full:
			if !more {
				if !e.begun {
					return nil
				}
				last := newChanges()
				last.append(rest[:keyLength], rest[keyLength:])
				var err error
				b.node, err = e.close(last.sorted([]uint32{0}, forks))
				return err
			}
			if c.list.len() == 0 {
				continue
			}
			if logs {
				if err := b.putLog(&c); err != nil {
					return err
				}
			}
			if e.begun {
				c.prepend(rest[:keyLength], rest[keyLength:])
			}
			e.begun = true
			left, err := e.extend(c.sorted(c.pending, forks))
			if err != nil {
				return err
			}
			rest = append(append(rest[:0], left.first()...), left.value(0)...)
			keyLength = len(left.first())
			if logs { // which are still to be put
				continue
			}
			c.reset()
			select {
			case b.empty <- c:
			default:
			}
		case <-b.ctx.Done():
			return context.Cause(b.ctx)
		}
	}
}

// putLog puts the write log of some changes into the batch.
func (b *Builder) putLog(c *changes) error {
	log := make(writelog.WriteLog, len(c.pending))
	for i, n := range c.pending {
		log[i] = writelog.LogEntry{Key: c.key(n), Value: c.value(n)}
	}
	return b.stream.send(b.ctx, &encodedRun{log: log})
}

// edge is the way to the last key, from the root down: internal nodes of which one side is not known yet.
type edge struct {
	*applier
	encoder *encoder
	open    []openNode
	begun   bool
}

// openNode is an internal node whose path ends at end. All keys to come, until one leaves its path, go to its
// left child, or, where openRight is set, to its right one.
type openNode struct {
	end       int
	own, left *node.Pointer
	openRight bool
}

// noEnd is the end of what is above the root.
const noEnd = -1

// end is where the last open node ends.
func (e *edge) end() int {
	if len(e.open) == 0 {
		return noEnd
	}
	return e.open[len(e.open)-1].end
}

// extend takes further keys: the first is the last one so far. It returns the last one, whose place is not
// known until the next one comes.
func (e *edge) extend(r run) (run, error) {
	for r.len() > 1 {
		// Those that go through all open nodes come first.
		first, at := r.first(), r.len()
		if end := e.end(); end != noEnd {
			at = r.through(node.Depth(end + 1))
		}
		var err error
		if at < r.len() {
			next := r.key(at)
			leaves := first.CommonPrefixLen(first.BitLength(), next, next.BitLength())
			err = e.leave(r.to(at), int(leaves))
			r = r.from(at)
		} else {
			r, err = e.grow(r)
		}
		if err != nil {
			return r, err
		}
	}
	return r, nil
}

// grow adds an open node where keys, which go through all others, part.
func (e *edge) grow(r run) (rest run, err error) {
	end := r.common(node.Depth(max(e.end(), 0)))
	own, left, right := r.divide(end)
	n := openNode{end: int(end)}
	if own.len() > 0 {
		n.own = e.nodes.leaf(own.first(), own.value(0))
	}
	rest = left
	if right.len() > 0 {
		if left.len() > 0 {
			if n.left, err = e.finish(int(end), left); err != nil {
				return r, err
			}
		}
		n.openRight, rest = true, right
	}
	e.open = append(e.open, n)
	return rest, nil
}

// finish makes the subtree of keys that no other goes to, below a node that ends at end.
func (e *edge) finish(end int, r run) (*node.Pointer, error) {
	depth := node.Depth(end + 1)
	ptr, err := e.applyToSide(nil, depth, r, math.MaxInt)
	if err != nil {
		return nil, err
	}
	return e.shed(ptr, depth, r.first())
}

// leave finishes what the next key, which leaves the way to r's keys after so many bits, is not below.
func (e *edge) leave(r run, bits int) error {
	ptr, err := e.finishTo(r, bits)
	if err != nil {
		return err
	}
	if last := len(e.open) - 1; last >= 0 && e.open[last].end == bits {
		e.open[last].left, e.open[last].openRight = ptr, true
		return nil
	}
	e.open = append(e.open, openNode{end: bits, left: ptr, openRight: true})
	return nil
}

// close finishes all nodes; r is the last key.
func (e *edge) close(r run) (*node.Pointer, error) { return e.finishTo(r, noEnd) }

// finishTo makes the subtree of keys that go through all open nodes, and closes those that end below so many
// bits. It returns the uppermost.
func (e *edge) finishTo(r run, bits int) (*node.Pointer, error) {
	key := r.first()
	ptr, err := e.finish(max(e.end(), bits), r)
	for err == nil && e.end() > bits {
		n := e.open[len(e.open)-1]
		e.open = e.open[:len(e.open)-1]
		left, right := ptr, (*node.Pointer)(nil)
		if n.openRight {
			left, right = n.left, ptr
		}
		depth := node.Depth(max(e.end(), bits) + 1)
		start, end := labelStart(depth), node.Depth(n.end)
		ptr = e.nodes.internal(e.nodes.slice(key, start, end), end-start, n.own, left, right)
		ptr, err = e.shed(ptr, depth, key)
	}
	return ptr, err
}

// shed sends what is below a node, whose position is the first depth bits of key, and returns what is left.
func (e *edge) shed(ptr *node.Pointer, depth node.Depth, key node.Key) (*node.Pointer, error) {
	hashBelow(ptr)
	n, ok := ptr.Node.(*node.InternalNode)
	if !ok {
		return ptr, nil
	}
	if err := e.stream.sendBelow(e.ctx, e.encoder, n, depth, key); err != nil {
		return nil, err
	}
	return e.keep(ptr), nil
}
