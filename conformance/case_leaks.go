package conformance

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// known ends the case where the system does not tell what it wants to know.
func known[T any](e *env, what T, err error) T {
	e.Helper()
	if errors.Is(err, errors.ErrUnsupported) {
		e.unsupported("what processes have open can't be seen here")
	}
	if err != nil {
		e.broken("asking the system for processes: %v", err)
	}
	return what
}

// nothingLeftOf fails the case where something is left of a process: itself or what it has started, files in
// its directory for sockets, or open ones in the database's.
func (e *env) nothingLeftOf(pid int, runDir, dir string) {
	e.Helper()
	left, err := leftOf(pid)
	if left = known(e, left, err); len(left) > 0 {
		e.Errorf("processes %d are left of process %d", left, pid)
	}
	for _, d := range []string{runDir, dir} {
		open, err := whoHasOpen(d)
		for _, file := range known(e, open, err) {
			e.Errorf("left open: %s", file)
		}
	}
	names, err := filepath.Glob(filepath.Join(runDir, "*"))
	e.check(err)
	if len(names) > 0 {
		e.Errorf("left in the directory for sockets: %q", names)
	}
}

// shortTempDir is a directory for temporary files whose path leaves room for that of a socket.
func shortTempDir() string {
	dir := os.TempDir()
	if info, err := os.Stat("/tmp"); len(dir) > len("/tmp") && err == nil && info.IsDir() {
		return "/tmp"
	}
	return dir
}

// inRunDir is an environment whose processes have a directory for their sockets that nobody else uses.
func (e *env) inRunDir() (*env, string) {
	e.Helper()
	dir, err := os.MkdirTemp(shortTempDir(), "ckpt-c")
	if err != nil {
		e.broken("no directory: %v", err)
	}
	e.Cleanup(func() { _ = os.RemoveAll(dir) }) // what is left in it was told
	program := *e.h.Program
	program.RunDir = dir
	h := program.Harness()
	h.Settings = e.h.Settings
	return newEnv(e.trial, h), dir
}

// inUse opens a database, and has everything of it in use that can be.
func (e *env) inUse() (ndb db.NodeDB, pid int) {
	e.Helper()
	ndb = e.open()
	pid = processOf(ndb).PID()
	t := e.version(ndb, empty(stateType, 0), 1, broad())
	e.check(e.begin(ndb, t, 2, t.content.With("a", "1")).putAll(e))
	e.pin(ndb, 1, "a test")
	s := newSource(stateType, 9, newRandom(90).content(40), 3)
	s.begin(e, ndb)
	w, err := ndb.NewChunk(e.ctx, s.root, 0)
	e.check(err)
	e.check(s.chunks[0].Put(e.ctx, w, ndb.Info().EmbedBytes))
	for _, err := range ndb.Walk(e.ctx, t.root, nil) {
		e.check(err)
		break
	}
	return ndb, pid
}

func nothingLeftAfterClose(e *env) {
	e, runDir := e.inRunDir()
	ndb, pid := e.inUse()
	e.check(ndb.Close(e.ctx))
	e.nothingLeftOf(pid, runDir, e.cfg.Dir)

	e.cfg.Settings = []byte(`{"no such setting": true}`) // nor of one that could not be opened
	err := e.tryOpen(&e.cfg)
	e.is("a database with bad settings", err, db.ErrBadSettings)
	e.nothingLeftOf(pid, runDir, e.cfg.Dir)
}

func nothingLeftAfterKill(e *env) {
	e, runDir := e.inRunDir()
	ndb, pid := e.inUse()
	e.check(e.h.Crash(ndb))
	e.nothingLeftOf(pid, runDir, e.cfg.Dir)
	if err := ndb.Close(e.ctx); err != nil {
		e.is("Close of a process that was killed", err, db.ErrUnavailable)
	}
	e.nothingLeftOf(pid, runDir, e.cfg.Dir)
}

// What may be more after many rounds than after some: a process opens files when it needs them, and gives
// memory back when it likes.
const (
	moreDescriptors = 3
	moreBytes       = 48 << 20
)

// steady does something over and over in a process, which must not grow by it.
func (e *env) steady(pid, rounds int, round func(i int)) {
	e.Helper()
	i := 0
	measure := func(until int) (int, int64) {
		for ; i < until; i++ {
			round(i)
		}
		files, err := descriptors(pid)
		known(e, files, err)
		memory, err := privateBytes(pid)
		return files, known(e, memory, err)
	}
	files, memory := measure(rounds / 3)
	filesAfter, memoryAfter := measure(rounds)
	e.Logf("after %d rounds %d open files and %d KiB of memory, after %d rounds %d and %d",
		rounds/3, files, memory>>10, rounds, filesAfter, memoryAfter>>10)
	if filesAfter > files+moreDescriptors {
		e.Errorf("after %d rounds the process has %d open files, and after %d rounds it had %d", rounds, filesAfter, rounds/3, files)
	}
	if memoryAfter > memory+moreBytes {
		e.Errorf("after %d rounds the process has %d bytes of memory, and after %d rounds it had %d", rounds, memoryAfter, rounds/3, memory)
	}
}

func openedAndClosed(e *env) {
	p := e.launch()
	e.steady(p.PID(), 30, func(i int) {
		cfg := e.elsewhere()
		ndb := e.openIn(p, cfg)
		t := e.version(ndb, empty(stateType, 0), 1, newRandom(uint64(i)).content(40))
		e.begin(ndb, t, 2, t.content.With("never", "ended"))
		e.pin(ndb, 1, "a test")
		e.check(ndb.Close(e.ctx))
		if i%10 > 0 { // looking at all processes takes longer than all the rest
			return
		}
		open, err := whoHasOpen(cfg.Dir)
		if open = known(e, open, err); len(open) > 0 {
			e.Fatalf("left open: %q", open)
		}
	})
}

func walksLeft(e *env) {
	ndb := e.open()
	first := e.version(ndb, empty(stateType, 0), 1, broad())
	second := e.version(ndb, first, 2, first.content.With("a", "1"))
	e.steady(processOf(ndb).PID(), 150, func(i int) {
		n := 0
		for _, err := range ndb.Walk(e.ctx, first.root, nil) {
			e.check(err)
			if n++; n > i%20 {
				break
			}
		}
		for _, err := range ndb.GetWriteLog(e.ctx, first.root, second.root) {
			_ = err // it may not be kept
			break
		}
	})
	e.check(ndb.Prune(e.ctx, 1))
	e.within(wireDeadline, "Close after walks that were left", func() { e.check(ndb.Close(e.ctx)) })
}

func batchesAborted(e *env) {
	ndb := e.open()
	t := e.version(ndb, empty(stateType, 0), 1, newRandom(91).content(60))
	s := newSource(stateType, 9, newRandom(92).content(60), 3)
	s.begin(e, ndb)
	e.steady(processOf(ndb).PID(), 90, func(i int) {
		w := e.begin(ndb, t, 2, newRandom(uint64(i)).change(t.content, 30))
		e.check(w.putAll(e))
		e.check(w.batch.Abort(e.ctx))
		c, err := ndb.NewChunk(e.ctx, s.root, uint64(i%len(s.chunks)))
		e.check(err)
		e.check(s.chunks[i%len(s.chunks)].Put(e.ctx, c, ndb.Info().EmbedBytes))
		e.check(c.Abort(e.ctx))
	})
	e.check(ndb.AbortMultipart(e.ctx))
	e.sound(ndb, "after batches and chunks that were aborted")
	e.within(wireDeadline, "Close after batches that were aborted", func() { e.check(ndb.Close(e.ctx)) })
}

func pinsReleased(e *env) {
	ndb := e.open()
	_, second := e.twoVersions(ndb)
	e.steady(processOf(ndb).PID(), 300, func(int) {
		pin := e.pin(ndb, 1, "a test")
		e.check(pin.Release(e.ctx))
	})
	e.pinned(ndb)
	e.check(ndb.Prune(e.ctx, 1))
	e.readable(ndb, second)
}
