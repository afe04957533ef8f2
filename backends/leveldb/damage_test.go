package leveldb_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/syndtr/goleveldb/leveldb/journal"

	"github.com/ckpt-project/ckpt/backends/leveldb"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
)

const batches = 40

func open(t *testing.T, cfg *db.Config) kv.Store {
	t.Helper()
	s, err := leveldb.OpenStore(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closeStore(t *testing.T, s kv.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// written makes a store whose batches all lie in one journal, or, compacted, all in tables.
func written(t *testing.T, compact bool) *db.Config {
	t.Helper()
	cfg := &db.Config{Dir: t.TempDir()}
	s := open(t, cfg)
	for i := range batches {
		var b kv.Batch
		for j := range 10 {
			b.Put(fmt.Appendf(nil, "key %02d %d", i, j), make([]byte, 500))
		}
		if err := s.Apply(t.Context(), &b, true); err != nil {
			t.Fatal(err)
		}
	}
	if compact {
		if err := s.Compact(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	closeStore(t, s)
	return cfg
}

// only returns the one file of a kind with content.
func only(t *testing.T, cfg *db.Config, pattern string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(cfg.Dir, "nodes.leveldb", pattern))
	if err != nil {
		t.Fatal(err)
	}
	var found string
	for _, name := range names {
		if info, err := os.Stat(name); err != nil || info.Size() > 0 && found != "" {
			t.Fatalf("%s: more than one in %s, or %v", pattern, names, err)
		} else if info.Size() > 0 {
			found = name
		}
	}
	if found == "" {
		t.Fatalf("%s: none in %s", pattern, names)
	}
	return found
}

func change(t *testing.T, path string, f func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, f(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

// count counts pairs.
func count(t *testing.T, s kv.Store) (n int, err error) {
	t.Helper()
	snap, err := s.Snapshot(t.Context())
	if err != nil {
		return 0, err
	}
	c := snap.Cursor()
	for ok := c.Seek([]byte("key")); ok; ok = c.Next() {
		n++
	}
	return n, errors.Join(c.Err(), c.Close(), snap.Close())
}

// TestJournalCutShort is what a loss of power can leave of the batch that was being written: it is gone,
// the others are there.
func TestJournalCutShort(t *testing.T) {
	for _, cut := range []int{1, 100, 3000} {
		cfg := written(t, false)
		change(t, only(t, cfg, "*.log"), func(b []byte) []byte { return b[:len(b)-cut] })
		s := open(t, cfg)
		if n, err := count(t, s); err != nil || n != (batches-1)*10 {
			t.Errorf("cut by %d: %d pairs, %v; want %d", cut, n, err, (batches-1)*10)
		}
		closeStore(t, s)
	}
}

// TestJournalDamagedWithin: a batch that is gone with later ones there is not what was applied.
func TestJournalDamagedWithin(t *testing.T) {
	cfg := written(t, false)
	path := only(t, cfg, "*.log")
	r := rand.New(rand.NewPCG(5, 6))
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		// What the damage takes away reaches to the end of the journal's block of 32 KiB.
		at := r.IntN(len(whole) - 64<<10)
		damaged := append([]byte(nil), whole...)
		damaged[at] ^= 0x40
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := leveldb.OpenStore(t.Context(), cfg); !errors.Is(err, db.ErrCorrupted) {
			t.Fatalf("byte %d of %d: %v, want %v", at, len(whole), err, db.ErrCorrupted)
		}
	}
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, cfg) // nothing was removed
	if n, err := count(t, s); err != nil || n != batches*10 {
		t.Errorf("%d pairs, %v", n, err)
	}
	closeStore(t, s)
}

func TestTableDamaged(t *testing.T) {
	cfg := written(t, true)
	path := only(t, cfg, "*.ldb")
	r := rand.New(rand.NewPCG(7, 8))
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		at := r.IntN(len(whole) - 48) // the footer has bytes that mean nothing
		damaged := append([]byte(nil), whole...)
		damaged[at] ^= 0x40
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := leveldb.OpenStore(t.Context(), cfg)
		if err == nil {
			var n int
			if n, err = count(t, s); err == nil && n != batches*10 {
				t.Errorf("byte %d: %d pairs and no error", at, n)
			}
			closeStore(t, s)
		}
		if err != nil && !errors.Is(err, db.ErrCorrupted) {
			t.Errorf("byte %d: %v, want %v", at, err, db.ErrCorrupted)
		}
	}
}

func TestTableMissing(t *testing.T) {
	cfg := written(t, true)
	if err := os.Remove(only(t, cfg, "*.ldb")); err != nil {
		t.Fatal(err)
	}
	if _, err := leveldb.OpenStore(t.Context(), cfg); !errors.Is(err, db.ErrCorrupted) {
		t.Errorf("open without a table: %v, want %v", err, db.ErrCorrupted)
	}
}

// sizes are the lengths of the engine's files.
func sizes(t *testing.T, cfg *db.Config) map[string]int64 {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(cfg.Dir, "nodes.leveldb"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]int64{}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = info.Size()
	}
	return all
}

// TestManifestCutShort: without the manifest's last records the engine would go on with files that are gone,
// and remove or write over those that are there.
func TestManifestCutShort(t *testing.T) {
	for _, cut := range []int{1, 40, 80, 100} {
		cfg := written(t, true)
		change(t, only(t, cfg, "MANIFEST-*"), func(b []byte) []byte { return b[:len(b)-cut] })
		before := sizes(t, cfg)
		if _, err := leveldb.OpenStore(t.Context(), cfg); !errors.Is(err, db.ErrCorrupted) {
			t.Errorf("cut by %d: %v, want %v", cut, err, db.ErrCorrupted)
		}
		if after := sizes(t, cfg); !maps.Equal(after, before) {
			t.Errorf("cut by %d: files have changed from %v to %v", cut, before, after)
		}
	}
}

func TestJournalMissing(t *testing.T) {
	cfg := written(t, false)
	if err := os.Remove(only(t, cfg, "*.log")); err != nil {
		t.Fatal(err)
	}
	for _, readOnly := range []bool{true, false} {
		cfg.ReadOnly = readOnly
		if _, err := leveldb.OpenStore(t.Context(), cfg); !errors.Is(err, db.ErrCorrupted) {
			t.Errorf("open without a journal (read only %t): %v, want %v", readOnly, err, db.ErrCorrupted)
		}
	}
}

// TestCompactedTwice: the engine removes a journal that nothing was written in, though its manifest names it.
func TestCompactedTwice(t *testing.T) {
	cfg := written(t, true)
	for range 3 {
		s := open(t, cfg)
		for range 2 {
			if err := s.Compact(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		}
		if n, err := count(t, s); err != nil || n != 10*batches {
			t.Errorf("%d pairs, %v", n, err)
		}
		closeStore(t, s)
	}
}

func TestManifestDamaged(t *testing.T) {
	cfg := written(t, true)
	change(t, only(t, cfg, "MANIFEST-*"), func(b []byte) []byte { b[20] ^= 0x40; return b })
	if _, err := leveldb.OpenStore(t.Context(), cfg); !errors.Is(err, db.ErrCorrupted) {
		t.Errorf("open with a damaged manifest: %v, want %v", err, db.ErrCorrupted)
	}
}

// A crash while the engine recovers, or while it goes from one journal to the next, leaves two of them.
func TestSeveralJournalsAreRead(t *testing.T) {
	for _, inSecond := range []int{0, batches / 2, batches} {
		t.Run(fmt.Sprint(inSecond), func(t *testing.T) {
			cfg := written(t, false)
			path := only(t, cfg, "*.log")
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			first, second := splitJournal(t, content, batches-inSecond)
			if err := os.WriteFile(path, first, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(filepath.Dir(path), "000099.log"), second, 0o600); err != nil {
				t.Fatal(err)
			}
			for _, readOnly := range []bool{true, false, true} {
				cfg.ReadOnly = readOnly
				s := open(t, cfg)
				if n, err := count(t, s); err != nil || n != 10*batches {
					t.Errorf("read only %t: %d pairs, %v", readOnly, n, err)
				}
				closeStore(t, s)
			}
		})
	}
}

// What was in the journal when the store was opened is there once after it was compacted.
func TestCompactAfterOpening(t *testing.T) {
	cfg := written(t, false)
	s := open(t, cfg)
	if err := s.Compact(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	only(t, cfg, "*.ldb")
	if n, err := count(t, s); err != nil || n != 10*batches {
		t.Errorf("%d pairs, %v", n, err)
	}
	closeStore(t, s)
}

// splitJournal makes two journals of one: the first has so many records.
func splitJournal(t *testing.T, content []byte, records int) (first, second []byte) {
	t.Helper()
	var out [2]bytes.Buffer
	writers := [2]*journal.Writer{journal.NewWriter(&out[0]), journal.NewWriter(&out[1])}
	from := journal.NewReader(bytes.NewReader(content), nil, true, true)
	for i := 0; ; i++ {
		record, err := from.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		w := writers[0]
		if i >= records {
			w = writers[1]
		}
		to, err := w.Next()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(to, record); err != nil {
			t.Fatal(err)
		}
	}
	for _, w := range writers {
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return out[0].Bytes(), out[1].Bytes()
}
