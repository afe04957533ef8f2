package conformance

import (
	"context"
	"errors"
	"fmt"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/writelog"
)

// readLog returns the changes between two roots.
func (e *env) readLog(ndb db.NodeDB, start, end node.Root) (log writelog.WriteLog, err error) {
	for entry, err := range ndb.GetWriteLog(e.ctx, start, end) {
		if err != nil {
			return log, err
		}
		copied := writelog.LogEntry{Key: append([]byte{}, entry.Key...)}
		if entry.Value != nil {
			copied.Value = append([]byte{}, entry.Value...)
		}
		log = append(log, copied)
	}
	return log, nil
}

// log fails the case where the changes between two roots are not these.
func (e *env) log(ndb db.NodeDB, start, end node.Root, want writelog.WriteLog) {
	e.Helper()
	got, err := e.readLog(ndb, start, end)
	if err != nil {
		e.Errorf("GetWriteLog(%s, %s): %v", start, end, err)
		return
	}
	if len(got) != len(want) {
		e.Errorf("GetWriteLog(%s, %s): %d changes, want %d", start, end, len(got), len(want))
		return
	}
	for i := range got {
		if string(got[i].Key) != string(want[i].Key) || string(got[i].Value) != string(want[i].Value) || got[i].Type() != want[i].Type() {
			e.Errorf("GetWriteLog(%s, %s): change %d is %.40q, want %.40q", start, end, i, got[i], want[i])
			return
		}
	}
}

func readWriteLogs(e *env) {
	ndb := e.open()
	r := newRandom(60)
	base := e.version(ndb, empty(stateType, 0), 1, r.content(80))
	var second *tree
	for i := range 3 { // candidates each have their own
		second = e.commit(ndb, base, 2, r.change(base.content, 30).With("candidate", fmt.Sprint(i)))
		e.log(ndb, base.root, second.root, base.content.Log(second.content))
	}
	third := e.commit(ndb, second, 3, second.content.Without(second.content.Keys()[:20]...).With("empty", ""))
	x := e.commit(ndb, empty(ioType, 2), 2, r.content(20))
	same := e.commit(ndb, third, 4, third.content)
	anew := e.commit(ndb, empty(stateType, 3), 4, r.content(20)) // that begins with nothing
	check := func() {
		e.Helper()
		e.log(ndb, base.root, second.root, base.content.Log(second.content))
		e.log(ndb, second.root, third.root, second.content.Log(third.content))
		e.log(ndb, emptyRootOf(ioType, 2), x.root, content{}.Log(x.content))
		e.log(ndb, third.root, same.root, nil)
		e.log(ndb, emptyRootOf(stateType, 3), anew.root, content{}.Log(anew.content))
	}
	check()
	e.finalize(ndb, second, x)
	e.finalize(ndb, third)
	check()
	if ndb.Info().Capabilities.Durable {
		ndb = e.reopen(ndb)
		check()
	}
	_, err := e.readLog(ndb, base.root, third.root)
	e.refused("a write log over two versions", err)
	_, err = e.readLog(ndb, second.root, unknownRootOf(stateType, 3))
	e.is("a write log to a root that is not there", err, db.ErrRootNotFound, db.ErrWriteLogNotFound)

	large := content{}
	for i := range 3000 {
		large[fmt.Sprintf("key %d", i)] = string(make([]byte, 1000))
	}
	fourth := e.commit(ndb, third, 4, large)
	e.log(ndb, third.root, fourth.root, third.content.Log(large))
}

func writeLogsNotKept(e *env) {
	e.cfg.DiscardWriteLogs = true
	ndb := e.open()
	if ndb.Info().Capabilities.WriteLogs {
		e.Errorf("Info says that write logs are kept")
	}
	first, second := e.twoVersions(ndb)
	_, err := e.readLog(ndb, first.root, second.root)
	e.is("a write log that was not kept", err, db.ErrWriteLogNotFound)
	restored := e.restore(ndb, newSource(stateType, 9, newRandom(61).content(30), 2))
	_, err = e.readLog(ndb, emptyRootOf(stateType, 8), restored.root)
	e.is("the write log of a restored root", err, db.ErrWriteLogNotFound)
}

// writeLogsNotGiven commits batches without a write log: that is not one of no changes, but where nothing
// has changed.
func writeLogsNotGiven(e *env) {
	ndb := e.open()
	_, second := e.twoVersions(ndb)
	w := e.begin(ndb, second, 3, second.content.With("more", "of it"))
	for _, n := range w.put {
		e.check(w.batch.Put(e.ctx, n.Position, n.Record()))
	}
	for _, o := range w.remove {
		e.check(w.batch.Remove(e.ctx, o.Address, o.Position))
	}
	e.check(w.batch.Commit(e.ctx, w.new.root, w.rootAddress()))
	same, err := ndb.NewBatch(e.ctx, second.root, 3)
	e.check(err)
	kept := second.root
	kept.Version = 3
	e.check(same.Commit(e.ctx, kept, second.top.Address))
	_, err = e.readLog(ndb, second.root, w.new.root)
	e.is("a write log that was not given", err, db.ErrWriteLogNotFound)
	e.log(ndb, second.root, kept, nil)
}

func upkeep(e *env) {
	ndb := e.open()
	before, err := ndb.Size(e.ctx)
	e.check(err)
	r := newRandom(62)
	t := empty(stateType, 0)
	for v := uint64(1); v <= 20; v++ {
		c := content{}
		for i := range 100 {
			c[fmt.Sprintf("key %d", i)] = fmt.Sprintf("%d %01000d", v, r.IntN(1000))
		}
		t = e.version(ndb, t, v, c)
	}
	e.check(ndb.Sync(e.ctx))
	full, err := ndb.Size(e.ctx)
	e.check(err)
	if full.Live < before.Live || full.Live < 1<<20 {
		e.Errorf("2 MB of values take %d live bytes, and nothing %d", full.Live, before.Live)
	}
	if ndb.Info().Capabilities.Durable && full.File == 0 {
		e.Errorf("the files take no space")
	}
	for v := uint64(1); v < 20; v++ {
		e.check(ndb.Prune(e.ctx, v))
	}
	e.check(ndb.Compact(e.ctx, func(done, total int64) {
		if done < 0 || done > total {
			e.Errorf("progress of %d of %d", done, total)
		}
	}))
	e.readable(ndb, t)
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	if err := ndb.Compact(ctx, func(int64, int64) { cancel() }); err != nil && !errors.Is(err, context.Canceled) {
		e.Errorf("Compact that is interrupted: %v", err)
	}
	e.readable(ndb, t)
	e.readable(ndb, e.version(ndb, t, 21, t.content.With("after", "all")))
}

func closeAndReopen(e *env) {
	ndb := e.open()
	first, second := e.twoVersions(ndb)
	info := ndb.Info()
	for range 3 {
		ndb = e.reopen(ndb)
		if got := ndb.Info(); got != info {
			e.Errorf("Info was %+v and is %+v", info, got)
		}
		e.versions(ndb, 1, 2)
		e.roots(ndb, 1, first.root)
		e.readable(ndb, first)
		e.readable(ndb, second)
	}
	e.version(ndb, second, 3, second.content.With("a", "1"))
}

// sound fails the case where a check of everything finds something.
func (e *env) sound(ndb db.NodeDB, what string) *db.CheckReport {
	e.Helper()
	report, err := ndb.Check(e.ctx, db.CheckOptions{})
	e.check(err)
	if !report.OK() {
		e.Errorf("%s: the check finds %d nodes that nothing reaches, and %v", what, report.Unreachable, report.Problems)
	}
	return report
}

func soundDatabase(e *env) {
	e.cfg.GarbageRate = -1
	ndb := e.open()
	e.sound(ndb, "an empty database")
	r := newRandom(63)
	t := empty(stateType, 0)
	entries := map[uint64]uint64{}
	for v := uint64(1); v <= 12; v++ {
		t = e.commit(ndb, t, v, r.change(t.content, 20))
		io := e.commit(ndb, empty(ioType, v), v, r.content(5))
		e.finalize(ndb, t, io)
		entries[v] = uint64(len(t.content) + len(io.content))
	}
	one := e.commit(ndb, t, 13, r.change(t.content, 5)) // candidates
	e.commit(ndb, t, 13, r.change(t.content, 5))
	e.commit(ndb, one, 14, r.change(one.content, 5))
	report := e.sound(ndb, "versions and candidates")
	if report.Versions != 12 || report.Roots != 12*2+3 || report.Nodes < report.Entries || report.Bytes == 0 {
		e.Errorf("the check went through %+v", report)
	}
	for v, want := range entries {
		report, err := ndb.Check(e.ctx, db.CheckOptions{Version: &v})
		e.check(err)
		if report.Entries != want || !report.OK() {
			e.Errorf("version %d: the check finds %d entries, want %d, and %v", v, report.Entries, want, report.Problems)
		}
	}
	missing := uint64(100)
	_, err := ndb.Check(e.ctx, db.CheckOptions{Version: &missing})
	e.is("a check of a version that is not there", err, db.ErrVersionNotFound)
	_, err = ndb.PruneBefore(e.ctx, 9)
	e.check(err)
	missing = 3
	_, err = ndb.Check(e.ctx, db.CheckOptions{Version: &missing})
	e.is("a check of a version that was pruned", err, db.ErrVersionPruned)
	e.sound(ndb, "with garbage")
	e.check(ndb.CollectGarbage(e.ctx, nil))
	e.sound(ndb, "without garbage")
	source := newSource(stateType, 30, r.content(60), 5)
	source.begin(e, ndb)
	for i, c := range source.chunks[:3] {
		e.check(e.write(c, ndb, source.root, uint64(i)))
	}
	e.sound(ndb, "with a restore half done")
	source.writeAll(e, ndb)
	restored := source.finish(e, ndb)
	e.sound(ndb, "above a gap")
	next := e.version(ndb, restored, 31, r.change(restored.content, 10))
	_, err = ndb.PruneBefore(e.ctx, 31)
	e.check(err)
	e.sound(ndb, "below a gap, pruned")
	if ndb.Info().Capabilities.Durable {
		ndb = e.reopen(ndb)
		e.sound(ndb, "opened again")
	}
	e.readable(ndb, next)
}
