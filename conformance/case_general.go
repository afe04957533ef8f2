package conformance

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/ckpt-project/ckpt/conformance/reference"
	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/writelog"
)

// call is a method of a database, with arguments that make sense for a state of versions 1 and 2.
type call struct {
	name string
	do   func(ctx context.Context, ndb db.NodeDB) error
	// changes says that the method changes the database.
	changes bool
	// root says that it takes a root.
	root bool
}

// calls are all methods but Info and Close. Those that take a root take the given one.
func calls(root node.Root) []call {
	return []call{
		{name: "GetLatestVersion", do: func(ctx context.Context, ndb db.NodeDB) error {
			_, _, err := ndb.GetLatestVersion(ctx)
			return err
		}},
		{name: "GetEarliestVersion", do: func(ctx context.Context, ndb db.NodeDB) error {
			_, _, err := ndb.GetEarliestVersion(ctx)
			return err
		}},
		{name: "GetRootsForVersion", do: func(ctx context.Context, ndb db.NodeDB) error {
			_, err := ndb.GetRootsForVersion(ctx, root.Version)
			return err
		}},
		{name: "HasRoot", root: true, do: func(ctx context.Context, ndb db.NodeDB) error {
			_, err := ndb.HasRoot(ctx, root)
			return err
		}},
		{name: "RootAddress", root: true, do: func(ctx context.Context, ndb db.NodeDB) error {
			_, err := ndb.RootAddress(ctx, root)
			return err
		}},
		{name: "GetNode", root: true, do: func(ctx context.Context, ndb db.NodeDB) error {
			_, err := ndb.GetNode(ctx, root, node.Address{Version: root.Version}, node.RootPosition())
			return err
		}},
		{name: "GetPath", root: true, do: func(ctx context.Context, ndb db.NodeDB) error {
			_, err := ndb.GetPath(ctx, root, node.Address{Version: root.Version}, 0, node.Key("key"))
			return err
		}},
		{name: "GetPaths", root: true, do: func(ctx context.Context, ndb db.NodeDB) error {
			_, err := db.Collect(db.GetPaths(ctx, ndb, root, []db.PathStart{{Address: node.Address{Version: root.Version}, Key: node.Key("key")}}))
			return err
		}},
		{name: "Walk", root: true, do: func(ctx context.Context, ndb db.NodeDB) error {
			for _, err := range ndb.Walk(ctx, root, nil) {
				if err != nil {
					return err
				}
			}
			return nil
		}},
		{name: "GetWriteLog", root: true, do: func(ctx context.Context, ndb db.NodeDB) error {
			start := root
			start.Hash = hash.EmptyHash
			for _, err := range ndb.GetWriteLog(ctx, start, root) {
				if err != nil {
					return err
				}
			}
			return nil
		}},
		{name: "NewBatch", root: true, changes: true, do: func(ctx context.Context, ndb db.NodeDB) error {
			batch, err := ndb.NewBatch(ctx, root, root.Version+1)
			if err == nil {
				err = batch.Abort(ctx)
			}
			return err
		}},
		{name: "Finalize", root: true, changes: true, do: func(ctx context.Context, ndb db.NodeDB) error {
			next := root
			next.Version, next.Hash = root.Version+1, hash.EmptyHash
			return ndb.Finalize(ctx, []node.Root{next})
		}},
		{name: "Pin", do: func(ctx context.Context, ndb db.NodeDB) error {
			pin, err := ndb.Pin(ctx, root.Version, "a test")
			if err == nil {
				err = pin.Release(ctx)
			}
			return err
		}},
		{name: "Pins", do: func(ctx context.Context, ndb db.NodeDB) error {
			_, err := ndb.Pins(ctx)
			return err
		}},
		{name: "Prune", changes: true, do: func(ctx context.Context, ndb db.NodeDB) error { return ndb.Prune(ctx, 1) }},
		{name: "PruneBefore", changes: true, do: func(ctx context.Context, ndb db.NodeDB) error {
			_, err := ndb.PruneBefore(ctx, 2)
			return err
		}},
		{name: "CollectGarbage", changes: true, do: func(ctx context.Context, ndb db.NodeDB) error {
			return ndb.CollectGarbage(ctx, nil)
		}},
		{name: "Check", do: func(ctx context.Context, ndb db.NodeDB) error {
			_, err := ndb.Check(ctx, db.CheckOptions{})
			return err
		}},
		{name: "StartMultipart", changes: true, do: func(ctx context.Context, ndb db.NodeDB) error {
			return ndb.StartMultipart(ctx, root.Version+10)
		}},
		{name: "Multipart", do: func(ctx context.Context, ndb db.NodeDB) error {
			_, err := ndb.Multipart(ctx)
			return err
		}},
		{name: "AddMultipartRoot", root: true, changes: true, do: func(ctx context.Context, ndb db.NodeDB) error {
			return ndb.AddMultipartRoot(ctx, root, 1, nil)
		}},
		{name: "NewChunk", root: true, changes: true, do: func(ctx context.Context, ndb db.NodeDB) error {
			_, err := ndb.NewChunk(ctx, root, 0)
			return err
		}},
		{name: "CompleteRoot", root: true, changes: true, do: func(ctx context.Context, ndb db.NodeDB) error {
			return ndb.CompleteRoot(ctx, root)
		}},
		{name: "AbortRoot", root: true, changes: true, do: func(ctx context.Context, ndb db.NodeDB) error {
			return ndb.AbortRoot(ctx, root)
		}},
		{name: "AbortMultipart", changes: true, do: func(ctx context.Context, ndb db.NodeDB) error {
			return ndb.AbortMultipart(ctx)
		}},
		{name: "Size", do: func(ctx context.Context, ndb db.NodeDB) error {
			_, err := ndb.Size(ctx)
			return err
		}},
		{name: "Compact", changes: true, do: func(ctx context.Context, ndb db.NodeDB) error { return ndb.Compact(ctx, nil) }},
		{name: "Sync", do: func(ctx context.Context, ndb db.NodeDB) error { return ndb.Sync(ctx) }},
	}
}

// twoVersions is a state of two versions.
func (e *env) twoVersions(ndb db.NodeDB) (first, second *tree) {
	e.Helper()
	r := newRandom(1)
	first = e.version(ndb, empty(stateType, 0), 1, r.content(60))
	return first, e.version(ndb, first, 2, r.change(first.content, 20))
}

func contextDone(e *env) {
	ndb := e.open()
	first, second := e.twoVersions(ndb)
	done, cancel := context.WithCancel(e.ctx)
	cancel()
	for _, c := range calls(second.root) {
		e.is(c.name, c.do(done, ndb), context.Canceled)
	}

	w := e.begin(ndb, second, 3, second.content.With("more", "of it"))
	e.is("Put", w.batch.Put(done, node.RootPosition(), w.new.top.Record()), context.Canceled)
	e.is("EndRun", w.batch.EndRun(done), context.Canceled)
	e.is("PutWriteLog", w.batch.PutWriteLog(done, writelog.WriteLog{{Key: []byte("a")}}), context.Canceled)
	e.is("Remove", w.batch.Remove(done, second.top.Address, second.top.Position), context.Canceled)
	e.is("Commit", w.batch.Commit(done, w.new.root, w.rootAddress()), context.Canceled)
	e.check(w.batch.Abort(e.ctx))

	s := newSource(stateType, 9, newRandom(70).content(30), 1)
	s.begin(e, ndb)
	chunk, err := ndb.NewChunk(e.ctx, s.root, 0)
	e.check(err)
	e.is("a chunk's Put", chunk.Put(done, node.RootPosition(), s.top.Record(), true), context.Canceled)
	e.is("a chunk's Commit", chunk.Commit(done, true), context.Canceled)
	e.check(chunk.Abort(e.ctx))
	e.done(ndb, 9)
	e.check(ndb.AbortMultipart(e.ctx))

	e.versions(ndb, 1, 2)
	e.noMultipart(ndb)
	e.readable(ndb, first)
	e.readable(ndb, second)
	e.has(ndb, w.new.root, false)
	third := e.version(ndb, second, 3, w.new.content)
	e.readable(ndb, third)

	// A walk that has begun, and a context that ends meanwhile.
	fourth := e.version(ndb, third, 4, moreThanIsReadAhead())
	meanwhile, cancel := context.WithCancel(e.ctx)
	defer cancel()
	var end error
	for _, err := range ndb.Walk(meanwhile, fourth.root, nil) {
		if end = err; err != nil {
			break
		}
		cancel()
	}
	e.is("a walk whose context has ended meanwhile", end, context.Canceled)
	e.readable(ndb, fourth)
}

func afterClose(e *env) {
	ndb := e.open()
	_, second := e.twoVersions(ndb)
	w := e.begin(ndb, second, 3, second.content.With("more", "of it"))
	pin, err := ndb.Pin(e.ctx, 2, "a test")
	e.check(err)
	s := newSource(stateType, 9, newRandom(70).content(30), 1)
	s.begin(e, ndb)
	chunk, err := ndb.NewChunk(e.ctx, s.root, 0)
	e.check(err)
	e.check(ndb.Close(e.ctx))
	for _, c := range calls(second.root) {
		e.is(c.name, c.do(e.ctx, ndb), db.ErrClosed)
	}
	e.is("Put", w.putAll(e), db.ErrClosed)
	e.is("Commit", w.batch.Commit(e.ctx, w.new.root, w.rootAddress()), db.ErrClosed)
	e.is("a chunk's Put", s.chunks[0].Put(e.ctx, chunk, ndb.Info().EmbedBytes), db.ErrClosed)
	e.is("a chunk's Commit", chunk.Commit(e.ctx, true), db.ErrClosed)
	if err := pin.Release(e.ctx); err != nil { // the pin has ended with the database
		e.is("Release", err, db.ErrClosed)
	}
	e.is("Close", ndb.Close(e.ctx), db.ErrClosed)
}

// moreThanIsReadAhead is so much that a walk can't have it all when its first entries come.
func moreThanIsReadAhead() content {
	c := content{}
	for i := range 2000 {
		c[fmt.Sprintf("key %d", i)] = strings.Repeat("value", 800)
	}
	return c
}

// closeDuringWalk closes a database that is being walked through: the walk ends, and Close doesn't wait
// for someone who may never come back.
func closeDuringWalk(e *env) {
	ndb := e.open()
	t := e.version(ndb, empty(stateType, 0), 1, moreThanIsReadAhead())
	closed := false
	n := 0
	var end error
	for _, err := range ndb.Walk(e.ctx, t.root, nil) {
		if end = err; err != nil {
			break
		}
		if n++; !closed {
			e.check(ndb.Close(e.ctx))
			closed = true
		}
	}
	if all := len(t.top.Entries()); n == all {
		e.Errorf("all %d entries came after Close", all)
	}
	e.is("a walk through a database that is closed", end, db.ErrClosed)
}

func openedForReading(e *env) {
	ndb := e.open()
	first, second := e.twoVersions(ndb)
	third := e.commit(ndb, second, 3, second.content.With("not", "finalized"))
	e.check(ndb.Close(e.ctx))

	before := files(e, e.cfg.Dir)
	e.cfg.ReadOnly = true
	ndb = e.open()
	if !ndb.Info().Capabilities.ReadOnly {
		e.Errorf("Info does not say that the database is open for reading only")
	}
	for _, c := range calls(second.root) {
		if c.changes {
			e.is(c.name, c.do(e.ctx, ndb), db.ErrReadOnly)
		}
	}
	e.versions(ndb, 1, 2)
	e.readable(ndb, first)
	e.readable(ndb, second)
	e.readable(ndb, third)
	e.check(ndb.Close(e.ctx))
	if after := files(e, e.cfg.Dir); after != before {
		e.Errorf("files have changed from\n%sto\n%s", before, after)
	}
	e.cfg.ReadOnly = false
	ndb = e.open()
	e.finalize(ndb, third)
}

// files describes everything in a directory: names, kinds, times and content.
func files(e *env, dir string) string {
	e.Helper()
	var all strings.Builder
	e.check(filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&all, "%s %s %d %s", path, info.Mode(), info.Size(), info.ModTime())
		if info.Mode().IsRegular() {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&all, " %s", hash.Sum(content))
		}
		all.WriteByte('\n')
		return nil
	}))
	return all.String()
}

func otherNamespace(e *env) {
	ndb := e.open()
	_, second := e.twoVersions(ndb)
	e.check(ndb.StartMultipart(e.ctx, 10))
	other := second.root
	other.Namespace = common.NewTestNamespaceFromSeed([]byte("another"), 0)
	for _, c := range calls(other) {
		if c.root {
			e.is(c.name, c.do(e.ctx, ndb), db.ErrBadNamespace)
		}
	}
	e.check(ndb.AbortMultipart(e.ctx))
	w := e.begin(ndb, second, 3, second.content.With("a", "b"))
	e.check(w.putAll(e))
	root := w.new.root
	root.Namespace = other.Namespace
	e.is("Commit", w.batch.Commit(e.ctx, root, w.rootAddress()), db.ErrBadNamespace)
	e.check(w.batch.Abort(e.ctx))
	if got := ndb.Info().Namespace; got != namespace {
		e.Errorf("Info has namespace %s, want %s", got, namespace)
	}
}

func databaseOfOtherNamespace(e *env) {
	ndb := e.open()
	_, second := e.twoVersions(ndb)
	e.check(ndb.Close(e.ctx))
	e.cfg.Namespace = common.NewTestNamespaceFromSeed([]byte("another"), 0)
	e.is("open with another namespace", e.tryOpen(&e.cfg), db.ErrBadNamespace)
	e.cfg.Namespace = namespace
	e.readable(e.open(), second)
}

// passedNotKept gives each entry in the same memory, which is overwritten after each call.
func passedNotKept(e *env) {
	ndb := e.open()
	first := e.version(ndb, empty(stateType, 0), 1, newRandom(2).content(200))
	w := e.begin(ndb, first, 2, newRandom(3).change(first.content, 60))
	var position, record []byte
	for _, n := range w.put {
		position, record = append(position[:0], n.Position...), append(record[:0], n.Record()...)
		e.check(w.batch.Put(e.ctx, position, record))
		clear(position)
		clear(record)
	}
	e.check(w.batch.EndRun(e.ctx))
	for _, o := range w.remove {
		position = append(position[:0], o.Position...)
		e.check(w.batch.Remove(e.ctx, o.Address, position))
		clear(position)
	}
	for _, entry := range first.content.Log(w.new.content) {
		one := writelog.WriteLog{{Key: append([]byte(nil), entry.Key...)}}
		if entry.Value != nil {
			one[0].Value = append([]byte{}, entry.Value...)
		}
		e.check(w.batch.PutWriteLog(e.ctx, one))
		clear(one[0].Key)
		clear(one[0].Value)
	}
	e.check(w.batch.Commit(e.ctx, w.new.root, w.rootAddress()))
	e.finalize(ndb, w.new)
	e.readable(ndb, w.new)
	if ndb.Info().Capabilities.WriteLogs {
		e.log(ndb, first.root, w.new.root, first.content.Log(w.new.content))
	}
}

func returnedStays(e *env) {
	ndb := e.open()
	first, second := e.twoVersions(ndb)
	var got, want []db.Entry
	for _, entry := range first.top.Entries() {
		record, err := ndb.GetNode(e.ctx, first.root, entry.Address, entry.Position)
		e.check(err)
		entry.Record = record
		got = append(got, entry)
	}
	path, err := ndb.GetPath(e.ctx, first.root, first.top.Address, 0, first.top.Some)
	e.check(err)
	pathWas := fmt.Sprint(path)
	want = first.top.Entries()
	t := second
	for v := uint64(3); v < 8; v++ {
		t = e.version(ndb, t, v, newRandom(v).content(60))
		e.check(ndb.Prune(e.ctx, v-2))
		for _, key := range t.content.Keys() { // other answers, as long as these and longer
			e.pathTo(ndb, t, t.top, node.Key(key))
		}
	}
	e.check(ndb.Compact(e.ctx, nil))
	e.same(first.root, got, want)
	if fmt.Sprint(path) != pathWas {
		e.Errorf("the path has changed")
	}
}

// readersBesideWriter reads pinned versions over and over while others are made, finalized and pruned.
func readersBesideWriter(e *env) {
	e.versionsDuringWalk()
	ndb := e.open()
	var mu sync.Mutex
	known := map[uint64]*tree{}
	t := e.version(ndb, empty(stateType, 0), 1, newRandom(4).content(100))
	known[1] = t

	var stop atomic.Bool
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			e.guarded(func() { // a panic is the backend's, and not the end of the suite
				for last := false; !last && !e.Failed(); {
					last = stop.Load()
					if err := readLatest(e, ndb, &mu, known); err != nil {
						e.Errorf("reader: %v", err)
					}
				}
			})
		})
	}
	defer readers.Wait()
	defer stop.Store(true)
	for v := uint64(2); v < 30; v++ {
		t = e.commit(ndb, t, v, newRandom(v).change(t.content, 30))
		mu.Lock()
		known[v] = t
		mu.Unlock()
		e.finalize(ndb, t)
		if err := ndb.Prune(e.ctx, v-1); err != nil {
			e.is("Prune", err, db.ErrVersionPinned, db.ErrNotEarliest)
		}
	}
}

// versionsDuringWalk makes, finalizes and prunes versions while a walk through a pinned one goes on, at
// steps that do not depend on who is faster: the walk goes on in its own version.
func (e *env) versionsDuringWalk() {
	e.Helper()
	ndb := newEnv(e.trial, e.h).open()
	first := e.version(ndb, empty(stateType, 0), 1, moreThanIsReadAhead())
	t := e.version(ndb, first, 2, first.content.With("key 1999", "changed"))
	pin := e.pin(ndb, 2, "a walk")
	walked, n := t, 0
	want := walked.top.Entries()
	for entry, err := range ndb.Walk(e.ctx, walked.root, nil) {
		e.check(err)
		if n >= len(want) || !reference.SameEntry(entry, want[n]) {
			e.Fatalf("entry %d of a walk during which versions are made is not that of its own version", n)
		}
		if n++; n%300 == 0 {
			v := t.root.Version + 1
			t = e.version(ndb, t, v, t.content.With(fmt.Sprintf("key %d", 1999-v), "changed", fmt.Sprintf("key %d", 1000+v), "changed"))
			if n == 300 {
				e.check(ndb.Prune(e.ctx, 1))
			}
			e.is("prune of the version that is walked through", ndb.Prune(e.ctx, 2), db.ErrVersionPinned)
		}
	}
	if n != len(want) {
		e.Errorf("a walk during which versions are made yields %d entries, want %d", n, len(want))
	}
	e.check(pin.Release(e.ctx))
	e.check(ndb.Close(e.ctx))
}

// readLatest pins the latest version, reads all of it in two ways, and compares.
func readLatest(e *env, ndb db.NodeDB, mu *sync.Mutex, known map[uint64]*tree) error {
	version, _, err := ndb.GetLatestVersion(e.ctx)
	if err != nil {
		return err
	}
	pin, err := ndb.Pin(e.ctx, version, "reader")
	if errors.Is(err, db.ErrVersionPruned) {
		return nil // it was pruned since we asked
	}
	if err != nil {
		return err
	}
	mu.Lock()
	t := known[version]
	mu.Unlock()
	entries, err := e.walked(ndb, t.root, nil)
	if err == nil {
		e.same(t.root, entries, t.top.Entries())
		for _, key := range t.content.Keys()[:5] {
			_, err = ndb.GetPath(e.ctx, t.root, t.top.Address, 0, node.Key(key))
		}
	}
	return errors.Join(err, pin.Release(e.ctx))
}
