package conformance

import (
	"fmt"
	"iter"
	"strings"
	"sync"
	"time"

	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

func isOne(err, target error) bool { return errors.Is(err, target) }

// twoProcesses opens a directory in two processes at once.
func twoProcesses(e *env) {
	ndb := e.open()
	first, second := e.twoVersions(ndb)
	e.cfg.LockWait = 10 * time.Millisecond
	if !ndb.Info().Capabilities.Durable { // nothing is shared
		other := e.open()
		e.has(other, second.root, false)
		e.version(other, empty(stateType, 0), 1, content{"a": "1"})
		e.readable(ndb, first)
		return
	}
	holder := fmt.Sprint(processOf(ndb).PID())
	for _, readOnly := range []bool{false, true} {
		e.cfg.ReadOnly = readOnly
		err := e.tryOpen(&e.cfg)
		e.is(fmt.Sprintf("opened in another process (for reading only: %t)", readOnly), err, db.ErrLocked)
		if err != nil && !strings.Contains(err.Error(), holder) {
			e.Errorf("the error does not name the holder, process %s: %v", holder, err)
		}
	}
	e.cfg.ReadOnly = false
	e.readable(ndb, first)
	third := e.version(ndb, second, 3, second.content.With("a", "1"))

	// Who waits gets it as soon as it is free.
	e.cfg.LockWait = wireDeadline
	var waiting sync.WaitGroup
	var next db.NodeDB
	var opened error
	waiting.Go(func() { next, opened = e.h.Open(e.ctx, &e.cfg) })
	e.check(ndb.Close(e.ctx))
	waiting.Wait()
	e.check(opened)
	e.readable(next, third)
	e.check(next.Close(e.ctx))
}

// killedHolder opens what a process held that was killed.
func killedHolder(e *env) {
	ndb := e.open()
	_, second := e.twoVersions(ndb)
	e.check(e.h.Crash(ndb))
	e.cfg.LockWait = time.Millisecond
	ndb = e.open()
	if ndb.Info().Capabilities.Durable {
		e.readable(ndb, second)
	}
}

// twoDatabases opens two databases in one process.
func twoDatabases(e *env) {
	p := e.launch()
	cfg := e.elsewhere()
	cfg.Namespace = common.NewTestNamespaceFromSeed([]byte("another"), 0)
	one, other := e.openIn(p, e.cfg), e.openIn(p, e.elsewhere())
	foreign := e.openIn(p, cfg)
	first, second := e.twoVersions(one)
	e.has(other, second.root, false)
	if _, any, err := other.GetLatestVersion(e.ctx); err != nil || any {
		e.Errorf("the other database has a version: %t, %v", any, err)
	}
	_, err := foreign.HasRoot(e.ctx, second.root)
	e.is("a root in a database of another namespace", err, db.ErrBadNamespace)
	e.check(one.StartMultipart(e.ctx, 9))
	e.noMultipart(other)
	e.check(one.AbortMultipart(e.ctx))
	e.pin(one, 1, "a test")
	e.pinned(other)
	theirs := e.version(other, empty(stateType, 0), 1, content{"another": "database"})
	if one.Info().Capabilities.Durable {
		cfg := e.cfg
		cfg.LockWait = time.Millisecond
		_, err := p.Open(e.ctx, &cfg)
		e.is("the same directory again, in the same process", err, db.ErrLocked)
	}
	e.check(one.Close(e.ctx))
	e.readable(other, theirs)
	_, err = one.HasRoot(e.ctx, theirs.root)
	e.is("a database that is closed, while another is open", err, db.ErrClosed)
	one = e.openIn(p, e.cfg)
	if one.Info().Capabilities.Durable {
		e.readable(one, first)
	}
	e.has(one, theirs.root, false)
	e.readable(other, theirs)
	e.check(other.Close(e.ctx))
	e.check(foreign.Close(e.ctx))
	e.check(one.Close(e.ctx))
}

// closedHandle asks a closed database while its process has others, one of them at the same place.
func closedHandle(e *env) {
	p := e.launch()
	old := e.openIn(p, e.cfg)
	_, second := e.twoVersions(old)
	w := e.begin(old, second, 3, second.content.With("more", "of it"))
	pin := e.pin(old, 2, "a test")
	e.check(old.Close(e.ctx))
	next := e.openIn(p, e.cfg)
	if !next.Info().Capabilities.Durable {
		_, second = e.twoVersions(next)
	}
	other := e.openIn(p, e.elsewhere())
	e.twoVersions(other)
	for _, c := range calls(second.root) {
		e.is(c.name+" after Close", c.do(e.ctx, old), db.ErrClosed)
	}
	e.is("Put after Close", w.putAll(e), db.ErrClosed)
	e.is("Commit after Close", w.batch.Commit(e.ctx, w.new.root, w.rootAddress()), db.ErrClosed)
	if err := pin.Release(e.ctx); err != nil {
		e.is("Release after Close", err, db.ErrClosed)
	}
	e.is("Close after Close", old.Close(e.ctx), db.ErrClosed)
	for _, ndb := range []db.NodeDB{next, other} {
		e.versions(ndb, 1, 2)
		e.roots(ndb, 3)
		e.pinned(ndb)
		e.readable(ndb, second)
	}
}

// killedProcess asks a process that was killed, in the middle of everything.
func killedProcess(e *env) {
	ndb := e.open()
	first := e.version(ndb, empty(stateType, 0), 1, broad())
	second := e.version(ndb, first, 2, first.content.With("a", "1"))
	w := e.begin(ndb, second, 3, second.content.With("more", "of it"))
	s := newSource(stateType, 9, newRandom(83).content(50), 3)
	s.begin(e, ndb)
	chunk, err := ndb.NewChunk(e.ctx, s.root, 0)
	e.check(err)
	pin := e.pin(ndb, 2, "a test")
	next, leave := iter.Pull2(ndb.Walk(e.ctx, second.root, nil))
	defer leave()
	_, err, _ = next()
	e.check(err)

	var asking, begun sync.WaitGroup
	begun.Add(3)
	for range 3 { // until it has gone
		asking.Go(func() {
			for n := 0; ; n++ {
				there, err := ndb.HasRoot(e.ctx, second.root)
				if n == 0 {
					begun.Done()
				}
				switch {
				case err != nil:
					e.is("a call under way when the process was killed", err, db.ErrUnavailable)
					return
				case !there:
					e.Errorf("while the process was being killed, a root was said not to be there")
					return
				}
			}
		})
	}
	begun.Wait()
	e.check(e.h.Crash(ndb))
	e.within(soon, "calls under way when the process was killed", asking.Wait)

	for ok := true; ok; {
		if _, err, ok = next(); err != nil || !ok {
			break
		}
	}
	e.is("a walk under way when the process was killed", err, db.ErrUnavailable)
	e.within(soon, "all calls of a process that was killed", func() {
		for _, c := range calls(second.root) {
			e.is(c.name, c.do(e.ctx, ndb), db.ErrUnavailable)
		}
	})
	put := w.putAll(e) // what goes into a frame is not sent yet
	if put == nil {
		put = w.batch.Commit(e.ctx, w.new.root, w.rootAddress())
	}
	e.is("a batch of a process that was killed", put, db.ErrUnavailable)
	put = s.chunks[0].Put(e.ctx, chunk, ndb.Info().EmbedBytes)
	if put == nil {
		put = chunk.Commit(e.ctx, true)
	}
	e.is("a chunk of a process that was killed", put, db.ErrUnavailable)
	if err := pin.Release(e.ctx); err != nil {
		e.is("the release of a pin of a process that was killed", err, db.ErrUnavailable)
	}
	if err := ndb.Close(e.ctx); err != nil {
		e.is("Close of a process that was killed", err, db.ErrUnavailable)
	}
	e.is("a call after that Close", ndb.Sync(e.ctx), db.ErrClosed)
}

// errorIdentities provokes each error that a caller is meant to tell apart.
func errorIdentities(e *env) {
	e.cfg.GarbageRate = -1
	e.cfg.MaxValueBytes = 20_000
	ndb := e.open()
	durable := ndb.Info().Capabilities.Durable
	first, second := e.twoVersions(ndb)
	third := e.version(ndb, second, 3, second.content.With("a", "1"))
	e.check(ndb.Prune(e.ctx, 1))
	pin := e.pin(ndb, 2, "a test")
	candidate := e.commit(ndb, third, 4, content{"b": "1"})
	other := third.root
	other.Namespace = common.NewTestNamespaceFromSeed([]byte("another"), 0)
	find := func(position node.Position) error {
		_, err := ndb.GetNode(e.ctx, third.root, third.top.Address, position)
		return err
	}
	batch := func(c content) error {
		w := e.begin(ndb, third, 4, c)
		err := w.putAll(e)
		if err == nil {
			err = w.batch.Commit(e.ctx, w.new.root, w.rootAddress())
		}
		e.check(w.batch.Abort(e.ctx))
		return err
	}
	type provoked struct {
		want error
		got  error
	}
	_, unknown := ndb.RootAddress(e.ctx, unknownRootOf(stateType, 3))
	_, foreign := ndb.HasRoot(e.ctx, other)
	_, pruned := ndb.RootAddress(e.ctx, first.root)
	_, log := e.readLog(ndb, emptyRootOf(stateType, 3), third.root)
	_, notFinal := ndb.Pin(e.ctx, 4, "a test")
	missing := uint64(100)
	_, version := ndb.Check(e.ctx, db.CheckOptions{Version: &missing})
	malformed := func() error {
		w := e.begin(ndb, third, 4, content{"c": "1"})
		err := w.batch.Put(e.ctx, node.RootPosition(), []byte("no record"))
		if err == nil {
			err = w.batch.Commit(e.ctx, w.new.root, w.rootAddress())
		}
		e.check(w.batch.Abort(e.ctx))
		return err
	}
	all := []provoked{
		{db.ErrNodeNotFound, find(node.NewPosition(node.Key("no such node"), 90))},
		{db.ErrWriteLogNotFound, log},
		{db.ErrNotFinalized, notFinal},
		{db.ErrAlreadyFinalized, e.tryBatch(ndb, second.root, 3)},
		{db.ErrVersionNotFound, version},
		{db.ErrVersionNotNext, ndb.Finalize(e.ctx, []node.Root{emptyRootOf(stateType, 9)})},
		{db.ErrRootNotFound, unknown},
		{db.ErrRootMustFollowOld, e.tryBatch(ndb, unknownRootOf(stateType, 3), 4)},
		{db.ErrBadNamespace, foreign},
		{db.ErrNotEarliest, ndb.Prune(e.ctx, 9)},
		{db.ErrInvalidMultipartVersion, ndb.StartMultipart(e.ctx, 2)},
		{db.ErrVersionPruned, pruned},
		{db.ErrVersionPinned, ndb.Prune(e.ctx, 2)},
		{db.ErrNoMultipart, ndb.CompleteRoot(e.ctx, unknownRootOf(stateType, 9))},
		{db.ErrLimitExceeded, batch(content{"too": strings.Repeat("v", 20_001)})},
		{db.ErrMalformed, malformed()},
	}
	e.check(pin.Release(e.ctx))
	e.check(ndb.Prune(e.ctx, 2))
	all = append(all, provoked{db.ErrCannotPruneLatestVersion, ndb.Prune(e.ctx, 3)})

	s := newSource(stateType, 9, newRandom(84).content(200), 4)
	s.begin(e, ndb)
	e.check(e.write(s.chunks[0], ndb, s.root, 0))
	e.finalize(ndb, candidate)
	all = append(all,
		provoked{db.ErrMultipartInProgress, ndb.StartMultipart(e.ctx, 10)},
		provoked{db.ErrMultipartInProgress, ndb.Prune(e.ctx, 3)},
		provoked{db.ErrNotComplete, ndb.CompleteRoot(e.ctx, s.root)},
	)
	e.check(ndb.AbortMultipart(e.ctx))

	bad := e.elsewhere()
	bad.Settings = []byte(`{"no such setting": true}`)
	err := e.tryOpen(&bad)
	all = append(all, provoked{db.ErrBadSettings, err})
	if durable {
		locked := e.cfg
		locked.LockWait = time.Millisecond
		err := e.tryOpen(&locked)
		all = append(all, provoked{db.ErrLocked, err})
	}
	e.check(ndb.Close(e.ctx))
	all = append(all, provoked{db.ErrClosed, ndb.Sync(e.ctx)})
	if durable {
		e.cfg.ReadOnly = true
		ndb := e.open()
		all = append(all, provoked{db.ErrReadOnly, ndb.AbortMultipart(e.ctx)})
		e.check(ndb.Close(e.ctx))
	}

	for _, p := range all {
		e.is(p.want.Error(), p.got, p.want)
		for _, not := range []error{db.ErrUnavailable, db.ErrCorrupted, db.ErrUnsupported} {
			if p.want != not && isOne(p.got, not) {
				e.Errorf("%v is %q, too", p.got, not)
			}
		}
		if p.got != nil && strings.TrimSpace(p.got.Error()) == "" {
			e.Errorf("%q has no text", p.want)
		}
	}
}
