package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// answers is what a database says to every question, about versions up to one.
func (e *env) answers(ndb db.NodeDB, upTo uint64) string {
	e.Helper()
	var all strings.Builder
	say := func(what string, answer ...any) { fmt.Fprintln(&all, append([]any{what + ":"}, answer...)...) }
	earliest, any, err := ndb.GetEarliestVersion(e.ctx)
	say("earliest", earliest, any, err)
	latest, any, err := ndb.GetLatestVersion(e.ctx)
	say("latest", latest, any, err)
	for v := range upTo + 1 {
		roots, err := ndb.GetRootsForVersion(e.ctx, v)
		say(fmt.Sprint("roots of version ", v), roots, err)
		for _, root := range roots {
			address, err := ndb.RootAddress(e.ctx, root)
			say(root.String(), address, err)
			entries, err := e.walked(ndb, root, nil)
			say("entries", hash.Sum(fmt.Append(nil, entries)), len(entries), err)
			path, err := ndb.GetPath(e.ctx, root, address, 0, node.Key("key 1"))
			say("path", hash.Sum(fmt.Append(nil, path)), len(path), err)
			if v > 0 {
				before, _ := ndb.GetRootsForVersion(e.ctx, v-1)
				for _, start := range before {
					log, err := e.readLog(ndb, start, root)
					say("write log from "+start.String(), hash.Sum(fmt.Append(nil, log)), len(log), err)
				}
			}
		}
	}
	m, err := ndb.Multipart(e.ctx)
	say("insert", fmt.Sprintf("%+v", m), err)
	report, err := ndb.Check(e.ctx, db.CheckOptions{})
	e.check(err)
	say("check", report.Versions, report.Roots, report.Nodes, report.Entries, report.Unreachable, report.Problems)
	return all.String()
}

// readOnlyLike closes a database, opens it for reading, and fails the case where anything is answered
// otherwise than before, or a file has changed. It returns the database, open as before.
func (e *env) readOnlyLike(ndb db.NodeDB, upTo uint64) db.NodeDB {
	e.Helper()
	want := e.answers(ndb, upTo)
	e.check(ndb.Close(e.ctx))
	before := files(e, e.cfg.Dir)
	for range 2 {
		e.cfg.ReadOnly = true
		ndb = e.open()
		got := e.answers(ndb, upTo)
		for i, line := range strings.Split(want, "\n") {
			if read := strings.Split(got, "\n"); i >= len(read) || read[i] != line {
				e.Errorf("open for reading, the answers differ: %q is not among them", line)
				break
			}
		}
		e.check(ndb.Close(e.ctx))
	}
	if after := files(e, e.cfg.Dir); after != before {
		e.Errorf("files have changed from\n%sto\n%s", before, after)
	}
	e.cfg.ReadOnly = false
	return e.open()
}

func readOnlyCandidates(e *env) {
	ndb := e.open()
	_, second := e.twoVersions(ndb)
	one := e.commit(ndb, second, 3, second.content.With("one", "1"))
	e.commit(ndb, second, 3, second.content.With("other", "1"))
	e.commit(ndb, empty(ioType, 3), 3, content{"io": "1"})
	fourth := e.commit(ndb, one, 4, one.content.With("two", "2"))
	batch := e.begin(ndb, second, 3, second.content.With("never", "committed"))
	e.check(batch.putAll(e))
	ndb = e.readOnlyLike(ndb, 5)
	e.finalize(ndb, one)
	e.finalize(ndb, fourth)
	e.readable(ndb, fourth)
}

func readOnlyInsert(e *env) {
	ndb := e.open()
	e.twoVersions(ndb)
	s := newSource(stateType, 9, newRandom(100).content(60), 4)
	s.begin(e, ndb)
	e.check(e.write(s.chunks[1], ndb, s.root, 1))
	e.check(e.write(s.chunks[2], ndb, s.root, 2))
	ndb = e.readOnlyLike(ndb, 9)
	e.check(e.write(s.chunks[0], ndb, s.root, 0))
	e.check(e.write(s.chunks[3], ndb, s.root, 3))
	s.finish(e, ndb)
}

func readOnlyGarbage(e *env) {
	e.cfg.GarbageRate = -1
	ndb := e.open()
	t := empty(stateType, 0)
	for v := uint64(1); v <= 6; v++ {
		t = e.version(ndb, t, v, newRandom(v).change(t.content, 40))
	}
	_, err := ndb.PruneBefore(e.ctx, 5)
	e.check(err)
	// Nor does a database that frees space by itself begin with it.
	e.cfg.GarbageRate = 0
	want := e.answers(ndb, 7)
	e.check(ndb.Close(e.ctx))
	before := files(e, e.cfg.Dir)
	e.cfg.ReadOnly = true
	ndb = e.open()
	e.is("CollectGarbage", ndb.CollectGarbage(e.ctx, nil), db.ErrReadOnly)
	if got := e.answers(ndb, 7); got != want {
		e.Errorf("the answers were\n%sand are\n%s", want, got)
	}
	e.check(ndb.Close(e.ctx))
	if after := files(e, e.cfg.Dir); after != before {
		e.Errorf("files have changed from\n%sto\n%s", before, after)
	}
	e.cfg.ReadOnly = false
	ndb = e.open()
	e.check(ndb.CollectGarbage(e.ctx, nil))
	e.sound(ndb, "after all garbage was collected")
	e.readable(ndb, t)
}

// twoReaders opens a database for reading twice at once, where the backend lets it.
func twoReaders(e *env) {
	ndb := e.open()
	first, second := e.twoVersions(ndb)
	e.check(ndb.Close(e.ctx))
	before := files(e, e.cfg.Dir)
	e.cfg.ReadOnly, e.cfg.LockWait = true, time.Millisecond
	one := e.open()
	other, err := e.openKept(e.ctx, &e.cfg)
	if err != nil {
		e.is("a second reader", err, db.ErrLocked)
		e.Logf("the backend lets one reader in at a time")
	} else {
		e.readable(other, first)
		e.readable(one, first)
		e.check(other.Close(e.ctx))
	}
	e.readable(one, second)
	pin := e.pin(one, 1, "a reader")
	e.pinned(one, 1)
	e.check(pin.Release(e.ctx))
	e.check(one.Close(e.ctx))
	if after := files(e, e.cfg.Dir); after != before {
		e.Errorf("files have changed from\n%sto\n%s", before, after)
	}
	e.cfg.ReadOnly = false
	e.readable(e.open(), second)
}

// readingNothing opens for reading what is not there.
func readingNothing(e *env) {
	e.cfg.ReadOnly = true
	err := e.tryOpen(&e.cfg)
	e.refused("opening for reading a directory that is not there", err)
	if _, err := os.Lstat(e.cfg.Dir); !os.IsNotExist(err) {
		e.Errorf("opening for reading has made the directory: %v", err)
	}
	e.check(os.Mkdir(e.cfg.Dir, 0o700))
	err = e.tryOpen(&e.cfg)
	e.refused("opening for reading an empty directory", err)
	e.check(os.WriteFile(filepath.Join(e.cfg.Dir, "something"), []byte("else"), 0o600))
	err = e.tryOpen(&e.cfg)
	e.refused("opening for reading a directory of something else", err)
	e.check(os.Remove(filepath.Join(e.cfg.Dir, "something")))
	if names, err := os.ReadDir(e.cfg.Dir); err != nil || len(names) > 0 {
		e.Errorf("opening for reading has made files, or %v: %s", err, files(e, e.cfg.Dir))
	}
	e.cfg.ReadOnly = false
	e.twoVersions(e.open()) // nothing stands in the way of a database
}
