package kvtest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
)

func snapshotStays(e *env) {
	s := e.open()
	e.apply(s, pairs("a", "1", "b", "1", "c", "1"))
	snap := e.snapshot(s)
	c := snap.Cursor()
	if !c.Seek([]byte("a")) {
		e.Fatal("nothing found")
	}

	change := pairs("b", "2", "bb", "new", "d", "new")
	change.Delete([]byte("c"))
	e.apply(s, change)
	for i := range 50 { // enough for pages and tables to be used again
		e.apply(s, pairs(fmt.Sprintf("more %d", i), string(make([]byte, 10_000))))
	}
	e.check(s.Compact(e.ctx, nil))

	for _, want := range []string{"b=1", "c=1"} { // the cursor that stood there before
		if !c.Next() || string(c.Key())+"="+string(c.Value()) != want {
			e.Fatalf("the cursor does not come to %s: %v", want, c.Err())
		}
	}
	if c.Next() {
		e.Errorf("the cursor found %q", c.Key())
	}
	e.check(c.Close())
	e.expectIn(snap, "a=1", "b=1", "c=1")
	if _, err := snap.Get([]byte("d")); !errors.Is(err, kv.ErrNotFound) {
		e.Errorf("Get of a later key: %v", err)
	}
	if s.Limits().Readers == 1 {
		return // a new one has to wait
	}
	e.view(s, func(now kv.Snapshot) {
		if v, err := now.Get([]byte("b")); err != nil || string(v) != "2" {
			e.Errorf("a new snapshot: %q, %v", v, err)
		}
	})
}

// freelyOpen is how many snapshots are opened at once in a store that states no bound.
const freelyOpen = 200

// snapshotsAtOnce opens as many snapshots as the store says it can have, each of another state of it, and
// reads them all, whatever becomes of the others.
func snapshotsAtOnce(e *env) {
	s := e.open()
	bound := s.Limits().Readers
	open := make([]kv.Snapshot, cmp.Or(bound, freelyOpen))
	states := make([]string, len(open))
	defer func() { // the store could not be closed otherwise
		for _, snap := range open {
			if snap != nil {
				e.check(snap.Close())
			}
		}
	}()
	applied := 0
	take := func(i int) {
		e.Helper()
		applied++
		states[i] = fmt.Sprintf("state=%d", applied)
		e.apply(s, pairs("state", fmt.Sprint(applied)))
		snap, err := s.Snapshot(e.ctx)
		if err != nil {
			e.Fatalf("snapshot %d, with %d open and %d allowed (0: any number): %v", applied, countOpen(open), bound, err)
		}
		open[i] = snap
	}
	closeOne := func(i int) {
		e.Helper()
		snap := open[i]
		open[i] = nil
		e.check(snap.Close())
	}
	readAll := func() {
		e.Helper()
		for i, snap := range open {
			if snap != nil {
				e.expectIn(snap, states[i])
			}
		}
	}
	for i := range open {
		take(i)
	}
	readAll()
	if bound > 0 {
		oneTooMany(e, s)
		readAll()
	}
	for i := 0; i < len(open); i += 2 { // the others don't notice, and there is room again
		closeOne(i)
	}
	readAll()
	for i := 0; i < len(open); i += 2 {
		take(i)
	}
	readAll()
}

// oneTooMany asks for a snapshot that the store need not give: it may refuse, at once and in the contract's
// words, or it may give one, which is like any other.
func oneTooMany(e *env, s kv.Store) {
	e.Helper()
	ctx, cancel := context.WithTimeout(e.ctx, 5*time.Second) // it is the caller who waits, not the store
	defer cancel()
	snap, err := s.Snapshot(ctx)
	if err != nil {
		e.checkIs("one snapshot too many", err, kv.ErrLimitExceeded)
		return
	}
	e.expectIn(snap, fmt.Sprintf("state=%d", s.Limits().Readers))
	e.check(snap.Close())
}

func countOpen(snaps []kv.Snapshot) (n int) {
	for _, snap := range snaps {
		if snap != nil {
			n++
		}
	}
	return n
}

func absentKeys(e *env) {
	s := e.open()
	absent := func(keys ...string) {
		e.Helper()
		e.view(s, func(snap kv.Snapshot) {
			for _, key := range keys {
				if v, err := snap.Get([]byte(key)); v != nil || !errors.Is(err, kv.ErrNotFound) {
					e.Errorf("Get(%q) = %q, %v; want nil, %v", key, v, err, kv.ErrNotFound)
				}
			}
		})
	}
	absent("a")
	e.apply(s, pairs("b", "1", "bb", "1"))
	absent("a", "b\x00", "c", "bbb")
	var b kv.Batch
	b.Delete([]byte("b"))
	e.apply(s, &b)
	absent("b")
	e.expect(s, "bb=1")
}

func seekAndNext(e *env) {
	s := e.open()
	e.view(s, func(snap kv.Snapshot) {
		c := snap.Cursor()
		if c.Seek([]byte("a")) || c.Err() != nil {
			e.Errorf("a key in an empty store, or %v", c.Err())
		}
		e.check(c.Close())
	})
	e.apply(s, pairs("b", "1", "d", "2", "dd", "3", "f\x00", "4", "f\x00\x00", "5"))
	snap := e.snapshot(s)
	c := snap.Cursor()
	for _, step := range []struct{ seek, want string }{
		{"a", "b"},
		{"b", "b"},
		{"b\x00", "d"},
		{"d", "d"},
		{"dc", "dd"},
		{"e", "f\x00"},
		{"f\x00", "f\x00"},
		{"f\x00\x00", "f\x00\x00"},
		{"f\x01", ""},
		{"\xff", ""},
		{"a", "b"}, // backwards, too
	} {
		found := c.Seek([]byte(step.seek))
		if found != (step.want != "") || found && string(c.Key()) != step.want || c.Err() != nil {
			e.Errorf("Seek(%q): %t, %v; want %q", step.seek, found, c.Err(), step.want)
		}
	}
	var got []string
	for ok := c.Seek([]byte("c")); ok; ok = c.Next() {
		got = append(got, string(c.Key()))
	}
	if want := []string{"d", "dd", "f\x00", "f\x00\x00"}; !slices.Equal(got, want) || c.Err() != nil {
		e.Errorf("from c on: %q, %v; want %q", got, c.Err(), want)
	}
	if c.Next() || c.Err() != nil {
		e.Errorf("Next at the end: a key, or %v", c.Err())
	}
	other := snap.Cursor() // two cursors don't disturb each other
	if !other.Seek([]byte("d")) || !c.Seek([]byte("b")) || !other.Next() || string(other.Key()) != "dd" || string(c.Key()) != "b" {
		e.Errorf("two cursors of a snapshot disturb each other")
	}
	e.check(other.Close())
	e.check(c.Close())
}

// againstModel compares a store with a sorted list of pairs over many random batches.
func againstModel(e *env) {
	s := e.open()
	durable := s.Limits().Durable
	r := rand.New(rand.NewPCG(1, 2))
	model := map[string]string{}
	randomKey := func() string {
		key := make([]byte, 1+r.IntN(4))
		for i := range key {
			key[i] = "abcd\x00\xff"[r.IntN(6)]
		}
		return string(key)
	}
	for round := range 60 {
		var b kv.Batch
		for range r.IntN(60) {
			key := randomKey()
			if r.IntN(3) == 0 {
				b.Delete([]byte(key))
				delete(model, key)
				continue
			}
			value := fmt.Sprintf("%d %0*d", round, r.IntN(3000), r.IntN(1000))
			b.Put([]byte(key), []byte(value))
			model[key] = value
		}
		e.check(s.Apply(e.ctx, &b, r.IntN(2) == 0))
		switch {
		case durable && round%15 == 14:
			e.check(s.Close())
			s = e.open()
		case round%15 == 7:
			e.check(s.Compact(e.ctx, nil))
		}
		compareWithModel(e, s, model, randomKey)
	}
}

func compareWithModel(e *env, s kv.Store, model map[string]string, randomKey func() string) {
	e.Helper()
	keys := make([]string, 0, len(model))
	for key := range model {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	want := make([]string, 0, len(model))
	for _, key := range keys {
		want = append(want, key+"="+model[key])
	}
	e.view(s, func(snap kv.Snapshot) {
		e.Helper()
		if got := e.content(snap); !slices.Equal(got, want) {
			e.Fatalf("the store holds %s, want %s", short(got), short(want))
		}
		c := snap.Cursor()
		for range 20 {
			key := randomKey()
			at, exact := slices.BinarySearch(keys, key)
			if found := c.Seek([]byte(key)); found != (at < len(keys)) || found && string(c.Key()) != keys[at] {
				e.Fatalf("Seek(%q) is wrong: %v", key, c.Err())
			}
			value, err := snap.Get([]byte(key))
			if exact && (err != nil || string(value) != model[key]) || !exact && !errors.Is(err, kv.ErrNotFound) {
				e.Fatalf("Get(%q) = %.40q, %v", key, value, err)
			}
		}
		e.check(c.Close())
	})
}

func valuesStay(e *env) {
	s := e.open()
	var b kv.Batch
	for i := range 300 {
		b.Put(fmt.Appendf(nil, "key %03d", i), bytes.Repeat(fmt.Appendf(nil, "%03d", i), 300))
	}
	e.apply(s, &b)
	snap := e.snapshot(s)
	// What Get returns stays in any case; what a cursor returns, where the store says so.
	got, err := snap.Get([]byte("key 123"))
	e.check(err)
	var keys, values [][]byte
	c := snap.Cursor()
	for ok := c.Seek([]byte("key")); ok; ok = c.Next() {
		if s.Limits().StableValues {
			keys, values = append(keys, c.Key()), append(values, c.Value())
		} else if len(keys) == 0 {
			keys, values = append(keys, bytes.Clone(c.Key())), append(values, bytes.Clone(c.Value()))
		}
	}
	e.check(c.Err())
	e.check(c.Close())
	for i := range 10 {
		var change kv.Batch
		for j := range 300 {
			change.Put(fmt.Appendf(nil, "key %03d", j), bytes.Repeat([]byte{byte(i)}, 900))
		}
		e.apply(s, &change)
	}
	e.check(s.Compact(e.ctx, nil))
	if !bytes.Equal(got, bytes.Repeat([]byte("123"), 300)) {
		e.Errorf("what Get returned has changed to %.40q", got)
	}
	for i := range keys {
		if string(keys[i]) != fmt.Sprintf("key %03d", i) || !bytes.Equal(values[i], bytes.Repeat(fmt.Appendf(nil, "%03d", i), 300)) {
			e.Fatalf("pair %d has changed to %.40q, %.40q", i, keys[i], values[i])
		}
	}
}

func closingTwice(e *env) {
	s := e.open()
	e.apply(s, pairs("a", "1"))
	snap, err := s.Snapshot(e.ctx)
	e.check(err)
	e.check(snap.Close())
	e.check(snap.Close())
	e.expect(s, "a=1")
}
