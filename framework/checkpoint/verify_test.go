package checkpoint

import (
	"errors"
	"os"
	"testing"
)

// TestVerifyLevels harms checkpoints, each in a way that is found from a certain level on: below it, nothing
// is wrong.
func TestVerifyLevels(t *testing.T) {
	levels := []Level{LevelDigests, LevelProofs, LevelFull} // each looks at all that the one before does
	for name, c := range map[string]struct {
		harm  func(t *testing.T, m *made)
		limit Limits
		from  Level
		want  error
	}{
		"nothing": {from: -1},
		"a bit of a chunk": {
			harm: func(t *testing.T, m *made) { writeTo(t, chunkPath(m.path, 3), flipLast(m.chunk(t, 3))) },
			from: LevelDigests, want: ErrChunkCorrupted,
		},
		"a chunk that is gone": {
			harm: func(t *testing.T, m *made) {
				if err := os.Remove(chunkPath(m.path, 3)); err != nil {
					t.Fatal(err)
				}
			},
			from: LevelDigests, want: ErrChunkNotFound,
		},
		"a byte too many in the metadata": {
			harm: func(t *testing.T, m *made) { writeTo(t, m.path+"/meta", append(EncodeMetadata(m.Metadata), 0)) },
			from: LevelDigests, want: ErrMalformedMetadata,
		},
		"a long chunk": {limit: Limits{ChunkBytes: 100}, from: LevelDigests, want: ErrLimitExceeded},
		"a chunk that proves nothing": {
			harm: func(t *testing.T, m *made) { m.replace(t, 3, rawChunk(t, hashEntry(m.Root.Hash))) },
			from: LevelProofs, want: ErrChunkProofVerificationFailed,
		},
		"many entries": {limit: Limits{Entries: 3}, from: LevelProofs, want: ErrLimitExceeded},
		"a chunk left out": {
			harm: func(t *testing.T, m *made) {
				m.Chunks = m.Chunks[:len(m.Chunks)-1]
				writeTo(t, m.path+"/meta", EncodeMetadata(m.Metadata))
			},
			from: LevelFull, want: errIncomplete,
		},
		"a chunk twice": {
			harm: func(t *testing.T, m *made) { m.replace(t, 3, m.chunk(t, 2)) },
			from: LevelFull, want: ErrChunkProofVerificationFailed,
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := sourceOf(t, dataSet("uniform", 100), 1024, 0)
			if c.harm != nil {
				c.harm(t, &m)
			}
			found := false
			for _, level := range levels {
				var last VerifyCount
				report, err := Verify(t.Context(), m.path, VerifyLevel(level), VerifyLimits(c.limit),
					VerifyProgress(func(done VerifyCount) { last = done }))
				if found = found || level == c.from; found {
					if !errors.Is(err, c.want) {
						t.Errorf("%s: got %v, want %v", level, err, c.want)
					}
					continue
				}
				if err != nil {
					t.Errorf("%s: %v", level, err)
					continue
				}
				want := VerifyCount{Chunks: len(m.Chunks), Bytes: bytesOf(t, &m)}
				if level == LevelFull {
					want.Entries = 100
				}
				if report.Level != level || (VerifyCount{report.Chunks, report.Bytes, report.Entries}) != want || last != want {
					t.Errorf("%s: reported %+v, the last progress was %+v, want %+v", level, report, last, want)
				}
			}
		})
	}
}

// bytesOf is the length of all chunks.
func bytesOf(t *testing.T, m *made) (n int64) {
	t.Helper()
	for i := range m.Chunks {
		info, err := os.Stat(chunkPath(m.path, uint64(i)))
		if err != nil {
			t.Fatal(err)
		}
		n += info.Size()
	}
	return n
}

func writeTo(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, fileMode); err != nil {
		t.Fatal(err)
	}
}

func TestLevelNames(t *testing.T) {
	for _, level := range []Level{LevelDigests, LevelProofs, LevelFull} {
		var again Level = -1
		if err := again.UnmarshalText([]byte(level.String())); err != nil || again != level {
			t.Errorf("%s is read as %s, %v", level, again, err)
		}
	}
	for _, name := range []string{"", "Full", "level 3", "proof"} {
		if level, err := ParseLevel(name); err == nil {
			t.Errorf("%q is read as %s", name, level)
		}
	}
	m := sourceOf(t, dataSet("uniform", 10), 1024, 0)
	if _, err := Verify(t.Context(), m.path, VerifyLevel(7)); err == nil {
		t.Error("verified at a level that there is not")
	}
}
