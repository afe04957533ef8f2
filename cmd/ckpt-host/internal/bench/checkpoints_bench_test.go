package bench

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/ckpt-project/ckpt/backends/bbolt"
)

// The steps of Checkpoints in Go's own form, in process, and the rooflines by themselves.

const benchChunkSize = 8 << 20

// benchCheckpoint imports a state into bbolt and makes a checkpoint of it.
func benchCheckpoint(b *testing.B) stepSpec {
	dir := b.TempDir()
	spec := stepSpec{
		Backend: bbolt.Name, Data: "uniform", Entries: benchEntries, ChunkSize: benchChunkSize,
		Database: filepath.Join(dir, "state"), Store: filepath.Join(dir, "store"),
	}
	spec.Step = stepImport
	if _, err := spec.run(b.Context()); err != nil {
		b.Fatal(err)
	}
	spec.Step = stepMake
	if _, err := spec.run(b.Context()); err != nil {
		b.Fatal(err)
	}
	return spec
}

func BenchmarkRoofline(b *testing.B) {
	spec := benchCheckpoint(b)
	works, entriesPerByte, err := rooflineWorks(b.Context(), spec.Store)
	if err != nil {
		b.Fatal(err)
	}
	for name, do := range map[string]func(*rooflineWork) error{"make": (*rooflineWork).make, "restore": (*rooflineWork).restore} {
		b.Run(name, func(b *testing.B) {
			bytes := 0
			for b.Loop() {
				for _, w := range works {
					if err := do(w); err != nil {
						b.Fatal(err)
					}
					bytes += len(w.raw)
				}
			}
			b.SetBytes(int64(bytes / b.N))
			b.ReportMetric(float64(bytes)*entriesPerByte/b.Elapsed().Seconds(), "entries/s")
		})
	}
}

func BenchmarkSteps(b *testing.B) {
	spec := benchCheckpoint(b)
	b.Run("make", func(b *testing.B) {
		s := spec
		s.Step = stepMake
		benchStep(b, s, s.Store)
	})
	b.Run("make-verified", func(b *testing.B) {
		s := spec
		s.Step, s.Verified = stepMake, true
		benchStep(b, s, s.Store)
	})
	b.Run("verify", func(b *testing.B) {
		s := spec
		s.Step = stepVerify
		benchStep(b, s, "")
	})
	b.Run("restore", func(b *testing.B) {
		s := spec
		s.Step, s.Database = stepRestore, s.Database+"-copy"
		benchStep(b, s, s.Database)
	})
}

// benchStep measures a step; what is at remove goes before each.
func benchStep(b *testing.B, spec stepSpec, remove string) {
	var seconds float64
	for b.Loop() {
		b.StopTimer()
		if remove != "" {
			if err := os.RemoveAll(remove); err != nil {
				b.Fatal(err)
			}
		}
		b.StartTimer()
		step, err := spec.run(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		seconds += step.Seconds
	}
	b.ReportMetric(float64(benchEntries*b.N)/seconds, "entries/s")
}
