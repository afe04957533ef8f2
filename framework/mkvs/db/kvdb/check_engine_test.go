package kvdb_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
)

// holedStore is a store whose engine can't read the keys from one up to another: a cursor that comes there
// fails, and does not move any more. It has one snapshot at a time.
type holedStore struct {
	kv.Store
	from, to []byte
}

var errHole = fmt.Errorf("%w: engine: block 7 is bad", db.ErrCorrupted)

func (s *holedStore) Limits() kv.Limits {
	l := s.Store.Limits()
	l.Readers = 1
	return l
}

func (s *holedStore) hides(key []byte) bool {
	return bytes.Compare(key, s.from) >= 0 && bytes.Compare(key, s.to) < 0
}

func (s *holedStore) Snapshot(ctx context.Context) (kv.Snapshot, error) {
	snap, err := s.Store.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	return &holedSnapshot{snap, s}, nil
}

type holedSnapshot struct {
	kv.Snapshot
	store *holedStore
}

func (s *holedSnapshot) Get(key []byte) ([]byte, error) {
	if s.store.hides(key) {
		return nil, errHole
	}
	return s.Snapshot.Get(key)
}

func (s *holedSnapshot) Cursor() kv.Cursor {
	return &holedCursor{Cursor: s.Snapshot.Cursor(), store: s.store}
}

type holedCursor struct {
	kv.Cursor
	store *holedStore
	err   error
}

func (c *holedCursor) moved(ok bool) bool {
	if ok && c.store.hides(c.Key()) {
		c.err = errHole
	}
	return ok && c.err == nil
}

func (c *holedCursor) Seek(key []byte) bool { return c.err == nil && c.moved(c.Cursor.Seek(key)) }
func (c *holedCursor) Next() bool           { return c.err == nil && c.moved(c.Cursor.Next()) }

func (c *holedCursor) Err() error {
	if c.err != nil {
		return c.err
	}
	return c.Cursor.Err()
}

// What an engine can't read is one place in a check's report, whatever records these are, and everything else
// is looked at.
func TestCheckGoesOnBehindAHole(t *testing.T) {
	f, _ := everything(t)
	ctx := t.Context()
	pairs := dump(t, f.store)
	hidden := make(map[string]int)
	for size := 1; size <= 7; size += 3 {
		for i := range pairs[:len(pairs)-size] {
			store := &holedStore{loaded(t, pairs, -1, nil), pairs[i].key, pairs[i+size].key}
			ndb, err := openDB(ctx, store, readOnly)
			if err != nil { // it is found earlier
				wantErr(t, err, db.ErrCorrupted)
				continue
			}
			hidden[kvdb.KindName(pairs[i].key)]++
			what := fmt.Sprintf("%d keys from %x on", size, pairs[i].key)
			report, err := ndb.Check(ctx, db.CheckOptions{})
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if report.Damaged != 1 || report.Unreachable != 0 {
				t.Fatalf("%s: %d places, %d nodes that nothing reaches: %v", what, report.Damaged, report.Unreachable, report.Problems)
			}
			if report.Records != uint64(len(pairs)-size) {
				t.Fatalf("%s: of %d records %d were looked at", what, len(pairs), report.Records)
			}
			p := report.Problems[0]
			want := fmt.Sprintf("up to key %.32x (%s", pairs[i+size].key, kvdb.KindName(pairs[i+size].key))
			if !strings.HasPrefix(p.Reason, fmt.Sprintf("the engine can't read on from key %.32x (", pairs[i-1].key)) ||
				!strings.Contains(p.Reason, want) || !strings.HasSuffix(p.Reason, ": engine: block 7 is bad") {
				t.Fatalf("%s: %v", what, p)
			}
			must(t, ndb.Close(ctx))
		}
	}
	for _, kind := range []string{"block", "dead slots", "garbage list", "write log", "finalized version"} {
		if hidden[kind] == 0 {
			t.Errorf("no key of the kind %s was in a hole that opening did not find: %v", kind, hidden)
		}
	}
}

// Nodes behind a hole are looked at, too, where the same cursor would come to both.
func TestCheckOfOneVersionGoesOnBehindAHole(t *testing.T) {
	f, m := everything(t)
	ctx := t.Context()
	pairs := dump(t, f.store)
	version := m.latest
	both := 0
	for i := range pairs[:len(pairs)-2] {
		k := i + 2
		if kvdb.KindName(pairs[i].key) != "block" || len(pairs[k].key) < 11 || !bytes.Equal(pairs[i].key[:11], pairs[k].key[:11]) {
			continue // not two blocks of an address, with one between them
		}
		bad := bytes.Clone(pairs[k].value)
		bad[len(bad)/2] ^= 1
		ndb, err := openDB(ctx, &holedStore{loaded(t, pairs, k, bad), pairs[i].key, pairs[i+1].key}, readOnly)
		if err != nil { // the first block of an address
			wantErr(t, err, db.ErrCorrupted)
			continue
		}
		report, err := ndb.Check(ctx, db.CheckOptions{Version: &version})
		must(t, err)
		hole, block := 0, 0
		for _, p := range report.Problems {
			switch {
			case p.Reason == "the engine can't read what is stored: engine: block 7 is bad" && p.Version != db.UnknownVersion:
				hole++
			case p.Position != nil:
				block++ // a node that it should hold
			default:
				t.Error(p)
			}
		}
		if hole > 1 {
			t.Errorf("a hole was told %d times", hole)
		}
		if hole == 1 && block > 0 {
			both++
		}
		must(t, ndb.Close(ctx))
	}
	if both == 0 {
		t.Error("no damage was found behind a hole")
	}
}
