package bbolt_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/ckpt-project/ckpt/backends/bbolt"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
)

// written makes a store with some hundred pages, some of them free, and returns its config and its file.
func written(t *testing.T) (*db.Config, string) {
	t.Helper()
	cfg := &db.Config{Dir: t.TempDir()}
	s, err := bbolt.OpenStore(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for round := range 4 {
		var b kv.Batch
		for i := range 500 {
			key := fmt.Appendf(nil, "key %04d", i)
			if i%4 == round {
				b.Delete(key)
			} else {
				b.Put(key, fmt.Appendf(nil, "%0*d", i, round))
			}
		}
		if err := s.Apply(t.Context(), &b, true); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return cfg, filepath.Join(cfg.Dir, "nodes.bolt")
}

// readAll reads everything, so that what is damaged is met.
func readAll(t *testing.T, s kv.Store) error {
	snap, err := s.Snapshot(t.Context())
	if err != nil {
		return err
	}
	c := snap.Cursor()
	sum := byte(0)
	for ok := c.Seek([]byte{0}); ok; ok = c.Next() {
		for _, b := range c.Key() {
			sum += b
		}
		for _, b := range c.Value() {
			sum += b
		}
	}
	err = c.Err()
	for i := range 500 {
		v, getErr := snap.Get(fmt.Appendf(nil, "key %04d", i))
		for _, b := range v {
			sum += b
		}
		if !errors.Is(getErr, kv.ErrNotFound) {
			err = errors.Join(err, getErr)
		}
	}
	return errors.Join(err, c.Close(), snap.Close())
}

func TestTruncatedFile(t *testing.T) {
	cfg, path := written(t)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{0, 100, 4096, 8191, 8192, 3 * 4096, info.Size() / 8, info.Size() / 4} {
		if err := os.WriteFile(path, whole[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := bbolt.OpenStore(t.Context(), cfg); !errors.Is(err, db.ErrCorrupted) {
			t.Errorf("cut to %d of %d bytes: %v, want %v", size, info.Size(), err, db.ErrCorrupted)
		}
		if after, err := os.Stat(path); err != nil || after.Size() != size {
			t.Errorf("the file was changed: %v, %v", after, err)
		}
	}
}

// TestFlippedBytes damages one byte after the other, in pages of all kinds. The file may be refused, or
// what is damaged when it is read, or, within a value, nothing is seen here (the layer above has
// checksums); but the process goes on.
func TestFlippedBytes(t *testing.T) {
	cfg, path := written(t)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(3, 4))
	refused := 0
	for range 600 {
		at := r.IntN(len(whole))
		if r.IntN(2) == 0 {
			at = at&^4095 + r.IntN(120) // pages' heads and the offsets and lengths behind them
		}
		damaged := append([]byte(nil), whole...)
		damaged[at] ^= byte(1 + r.IntN(255))
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := bbolt.OpenStore(t.Context(), cfg)
		if err == nil {
			if err = readAll(t, s); err == nil {
				var b kv.Batch
				b.Put([]byte("key 0100"), []byte("new"))
				err = s.Apply(t.Context(), &b, true)
			}
			if closeErr := s.Close(); closeErr != nil {
				t.Fatalf("byte %d: close: %v", at, closeErr)
			}
		}
		if err != nil {
			refused++
			if !errors.Is(err, db.ErrCorrupted) && !errors.Is(err, db.ErrForeign) {
				t.Errorf("byte %d: %v, want %v", at, err, db.ErrCorrupted)
			}
		}
	}
	if refused == 0 {
		t.Error("no damage was noticed")
	}
	t.Logf("%d of 600 were noticed", refused)
}
