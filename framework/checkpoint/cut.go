package checkpoint

import (
	"context"
	"fmt"
	"io"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// chunkInfo is what is known of a chunk that was made.
type chunkInfo struct {
	compressed
	// entries and nodes count the leaves and the nodes that the chunk is the first to visit.
	entries, nodes uint64
}

// chunkFiles is where chunks are written.
type chunkFiles interface {
	// create makes the file of a chunk.
	create(index uint64) (io.WriteCloser, error)
	// done does what is left to do with a chunk that was written and closed; an error ends the cutting. It is
	// called by several goroutines at once, as many as there are workers.
	done(ctx context.Context, index uint64, info chunkInfo) error
}

// cutter cuts a tree into chunks: the layout decides in one goroutine (several, for a layout of several
// threads) where each ends, and workers compress, hash and write.
type cutter struct {
	ndb     db.NodeDB
	root    node.Root
	size    uint64
	threads int
	workers int
	limits  Limits
	files   chunkFiles
}

// syncing is how many chunks are made safe from a loss of power while others are compressed: that is waiting
// for the disk.
const syncing = 2

// cut makes all chunks and returns how many there are.
func (c *cutter) cut(ctx context.Context) (uint64, error) {
	if c.workers <= 0 {
		c.workers = runtime.GOMAXPROCS(0) + syncing
	}
	group, ctx := errgroup.WithContext(ctx)
	p := &pipeline{ctx: ctx, files: c.files, limits: c.limits.withDefaults(), group: group, slots: make(chan struct{}, c.workers)}
	var chunks uint64
	group.Go(func() (err error) {
		switch {
		case c.root.IsEmpty():
			chunks, err = 1, c.empty(ctx, p)
		case c.threads < 2:
			chunks, err = c.sequence(ctx, p)
		default:
			chunks, err = c.rounds(ctx, p)
		}
		return err
	})
	return chunks, group.Wait()
}

// empty makes the one chunk of the empty tree.
func (c *cutter) empty(ctx context.Context, p *pipeline) error {
	w, err := p.open(ctx, 0)
	if err != nil {
		return err
	}
	w.out.absent()
	w.close(0, 0)
	return nil
}

// sequence cuts the tree as one task, in one walk.
func (c *cutter) sequence(ctx context.Context, p *pipeline) (chunks uint64, err error) {
	t := newTask(c.size)
	w, err := p.open(ctx, 0)
	if err != nil {
		return 0, err
	}
	defer func() { w.abandon() }()
	if err := t.begin(w.out); err != nil {
		return 0, err
	}
	chunks = 1
	// more ends the chunk, and begins the next one where there is any.
	more := func() (bool, error) {
		if err := t.end(); err != nil {
			return false, err
		}
		w.close(t.leaves, t.nodes)
		if t.finished() {
			return false, nil
		}
		if w, err = p.open(ctx, chunks); err != nil {
			return false, err
		}
		chunks++
		return true, t.begin(w.out)
	}

	for e, err := range c.ndb.Walk(ctx, c.root, node.RootPosition()) {
		if err != nil {
			return 0, err
		}
		for !t.advance() {
			if again, err := more(); err != nil {
				return 0, err
			} else if !again {
				return 0, &db.CorruptedError{Version: e.Address.Version, Position: e.Position, Reason: "the walk goes on behind the tree's end"}
			}
		}
		if err := t.take(&e); err != nil {
			return 0, err
		}
	}
	for { // only embedded leaves are left
		if t.advance() {
			return 0, c.cutShort(t)
		}
		if again, err := more(); err != nil || !again {
			return chunks, err
		}
	}
}

func (c *cutter) cutShort(t *task) error {
	return &db.CorruptedError{Version: c.root.Version, Position: t.position(), Reason: "the walk ends before the tree does"}
}

// rounds cuts the tree as a list of tasks.
func (c *cutter) rounds(ctx context.Context, p *pipeline) (chunks uint64, err error) {
	tasks := []*task{newTask(c.size)}
	for len(tasks) > 0 {
		if tasks, err = splitTasks(ctx, tasks, c.threads, c.load); err != nil {
			return 0, err
		}
		round, ctx := errgroup.WithContext(ctx)
		round.SetLimit(c.workers)
		for i, t := range tasks {
			index := chunks + uint64(i)
			round.Go(func() error { return c.step(ctx, p, t, index) })
		}
		if err := round.Wait(); err != nil {
			return 0, err
		}
		chunks += uint64(len(tasks))
		left := tasks[:0]
		for _, t := range tasks {
			if !t.finished() {
				left = append(left, t)
			}
		}
		tasks = left
	}
	return chunks, nil
}

// step makes a task's next chunk.
func (c *cutter) step(ctx context.Context, p *pipeline, t *task, index uint64) error {
	w, err := p.open(ctx, index)
	if err != nil {
		return err
	}
	defer w.abandon()
	if err := t.begin(w.out); err != nil {
		return err
	}
	if t.advance() {
		if err := c.walk(ctx, t); err != nil {
			return err
		}
	}
	if err := t.end(); err != nil {
		return err
	}
	w.close(t.leaves, t.nodes)
	return nil
}

// walk gives the task records until its chunk ends.
func (c *cutter) walk(ctx context.Context, t *task) error {
	from := t.position()
	for e, err := range c.ndb.Walk(ctx, c.root, from) {
		if err != nil {
			return err
		}
		if e.Position.Compare(from) < 0 {
			continue // on the way there; the task has it
		}
		if err := t.take(&e); err != nil {
			return err
		}
		if !t.advance() {
			return nil
		}
	}
	return c.cutShort(t)
}

// load reads the entry of a child at a position; the root's for no child.
func (c *cutter) load(ctx context.Context, child *node.Child, position node.Position) (*db.Entry, error) {
	var address node.Address
	if child != nil {
		address = child.Address
	} else {
		var err error
		if address, err = c.ndb.RootAddress(ctx, c.root); err != nil {
			return nil, err
		}
	}
	record, err := c.ndb.GetNode(ctx, c.root, address, position)
	if err != nil {
		return nil, err
	}
	return &db.Entry{Address: address, Position: position, Record: record}, nil
}

// pipeline runs the workers that compress, hash and write chunks.
type pipeline struct {
	// ctx is the group's: whoever opens a chunk may be done before it is written.
	ctx    context.Context
	files  chunkFiles
	limits Limits
	group  *errgroup.Group
	slots  chan struct{}
}

// chunkWork is a chunk that is being made.
type chunkWork struct {
	out    *chunkEncoder
	counts chan [2]uint64 // leaves and nodes; closed without where the chunk is abandoned
	ended  bool
}

// open begins a chunk. It waits until a worker is free.
func (p *pipeline) open(ctx context.Context, index uint64) (*chunkWork, error) {
	if err := p.limits.checkCount(index + 1); err != nil {
		return nil, err
	}
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	out, in := newChunkEncoder(&p.limits)
	w := &chunkWork{out: out, counts: make(chan [2]uint64, 1)}
	p.group.Go(func() error {
		if err := p.write(index, in, w.counts); err != nil {
			return fmt.Errorf("chunk %d: %w", index, err) // nobody gets the slot: no other chunk is begun
		}
		<-p.slots
		return nil
	})
	return w, nil
}

func (p *pipeline) write(index uint64, in <-chan *segment, counts <-chan [2]uint64) error {
	file, err := p.files.create(index)
	if err != nil {
		for s := range in { // so that whoever makes the chunk does not wait for ever
			s.release()
		}
		return err
	}
	c, err := compress(file, in)
	if cerr := file.Close(); err == nil && cerr != nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if c.bytes > p.limits.ChunkBytes {
		return exceeded("ChunkBytes", p.limits.ChunkBytes, fmt.Sprintf("a chunk of this chunk size has %d", c.bytes))
	}
	n, ok := <-counts
	if !ok {
		return nil // it was abandoned, which has a reason of its own
	}
	return p.files.done(p.ctx, index, chunkInfo{compressed: c, entries: n[0], nodes: n[1]})
}

// close ends the chunk.
func (w *chunkWork) close(leaves, nodes uint64) {
	w.ended = true
	w.counts <- [2]uint64{leaves, nodes}
	close(w.counts)
	w.out.close()
}

// abandon ends a chunk that has not come to its end. After close it does nothing.
func (w *chunkWork) abandon() {
	if w == nil || w.ended {
		return
	}
	w.ended = true
	close(w.counts)
	w.out.close()
}
