package checkpoint

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// TestCut checks that what is cut and passed on is, byte for byte, the checkpoint that a creator makes, and that
// it restores.
func TestCut(t *testing.T) {
	for name, c := range map[string]struct {
		entries uint64
		threads int
	}{"empty": {0, 1}, "sequence": {300, 1}, "threads": {300, 4}} {
		t.Run(name, func(t *testing.T) {
			ndb := openDB(t)
			pairs := dataSet("uniform", c.entries)
			root := commit(t, ndb, 3, node.RootTypeState, pairs)
			finalize(t, ndb, root)
			want := makeCheckpoint(t, ndb, root, 512, c.threads)
			var told atomic.Uint64
			opts := CutOptions{ChunkSize: 512, Threads: c.threads, Workers: 3, Progress: func(_ uint64, _ int64, _ uint64) { told.Add(1) }}
			m, manifest, err := Cut(t.Context(), ndb, root, opts, nil)
			if err != nil {
				t.Fatal(err)
			}
			made, err := ReadManifest(want.path, want.Metadata)
			if err != nil {
				t.Fatal(err)
			}
			made.Started, made.Finished, made.Software = manifest.Started, manifest.Finished, manifest.Software
			if !reflect.DeepEqual(m, want.Metadata) || !reflect.DeepEqual(manifest, made) {
				t.Errorf("%+v, %+v, want %+v, %+v", m, manifest, want.Metadata, made)
			}
			if n := told.Load(); n != uint64(len(m.Chunks)) {
				t.Errorf("told %d times of %d chunks", n, len(m.Chunks))
			}

			into := openDB(t)
			r := newRestorer(t, into)
			if err := r.StartRestore(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			var complete atomic.Bool
			again, _, err := Cut(t.Context(), ndb, root, opts, func(ctx context.Context, index uint64, chunk []byte) error {
				if !bytes.Equal(chunk, want.chunk(t, index)) {
					t.Errorf("chunk %d is another one", index)
				}
				done, err := r.RestoreChunk(ctx, index, bytes.NewReader(chunk))
				if done {
					complete.Store(true)
				}
				return err
			})
			if err != nil || !complete.Load() || !reflect.DeepEqual(again, m) {
				t.Fatalf("complete is %v, %v", complete.Load(), err)
			}
			finalize(t, into, root)
			if !equalPairs(entriesOf(t, into, root), pairs) {
				t.Error("not the same entries")
			}
		})
	}
}

// TestCutTakerFails checks that an error of whoever takes the chunks ends the cutting, also at the last chunk, and
// is what is returned; and that no more chunks are in flight than there are workers.
func TestCutTakerFails(t *testing.T) {
	ndb := openDB(t)
	root := commit(t, ndb, 1, node.RootTypeState, dataSet("uniform", 300))
	finalize(t, ndb, root)
	m, _, err := Cut(t.Context(), ndb, root, CutOptions{ChunkSize: 512}, nil)
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	for _, at := range []int{0, len(m.Chunks) / 2, len(m.Chunks) - 1} {
		var mu sync.Mutex
		var running, most int
		_, _, err := Cut(t.Context(), ndb, root, CutOptions{ChunkSize: 512, Workers: 1}, func(ctx context.Context, index uint64, _ []byte) error {
			mu.Lock()
			running++
			most = max(most, running)
			mu.Unlock()
			defer func() {
				mu.Lock()
				running--
				mu.Unlock()
			}()
			switch {
			case index < uint64(at):
				return nil
			case index == uint64(at):
				return broken
			}
			<-ctx.Done() // which the failure ends
			return ctx.Err()
		})
		if !errors.Is(err, broken) {
			t.Errorf("at chunk %d: %v", at, err)
		}
		if most > 1 {
			t.Errorf("at chunk %d: %d at once", at, most)
		}
	}

	ctx, cancel := context.WithCancel(t.Context())
	_, _, err = Cut(ctx, ndb, root, CutOptions{ChunkSize: 512}, func(ctx context.Context, index uint64, _ []byte) error {
		if index == 3 {
			cancel()
		}
		return ctx.Err()
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	if _, _, err := Cut(t.Context(), ndb, root, CutOptions{ChunkSize: 512, Limits: Limits{ValueBytes: 1}}, nil); !errors.Is(err, ErrLimitExceeded) {
		t.Errorf("limits: %v", err)
	}
	tight := Limits{MetadataBytes: int64(len(EncodeMetadata(m))) - 1} // enough for the digests
	if _, _, err := Cut(t.Context(), ndb, root, CutOptions{ChunkSize: 512, Limits: tight}, nil); !errors.Is(err, ErrLimitExceeded) {
		t.Errorf("limit of the metadata: %v", err)
	}
}
