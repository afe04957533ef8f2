package restore

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/ckpt-project/ckpt/backends/memory"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/console"
	"github.com/ckpt-project/ckpt/conformance/vectors"
	"github.com/ckpt-project/ckpt/framework/checkpoint"
	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/mkvs"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

var namespace = common.NewTestNamespaceFromSeed([]byte("restore"), 0)

func open(t *testing.T) db.NodeDB {
	t.Helper()
	ctx := context.Background()
	ndb, err := memory.New().New(ctx, &db.Config{Namespace: namespace})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ndb.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return ndb
}

// shelfOf makes a directory with the checkpoints of versions 1 to n, whose states have 100 entries more
// each, cut into chunks of this size.
func shelfOf(t *testing.T, n uint64, chunkSize uint64) (dir string, roots []node.Root) {
	t.Helper()
	ctx := context.Background()
	ndb := open(t)
	dir = t.TempDir()
	creator, err := checkpoint.NewFileCreator(dir, ndb)
	if err != nil {
		t.Fatal(err)
	}
	tree := mkvs.New(ndb, node.RootTypeState)
	defer tree.Close()
	set := vectors.DataSet{Kind: "uniform", Seed: 1, N: n * 100}
	for version := uint64(1); version <= n; version++ {
		for i := (version - 1) * 100; i < version*100; i++ {
			key, value := set.Entry(i)
			if err := tree.Insert(ctx, key, value); err != nil {
				t.Fatal(err)
			}
		}
		_, h, err := tree.Commit(ctx, namespace, version)
		if err != nil {
			t.Fatal(err)
		}
		root := node.Root{Namespace: namespace, Version: version, Type: node.RootTypeState, Hash: h}
		if err := ndb.Finalize(ctx, []node.Root{root}); err != nil {
			t.Fatal(err)
		}
		if _, err := creator.CreateCheckpoint(ctx, root, chunkSize); err != nil {
			t.Fatal(err)
		}
		roots = append(roots, root)
	}
	return dir, roots
}

func trust(root node.Root) []Trusted {
	return []Trusted{{Type: root.Type, Hash: root.Hash}}
}

func plan(t *testing.T, dir string, root node.Root) *Plan {
	t.Helper()
	p, err := NewPlan(context.Background(), dir, namespace, trust(root), checkpoint.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func run(ctx context.Context, ndb db.NodeDB, p *Plan) (Outcome, error) {
	return Run(ctx, ndb, p, console.NewMeter("restoring", console.Amount{}), hclog.NewNullLogger())
}

// restoreChunk restores one chunk alone.
func restoreChunk(ctx context.Context, r checkpoint.Restorer, s *Source, index uint64) error {
	return s.each(ctx, []uint64{index}, func(ctx context.Context, index uint64, chunk io.Reader) error {
		_, err := r.RestoreChunk(ctx, index, chunk)
		return err
	}, func(uint64) {})
}

// count returns the number of entries of a root.
func count(t *testing.T, ndb db.NodeDB, root node.Root) (n int) {
	t.Helper()
	tree := mkvs.NewWithRoot(ndb, root)
	defer tree.Close()
	it := tree.NewIterator(context.Background())
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		n++
	}
	if err := it.Err(); err != nil {
		t.Fatal(err)
	}
	return n
}

// interrupting is a database whose caller's context ends with a certain chunk.
type interrupting struct {
	db.NodeDB
	at     uint64
	cancel context.CancelFunc
}

func (i *interrupting) NewChunk(ctx context.Context, root node.Root, index uint64) (db.ChunkWriter, error) {
	if index == i.at {
		i.cancel()
		return nil, ctx.Err()
	}
	return i.NodeDB.NewChunk(ctx, root, index)
}

func TestInterruptedRestoreGoesOn(t *testing.T) {
	dir, roots := shelfOf(t, 1, 512)
	p := plan(t, dir, roots[0])
	ndb := open(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	_, err := run(ctx, &interrupting{ndb, 5, cancel}, p)
	var kept *KeptError
	if !errors.As(err, &kept) || !errors.Is(err, context.Canceled) {
		t.Fatalf("interrupted: %v", err)
	}
	if roots, err := ndb.GetRootsForVersion(context.Background(), 1); err != nil || len(roots) != 0 {
		t.Fatalf("roots that can be seen: %v, %v", roots, err)
	}
	outcome, err := run(context.Background(), ndb, p)
	if err != nil || outcome.Resumed == 0 || outcome.AlreadyThere {
		t.Fatalf("going on: %+v, %v", outcome, err)
	}
	if n := count(t, ndb, roots[0]); n != 100 {
		t.Errorf("%d entries", n)
	}
	if outcome, err := run(context.Background(), ndb, p); err != nil || !outcome.AlreadyThere {
		t.Errorf("again: %+v, %v", outcome, err)
	}
}

// TestProgress checks that what an earlier run restored is told as that, and what this one restores as work: so
// many bytes and chunks, and entries where there is a manifest.
func TestProgress(t *testing.T) {
	for name, hasManifest := range map[string]bool{"with a manifest": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			dir, roots := shelfOf(t, 1, 512)
			p := plan(t, dir, roots[0])
			manifest, err := p.Sources[0].manifest()
			if err != nil {
				t.Fatal(err)
			}
			if !hasManifest {
				if err := os.Remove(filepath.Join(p.Sources[0].Path, "manifest.json")); err != nil {
					t.Fatal(err)
				}
			}
			ndb := open(t)
			r, err := checkpoint.NewRestorer(ndb)
			if err != nil {
				t.Fatal(err)
			}
			if err := r.StartRestore(t.Context(), p.Sources[0].Metadata); err != nil {
				t.Fatal(err)
			}
			var earlier, since, all console.Amount
			for i, c := range manifest.Chunks {
				amount := console.Amount{Bytes: c.Bytes, Chunks: 1}
				if hasManifest {
					amount.Entries = int64(c.Entries)
				}
				all = all.Plus(amount)
				if i != 2 && i != 5 {
					since = since.Plus(amount)
					continue
				}
				earlier = earlier.Plus(amount)
				if err := restoreChunk(t.Context(), r, &p.Sources[0], uint64(i)); err != nil {
					t.Fatal(err)
				}
			}
			if total, err := p.Amount(); err != nil || total != all {
				t.Errorf("%+v to do, want %+v, %v", total, all, err)
			}
			meter := console.NewMeter("restoring", all)
			if _, err := Run(t.Context(), ndb, p, meter, hclog.NewNullLogger()); err != nil {
				t.Fatal(err)
			}
			if a, b := meter.Done(); a != earlier || b != since {
				t.Errorf("told %+v and %+v, want %+v and %+v", a, b, earlier, since)
			}
		})
	}
}

// endsAtFinalize is a database whose caller's context ends when it would finalize.
type endsAtFinalize struct {
	db.NodeDB
	cancel context.CancelFunc
}

func (e *endsAtFinalize) Finalize(ctx context.Context, _ []node.Root) error {
	e.cancel()
	return ctx.Err()
}

// TestCompleteRestoreIsFinalized interrupts a restore when all that is left is to finalize it.
func TestCompleteRestoreIsFinalized(t *testing.T) {
	dir, roots := shelfOf(t, 1, 512)
	p := plan(t, dir, roots[0])
	ndb := open(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var kept *KeptError
	if _, err := run(ctx, &endsAtFinalize{ndb, cancel}, p); !errors.As(err, &kept) {
		t.Fatalf("interrupted: %v", err)
	}
	outcome, err := run(context.Background(), ndb, p)
	if err != nil || outcome.Resumed != p.Chunks() {
		t.Fatalf("going on: %+v of %d chunks, %v", outcome, p.Chunks(), err)
	}
	if n := count(t, ndb, roots[0]); n != 100 {
		t.Errorf("%d entries", n)
	}
}

// durable is a database that says that it keeps its files, and what a check of it finds.
type durable struct {
	db.NodeDB
	report        *db.CheckReport // where set, what Check returns
	amplification float64
}

func (d *durable) Info() db.Info {
	info := d.NodeDB.Info()
	info.Capabilities.Durable, info.Amplification = true, d.amplification
	return info
}

func (d *durable) Check(ctx context.Context, opts db.CheckOptions) (*db.CheckReport, error) {
	if d.report != nil {
		return d.report, nil
	}
	return d.NodeDB.Check(ctx, opts)
}

// TestSpace checks that a restore is refused just where the disk has less than it takes, and that what an
// earlier run has restored is not counted again.
func TestSpace(t *testing.T) {
	ctx := t.Context()
	dir, roots := shelfOf(t, 1, 512)
	p := plan(t, dir, roots[0])
	manifest, err := p.Sources[0].manifest()
	if err != nil {
		t.Fatal(err)
	}
	const resumed = 5
	var all, left int64
	for i, c := range manifest.Chunks {
		n := c.RawBytes + entryBytes*int64(c.Entries)
		if all += n; i >= resumed {
			left += n
		}
	}
	stored := all
	all, left = 3*all/2, 3*left/2
	ndb := &durable{NodeDB: open(t), amplification: 1.5}
	check := func(ndb db.NodeDB, free int64, known bool) error {
		return CheckSpace(ctx, ndb, p, "there", func(dir string) (int64, bool) {
			if dir != "there" {
				t.Errorf("asked for the space of %s", dir)
			}
			return free, known
		})
	}
	if err := check(ndb, all-1, true); !errors.Is(err, ErrNoSpace) {
		t.Errorf("a byte less than it takes: %v", err)
	}
	if err := check(ndb, all, true); err != nil {
		t.Errorf("what it takes: %v", err)
	}
	for amplification, want := range map[float64]int64{1: stored, 4: 4 * stored, 0: unknownAmplification * stored} {
		other := &durable{NodeDB: ndb.NodeDB, amplification: amplification}
		if err := check(other, want-1, true); !errors.Is(err, ErrNoSpace) {
			t.Errorf("amplification %g, a byte less than it takes: %v", amplification, err)
		}
		if err := check(other, want, true); err != nil {
			t.Errorf("amplification %g, what it takes: %v", amplification, err)
		}
	}
	if err := check(ndb, 0, false); err != nil {
		t.Errorf("an unknown space: %v", err)
	}
	if err := check(ndb.NodeDB, 0, true); err != nil {
		t.Errorf("a database without files: %v", err)
	}

	// Some chunks are there: one after the other, so that it is known which.
	r, err := checkpoint.NewRestorer(ndb)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.StartRestore(ctx, p.Sources[0].Metadata); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(resumed) {
		if err := restoreChunk(ctx, r, &p.Sources[0], i); err != nil {
			t.Fatal(err)
		}
	}
	if err := check(ndb, left-1, true); !errors.Is(err, ErrNoSpace) {
		t.Errorf("a byte less than what is left takes: %v", err)
	}
	if err := check(ndb, left, true); err != nil {
		t.Errorf("what is left takes: %v", err)
	}
	if _, err := run(ctx, ndb, p); err != nil {
		t.Fatal(err)
	}
	if err := check(ndb, 0, true); err != nil {
		t.Errorf("a version that is there: %v", err)
	}

	if err := os.Remove(filepath.Join(p.Sources[0].Path, "manifest.json")); err != nil {
		t.Fatal(err)
	}
	if err := check(&durable{NodeDB: open(t)}, 0, true); err != nil {
		t.Errorf("without a manifest: %v", err)
	}
	if n, known := FreeSpace(filepath.Join(t.TempDir(), "not", "there")); known && n <= 0 {
		t.Errorf("this disk has %d bytes", n)
	}
}

// TestAudit checks that what was restored is compared with the manifest.
func TestAudit(t *testing.T) {
	ctx := t.Context()
	dir, roots := shelfOf(t, 1, 512)
	p := plan(t, dir, roots[0])
	ndb := open(t)
	if _, err := run(ctx, ndb, p); err != nil {
		t.Fatal(err)
	}
	if entries, audited, err := Audit(ctx, ndb, p, nil); entries != 100 || !audited || err != nil {
		t.Errorf("%d entries, %v, %v", entries, audited, err)
	}
	manifest, err := p.Sources[0].manifest()
	if err != nil {
		t.Fatal(err)
	}
	damage := &db.CorruptedError{Version: 1, Reason: "test"}
	for name, c := range map[string]struct {
		report db.CheckReport
		want   error
	}{
		"entries": {db.CheckReport{Entries: manifest.Entries - 1, Nodes: manifest.Nodes}, ErrAudit},
		"nodes":   {db.CheckReport{Entries: manifest.Entries, Nodes: manifest.Nodes + 1}, ErrAudit},
		"damage":  {db.CheckReport{Entries: manifest.Entries, Nodes: manifest.Nodes, Damaged: 1, Problems: []*db.CorruptedError{damage}}, db.ErrCorrupted},
	} {
		if _, audited, err := Audit(ctx, &durable{NodeDB: ndb, report: &c.report}, p, nil); audited || !errors.Is(err, c.want) {
			t.Errorf("%s: %v, %v", name, audited, err)
		}
	}
	if err := os.Remove(filepath.Join(p.Sources[0].Path, "manifest.json")); err != nil {
		t.Fatal(err)
	}
	if _, audited, err := Audit(ctx, ndb, p, nil); audited || err != nil {
		t.Errorf("without a manifest: %v, %v", audited, err)
	}
}

// TestOtherRestoreIsRefused leaves an unfinished restore, and restores something else: another version, the
// same root cut otherwise, and the same while the first one's root is complete. What is there is named and
// stays as it is, until it is removed.
func TestOtherRestoreIsRefused(t *testing.T) {
	ctx := t.Context()
	dir, roots := shelfOf(t, 2, 512)
	recut, _ := shelfOf(t, 2, 700)
	first := plan(t, dir, roots[0])
	interrupted := func(ndb db.NodeDB, cancel context.CancelFunc) db.NodeDB { return &interrupting{ndb, 3, cancel} }
	complete := func(ndb db.NodeDB, cancel context.CancelFunc) db.NodeDB { return &endsAtFinalize{ndb, cancel} }
	for name, c := range map[string]struct {
		ends  func(ndb db.NodeDB, cancel context.CancelFunc) db.NodeDB
		then  *Plan
		state string
	}{
		"another version":           {interrupted, plan(t, dir, roots[1]), " of "},
		"the same root recut":       {interrupted, plan(t, recut, roots[0]), " of "},
		"another, beside complete":  {complete, plan(t, dir, roots[1]), "complete"},
		"recut, beside a whole one": {complete, plan(t, recut, roots[0]), "complete"},
	} {
		t.Run(name, func(t *testing.T) {
			ndb := open(t)
			cancelled, cancel := context.WithCancel(ctx)
			defer cancel()
			if _, err := run(cancelled, c.ends(ndb, cancel), first); err == nil {
				t.Fatal("not interrupted")
			}
			before, err := ndb.Multipart(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, refusal := range []func() error{
				func() error { _, err := run(ctx, ndb, c.then); return err },
				func() error {
					return CheckSpace(ctx, &durable{NodeDB: ndb}, c.then, "", func(string) (int64, bool) { return 1 << 62, true })
				},
			} {
				err := refusal()
				if !errors.Is(err, ErrUnfinished) {
					t.Fatalf("got %v, want %v", err, ErrUnfinished)
				}
				for _, part := range []string{"version 1", roots[0].Hash.String(), first.Sources[0].Metadata.EncodedHash().String(), c.state} {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("%q does not name %q", err, part)
					}
				}
			}
			after, err := ndb.Multipart(ctx)
			if err != nil || !reflect.DeepEqual(after, before) {
				t.Errorf("what is there was %+v, and now is %+v, %v", before, after, err)
			}

			if err := ndb.AbortMultipart(ctx); err != nil {
				t.Fatal(err)
			}
			if outcome, err := run(ctx, ndb, c.then); err != nil || outcome.Resumed != 0 {
				t.Fatalf("once it is removed: %+v, %v", outcome, err)
			}
			if n, want := count(t, ndb, c.then.Roots()[0]), int(c.then.Version)*100; n != want {
				t.Errorf("%d entries, want %d", n, want)
			}
		})
	}
}

// TestFind checks what is told of an unfinished restore.
func TestFind(t *testing.T) {
	ctx := t.Context()
	dir, roots := shelfOf(t, 1, 512)
	p := plan(t, dir, roots[0])
	manifest, err := p.Sources[0].manifest()
	if err != nil {
		t.Fatal(err)
	}
	ndb := open(t)
	if u, err := Find(ctx, ndb); u != nil || err != nil {
		t.Errorf("of an empty database: %+v, %v", u, err)
	}
	r, err := checkpoint.NewRestorer(ndb)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.StartRestore(ctx, p.Sources[0].Metadata); err != nil {
		t.Fatal(err)
	}
	want := Contents{}
	for _, i := range []uint64{1, 4} {
		if err := restoreChunk(ctx, r, &p.Sources[0], i); err != nil {
			t.Fatal(err)
		}
		want.Bytes += manifest.Chunks[i].Bytes
		want.Entries += manifest.Chunks[i].Entries
	}
	u, err := Find(ctx, ndb)
	if err != nil || u == nil || len(u.Roots) != 1 {
		t.Fatalf("%+v, %v", u, err)
	}
	got := u.Roots[0]
	if u.Version != 1 || u.Complete() || got.Root != roots[0] || got.Chunks != uint64(p.Chunks()) || !slices.Equal(got.Done, []uint64{1, 4}) ||
		got.Complete || got.Metadata == nil || *got.Metadata != p.Sources[0].Metadata.EncodedHash() || got.All != nil || got.Restored != nil {
		t.Errorf("%+v", u)
	}
	// A directory with another checkpoint of the same root says nothing of this one.
	recut, _ := shelfOf(t, 1, 700)
	if err := u.Measure(ctx, recut, checkpoint.Limits{}); err != nil || u.Roots[0].All != nil {
		t.Errorf("measured by another checkpoint: %+v, %v", u, err)
	}
	if err := u.Measure(ctx, dir, checkpoint.Limits{}); err != nil {
		t.Fatal(err)
	}
	if got := u.Roots[0]; *got.All != (Contents{manifest.Bytes, manifest.Entries}) || *got.Restored != want {
		t.Errorf("measured %+v of %+v", got.Restored, got.All)
	}
}

func TestBadCheckpointLeavesNothing(t *testing.T) {
	for name, harm := range map[string]struct {
		do   func(t *testing.T, s *Source)
		want error
	}{
		"corrupt chunk": {func(t *testing.T, s *Source) {
			b, err := os.ReadFile(s.chunk(4))
			if err != nil {
				t.Fatal(err)
			}
			b[len(b)/2] ^= 1
			if err := os.WriteFile(s.chunk(4), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}, checkpoint.ErrChunkCorrupted},
		"chunk gone meanwhile": {func(t *testing.T, s *Source) {
			if err := os.Remove(s.chunk(4)); err != nil {
				t.Fatal(err)
			}
		}, os.ErrNotExist},
		"digest of another chunk": {func(_ *testing.T, s *Source) {
			s.Metadata.Chunks[4] = s.Metadata.Chunks[3]
		}, checkpoint.ErrChunkCorrupted},
		"chunk left out": {func(t *testing.T, s *Source) {
			s.Metadata.Chunks = s.Metadata.Chunks[:len(s.Metadata.Chunks)-1]
		}, checkpoint.ErrChunkProofVerificationFailed},
	} {
		t.Run(name, func(t *testing.T) {
			dir, roots := shelfOf(t, 1, 512)
			good, _ := shelfOf(t, 1, 512)
			p := plan(t, dir, roots[0])
			harm.do(t, &p.Sources[0])
			ndb := open(t)
			_, err := run(context.Background(), ndb, p)
			var kept *KeptError
			if !errors.Is(err, harm.want) || errors.As(err, &kept) {
				t.Fatalf("got %v, want %v", err, harm.want)
			}
			if open, err := ndb.Multipart(context.Background()); err != nil || open != nil {
				t.Errorf("a multipart insert is left: %+v, %v", open, err)
			}
			outcome, err := run(context.Background(), ndb, plan(t, good, roots[0]))
			if err != nil || outcome.Resumed != 0 {
				t.Fatalf("a good one afterwards: %+v, %v", outcome, err)
			}
			if n := count(t, ndb, roots[0]); n != 100 {
				t.Errorf("%d entries", n)
			}
		})
	}
}

func TestNotOlder(t *testing.T) {
	dir, roots := shelfOf(t, 3, 4096)
	ndb := open(t)
	for _, version := range []int{2, 3} {
		if _, err := run(context.Background(), ndb, plan(t, dir, roots[version-1])); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := run(context.Background(), ndb, plan(t, dir, roots[0])); !errors.Is(err, ErrNotOlder) {
		t.Errorf("an older version: %v", err)
	}
}

func TestSameHashAtSeveralVersions(t *testing.T) {
	dir, roots := shelfOf(t, 1, 4096)
	// The same state as version 2: the metadata says so, and nobody can tell.
	m, err := os.ReadFile(filepath.Join(plan(t, dir, roots[0]).Sources[0].Path, "meta"))
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := checkpoint.DecodeMetadata(m)
	if err != nil {
		t.Fatal(err)
	}
	decoded.Root.Version = 2
	copied := checkpoint.CheckpointDir(dir, decoded.Root)
	if err := os.MkdirAll(filepath.Dir(copied), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(copied, os.DirFS(checkpoint.CheckpointDir(dir, roots[0]))); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(copied, "meta"), checkpoint.EncodeMetadata(decoded), 0o600); err != nil {
		t.Fatal(err)
	}
	p := plan(t, dir, roots[0])
	if p.Version != 2 || !slices.Equal(p.Others, []uint64{1}) {
		t.Errorf("version %d, others %v", p.Version, p.Others)
	}
	one := trust(roots[0])
	one[0].Version, one[0].HasVersion = 1, true
	if p, err := NewPlan(context.Background(), dir, namespace, one, checkpoint.Limits{}); err != nil || p.Version != 1 {
		t.Errorf("version 1: %+v, %v", p, err)
	}
}

func TestParseTrusted(t *testing.T) {
	const h = "c672b8d1ef56ed28ab87c3622c5114069bdd3ad7b8f9737498d0c01ecef0967a"
	for text, want := range map[string]string{
		h:                              "state:" + h,
		strings.ToUpper(h):             "state:" + h,
		"state:" + h:                   "state:" + h,
		"io:" + h:                      "io:" + h,
		"7:" + h:                       "state:7:" + h,
		"io:18446744073709551615:" + h: "io:18446744073709551615:" + h,
		"state:0:" + h:                 "state:0:" + h,
	} {
		got, err := ParseTrusted(text)
		if err != nil || got.String() != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"", ":", h[1:], h + "0", "io:", "io", "IO:" + h, "-1:" + h, "7:io:" + h, "io:7:8:" + h,
		"18446744073709551616:" + h, "state:state:" + h, "zz" + h[2:], " " + h,
	} {
		if got, err := ParseTrusted(text); err == nil {
			t.Errorf("%q was taken as %v", text, got)
		}
	}
}
