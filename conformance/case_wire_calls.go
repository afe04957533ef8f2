package conformance

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// soon is how long a call may go on when its context has ended, on a busy machine.
const soon = 5 * time.Second

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
	for d := time.Millisecond; d < 20*time.Millisecond; d *= 2 {
		ctx, cancel := context.WithTimeout(e.ctx, d)
		for _, err := range ndb.Walk(ctx, second.root, nil) {
			if err != nil {
				e.is(fmt.Sprintf("a walk with %s", d), err, context.DeadlineExceeded)
			}
		}
		cancel()
	}
	e.check(ndb.Prune(e.ctx, 1)) // nothing holds the first version
	e.readable(ndb, second)
}

// cancelledBatch ends contexts while entries are given and while the batch is committed.
func cancelledBatch(e *env) {
	ndb := e.open()
	t := e.version(ndb, empty(stateType, 0), 1, content{"a": "1"})
	c := t.content.With("large", strings.Repeat("v", largestFrame))
	for i := range 400 {
		c[fmt.Sprintf("key %d", i)] = strings.Repeat("value", 200)
	}

	ctx, cancel := context.WithCancel(e.ctx)
	w := e.begin(ndb, t, 2, c)
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

	for version, d := uint64(2), 100*time.Microsecond; d < 40*time.Millisecond; version, d = version+1, d*2 {
		w := e.begin(ndb, t, version, c.With("version", fmt.Sprint(version)))
		e.check(w.putAll(e))
		ctx, cancel := context.WithTimeout(e.ctx, d)
		var err error
		e.within(soon, "Commit whose context has ended", func() { err = w.batch.Commit(ctx, w.new.root, w.rootAddress()) })
		cancel()
		if err != nil {
			e.is(fmt.Sprintf("Commit with %s", d), err, context.DeadlineExceeded)
			e.check(w.batch.Abort(e.ctx))
		}
		there, hasErr := ndb.HasRoot(e.ctx, w.new.root)
		e.check(hasErr)
		switch {
		case there: // all of it was done, whatever Commit says
			e.readable(ndb, w.new)
		case err == nil:
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
	}
}

// cancelledChunk ends contexts while entries are given and while the chunk is committed.
func cancelledChunk(e *env) {
	ndb := e.open()
	c := newRandom(82).content(200).With("large", strings.Repeat("v", largestFrame))
	s := newSource(stateType, 9, c, 8)
	s.begin(e, ndb)
	for i, chunk := range s.chunks {
		ctx, cancel := context.WithTimeout(e.ctx, 100*time.Microsecond<<i)
		if i%2 == 0 {
			cancel()
		}
		w, err := ndb.NewChunk(e.ctx, s.root, uint64(i))
		e.check(err)
		if err = chunk.Put(ctx, w, ndb.Info().EmbedBytes); err == nil {
			e.within(soon, "Commit whose context has ended", func() { err = w.Commit(ctx, i%4 < 2) })
		}
		cancel()
		if err != nil {
			e.is(fmt.Sprintf("chunk %d, whose context ends", i), err, context.Canceled, context.DeadlineExceeded)
			e.within(soon, "Abort of a chunk whose context has ended", func() { e.check(w.Abort(e.ctx)) })
		}
		done := false
		for _, index := range e.multipart(ndb, 9).Roots[0].Done {
			done = done || index == uint64(i)
		}
		if err == nil && !done {
			e.Errorf("chunk %d: Commit gave no error, and there is no mark", i)
		}
		e.check(e.write(chunk, ndb, s.root, uint64(i)))
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
		try := func(ctx context.Context, progress func(done, total int64)) {
			e.within(soon, upkeep.name+", whose context has ended", func() {
				if err := upkeep.do(ctx, progress); err != nil { // it may have been faster
					e.ended(upkeep.name+", whose context ends", err)
				}
			})
			e.versions(ndb, 5, 5)
		}
		ctx, cancel := context.WithCancel(e.ctx)
		try(ctx, func(int64, int64) { cancel() })
		cancel()
		for d := time.Millisecond; d < 20*time.Millisecond; d *= 4 {
			ctx, cancel := context.WithTimeout(e.ctx, d)
			try(ctx, nil)
			cancel()
		}
		e.check(upkeep.do(e.ctx, nil))
	}
	e.readable(ndb, t)
	e.sound(ndb, "after calls that were cancelled")
}

// cancelledOpen gives up opening: the database must not stay open, or its lock held.
func cancelledOpen(e *env) {
	p := e.launch()
	e.cfg.LockWait = soon
	t := empty(stateType, 0)
	for i := range 6 {
		ctx, cancel := context.WithTimeout(e.ctx, 500*time.Microsecond<<i)
		ndb, err := p.Open(ctx, &e.cfg)
		cancel()
		if err == nil {
			e.check(ndb.Close(e.ctx))
		} else {
			e.is("Open whose context ends", err, context.DeadlineExceeded)
		}
		ndb = e.openIn(p, e.cfg)
		if !ndb.Info().Capabilities.Durable {
			t = empty(stateType, 0)
		}
		t = e.version(ndb, t, t.root.Version+1, t.content.With("a", fmt.Sprint(i)))
		e.readable(ndb, t)
		e.check(ndb.Close(e.ctx))
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
	for hasStopped := false; !hasStopped; { // a signal takes its time
		ctx, cancel := context.WithTimeout(e.ctx, 20*time.Millisecond)
		_, _, err := ndb.GetLatestVersion(ctx)
		hasStopped = err != nil
		cancel()
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
