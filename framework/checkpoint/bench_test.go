package checkpoint

import (
	"bytes"
	"testing"
	"time"

	"github.com/golang/snappy"

	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

const (
	benchEntries   = 200_000
	benchChunkSize = 8 << 20
)

// roofline measures the least that making a checkpoint costs one core: compressing what its chunks hold,
// and hashing what comes out. It returns entries a second.
func roofline(b *testing.B, m made) float64 {
	b.Helper()
	var raw [][]byte
	for i := range uint64(len(m.Chunks)) {
		r, err := decompress(nil, m.chunk(b, i), 1<<32)
		if err != nil {
			b.Fatal(err)
		}
		raw = append(raw, r)
	}
	var out bytes.Buffer
	const rounds = 3
	started := time.Now()
	for range rounds {
		for _, r := range raw {
			out.Reset()
			w := snappy.NewBufferedWriter(&out)
			if _, err := w.Write(r); err != nil {
				b.Fatal(err)
			}
			if err := w.Close(); err != nil {
				b.Fatal(err)
			}
			hash.Sum(out.Bytes())
		}
	}
	return benchEntries * rounds / time.Since(started).Seconds()
}

func report(b *testing.B, roofline float64) {
	b.Helper()
	rate := benchEntries * float64(b.N) / b.Elapsed().Seconds()
	b.ReportMetric(rate, "entries/s")
	b.ReportMetric(rate/roofline, "of-one-core's-limit")
}

// BenchmarkCheckpoint measures making, verifying and restoring a checkpoint of a database in memory,
// against the limit measured in the same run.
func BenchmarkCheckpoint(b *testing.B) {
	from := openDB(b)
	root := commit(b, from, 1, node.RootTypeState, dataSet("uniform", benchEntries))
	finalize(b, from, root)
	m := makeCheckpoint(b, from, root, benchChunkSize, 0)
	limit := roofline(b, m)

	b.Run("create", func(b *testing.B) {
		c := newCreator(b, b.TempDir(), from, WithVerification(VerifyNever)) // that is measured by itself
		for b.Loop() {
			if _, err := c.CreateCheckpoint(b.Context(), root, benchChunkSize); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			if err := c.DeleteCheckpoint(b.Context(), 1, root); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
		report(b, limit)
	})
	b.Run("verify", func(b *testing.B) {
		for b.Loop() {
			if _, err := Verify(b.Context(), m.path); err != nil {
				b.Fatal(err)
			}
		}
		report(b, limit)
	})
	b.Run("restore", func(b *testing.B) {
		chunks := make([][]byte, len(m.Chunks))
		for i := range chunks {
			chunks[i] = m.chunk(b, uint64(i))
		}
		r := newRestorer(b, openDB(b))
		for b.Loop() {
			if err := r.StartRestore(b.Context(), m.Metadata); err != nil {
				b.Fatal(err)
			}
			for i := range chunks[:len(chunks)-1] {
				if _, err := r.RestoreChunk(b.Context(), uint64(i), bytes.NewReader(chunks[i])); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			if err := r.AbortRestore(b.Context()); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
		report(b, limit*float64(len(chunks))/float64(len(chunks)-1))
	})
}
