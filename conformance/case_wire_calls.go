package conformance

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// soon is how long a call may go on when its context has ended, on a busy machine.
const soon = 5 * time.Second

// shortest is how long the first of several calls has that are interrupted. Each other has twice as long as the one
// before, until one comes to its end in time: the last that was interrupted had at least half of what it needed,
// whatever the backend, the machine and its load. Times that are fixed can all be over before the call has come to
// the process.
const shortest = 100 * time.Microsecond

// interrupt makes a call whose context ends after d, and returns the call's error: nil where it was in time,
// otherwise one that the context explains.
func (e *env) interrupt(what string, d time.Duration, call func(ctx context.Context) error) error {
	e.Helper()
	what = fmt.Sprintf("%s with %s", what, d)
	ctx, cancel := context.WithTimeout(e.ctx, d)
	defer cancel()
	var err error
	e.within(d+soon, what, func() { err = call(ctx) })
	if err != nil {
		e.ended(what, err)
		if e.Failed() || d > e.timeout {
			e.Fatalf("%s: error %v; it is not tried with more", what, err)
		}
	}
	return err
}

// broad is a content of more than a walk reads ahead.
func broad() content {
	c := content{}
	for i := range 1500 {
		c[fmt.Sprintf("key %d", i)] = strings.Repeat("value", 800)
	}
	return c
}

// ended fails the case where an error is none that an ended context explains.
func (e *env) ended(what string, err error) {
	e.Helper()
	e.is(what, err, context.Canceled, context.DeadlineExceeded)
	for _, not := range []error{db.ErrUnavailable, db.ErrClosed} {
		if isOne(err, not) {
			e.Errorf("%s: error %v is %q, too", what, err, not)
		}
	}
}

func cancelledWalk(e *env) {
	ndb := e.open()
	first := e.version(ndb, empty(stateType, 0), 1, broad())
	second := e.version(ndb, first, 2, first.content.With("a", "1"))
	all := len(first.top.Entries())
	for _, n := range []int{1, 10, 300} {
		ctx, cancel := context.WithCancel(e.ctx)
		var last error
		got := 0
		e.within(soon, "a walk whose context has ended", func() {
			for _, err := range ndb.Walk(ctx, first.root, nil) {
				if last = err; err != nil {
					break
				}
				if got++; got == n {
					cancel()
				}
			}
		})
		cancel()
		e.ended(fmt.Sprintf("a walk that is cancelled at entry %d", n), last)
		if got == all {
			e.Errorf("all %d entries came after the walk was cancelled at entry %d", all, n)
		}
	}
	for d := shortest; ; d *= 2 {
		err := e.interrupt("a walk", d, func(ctx context.Context) error {
			for _, err := range ndb.Walk(ctx, second.root, nil) {
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err == nil {
			break
		}
	}
	e.check(ndb.Prune(e.ctx, 1)) // nothing holds the first version
	e.readable(ndb, second)
}

// cancelledBatch ends contexts while entries are given and while the batch is committed.
func cancelledBatch(e *env) {
	ndb := e.open()
	t := e.version(ndb, empty(stateType, 0), 1, content{"a": "1"})
	all := func(version uint64) content { // another one for each, so that each Commit has much to do
		c := t.content.With("large", fmt.Sprintf("%*d", largestFrame, version))
		for i := range 400 {
			c[fmt.Sprintf("key %d", i)] = fmt.Sprintf("%1000d", version)
		}
		return c
	}

	ctx, cancel := context.WithCancel(e.ctx)
	w := e.begin(ndb, t, 2, all(2))
	var put error
	for i, n := range w.put {
		if i == len(w.put)/2 {
			cancel()
		}
		if put = w.batch.Put(ctx, n.Position, n.Record()); put != nil {
			break
		}
	}
	cancel()
	e.ended("Put when the batch's context has ended", put)
	e.within(soon, "Abort of a batch whose context has ended", func() { e.check(w.batch.Abort(e.ctx)) })
	e.has(ndb, w.new.root, false)
	e.roots(ndb, 2)

	for version, d := uint64(2), shortest; ; version, d = version+1, d*2 {
		w := e.begin(ndb, t, version, all(version))
		e.check(w.putAll(e))
		interrupted := e.interrupt("Commit", d, func(ctx context.Context) error {
			return w.batch.Commit(ctx, w.new.root, w.rootAddress())
		})
		if interrupted != nil {
			e.check(w.batch.Abort(e.ctx))
		}
		there, hasErr := ndb.HasRoot(e.ctx, w.new.root)
		e.check(hasErr)
		switch {
		case there: // all of it was done, whatever Commit says
			e.readable(ndb, w.new)
		case interrupted == nil:
			e.Errorf("Commit with %s: no error, and no root", d)
		}
		// Where Commit has ended with its context, who asked does not know, and does it again. Which of the two
		// was done can be seen from the address.
		again := e.begin(ndb, t, version, w.new.content)
		e.check(again.putAll(e))
		e.check(again.batch.Commit(e.ctx, again.new.root, again.rootAddress()))
		address, err := ndb.RootAddress(e.ctx, again.new.root)
		e.check(err)
		if t = again.new; address == w.new.top.Address {
			t = w.new
		}
		e.finalize(ndb, t)
		e.readable(ndb, t)
		if interrupted == nil {
			break
		}
	}
}

// interrupting is a writer of a chunk whose context ends before one of its entries.
type interrupting struct {
	db.ChunkWriter
	before int // so many entries have to come first
	end    context.CancelFunc
}

func (w *interrupting) Put(ctx context.Context, position node.Position, record []byte, whole bool) error {
	if w.before == 0 {
		w.end()
	}
	w.before--
	return w.ChunkWriter.Put(ctx, position, record, whole)
}

// cancelledChunk ends contexts while entries are given and while the chunk is committed.
func cancelledChunk(e *env) {
	ndb := e.open()
	embed := ndb.Info().EmbedBytes
	c := newRandom(82).content(200).With("large", strings.Repeat("v", largestFrame))
	s := newSource(stateType, 9, c, 8)
	s.begin(e, ndb)
	var done []uint64
	for i, chunk := range s.chunks {
		entries := 0
		for _, n := range chunk.Nodes {
			if !chunk.Embeds(n, embed) {
				entries++
			}
		}
		ctx, cancel := context.WithCancel(e.ctx)
		w, err := ndb.NewChunk(e.ctx, s.root, uint64(i))
		e.check(err)
		err = chunk.Put(ctx, &interrupting{w, entries / 2, cancel}, embed)
		cancel()
		e.ended(fmt.Sprintf("Put when the context of chunk %d has ended", i), err)
		e.within(soon, "Abort of a chunk whose context has ended", func() { e.check(w.Abort(e.ctx)) })
		e.done(ndb, 9, done...)

		for d := shortest; ; d *= 2 {
			w, err := ndb.NewChunk(e.ctx, s.root, uint64(i))
			e.check(err)
			e.check(chunk.Put(e.ctx, w, embed))
			interrupted := e.interrupt(fmt.Sprintf("Commit of chunk %d", i), d, func(ctx context.Context) error {
				return w.Commit(ctx, i%4 < 2)
			})
			if interrupted != nil {
				e.within(soon, "Abort of a chunk whose context has ended", func() { e.check(w.Abort(e.ctx)) })
			}
			marked := slices.Contains(e.multipart(ndb, 9).Roots[0].Done, uint64(i))
			if interrupted == nil && !marked {
				e.Errorf("chunk %d: Commit gave no error, and there is no mark", i)
			}
			// A restore does not write a chunk again that has its mark, whatever Commit said. Every other one is
			// written again all the same.
			if interrupted == nil || marked && i%2 == 0 {
				break
			}
		}
		done = append(done, uint64(i))
		e.done(ndb, 9, done...)
	}
	s.finish(e, ndb)
}

// cancelledUpkeep ends contexts of calls that tell their progress.
func cancelledUpkeep(e *env) {
	e.cfg.GarbageRate = -1
	ndb := e.open()
	t := e.version(ndb, empty(stateType, 0), 1, broad())
	for v := uint64(2); v < 6; v++ {
		t = e.version(ndb, t, v, newRandom(v).change(t.content, 200))
	}
	_, err := ndb.PruneBefore(e.ctx, 5)
	e.check(err)
	for _, upkeep := range []struct {
		name string
		do   func(ctx context.Context, progress func(done, total int64)) error
	}{
		{"Check", func(ctx context.Context, progress func(done, total int64)) error {
			_, err := ndb.Check(ctx, db.CheckOptions{Progress: progress})
			return err
		}},
		{"CollectGarbage", ndb.CollectGarbage},
		{"Compact", ndb.Compact},
	} {
		ctx, cancel := context.WithCancel(e.ctx)
		e.within(soon, upkeep.name+", whose context has ended", func() {
			if err := upkeep.do(ctx, func(int64, int64) { cancel() }); err != nil { // it may have been faster
				e.ended(upkeep.name+", whose context ends", err)
			}
		})
		cancel()
		e.versions(ndb, 5, 5)
		for d := shortest; ; d *= 2 {
			err := e.interrupt(upkeep.name, d, func(ctx context.Context) error { return upkeep.do(ctx, nil) })
			e.versions(ndb, 5, 5)
			if err == nil {
				break
			}
		}
		e.check(upkeep.do(e.ctx, nil))
	}
	e.readable(ndb, t)
	e.sound(ndb, "after calls that were cancelled")
}

// cancelledOpen gives up opening: the database must not stay open, or its lock held.
func cancelledOpen(e *env) {
	p := e.launch()
	e.cfg.LockWait = wireDeadline // what was given up may be opened to its end first, and then closed
	t := empty(stateType, 0)
	for d := shortest; ; d *= 2 {
		var ndb db.NodeDB
		interrupted := e.interrupt("Open", d, func(ctx context.Context) (err error) {
			ndb, err = p.Open(ctx, &e.cfg)
			return err
		})
		if interrupted == nil {
			e.check(ndb.Close(e.ctx))
		}
		ndb = e.openIn(p, e.cfg)
		if !ndb.Info().Capabilities.Durable {
			t = empty(stateType, 0)
		}
		t = e.version(ndb, t, t.root.Version+1, t.content.With("a", d.String()))
		e.readable(ndb, t)
		e.check(ndb.Close(e.ctx))
		if interrupted == nil {
			break
		}
	}
}

// stoppedProcess asks a process that does not answer.
func stoppedProcess(e *env) {
	ndb := e.open()
	first, second := e.twoVersions(ndb)
	process := processOf(ndb)
	resume, err := stop(process.PID())
	if err != nil {
		e.unsupported("a process can't be stopped here: %v", err)
	}
	defer resume()
	for stopped := false; !stopped; { // a signal takes its time
		ctx, cancel := context.WithTimeout(e.ctx, 20*time.Millisecond)
		_, _, err := ndb.GetLatestVersion(ctx)
		cancel()
		var unseen error
		if stopped, unseen = hasStopped(process.PID()); unseen != nil {
			stopped = err != nil // or it is busy: that looks the same
		}
	}
	for _, c := range calls(second.root) {
		if c.changes {
			continue
		}
		ctx, cancel := context.WithTimeout(e.ctx, 20*time.Millisecond)
		e.within(soon, c.name+" of a process that does not answer", func() {
			e.ended(c.name+" of a process that does not answer", c.do(ctx, ndb))
		})
		cancel()
	}
	resume()
	e.versions(ndb, 1, 2)
	e.readable(ndb, first)
	e.readable(ndb, second)
	e.pinnedSoon(ndb)
	e.readable(ndb, e.version(ndb, second, 3, second.content.With("a", "1")))
}

// pinnedSoon waits until no pin is left: those whose callers have gone end on their own.
func (e *env) pinnedSoon(ndb db.NodeDB) {
	e.Helper()
	for deadline := time.Now().Add(soon); ; time.Sleep(time.Millisecond) {
		pins, err := ndb.Pins(e.ctx)
		e.check(err)
		if len(pins) == 0 {
			return
		}
		if time.Now().After(deadline) {
			e.Errorf("pins are left: %v", pins)
			return
		}
	}
}

// slowClose closes a database with much that is not safe yet, and kills its process as soon as that is done.
func slowClose(e *env) {
	p := e.launch()
	ndb := e.openIn(p, e.cfg)
	t := empty(stateType, 0)
	var all []*tree
	for v := uint64(1); v <= 8; v++ {
		t = e.commit(ndb, t, v, content{"a": strings.Repeat(fmt.Sprint(v), 1<<20), "b": fmt.Sprint(v)})
		all = append(all, t)
	}
	e.check(ndb.Close(e.ctx))
	select {
	case <-p.Done():
		e.Errorf("the process of a database that was closed has ended, and was not asked to")
	default:
	}
	e.check(killProcess(&served{process: p}))
	next := e.launch()
	ndb = e.openIn(next, e.cfg)
	if ndb.Info().Capabilities.Durable {
		for _, t := range all {
			e.readable(ndb, t)
		}
		e.sound(ndb, "after Close and a kill")
	} else {
		all[7] = e.commit(ndb, empty(stateType, 7), 8, t.content)
	}

	// The process is asked to end with the database open and in use.
	w := e.begin(ndb, all[7], 9, content{"c": "1"})
	e.check(w.putAll(e))
	e.finalizeAll(ndb, all)
	e.pin(ndb, 8, "a test")
	walked := 0
	for _, err := range ndb.Walk(e.ctx, all[7].root, node.RootPosition()) {
		e.check(err)
		if walked++; walked == 1 {
			e.within(wireDeadline, "Close of a process", func() { e.check(next.Close(e.ctx)) })
			break
		}
	}
	select {
	case <-next.Done():
	default:
		e.Errorf("Close has returned, and the process has not ended")
	}
	e.cfg.LockWait = time.Millisecond // nothing holds it
	ndb = e.open()
	if ndb.Info().Capabilities.Durable {
		e.readable(ndb, all[7])
	}
}

// finalizeAll finalizes trees of one version after the other, or the last alone in a database that is new.
func (e *env) finalizeAll(ndb db.NodeDB, all []*tree) {
	e.Helper()
	if !ndb.Info().Capabilities.Durable {
		all = all[len(all)-1:]
	}
	for _, t := range all {
		e.finalize(ndb, t)
	}
}
