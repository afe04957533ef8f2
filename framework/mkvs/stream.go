package mkvs

import (
	"bytes"
	"context"
	"sync/atomic"

	"golang.org/x/sync/semaphore"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/writelog"
)

// stream takes nodes off the appliers' hands as soon as they are made: subtrees are encoded and sent to be put
// into the batch. Those of a large tree are not kept: their memory is used again.
type stream struct {
	// keeps says that nodes stay in memory.
	keeps      bool
	self       node.Address
	embedBytes int
	// runChanges is how many changes those of a run are made by, at most.
	runChanges int

	runs chan *encodedRun
	// room is taken by the bytes of runs that are ready and have yet to be put.
	room *semaphore.Weighted
	// longest is the length of the longest run so far, about: the next ones take their memory at once.
	longest atomic.Int64
	// spareRuns and spareDesks hold what can be used again.
	spareRuns  chan *encodedRun
	spareDesks chan *desk
}

// defaultRunChanges is where a subtree's nodes stay in the processor's cache from when they are made until
// they are encoded.
const defaultRunChanges = 2048

// runsAhead is how many runs may be ready before they are put: about what is made while the database waits
// for its disk. bytesAhead bounds them where values are large; a run that is longer goes alone.
const (
	runsAhead  = 24
	bytesAhead = 16 << 20
)

// newStream returns a stream to a batch that keeps no nodes.
func newStream(batch db.Batch, embedBytes, runChanges int, forks forks) *stream {
	workers := cap(forks) + 1
	return &stream{
		self: batch.Address(), embedBytes: embedBytes, runChanges: runChanges,
		runs:       make(chan *encodedRun, runsAhead),
		room:       semaphore.NewWeighted(bytesAhead),
		spareRuns:  make(chan *encodedRun, runsAhead+workers+1),
		spareDesks: make(chan *desk, workers),
	}
}

// keptChanges is runChanges where nodes stay in memory: there are some runs for each goroutine then.
const keptChanges = hashChanges

// newRun returns an empty run.
func (s *stream) newRun() *encodedRun {
	return &encodedRun{buf: make([]byte, 0, min(s.longest.Load(), maxRunRoom))}
}

// takeRun returns an empty run, in memory that was used before where there is some. What stays in memory is
// written by many short streams, of which one uses that of others.
func (s *stream) takeRun() (r *encodedRun) {
	if s.keeps {
		r = newPart()
	} else {
		r = take(s.spareRuns, s.newRun)
	}
	r.buf, r.lengths, r.goesOn = r.buf[:0], r.lengths[:0], false
	return r
}

// giveRun leaves a run that was put to be used again.
func (s *stream) giveRun(r *encodedRun) {
	switch {
	case r.buf == nil:
	case s.keeps:
		givePart(r)
	default:
		give(s.spareRuns, r)
	}
}

// maxRunRoom bounds the memory that a run takes before it needs it.
const maxRunRoom = 1 << 20

// sends says whether a subtree to which so many changes are applied, and so many to all of its parent, is
// one to send. Few changes stay with the nodes above.
func (s *stream) sends(n, whole int) bool {
	return n <= s.runChanges && whole > s.runChanges && n > s.runChanges/128
}

// desk is what an applier works with while it makes the nodes of one run.
type desk struct {
	shelf   shelf
	encoder *encoder
}

func (s *stream) newDesk() *desk { return &desk{encoder: newEncoder(s.self, s.embedBytes)} }

// encodedRun holds records, each behind its position.
type encodedRun struct {
	buf     []byte
	lengths []entryLength
	// goesOn says that the run does not end here.
	goesOn bool
	// log is a part of the write log, or removed are entries that go, where that is what there is to put.
	log     writelog.WriteLog
	removed pieces[removal]
	// room is what it takes of the stream's.
	room int64
}

// send has a run put, and waits until there is room for it.
func (s *stream) send(ctx context.Context, r *encodedRun) error {
	bytes := len(r.buf)
	for i := range r.log {
		bytes += len(r.log[i].Key) + len(r.log[i].Value)
	}
	bytes += r.removed.len() * removalBytes
	r.room = int64(min(bytes, bytesAhead))
	if err := s.room.Acquire(ctx, r.room); err != nil {
		return context.Cause(ctx)
	}
	select {
	case s.runs <- r:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// removalBytes is what an entry that goes takes, about.
const removalBytes = 64

type entryLength struct{ position, record int }

func (r *encodedRun) add(position, record []byte) {
	r.buf = append(append(r.buf, position...), record...)
	r.lengths = append(r.lengths, entryLength{len(position), len(record)})
}

// take returns something to use again, or makes it.
func take[T any](spare chan *T, fresh func() *T) *T {
	select {
	case x := <-spare:
		return x
	default:
		return fresh()
	}
}

// give leaves something to be used again, as long as there is room.
func give[T any](spare chan *T, x *T) {
	select {
	case spare <- x:
	default:
	}
}

// applyAndSend is apply for a subtree whose nodes are sent. Its uppermost node is not, because it moves where
// its parent's other parts go; what is below it has its place.
func (a *applier) applyAndSend(ptr *node.Pointer, depth node.Depth, r run) (*node.Pointer, error) {
	if a.stream.keeps {
		return a.applyKeepAndSend(ptr, depth, r)
	}
	s := a.stream
	d := take(s.spareDesks, s.newDesk)
	before := a.nodes
	a.nodes = nodes{shelf: &d.shelf}
	out, err := a.apply(ptr, depth, r)
	a.nodes = before
	if err != nil || out == nil || out.Clean {
		return out, err
	}
	hashBelow(out)
	if n, ok := out.Node.(*node.InternalNode); ok {
		if err := s.sendBelow(a.ctx, d.encoder, n, depth, r.first()); err != nil {
			return nil, err
		}
	}
	out = a.keep(out)
	d.shelf.clear()
	give(s.spareDesks, d)
	return out, nil
}

// applyKeepAndSend is applyAndSend where what is sent stays in memory.
func (a *applier) applyKeepAndSend(ptr *node.Pointer, depth node.Depth, r run) (*node.Pointer, error) {
	s := a.stream
	out, err := a.apply(ptr, depth, r)
	if err != nil {
		return nil, err
	}
	if a.removed.len() > 0 {
		if err := s.send(a.ctx, &encodedRun{removed: a.removed}); err != nil {
			return nil, err
		}
		a.removed = pieces[removal]{}
	}
	if out == nil || out.Clean {
		return out, nil
	}
	hashBelow(out)
	n, ok := out.Node.(*node.InternalNode)
	if !ok {
		return out, nil
	}
	d := take(s.spareDesks, s.newDesk)
	d.encoder.notes = true
	if err := s.sendBelow(a.ctx, d.encoder, n, depth, r.first()); err != nil {
		return nil, err
	}
	a.written.join(&d.encoder.written)
	give(s.spareDesks, d)
	for _, child := range [2]*node.Pointer{n.Left, n.Right} {
		if isSent(child) {
			a.passes.add(child)
		}
	}
	return out, nil
}

// sendBelow sends what is below a node, whose position is the first depth bits of key, and was not sent before.
func (s *stream) sendBelow(ctx context.Context, e *encoder, n *node.InternalNode, depth node.Depth, key node.Key) error {
	var out *encodedRun
	e.put = func(position, record []byte) error {
		if out == nil {
			out = s.takeRun()
		}
		out.add(position, record)
		return nil
	}
	e.sent = func() error { // what comes after nodes that were sent before is another run
		if out == nil {
			return nil
		}
		if n := int64(len(out.buf)); n > s.longest.Load() {
			s.longest.Store(n)
		}
		if err := s.send(ctx, out); err != nil {
			return err
		}
		out = nil
		return nil
	}
	start := labelStart(depth)
	e.path.CopyBits(0, key, depth)
	e.path.CopyBits(start, n.Label, n.LabelBitLength)
	for _, child := range [2]*node.Pointer{n.Left, n.Right} {
		if !isSent(child) {
			continue
		}
		if err := e.encode(ctx, child, start+n.LabelBitLength+1); err != nil {
			return err
		}
	}
	return e.sent()
}

// isSent says whether the node that a child of the uppermost node points to is sent. A leaf is not: it may
// belong into its parent's record.
func isSent(child *node.Pointer) bool {
	if child == nil || child.Clean {
		return false
	}
	_, ok := child.Node.(*node.InternalNode)
	return ok
}

// keep returns a copy of a node, and of the leaves that are its parts, that has nothing to do with the desk.
func (a *applier) keep(ptr *node.Pointer) *node.Pointer {
	n, ok := ptr.Node.(*node.InternalNode)
	if !ok {
		return a.keepPart(ptr)
	}
	copied := *n
	if len(n.Label) > shortLabel {
		copied.Label = bytes.Clone(n.Label)
	}
	copied.LeafNode, copied.Left, copied.Right = a.keepPart(n.LeafNode), a.keepPart(n.Left), a.keepPart(n.Right)
	return newInternal(copied)
}

// keepPart is keep for a part of a node. What is below it is only pointed to: it is sent or stored.
func (a *applier) keepPart(ptr *node.Pointer) *node.Pointer {
	switch {
	case ptr == nil:
		return nil
	case ptr.Clean && ptr.Embedded:
		return ptr
	case isSent(ptr) || ptr.Node == nil || ptr.Clean:
		return &node.Pointer{Clean: ptr.Clean, Hash: ptr.Hash, Address: ptr.Address}
	}
	leaf := ptr.Node.(*node.LeafNode)
	kept := a.nodes.leaf(leaf.Key, leaf.Value)
	kept.Hash, kept.Node.(*node.LeafNode).Hash = ptr.Hash, leaf.Hash
	return kept
}

// putRuns puts runs into a batch as they come, until the last one has come, and, while there are none, a
// write log.
func (s *stream) putRuns(ctx context.Context, batch db.Batch, log *logWriter) error {
	for {
		var r *encodedRun
		more := true
		if log.done() {
			r, more = <-s.runs
		} else {
			select {
			case r, more = <-s.runs:
			default:
			}
		}
		var err error
		switch {
		case !more:
			for err == nil && !log.done() {
				err = log.put(ctx, batch)
			}
			return err
		case r != nil:
			err = r.put(ctx, batch)
			s.room.Release(r.room)
			s.giveRun(r)
		default:
			err = log.put(ctx, batch)
		}
		if err != nil {
			return err
		}
	}
}

func (r *encodedRun) put(ctx context.Context, batch db.Batch) error {
	switch {
	case r.log != nil:
		return putWriteLog(ctx, batch, r.log)
	case r.removed.len() > 0:
		return remove(ctx, batch, &r.removed)
	}
	rest := r.buf
	for _, l := range r.lengths {
		end := l.position + l.record
		if err := batch.Put(ctx, node.Position(rest[:l.position:l.position]), rest[l.position:end:end]); err != nil {
			return err
		}
		rest = rest[end:]
	}
	if r.goesOn {
		return nil
	}
	return batch.EndRun(ctx)
}
