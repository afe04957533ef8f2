package kvdb_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/ckpt-project/ckpt/conformance/reference"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// wornFrom is the earliest version of a worn database.
const wornFrom = 15

// worn is a database with a large version that 60 later ones have changed a little each. Some of these are
// pruned, so that blocks of the first have dead entries, and more wait to be.
func worn(t *testing.T) ([]pair, *model) {
	t.Helper()
	ctx, rng := t.Context(), rand.New(rand.NewPCG(6, 6))
	store := newLastingStore(t)
	ndb, err := openDB(ctx, store, nil)
	must(t, err)
	const entries, versions = 1000, 60
	m := newModel()
	old := &mroot{root: emptyRoot(1, node.RootTypeState), data: reference.Content{}}
	for v := uint64(1); v <= versions; v++ {
		data := maps.Clone(old.data)
		for j := range entries {
			if v == 1 || rng.IntN(entries) < 10 {
				data[fmt.Sprintf("%x", j*0x9e3779b1&0xffffffff)] = fmt.Sprint(v) + strings.Repeat(".", 60)
			}
		}
		old, err = commit(ctx, t, rng, ndb, old, v, data)
		must(t, err)
		must(t, ndb.Finalize(ctx, []node.Root{old.root}))
		m.finalize([]*mroot{old})
	}
	_, err = ndb.PruneBefore(ctx, wornFrom)
	must(t, err)
	must(t, ndb.CollectGarbage(ctx, nil))
	m.pruneBefore(wornFrom)
	pairs := dump(t, store.Store)
	must(t, ndb.Close(ctx))
	return pairs, m
}

// prunedPastDamage prunes the versions of a worn database below one, and frees what they held; neither may fail.
func prunedPastDamage(t *testing.T, store kv.Store, below uint64) db.NodeDB {
	t.Helper()
	ctx := t.Context()
	ndb, err := openDB(ctx, store, nil)
	must(t, err)
	removed, err := ndb.PruneBefore(ctx, below)
	must(t, err)
	if removed != below-wornFrom {
		t.Fatalf("%d versions were removed", removed)
	}
	must(t, ndb.CollectGarbage(ctx, nil))
	return ndb
}

// liveIn returns the entries that are alive in a database of some pairs.
func liveIn(t *testing.T, pairs []pair, keep func(pair) bool) map[string]bool {
	t.Helper()
	var kept []pair
	for _, p := range pairs {
		if keep(p) {
			kept = append(kept, p)
		}
	}
	ndb, err := openDB(t.Context(), loaded(t, kept, -1, nil), readOnly)
	must(t, err)
	live, err := kvdb.LiveEntries(t.Context(), ndb)
	must(t, err)
	must(t, ndb.Close(t.Context()))
	return live
}

// entriesOf returns all that a block holds, dead or alive.
func entriesOf(t *testing.T, pairs []pair, blockKey []byte) map[string]bool {
	t.Helper()
	return liveIn(t, pairs, func(p pair) bool {
		kind := kvdb.KindName(p.key)
		return bytes.Equal(p.key, blockKey) || kind != "block" && kind != "dead slots"
	})
}

// without returns what is in a and not in b.
func without(a, b map[string]bool) map[string]bool {
	rest := make(map[string]bool)
	for name := range a {
		if !b[name] {
			rest[name] = true
		}
	}
	return rest
}

// spoilt returns a value with one bit in its middle changed.
func spoilt(value []byte) []byte {
	bad := bytes.Clone(value)
	bad[len(bad)/2] ^= 1
	return bad
}

func valueOf(pairs []pair, key []byte) []byte {
	for _, p := range pairs {
		if bytes.Equal(p.key, key) {
			return p.value
		}
	}
	return nil
}

func versionOf(key []byte) uint64 { return binary.BigEndian.Uint64(key[1:]) }

func all(pair) bool { return true }

// Pruning goes past a block that is damaged: it stays, with what it holds, everything else is freed as if it
// were not, and a check names it.
func TestPrunePastDamagedBlock(t *testing.T) {
	pairs, m := worn(t)
	ctx := t.Context()
	sound := loaded(t, pairs, -1, nil)
	control := prunedPastDamage(t, sound, 50)
	want := liveIn(t, dump(t, sound), all)
	must(t, control.Close(ctx))
	m.pruneBefore(50)

	spoiltBlocks, touched := 0, 0
	for i, p := range pairs {
		if kvdb.KindName(p.key) != "block" || i%3 > 0 {
			continue
		}
		spoiltBlocks++
		bad := spoilt(p.value)
		store := loaded(t, pairs, i, bad)
		ndb := prunedPastDamage(t, store, 50)
		after := dump(t, store)
		if !bytes.Equal(valueOf(after, p.key), bad) {
			t.Fatalf("block %x is damaged, and did not stay as it is", p.key)
		}
		held := entriesOf(t, pairs, p.key)
		if len(without(held, want)) > 0 {
			touched++ // the prune would have freed something in it
		}
		got := liveIn(t, after, func(q pair) bool { return !bytes.Equal(q.key, p.key) })
		if !maps.Equal(got, without(want, held)) {
			t.Fatalf("block %x is damaged: beside it, %d entries are left that should be free, and %d are gone",
				p.key, len(without(got, want)), len(without(without(want, held), got)))
		}
		report, err := ndb.Check(ctx, db.CheckOptions{})
		must(t, err)
		position := node.Position(p.key[11:])
		if report.Damaged == 0 || report.Problems[0].Position.Compare(position) != 0 || report.Problems[0].Version != versionOf(p.key) {
			t.Fatalf("block %x is damaged, and the check finds %v", p.key, report.Problems)
		}
		readAll(ctx, t, ndb, m, fmt.Sprintf("block %x", p.key))
		r := m.final[m.latest][node.RootTypeState]
		for _, n := range r.tree.Stored() {
			if held[kvdb.EntryName(node.RootTypeState, n.Address, n.Position)] {
				continue
			}
			record, err := ndb.GetNode(ctx, r.root, n.Address, n.Position)
			if err != nil || !bytes.Equal(record, n.Record()) {
				t.Fatalf("block %x is damaged, and a node at %s in another can't be read: %v", p.key, n.Position, err)
			}
		}
		must(t, ndb.Close(ctx))
	}
	if spoiltBlocks < 20 || touched < 10 {
		t.Errorf("%d blocks were damaged, %d of them with something to free", spoiltBlocks, touched)
	}
}

// Pruning goes past a bitmap of dead slots that is damaged: what it told of stays stored, nothing that is
// alive is lost, and a check says so.
func TestPrunePastDamagedDeadSlots(t *testing.T) {
	const below = 18 // soon enough for some to stay as they are
	pairs, m := worn(t)
	ctx := t.Context()
	sound := loaded(t, pairs, -1, nil)
	control := prunedPastDamage(t, sound, below)
	want := liveIn(t, dump(t, sound), all)
	must(t, control.Close(ctx))
	m.pruneBefore(below)

	spoiltBitmaps, stays, replaced := 0, 0, 0
	for i, p := range pairs {
		if kvdb.KindName(p.key) != "dead slots" {
			continue
		}
		spoiltBitmaps++
		bad := spoilt(p.value)
		store := loaded(t, pairs, i, bad)
		before, err := openDB(ctx, loaded(t, pairs, i, bad), readOnly)
		must(t, err)
		wantDeadSlotsProblem(ctx, t, before, p.key)
		must(t, before.Close(ctx))

		ndb := prunedPastDamage(t, store, below)
		after := dump(t, store)
		blockKey := bytes.Clone(p.key)
		blockKey[0] -= 0x10
		held := entriesOf(t, pairs, blockKey)
		got := liveIn(t, after, all)
		if lost := without(want, got); len(lost) > 0 {
			t.Fatalf("bitmap %x is damaged, and %d entries are lost", p.key, len(lost))
		}
		left := without(got, want)
		if elsewhere := without(left, held); len(elsewhere) > 0 {
			t.Fatalf("bitmap %x is damaged, and %d entries are left elsewhere", p.key, len(elsewhere))
		}
		if bytes.Equal(valueOf(after, p.key), bad) {
			stays++
			wantDeadSlotsProblem(ctx, t, ndb, p.key)
		} else {
			replaced++ // the block got another, or was packed again
			report, err := ndb.Check(ctx, db.CheckOptions{})
			must(t, err)
			if report.Damaged != 0 || report.Unreachable != uint64(len(left)) {
				t.Fatalf("bitmap %x was damaged: %d entries are left, the check finds %d, and %v", p.key, len(left), report.Unreachable, report.Problems)
			}
		}
		if damaged := readAll(ctx, t, ndb, m, fmt.Sprintf("bitmap %x", p.key)); damaged > 0 {
			t.Fatalf("bitmap %x is damaged, and %d reads fail", p.key, damaged)
		}
		must(t, ndb.Close(ctx))
	}
	if stays == 0 || replaced == 0 {
		t.Errorf("%d bitmaps were damaged, %d of them stay and %d went", spoiltBitmaps, stays, replaced)
	}
}

// wantDeadSlotsProblem wants a check to name a bitmap's damage, and nothing else.
func wantDeadSlotsProblem(ctx context.Context, t *testing.T, ndb db.NodeDB, key []byte) {
	t.Helper()
	report, err := ndb.Check(ctx, db.CheckOptions{})
	must(t, err)
	if report.Damaged != 1 || report.Problems[0].Version != versionOf(key) || report.Problems[0].Reason != "count of dead entries is damaged" {
		t.Fatalf("bitmap %x is damaged, and the check finds %v", key, report.Problems)
	}
}
