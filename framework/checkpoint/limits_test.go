package checkpoint

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/ckpt-project/ckpt/framework/hash"
)

func TestEncodedBytes(t *testing.T) {
	_, m := knownMetadata(t)
	for _, version := range []uint64{0, 23, 24, 1 << 40} {
		m.Root.Version = version
		for _, n := range []int{0, 1, 23, 24, 255, 256, 1<<16 - 1, 1 << 16, 1<<16 + 1} {
			m.Chunks = make([]hash.Hash, n)
			want := int64(len(EncodeMetadata(m)))
			if got := m.encodedBytes(); got != want {
				t.Errorf("%d chunks at version %d: %d bytes, want %d", n, version, got, want)
			}
			if most := int64(metadataHeadBytes + n*digestBytes); want > most {
				t.Errorf("%d chunks at version %d: %d bytes are more than %d", n, version, want, most)
			}
		}
	}
}

// TestMetadataBeyondLimits checks that whoever reads checkpoints refuses metadata that is beyond the limits,
// in the list with the reason, and takes no memory for it.
func TestMetadataBeyondLimits(t *testing.T) {
	m := sourceOf(t, dataSet("uniform", 100), 1024, 0)
	store := filepath.Dir(filepath.Dir(m.path))
	list := func(limits Limits) []Stored {
		t.Helper()
		directory, err := OpenDirectory(store, WithDirectoryLimits(limits))
		if err != nil {
			t.Fatal(err)
		}
		all, err := directory.List(t.Context())
		if err != nil || len(all) != 1 {
			t.Fatalf("%v, %v", all, err)
		}
		inspector, ok := newCreator(t, store, nil, WithCreatorLimits(limits)).(Inspector)
		if !ok {
			t.Fatal("the creator can't be listed")
		}
		again, err := inspector.List(t.Context())
		if err != nil || len(again) != 1 {
			t.Fatalf("%v, %v", again, err)
		}
		return append(all, again...)
	}
	bytes := int64(len(EncodeMetadata(m.Metadata)))
	for _, s := range list(Limits{Chunks: len(m.Chunks), MetadataBytes: bytes}) {
		if s.Err != nil {
			t.Errorf("just within the limits: %v", s.Err)
		}
	}
	for name, limits := range map[string]Limits{"Chunks": {Chunks: len(m.Chunks) - 1}, "MetadataBytes": {MetadataBytes: bytes - 1}} {
		for _, s := range list(limits) {
			if !errors.Is(s.Err, ErrLimitExceeded) || !strings.Contains(s.Err.Error(), "Limits."+name+" ") || s.Metadata != nil {
				t.Errorf("%s: %v", name, s.Err)
			}
		}
	}

	if err := os.Truncate(filepath.Join(m.path, metadataName), MaxMetadataBytes); err != nil {
		t.Fatal(err)
	}
	for name, limits := range map[string]Limits{"Chunks": {Chunks: 10}, "MetadataBytes": {MetadataBytes: 1000}} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		stored := list(limits)
		runtime.ReadMemStats(&after)
		if taken := after.TotalAlloc - before.TotalAlloc; taken > 1<<20 {
			t.Errorf("%s: %d bytes of memory were taken", name, taken)
		}
		for _, s := range stored {
			if !errors.Is(s.Err, ErrLimitExceeded) || !strings.Contains(s.Err.Error(), "Limits."+name+" ") {
				t.Errorf("%s, a long file: %v", name, s.Err)
			}
		}
	}
	// It can be deleted all the same.
	c := newCreator(t, store, nil, WithCreatorLimits(Limits{MetadataBytes: 1000}))
	if err := c.DeleteCheckpoint(t.Context(), 1, m.Root); err != nil {
		t.Errorf("deleting it: %v", err)
	}
	if _, err := os.Stat(m.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is there: %v", err)
	}
}
