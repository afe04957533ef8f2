package kvtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
)

// Of batch i, all keys have this many pairs with the same value; some batches are large enough to be
// written in more than one piece.
const pairsOfBatch = 40

func numberedBatch(i uint64) *kv.Batch {
	size := 20
	if i%5 == 0 {
		size = 20_000
	}
	var b kv.Batch
	value := bytes.Repeat(binary.BigEndian.AppendUint64(nil, i), size)
	for j := range pairsOfBatch {
		b.Put(fmt.Appendf(nil, "latest %02d", j), value)
	}
	b.Put(fmt.Appendf(nil, "batch %08d", i), value[:8])
	if i > 0 {
		b.Delete(fmt.Appendf(nil, "next %08d", i))
	}
	b.Put(fmt.Appendf(nil, "next %08d", i+1), nil)
	return &b
}

// applyForEver applies one batch after the other, and says the number of each that was.
func applyForEver(ctx context.Context, open func() (kv.Store, error), w io.Writer) error {
	s, err := open()
	if err != nil {
		return err
	}
	next, err := batchesIn(ctx, s)
	if err != nil {
		return err
	}
	for ; ; next++ {
		if err := s.Apply(ctx, numberedBatch(next), next%3 == 0); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(w, next); err != nil {
			return err
		}
	}
}

// batchesIn checks that a store holds the first n batches, each as a whole and nothing else, and
// returns n.
func batchesIn(ctx context.Context, s kv.Store) (n uint64, err error) {
	snap, err := s.Snapshot(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	c := snap.Cursor()
	defer func() { err = errors.Join(err, c.Close()) }()
	for ok := c.Seek([]byte("batch ")); ok && bytes.HasPrefix(c.Key(), []byte("batch ")); ok = c.Next() {
		if string(c.Key()) != fmt.Sprintf("batch %08d", n) {
			return n, fmt.Errorf("batch %d is missing: found %q", n, c.Key())
		}
		n++
	}
	if c.Err() != nil || n == 0 {
		return n, c.Err()
	}
	var pairs, nexts int
	for ok := c.Seek([]byte("latest ")); ok; ok = c.Next() {
		switch {
		case bytes.HasPrefix(c.Key(), []byte("latest ")):
			pairs++
			if i := binary.BigEndian.Uint64(c.Value()); i != n-1 {
				return n, fmt.Errorf("%s is of batch %d, and the last is %d", c.Key(), i, n-1)
			}
		case string(c.Key()) == fmt.Sprintf("next %08d", n):
			nexts++
		default:
			return n, fmt.Errorf("after batch %d, %q is there", n-1, c.Key())
		}
	}
	if pairs != pairsOfBatch || nexts != 1 {
		return n, fmt.Errorf("after batch %d, %d pairs and %d next: it is there in part", n-1, pairs, nexts)
	}
	return n, c.Err()
}

// killed kills a process that applies batches, again and again at other moments: everything that it
// said it had applied has to be there, and of the batch after that all or nothing.
func killed(e *env) {
	const rounds = 6
	var acknowledged uint64
	for round := range rounds {
		p := startChild(e, "batches")
		for range 10 + 13*round {
			if !p.lines.Scan() {
				e.Fatalf("the child ended by itself: %v, %v", p.lines.Err(), p.cmd.Wait())
			}
			i, err := strconv.ParseUint(p.lines.Text(), 10, 64)
			e.check(err)
			acknowledged = i + 1
		}
		time.Sleep(time.Duration(round) * 700 * time.Microsecond) // somewhere within a batch
		e.check(p.cmd.Process.Kill())
		for p.lines.Scan() { // what it had said before it died
			if i, err := strconv.ParseUint(p.lines.Text(), 10, 64); err == nil {
				acknowledged = max(acknowledged, i+1)
			}
		}
		if err := p.cmd.Wait(); err == nil {
			e.Fatal("the child was not killed")
		}
		s := e.open()
		n, err := batchesIn(e.ctx, s)
		if err != nil || n < acknowledged || n > acknowledged+1 {
			e.Fatalf("round %d: %d batches are there of %d acknowledged: %v", round, n, acknowledged, err)
		}
		e.check(s.Close())
	}
}
