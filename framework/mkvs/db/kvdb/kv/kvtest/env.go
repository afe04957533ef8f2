package kvtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
)

// env is what a case works in: one directory, and the store that is open there.
type env struct {
	*testing.T
	h   Harness
	ctx context.Context
	cfg db.Config
}

func newEnv(t *testing.T, h Harness) *env {
	return &env{T: t, h: h, ctx: t.Context(), cfg: db.Config{Dir: t.TempDir() + "/store"}}
}

// open opens the store, which is closed when the case ends if the case doesn't.
func (e *env) open() kv.Store {
	e.Helper()
	s, err := e.h.Open(e.ctx, &e.cfg)
	if err != nil {
		e.Fatalf("open: %v", err)
	}
	e.Cleanup(func() {
		if err := s.Close(); err != nil && !errors.Is(err, kv.ErrClosed) {
			e.Errorf("close: %v", err)
		}
	})
	return s
}

func (e *env) check(err error) {
	e.Helper()
	if err != nil {
		e.Fatal(err)
	}
}

// checkIs fails the case where an error is not the one that a clause asks for.
func (e *env) checkIs(what string, err, want error) {
	e.Helper()
	if !errors.Is(err, want) {
		e.Errorf("%s: %v, want %v", what, err, want)
	}
}

// pairs is a batch for tests: a key, its value, a key, its value.
func pairs(keysAndValues ...string) *kv.Batch {
	var b kv.Batch
	for i := 0; i < len(keysAndValues); i += 2 {
		b.Put([]byte(keysAndValues[i]), []byte(keysAndValues[i+1]))
	}
	return &b
}

func (e *env) apply(s kv.Store, b *kv.Batch) {
	e.Helper()
	e.check(s.Apply(e.ctx, b, false))
}

// snapshot takes a snapshot that is closed when the case ends, before the store is.
func (e *env) snapshot(s kv.Store) kv.Snapshot {
	e.Helper()
	snap, err := s.Snapshot(e.ctx)
	e.check(err)
	e.Cleanup(func() {
		if err := snap.Close(); err != nil {
			e.Errorf("close of a snapshot: %v", err)
		}
	})
	return snap
}

// view calls f with a snapshot.
func (e *env) view(s kv.Store, f func(kv.Snapshot)) {
	e.Helper()
	snap, err := s.Snapshot(e.ctx)
	e.check(err)
	defer func() { // also where f ends the case: the store could not be closed otherwise
		e.Helper()
		if err := snap.Close(); err != nil {
			e.Errorf("close of a snapshot: %v", err)
		}
	}()
	f(snap)
}

// content reads all pairs in order, as text.
func (e *env) content(snap kv.Snapshot) []string {
	e.Helper()
	c := snap.Cursor()
	var all []string
	for ok := c.Seek([]byte{0}); ok; ok = c.Next() {
		all = append(all, string(c.Key())+"="+string(c.Value()))
	}
	e.check(c.Err())
	e.check(c.Close())
	return all
}

// expect checks all that a store holds.
func (e *env) expect(s kv.Store, want ...string) {
	e.Helper()
	e.view(s, func(snap kv.Snapshot) {
		e.Helper()
		e.expectIn(snap, want...)
	})
}

func (e *env) expectIn(snap kv.Snapshot, want ...string) {
	e.Helper()
	if got := e.content(snap); fmt.Sprint(got) != fmt.Sprint(want) {
		e.Errorf("the store holds %s, want %s", short(got), short(want))
	}
	for _, pair := range want {
		key, value, _ := bytes.Cut([]byte(pair), []byte("="))
		got, err := snap.Get(key)
		if err != nil || !bytes.Equal(got, value) {
			e.Errorf("Get(%.40q) = %.40q, %v; want %.40q", key, got, err, value)
		}
	}
}

// short keeps a failure's text readable.
func short(list []string) string {
	const most = 12
	if len(list) > most {
		return fmt.Sprintf("%.40q and %d more", list[:most], len(list)-most)
	}
	return fmt.Sprintf("%.40q", list)
}
