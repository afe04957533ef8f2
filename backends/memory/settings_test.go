package memory_test

import (
	"errors"
	"testing"

	"github.com/ckpt-project/ckpt/backends/memory"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
)

func TestSettings(t *testing.T) {
	if _, err := memory.OpenStore(t.Context(), &db.Config{Settings: []byte(`{"size": 1}`)}); !errors.Is(err, db.ErrBadSettings) {
		t.Errorf("a setting that is none: %v, want %v", err, db.ErrBadSettings)
	}
	if _, err := memory.OpenStore(t.Context(), &db.Config{Settings: []byte(`{}`)}); err != nil {
		t.Errorf("no settings: %v", err)
	}
}

func TestEachOpenIsItsOwn(t *testing.T) {
	cfg := &db.Config{Dir: t.TempDir()}
	first, err := memory.OpenStore(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	var b kv.Batch
	b.Put([]byte("a"), []byte("1"))
	if err := first.Apply(t.Context(), &b, false); err != nil {
		t.Fatal(err)
	}
	cfg.ReadOnly = true
	second, err := memory.OpenStore(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Apply(t.Context(), &b, false); !errors.Is(err, kv.ErrReadOnly) {
		t.Errorf("Apply on a store for reading: %v", err)
	}
	snap, err := second.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := snap.Get([]byte("a")); !errors.Is(err, kv.ErrNotFound) {
		t.Errorf("a second open finds what the first has: %v", err)
	}
	for _, s := range []kv.Store{first, second} {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
