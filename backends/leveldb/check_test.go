package leveldb_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/ckpt-project/ckpt/backends/leveldb"
	"github.com/ckpt-project/ckpt/framework/mkvs"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

const checkedVersions = 60

// checkable makes a database of many versions whose records all lie in one table, of some hundred blocks.
func checkable(t *testing.T) *db.Config {
	t.Helper()
	ctx := t.Context()
	cfg := &db.Config{Dir: t.TempDir()}
	ndb, err := leveldb.New().New(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	var root node.Root
	root.Empty()
	root.Namespace, root.Type = cfg.Namespace, node.RootTypeState
	r := rand.New(rand.NewPCG(3, 5))
	for version := uint64(1); version <= checkedVersions; version++ {
		tree := mkvs.NewWithRoot(ndb, root)
		for range 60 {
			value := make([]byte, 200+r.IntN(600))
			for i := range value {
				value[i] = byte(r.Uint32()) // nothing to compress
			}
			if err := tree.Insert(ctx, fmt.Appendf(nil, "key %d", r.IntN(1000)), value); err != nil {
				t.Fatal(err)
			}
		}
		_, hash, err := tree.Commit(ctx, cfg.Namespace, version)
		if err != nil {
			t.Fatal(err)
		}
		tree.Close()
		root = node.Root{Namespace: cfg.Namespace, Version: version, Type: node.RootTypeState, Hash: hash}
		if err := ndb.Finalize(ctx, []node.Root{root}); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(ndb.Compact(ctx, nil), ndb.Close(ctx)); err != nil {
		t.Fatal(err)
	}
	cfg.ReadOnly = true
	return cfg
}

// checked opens a database and checks it.
func checked(ctx context.Context, cfg *db.Config, opts db.CheckOptions) (report *db.CheckReport, err error) {
	ndb, err := leveldb.New().New(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("opening: %w", err)
	}
	defer func() { err = errors.Join(err, ndb.Close(ctx)) }()
	return ndb.Check(ctx, opts)
}

// place is what a report says of a place that the engine can't read.
var place = regexp.MustCompile(`^the engine can't read on from key [0-9a-f]+ \(([^)]+)\), up to key [0-9a-f]+ \(([^)]+)\): leveldb: .*pos=\d+.*\[file=\d+\.ldb\]`)

// A block of the engine's own that is damaged is one place in a check's report, with the keys on its sides.
// What lies behind it is looked at, too.
func TestCheckTellsADamagedTableOnce(t *testing.T) {
	ctx := t.Context()
	cfg := checkable(t)
	sound, err := checked(ctx, cfg, db.CheckOptions{})
	if err != nil || !sound.OK() {
		t.Fatalf("as it was written: %+v, %v", sound, err)
	}
	path := only(t, cfg, "*.ldb")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(11, 12))
	reports, named := 0, 0
	for i := range 45 {
		places := 1 + 2*(i%2)
		damaged := append([]byte(nil), whole...)
		for n := range places {
			part := len(whole) / places // a block is much smaller: each of them is damaged once
			at := n*part + part/10 + r.IntN(part*8/10)
			damaged[at] ^= 0x40
		}
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		report, err := checked(ctx, cfg, db.CheckOptions{})
		if err != nil {
			// Some blocks are read by opening it.
			if !strings.HasPrefix(err.Error(), "opening: ") || !errors.Is(err, db.ErrCorrupted) {
				t.Error(err)
			}
			continue
		}
		reports++
		if report.Damaged != uint64(places) {
			t.Errorf("%d places were damaged, %d were found: %v", places, report.Damaged, report.Problems)
		}
		if lost := sound.Bytes - report.Bytes; report.Records >= sound.Records || lost > uint64(places)*64<<10 {
			t.Errorf("%d of %d records were read, %d bytes were not", report.Records, sound.Records, lost)
		}
		for _, p := range report.Problems {
			switch m := place.FindStringSubmatch(p.Reason); {
			case m == nil:
				t.Error(p)
			case p.Version == db.UnknownVersion:
				if m[1] == m[2] || strings.Contains(p.Error(), "version 0") {
					t.Error(p)
				}
			case m[1] != m[2] || !strings.HasSuffix(m[1], fmt.Sprintf(" of version %d", p.Version)):
				t.Errorf("version %d is not what the keys say: %v", p.Version, p)
			default:
				named++
			}
		}
		// The check of one version tells what it comes to, of each place once.
		last := uint64(checkedVersions)
		report, err = checked(ctx, cfg, db.CheckOptions{Version: &last})
		if err != nil {
			t.Error(err)
			continue
		}
		if report.Damaged > uint64(places) {
			t.Errorf("%d places were damaged, version %d is in %d: %v", places, last, report.Damaged, report.Problems)
		}
		for _, p := range report.Problems {
			if p.Version == 0 || p.Version > last || !strings.HasPrefix(p.Reason, "the engine can't read what is stored: leveldb: ") {
				t.Error(p)
			}
		}
	}
	if reports < 40 || named < 20 {
		t.Errorf("%d reports, %d of the places with a version", reports, named)
	}
}
