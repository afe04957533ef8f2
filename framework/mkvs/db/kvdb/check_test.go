package kvdb_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

func readOnly(c *db.Config) { c.ReadOnly = true }

// A check finds a byte that changed in any record, in its key as in its value, wherever it is, and says so as
// damage.
func TestCheckFindsEveryChangedRecord(t *testing.T) {
	f, _ := everything(t)
	rng := rand.New(rand.NewPCG(9, 9))
	pairs := dump(t, f.store)
	// As it is, nothing is wrong with it: each kind is known.
	ndb, err := openDB(t.Context(), loaded(t, pairs, -1, nil), readOnly)
	must(t, err)
	report, err := ndb.Check(t.Context(), db.CheckOptions{})
	must(t, err)
	if !report.OK() {
		t.Fatalf("a sound database: %+v", report.Problems)
	}
	must(t, ndb.Close(t.Context()))
	flip := func(b []byte) []byte {
		b = bytes.Clone(b)
		b[rng.IntN(len(b))] ^= byte(1 + rng.IntN(255))
		return b
	}
	keys, values := make(map[string]int), make(map[string]int)
	for _, p := range pairs {
		kind := kvdb.KindName(p.key)
		for range 3 {
			findsChange(t, pairs, p, pair{p.key, flip(p.value)})
			values[kind]++
			findsChange(t, pairs, p, pair{flip(p.key), p.value})
			keys[kind]++
		}
	}
	for _, kind := range kvdb.Kinds() {
		if keys[kind.Name] == 0 || values[kind.Name] == 0 {
			t.Errorf("of records of the kind %s, %d keys and %d values were changed", kind.Name, keys[kind.Name], values[kind.Name])
		}
	}
}

// findsChange puts another pair in the place of one of those that a sound database consists of, and wants
// that found: by opening it or by a check.
func findsChange(t *testing.T, pairs []pair, old, now pair) {
	t.Helper()
	ctx := t.Context()
	store := loaded(t, pairs, -1, nil)
	var b kv.Batch
	b.Delete(old.key)
	b.Put(now.key, now.value)
	must(t, store.Apply(ctx, &b, false))
	ndb, err := openDB(ctx, store, readOnly)
	if err != nil {
		// The stamp can look like another program's, or be none.
		isStamp := kvdb.KindName(old.key) == "stamp"
		if !errors.Is(err, db.ErrCorrupted) && !(isStamp && (errors.Is(err, db.ErrForeign) || errors.Is(err, db.ErrFormatVersion))) {
			t.Errorf("key %x became %x: opening: %v", old.key, now.key, err)
		}
		return
	}
	defer ndb.Close(ctx)
	report, err := ndb.Check(ctx, db.CheckOptions{})
	must(t, err)
	if report.Damaged == 0 || len(report.Problems) == 0 || report.Problems[0].Reason == "" {
		t.Fatalf("key %x became %x, or its value changed, and the check finds %+v", old.key, now.key, report)
	}
	if !strings.Contains(report.Problems[0].Error(), db.ErrCorrupted.Error()) {
		t.Fatalf("key %x: %v", old.key, report.Problems[0])
	}
}

// The package's documentation lists the kinds of keys as they are.
func TestKindsAreDocumented(t *testing.T) {
	source, err := os.ReadFile("doc.go")
	must(t, err)
	// The kind, the parts of the key, at least two blanks, and what it is.
	line := regexp.MustCompile(`(?m)^//\t([0-9a-f][0-9a-ft]) ?(.*?)  +(\S.*)$`)
	var documented, there []string
	for _, m := range line.FindAllStringSubmatch(string(source), -1) {
		documented = append(documented, strings.TrimSpace(m[1]+" "+m[2]))
	}
	for _, k := range kvdb.Kinds() {
		kind := fmt.Sprintf("%02x", k.Byte)
		if k.HasType {
			kind = kind[:1] + "t"
		}
		there = append(there, strings.TrimSpace(kind+" "+k.Form))
	}
	if !slices.Equal(documented, there) {
		t.Errorf("the kinds are\n%q, documented are\n%q", there, documented)
	}
}

// A check of one version finds what is wrong in its trees, and only there.
func TestCheckOfOneVersion(t *testing.T) {
	ctx := t.Context()
	store := newLastingStore(t)
	ndb, err := openDB(ctx, store, nil)
	must(t, err)
	m := newModel()
	smallVersions(t, ctx, ndb, m, 1, 9)
	pairs := dump(t, store.Store)
	must(t, ndb.Close(ctx))
	for i, p := range pairs {
		if p.key[0] != 0x21 || binary.BigEndian.Uint64(p.key[1:]) != 6 {
			continue
		}
		bad := bytes.Clone(p.value)
		bad[len(bad)/2] ^= 1
		ndb, err := openDB(ctx, loaded(t, pairs, i, bad), readOnly)
		must(t, err)
		for v := uint64(1); v <= 9; v++ {
			report, err := ndb.Check(ctx, db.CheckOptions{Version: &v})
			must(t, err)
			r := m.final[v][node.RootTypeState]
			switch {
			case v < 6 && (!report.OK() || report.Entries != uint64(len(r.data)) || report.Nodes < report.Entries):
				t.Errorf("version %d: %+v, want %d entries", v, report, len(r.data))
			case v == 6 && report.OK():
				t.Errorf("version %d is damaged, and nothing is found", v)
			}
		}
		must(t, ndb.Close(ctx))
	}
	ndb, err = openDB(ctx, loaded(t, pairs, -1, nil), readOnly)
	must(t, err)
	missing := uint64(100)
	_, err = ndb.Check(ctx, db.CheckOptions{Version: &missing})
	wantErr(t, err, db.ErrVersionNotFound)
	must(t, ndb.Close(ctx))
}

// A node that is missing, and one that nothing reaches, are both told of.
func TestCheckCountsWhatIsStored(t *testing.T) {
	ctx := t.Context()
	store := newLastingStore(t)
	ndb, err := openDB(ctx, store, nil)
	must(t, err)
	m := newModel()
	smallVersions(t, ctx, ndb, m, 1, 50)
	_, err = ndb.PruneBefore(ctx, 20)
	must(t, err)
	must(t, ndb.Close(ctx))
	pairs := dump(t, store.Store)

	report := func(change func(b *kv.Batch)) *db.CheckReport {
		t.Helper()
		s := loaded(t, pairs, -1, nil)
		var b kv.Batch
		change(&b)
		must(t, s.Apply(ctx, &b, true))
		ndb, err := openDB(ctx, s, nil)
		must(t, err)
		var last [2]int64
		r, err := ndb.Check(ctx, db.CheckOptions{Progress: func(done, total int64) {
			if done < last[0] || done > total {
				t.Errorf("progress of %d of %d after %d", done, total, last[0])
			}
			last = [2]int64{done, total}
		}})
		must(t, err)
		if last[0] != last[1] || last[1] == 0 {
			t.Errorf("progress ended at %d of %d", last[0], last[1])
		}
		must(t, ndb.Close(ctx))
		return r
	}
	if r := report(func(*kv.Batch) {}); !r.OK() {
		t.Fatalf("a sound database: %+v", r)
	}
	blocks, lists := 0, 0
	for _, p := range pairs {
		version := uint64(0)
		if len(p.key) > 9 {
			version = binary.BigEndian.Uint64(p.key[1:])
		}
		switch {
		case p.key[0] == 0x21 && version > 20: // all of it is reached
			blocks++
			if r := report(func(b *kv.Batch) { b.Delete(p.key) }); r.Damaged == 0 {
				t.Errorf("block %x is gone, and nothing is found", p.key)
			}
		case p.key[0] == 0x41 && version <= 20: // what it names will never be freed
			lists++
			if r := report(func(b *kv.Batch) { b.Delete(p.key) }); r.Unreachable == 0 {
				t.Errorf("list %x is gone, and nothing is found: %+v", p.key, r)
			}
		case p.key[0] == 0x41:
			if r := report(func(b *kv.Batch) { b.Delete(p.key) }); r.Damaged == 0 {
				t.Errorf("list %x is gone, and nothing is found: %+v", p.key, r)
			}
		}
	}
	if blocks == 0 || lists == 0 {
		t.Errorf("%d blocks and %d lists were taken away", blocks, lists)
	}
}

// A check beside commits, prunes and collections reports nothing that is not so.
func TestCheckBesideWriters(t *testing.T) {
	ctx := t.Context()
	ndb, err := openDB(ctx, newLastingStore(t), func(c *db.Config) { c.GarbageRate = 0 })
	must(t, err)
	m := newModel()
	smallVersions(t, ctx, ndb, m, 1, 80)
	var checked atomic.Bool // the writer goes on until a check has ended beside it
	done := make(chan struct{})
	go func() {
		defer close(done)
		for v := uint64(81); v <= 200 || !checked.Load(); v++ {
			smallVersions(t, ctx, ndb, m, v, v)
			if _, err := ndb.PruneBefore(ctx, v-60); err != nil && !errors.Is(err, db.ErrVersionPinned) { // by the check
				t.Error(err)
				return
			}
		}
	}()
	for written := false; !written; {
		report, err := ndb.Check(ctx, db.CheckOptions{})
		switch {
		case errors.Is(err, db.ErrVersionPruned): // it began while a version was being pruned
		case err != nil:
			t.Error(err)
			checked.Store(true)
		case !report.OK():
			t.Errorf("%d nodes that nothing reaches, %v", report.Unreachable, report.Problems)
			fallthrough
		default:
			checked.Store(true)
		}
		select {
		case <-done:
			written = true
		default:
		}
	}
	must(t, ndb.Close(context.Background()))
}

// What a batch in progress has written belongs to nothing yet, and is nothing that was forgotten.
func TestCheckBesideUnfinishedBatch(t *testing.T) {
	ctx := t.Context()
	store := newLastingStore(t)
	store.limits.PreferredBatchBytes = 1000
	ndb, err := openDB(ctx, store, nil)
	must(t, err)
	batch, err := ndb.NewBatch(ctx, emptyRoot(1, node.RootTypeState), 1)
	must(t, err)
	rng := rand.New(rand.NewPCG(4, 4))
	for _, n := range fresh(randomContents(rng, 3000), batch.Address()).Stored() {
		must(t, batch.Put(ctx, n.Position, n.Record()))
	}
	m := newModel()
	smallVersions(t, ctx, ndb, m, 1, 2)
	if counts, err := kvdb.KindCounts(ctx, ndb); err != nil || counts[0x21] < 3 {
		t.Fatalf("the batch has written nothing: %v (%v)", counts, err)
	}
	checkSound(ctx, t, ndb, m)
	must(t, batch.Abort(ctx))
	checkExact(ctx, t, ndb, m)
	must(t, ndb.Close(ctx))
}
