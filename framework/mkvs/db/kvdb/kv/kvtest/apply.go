package kvtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
)

func contextDone(e *env) {
	s := e.open()
	e.apply(s, pairs("a", "1"))
	done, cancel := context.WithCancel(e.ctx)
	cancel()
	e.checkIs("Apply", s.Apply(done, pairs("a", "2"), true), context.Canceled)
	_, err := s.Snapshot(done)
	e.checkIs("Snapshot", err, context.Canceled)
	e.checkIs("Sync", s.Sync(done), context.Canceled)
	_, err = s.Size(done)
	e.checkIs("Size", err, context.Canceled)
	e.checkIs("Compact", s.Compact(done, nil), context.Canceled)
	e.expect(s, "a=1")
	e.apply(s, pairs("a", "3")) // nothing is left locked
	e.expect(s, "a=3")
}

func slicesNotKept(e *env) {
	s := e.open()
	key, value := []byte("key"), []byte("value")
	var b kv.Batch
	b.Put(key, value)
	e.apply(s, &b)
	copy(key, "xxx")
	copy(value, "xxxxx")
	e.expect(s, "key=value")
	e.view(s, func(snap kv.Snapshot) {
		c := snap.Cursor()
		seek := []byte("k")
		found := c.Seek(seek)
		seek[0] = 'z'
		if !found || string(c.Key()) != "key" {
			e.Errorf("the cursor moved with the bytes that it was given")
		}
		e.check(c.Close())
	})
}

func afterClose(e *env) {
	s := e.open()
	e.apply(s, pairs("a", "1"))
	e.check(s.Close())
	e.checkIs("Apply", s.Apply(e.ctx, pairs("a", "2"), false), kv.ErrClosed)
	_, err := s.Snapshot(e.ctx)
	e.checkIs("Snapshot", err, kv.ErrClosed)
	e.checkIs("Sync", s.Sync(e.ctx), kv.ErrClosed)
	_, err = s.Size(e.ctx)
	e.checkIs("Size", err, kv.ErrClosed)
	e.checkIs("Compact", s.Compact(e.ctx, nil), kv.ErrClosed)
	e.checkIs("Close", s.Close(), kv.ErrClosed)
}

func limitsStay(e *env) {
	s := e.open()
	before := s.Limits()
	e.apply(s, pairs("a", "1"))
	if after := s.Limits(); after != before {
		e.Errorf("limits %+v became %+v", before, after)
	}
	l := before
	if l.BatchBytes < 0 || l.BatchOps < 0 || l.KeyBytes < 0 || l.ValueBytes < 0 || l.PreferredBatchBytes < 0 || l.Readers < 0 {
		e.Errorf("negative limits: %+v", l)
	}
	if l.BatchBytes > 0 && l.PreferredBatchBytes > l.BatchBytes {
		e.Errorf("batches of %d bytes are preferred, and %d the most", l.PreferredBatchBytes, l.BatchBytes)
	}
}

// The least that a store has to take unless its Limits say otherwise.
const (
	leastKeyBytes   = 9500
	leastValueBytes = 65 << 20
)

func leastLimits(e *env) {
	s := e.open()
	l := s.Limits()
	key := bytes.Repeat([]byte{0x5a}, within(leastKeyBytes, l.KeyBytes))
	value := bytes.Repeat([]byte("v"), within(within(leastValueBytes, l.ValueBytes), l.BatchBytes-len(key)))
	var b kv.Batch
	b.Put(key, value)
	b.Put([]byte("small"), []byte("beside it"))
	e.apply(s, &b)
	check := func(s kv.Store) {
		e.view(s, func(snap kv.Snapshot) {
			got, err := snap.Get(key)
			if err != nil || !bytes.Equal(got, value) {
				e.Errorf("a value of %d bytes came back as %d bytes, %v", len(value), len(got), err)
			}
			c := snap.Cursor()
			if !c.Seek(key) || !bytes.Equal(c.Key(), key) || !bytes.Equal(c.Value(), value) {
				e.Errorf("the cursor does not find the largest pair: %v", c.Err())
			}
			e.check(c.Close())
		})
	}
	check(s)
	if l.Durable {
		e.check(s.Close())
		check(e.open())
	}
}

func within(n, limit int) int {
	if limit <= 0 {
		return n
	}
	return min(n, limit)
}

func beyondLimits(e *env) {
	s := e.open()
	e.apply(s, pairs("a", "1"))
	l := s.Limits()
	refused := func(what string, b *kv.Batch) {
		e.Helper()
		b.Put([]byte("a"), []byte("2"))
		e.checkIs(what, s.Apply(e.ctx, b, false), kv.ErrLimitExceeded)
		e.expect(s, "a=1")
	}
	// Where a limit is given, the store keeps it; where it doesn't refuse, it takes.
	if l.KeyBytes > 0 {
		var b kv.Batch
		b.Put(make([]byte, l.KeyBytes+1), []byte("v"))
		refused("a key too long", &b)
	}
	if l.ValueBytes > 0 {
		var b kv.Batch
		b.Put([]byte("k"), make([]byte, l.ValueBytes+1))
		refused("a value too long", &b)
	}
	if l.BatchBytes > 0 {
		var b kv.Batch
		value := make([]byte, within(l.BatchBytes/2, l.ValueBytes))
		for i := 0; b.Bytes() <= l.BatchBytes; i++ {
			b.Put(fmt.Appendf(nil, "k%d", i), value)
		}
		refused("a batch too large", &b)
	}
	e.apply(s, pairs("b", "2"))
	e.expect(s, "a=1", "b=2")
}

// generation is a batch that sets many keys to the same value, so that a mixture shows.
func generation(n int) *kv.Batch {
	var b kv.Batch
	for i := range 200 {
		b.Put(fmt.Appendf(nil, "key %03d", i), fmt.Appendf(nil, "generation %d", n))
	}
	return &b
}

// mixture says what is wrong with a snapshot that should show one whole generation.
func mixture(snap kv.Snapshot) error {
	c := snap.Cursor()
	var first []byte
	n := 0
	for ok := c.Seek([]byte("key")); ok; ok = c.Next() {
		if n++; first == nil {
			first = bytes.Clone(c.Value())
		} else if !bytes.Equal(first, c.Value()) {
			return errors.Join(fmt.Errorf("%s beside %s", first, c.Value()), c.Close())
		}
	}
	if err := errors.Join(c.Err(), c.Close()); err != nil {
		return err
	}
	if n != 200 {
		return fmt.Errorf("%d keys, want 200", n)
	}
	return nil
}

func batchIsWhole(e *env) {
	s := e.open()
	e.apply(s, generation(0))
	readWhile(e, s, func() {
		for i := 1; i <= 100; i++ {
			e.apply(s, generation(i))
		}
	}, mixture)
}

// readWhile lets goroutines read snapshots of a store while write runs, and at least once each: as many at
// a time as the store allows.
func readWhile(e *env, s kv.Store, write func(), read func(kv.Snapshot) error) {
	e.Helper()
	var stop atomic.Bool
	var readers sync.WaitGroup
	for range within(4, s.Limits().Readers) {
		readers.Go(func() {
			for last := false; !last; {
				last = stop.Load()
				snap, err := s.Snapshot(e.ctx)
				if err == nil {
					err = errors.Join(read(snap), snap.Close())
				}
				if err != nil {
					e.Errorf("reader: %v", err)
					return
				}
			}
		})
	}
	defer readers.Wait()
	defer stop.Store(true)
	write()
}

func readersBesideWriter(e *env) {
	s := e.open()
	e.apply(s, generation(0))
	readWhile(e, s, func() {
		for i := 1; i <= 40; i++ {
			b := generation(i)
			b.Put(fmt.Appendf(nil, "large %d", i), make([]byte, 100_000))
			e.apply(s, b)
			_, err := s.Size(e.ctx)
			e.check(err)
			if i%20 == 0 {
				e.check(s.Sync(e.ctx))
				e.check(s.Compact(e.ctx, nil))
			}
		}
	}, func(snap kv.Snapshot) error {
		if v, err := snap.Get([]byte("key 007")); err != nil || !bytes.HasPrefix(v, []byte("generation ")) {
			return fmt.Errorf("value of key 007: %.40q, %w", v, err)
		}
		c := snap.Cursor()
		n := 0
		for ok := c.Seek([]byte("key")); ok && bytes.HasPrefix(c.Key(), []byte("key ")); ok = c.Next() {
			n++
		}
		if n != 200 {
			return errors.Join(fmt.Errorf("%d keys", n), c.Err(), c.Close())
		}
		return errors.Join(c.Err(), c.Close())
	})
}

func laterSnapshotSees(e *env) {
	s := e.open()
	e.expect(s)
	for i := range 20 {
		e.check(s.Apply(e.ctx, pairs("a", fmt.Sprint(i)), i%2 == 0))
		e.expect(s, fmt.Sprintf("a=%d", i))
	}
	e.apply(s, pairs()) // a batch of nothing
	e.expect(s, "a=19")
}

func lastOperationCounts(e *env) {
	s := e.open()
	e.apply(s, pairs("d", "0", "e", "0", "f", "0"))
	b := pairs("a", "1", "a", "2", "b", "1")
	b.Delete([]byte("b"))
	b.Delete([]byte("c"))
	b.Put([]byte("c"), []byte("1"))
	b.Delete([]byte("d"))
	b.Delete([]byte("e"))
	b.Put([]byte("e"), []byte("1"))
	b.Delete([]byte("e"))
	b.Delete([]byte("never there"))
	e.apply(s, b)
	e.expect(s, "a=2", "c=1", "f=0")
}

func emptyValues(e *env) {
	s := e.open()
	b := pairs("empty", "", "\x00", "zero", "\xff", "last")
	b.Put([]byte("nil"), nil)
	e.apply(s, b)
	e.expect(s, "\x00=zero", "empty=", "nil=", "\xff=last")
	e.view(s, func(snap kv.Snapshot) {
		for _, key := range []string{"empty", "nil"} {
			if v, err := snap.Get([]byte(key)); err != nil || v == nil || len(v) != 0 {
				e.Errorf("Get(%q) = %#v, %v; want an empty value that is not nil", key, v, err)
			}
			c := snap.Cursor()
			if !c.Seek([]byte(key)) || c.Value() == nil || len(c.Value()) != 0 {
				e.Errorf("the cursor's value of %q is not an empty one", key)
			}
			e.check(c.Close())
		}
	})
}
