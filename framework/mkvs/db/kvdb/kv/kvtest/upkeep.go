package kvtest

import (
	"context"
	"errors"
	"fmt"

	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
)

func syncReturns(e *env) {
	s := e.open()
	e.check(s.Sync(e.ctx))
	e.apply(s, pairs("a", "1"))
	e.check(s.Sync(e.ctx))
	e.expect(s, "a=1")
}

// bulk fills a store with some MiB under keys that begin with prefix, of bytes that don't compress.
func bulk(e *env, s kv.Store, prefix string, batches int) int64 {
	e.Helper()
	var sum int64
	x := uint64(len(prefix))
	for i := range batches {
		var b kv.Batch
		for j := range 256 {
			value := make([]byte, 4000)
			for k := range value {
				x = x*6364136223846793005 + 1442695040888963407
				value[k] = byte(x >> 56)
			}
			b.Put(fmt.Appendf(nil, "%s %04d %04d", prefix, i, j), value)
		}
		sum += int64(b.Bytes())
		e.apply(s, &b)
	}
	return sum
}

func sizeTells(e *env) {
	s := e.open()
	bytes := bulk(e, s, "bulk", 8)
	size, err := s.Size(e.ctx)
	e.check(err)
	if size.Live < bytes || size.Live > 4*bytes {
		e.Errorf("%d bytes of pairs are %d live bytes", bytes, size.Live)
	}
	if durable := s.Limits().Durable; durable && size.File < bytes || !durable && size.File != 0 {
		e.Errorf("%d bytes of pairs are %d bytes of files", bytes, size.File)
	}
}

// amplified puts pairs that are not there in large batches, for the larger part of which the keys ascend, and looks
// after each at what the files take.
func amplified(e *env) {
	s := e.open()
	limits := s.Limits()
	switch {
	case limits.Amplification == 0:
		return
	case !limits.Durable || limits.Amplification < 0.01 || limits.Amplification > 1000:
		e.Errorf("an amplification of %g, durable: %v", limits.Amplification, limits.Durable)
		return
	}
	const beside = 4 << 20
	var put int64
	for i := range 12 {
		put += bulk(e, s, fmt.Sprintf("bulk %02d", i^1), 2)
		size, err := s.Size(e.ctx)
		e.check(err)
		if most := int64(limits.Amplification*float64(put)) + beside; size.File > most {
			e.Errorf("%d bytes of pairs are %d bytes of files, and should be no more than %d", put, size.File, most)
		}
	}
}

// compactKeeps writes, deletes most of it, compacts, and looks for what should be left, and for what
// should not.
func compactKeeps(e *env) {
	s := e.open()
	kept := bulk(e, s, "kept", 2)
	bulk(e, s, "dropped", 12)
	deleteBulk(e, s, "dropped", 12)
	before, err := s.Size(e.ctx)
	e.check(err)
	var calls int
	e.check(s.Compact(e.ctx, func(done, total int64) {
		if calls++; done < 0 || done > total {
			e.Errorf("progress: %d of %d", done, total)
		}
	}))
	if s.Limits().Durable && calls == 0 {
		e.Errorf("no word of progress")
	}
	after, err := s.Size(e.ctx)
	e.check(err)
	if before.File > 0 && (after.File >= before.File || after.File > 3*kept+(4<<20)) {
		e.Errorf("the files had %d bytes and now have %d, for %d of pairs", before.File, after.File, kept)
	}
	left := func(s kv.Store) {
		e.Helper()
		e.view(s, func(snap kv.Snapshot) {
			if n := len(e.content(snap)); n != 2*256 {
				e.Errorf("%d pairs are left, want %d", n, 2*256)
			}
		})
	}
	left(s)
	e.apply(s, pairs("later", "1"))
	var b kv.Batch
	b.Delete([]byte("later"))
	e.apply(s, &b)
	left(s)
	if s.Limits().Durable {
		e.check(s.Close())
		left(e.open())
	}
}

func deleteBulk(e *env, s kv.Store, prefix string, batches int) {
	e.Helper()
	var b kv.Batch
	for i := range batches {
		for j := range 256 {
			b.Delete(fmt.Appendf(nil, "%s %04d %04d", prefix, i, j))
		}
	}
	e.apply(s, &b)
}

func compactInterrupted(e *env) {
	s := e.open()
	bulk(e, s, "bulk", 16)
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	err := s.Compact(ctx, func(int64, int64) { cancel() })
	if ctx.Err() != nil && err != nil && !errors.Is(err, context.Canceled) {
		e.Errorf("interrupted: %v", err)
	}
	whole := func(s kv.Store) {
		e.Helper()
		e.view(s, func(snap kv.Snapshot) {
			if n := len(e.content(snap)); n != 16*256+1 {
				e.Errorf("%d pairs are left, want %d", n, 16*256+1)
			}
		})
	}
	e.apply(s, pairs("later", "1"))
	whole(s)
	if s.Limits().Durable {
		e.check(s.Close())
		whole(e.open())
	}
}

func reopen(e *env) {
	s := e.open()
	e.expect(s)
	e.check(s.Close())
	for i := range 5 {
		s = e.open()
		e.apply(s, pairs("a", fmt.Sprint(i), fmt.Sprintf("b%d", i), "x"))
		e.check(s.Close())
	}
	e.expect(e.open(), "a=4", "b0=x", "b1=x", "b2=x", "b3=x", "b4=x")
}
