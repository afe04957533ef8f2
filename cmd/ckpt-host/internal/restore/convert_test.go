package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/ckpt-project/ckpt/backends/memory"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/console"
	"github.com/ckpt-project/ckpt/conformance/vectors"
	"github.com/ckpt-project/ckpt/framework/checkpoint"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// sourceDB makes a database with a version of two roots: a state of 300 entries, and an IO root of 50.
func sourceDB(t *testing.T) (db.NodeDB, []node.Root) {
	t.Helper()
	ctx := context.Background()
	ndb := open(t)
	var roots []node.Root
	for rootType, n := range map[node.RootType]uint64{node.RootTypeState: 300, node.RootTypeIO: 50} {
		tree := mkvs.New(ndb, rootType)
		defer tree.Close()
		set := vectors.DataSet{Kind: "uniform", Seed: 1, N: n}
		for i := range n {
			key, value := set.Entry(i)
			if err := tree.Insert(ctx, key, value); err != nil {
				t.Fatal(err)
			}
		}
		_, h, err := tree.Commit(ctx, namespace, 7)
		if err != nil {
			t.Fatal(err)
		}
		roots = append(roots, node.Root{Namespace: namespace, Version: 7, Type: rootType, Hash: h})
	}
	slices.SortFunc(roots, func(a, b node.Root) int { return int(a.Type) - int(b.Type) })
	if err := ndb.Finalize(ctx, roots); err != nil {
		t.Fatal(err)
	}
	return ndb, roots
}

func conversion(t *testing.T, from db.NodeDB, roots []node.Root) *Plan {
	t.Helper()
	p, err := NewConversion(context.Background(), from, roots, checkpoint.CutOptions{ChunkSize: 512}, console.NewMeter("reading", console.Amount{}))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestConversion(t *testing.T) {
	from, roots := sourceDB(t)
	told := console.NewMeter("reading", console.Amount{})
	p, err := NewConversion(t.Context(), from, roots, checkpoint.CutOptions{ChunkSize: 512}, told)
	if err != nil {
		t.Fatal(err)
	}
	all := console.Amount{Bytes: p.Bytes(), Entries: 350, Chunks: int64(p.Chunks())}
	if _, got := told.Done(); got != all || p.Chunks() < 20 {
		t.Errorf("told of %+v, want %+v", got, all)
	}
	if total, err := p.Amount(); total != all || err != nil {
		t.Errorf("%+v to do, want %+v, %v", total, all, err)
	}
	into := open(t)
	outcome, err := run(t.Context(), into, p)
	if err != nil || outcome != (Outcome{}) {
		t.Fatalf("%+v, %v", outcome, err)
	}
	for i, n := range []int{300, 50} {
		if got := count(t, into, roots[i]); got != n {
			t.Errorf("%d entries of %s, want %d", got, roots[i], n)
		}
	}
	if entries, audited, err := Audit(t.Context(), into, p, nil); entries != 350 || !audited || err != nil {
		t.Errorf("%d entries, %v, %v", entries, audited, err)
	}
	if err := CheckRoots(t.Context(), into, p); err != nil {
		t.Error(err)
	}
	other := *p
	other.Sources = slices.Clone(p.Sources[:1])
	if err := CheckRoots(t.Context(), into, &other); !errors.Is(err, ErrRootsDiffer) {
		t.Errorf("a root more: %v", err)
	}
	if outcome, err := run(t.Context(), into, p); err != nil || !outcome.AlreadyThere {
		t.Errorf("again: %+v, %v", outcome, err)
	}
}

// TestInterruptedConversionGoesOn interrupts a conversion at one chunk after the other: each time it goes on with
// what is there, and nothing is visible before the end.
func TestInterruptedConversionGoesOn(t *testing.T) {
	from, roots := sourceDB(t)
	into := open(t)
	rounds, there, resumed := 0, 0, 0
	for at := uint64(3); ; at += 4 {
		ctx, cancel := context.WithCancel(t.Context())
		p := conversion(t, from, roots)
		outcome, err := run(ctx, &interrupting{into, at, cancel}, p)
		cancel()
		resumed = outcome.Resumed
		if err == nil {
			break
		}
		var kept *KeptError
		if !errors.As(err, &kept) || !errors.Is(err, context.Canceled) {
			t.Fatalf("round %d: %v", rounds, err)
		}
		if roots, err := into.GetRootsForVersion(t.Context(), 7); err != nil || len(roots) != 0 {
			t.Fatalf("round %d: roots that can be seen: %v, %v", rounds, roots, err)
		}
		before := there
		there = 0
		open, err := into.Multipart(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, root := range open.Roots { // also those that this round did not come to
			there += len(root.Done)
		}
		if there < before {
			t.Fatalf("round %d: %d chunks, after %d", rounds, there, before)
		}
		rounds++
	}
	if rounds < 2 || resumed == 0 || resumed != there {
		t.Errorf("%d rounds, %d chunks resumed of %d", rounds, resumed, there)
	}
	for i, n := range []int{300, 50} {
		if got := count(t, into, roots[i]); got != n {
			t.Errorf("%d entries of %s, want %d", got, roots[i], n)
		}
	}
}

// TestConversionOfAnother has the second cut give other chunks than the first: nothing of them stays.
func TestConversionOfAnother(t *testing.T) {
	from, roots := sourceDB(t)
	p := conversion(t, from, roots)
	for name, change := range map[string]func(s *Source){
		"digests": func(s *Source) { s.Metadata.Chunks[2] = hash.Hash{1} },
		"layout":  func(s *Source) { s.tree.cut.ChunkSize = 700 },
		"fewer":   func(s *Source) { s.Metadata.Chunks = append(s.Metadata.Chunks, hash.Hash{1}) },
	} {
		t.Run(name, func(t *testing.T) {
			changed := *p
			changed.Sources = nil
			for _, s := range p.Sources {
				m, tree := *s.Metadata, *s.tree
				m.Chunks = slices.Clone(m.Chunks)
				s.Metadata, s.tree = &m, &tree
				changed.Sources = append(changed.Sources, s)
			}
			change(&changed.Sources[0])
			into := open(t)
			outcome, err := run(t.Context(), into, &changed)
			if err == nil {
				t.Fatalf("%+v", outcome)
			}
			if roots, err := into.GetRootsForVersion(t.Context(), 7); err != nil || len(roots) != 0 {
				t.Errorf("roots that can be seen: %v, %v", roots, err)
			}
			want := checkpoint.ErrChunkCorrupted
			if name == "fewer" {
				want = checkpoint.ErrDamaged
			}
			if !errors.Is(err, want) {
				t.Errorf("%v", err)
			}
			if open, err := into.Multipart(t.Context()); err != nil || open != nil {
				t.Errorf("what was restored stays: %+v, %v", open, err)
			}
		})
	}
}

// TestConversionProgress goes on with a conversion of which one root is whole and the other has some chunks. What
// is there is told as that and what is restored as work, and both come to the whole.
func TestConversionProgress(t *testing.T) {
	from, roots := sourceDB(t)
	p := conversion(t, from, roots)
	into := open(t)
	r, err := checkpoint.NewRestorer(into)
	if err != nil {
		t.Fatal(err)
	}
	last := uint64(len(p.Sources[0].Metadata.Chunks)) - 1
	part := map[uint64]bool{1: true, 2: true, last: true}
	var earlier, since console.Amount
	for _, i := range []int{1, 0} { // nothing can be restored beside a root that is begun
		s := &p.Sources[i]
		if err := r.StartRestore(t.Context(), s.Metadata); err != nil {
			t.Fatal(err)
		}
		for index, c := range s.tree.manifest.Chunks {
			amount := console.Amount{Bytes: c.Bytes, Entries: int64(c.Entries), Chunks: 1}
			if i == 0 && !part[uint64(index)] {
				since = since.Plus(amount)
				continue
			}
			earlier = earlier.Plus(amount)
			if err := restoreChunk(t.Context(), r, s, uint64(index)); err != nil {
				t.Fatal(err)
			}
		}
	}
	meter := console.NewMeter("converting", console.Amount{})
	outcome, err := Run(t.Context(), into, p, meter, hclog.NewNullLogger())
	if err != nil || int64(outcome.Resumed) != earlier.Chunks {
		t.Fatalf("%+v, %v", outcome, err)
	}
	if a, b := meter.Done(); a != earlier || b != since {
		t.Errorf("told %+v and %+v, want %+v and %+v", a, b, earlier, since)
	}
}

// TestConversionPasses checks that chunks which are there are named when they are passed, and the others in the
// end; and that a tree is refused which has more chunks than it had.
func TestConversionPasses(t *testing.T) {
	from, roots := sourceDB(t)
	s := &conversion(t, from, roots).Sources[1]
	s.tree.cut.Workers = 1 // one after the other
	var told []string
	each := func(pending ...uint64) error {
		told = nil
		return s.each(t.Context(), pending, func(_ context.Context, index uint64, _ io.Reader) error {
			told = append(told, fmt.Sprintf("take %d", index))
			return nil
		}, func(index uint64) { told = append(told, fmt.Sprint(index)) })
	}
	want := []string{"take 0", "1", "2", "take 3"}
	for index := 4; index < len(s.tree.manifest.Chunks); index++ {
		want = append(want, fmt.Sprint(index))
	}
	if err := each(0, 3); err != nil || !slices.Equal(told, want) || len(want) == 4 {
		t.Errorf("got %q, %v, want %q", told, err, want)
	}
	manifest := *s.tree.manifest
	manifest.Chunks = manifest.Chunks[:2]
	s.tree.manifest = &manifest
	if err := each(0, 3); !errors.Is(err, checkpoint.ErrDamaged) || !slices.Equal(told, want[:2]) {
		t.Errorf("more chunks: got %q, %v", told, err)
	}
}

// TestConversionOfLongValues converts a value that is longer than what is taken by default, and within the limits.
func TestConversionOfLongValues(t *testing.T) {
	ctx := t.Context()
	long := db.DefaultMaxValueBytes + 1
	cfg := &db.Config{Namespace: namespace, MaxValueBytes: long}
	var dbs [2]db.NodeDB
	for i := range dbs {
		ndb, err := memory.New().New(ctx, cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer ndb.Close(ctx)
		dbs[i] = ndb
	}
	tree := mkvs.New(dbs[0], node.RootTypeState)
	defer tree.Close()
	if err := tree.Insert(ctx, []byte("long"), make([]byte, long)); err != nil {
		t.Fatal(err)
	}
	_, h, err := tree.Commit(ctx, namespace, 7)
	if err != nil {
		t.Fatal(err)
	}
	roots := []node.Root{{Namespace: namespace, Version: 7, Type: node.RootTypeState, Hash: h}}
	if err := dbs[0].Finalize(ctx, roots); err != nil {
		t.Fatal(err)
	}
	p, err := NewConversion(ctx, dbs[0], roots, checkpoint.CutOptions{ChunkSize: 8 << 20, Limits: checkpoint.Limits{ValueBytes: long}},
		console.NewMeter("reading", console.Amount{}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := run(ctx, dbs[1], p); err != nil {
		t.Fatal(err)
	}
	if got := count(t, dbs[1], roots[0]); got != 1 {
		t.Errorf("%d entries", got)
	}
}
