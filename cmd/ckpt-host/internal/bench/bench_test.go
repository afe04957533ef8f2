package bench

import (
	"context"
	"fmt"
	"testing"

	"github.com/ckpt-project/ckpt/framework/mkvs"
)

// The same work as Storage's in Go's own form, on a state that is made in seconds.
const (
	benchEntries = 100_000
	benchKeep    = 20
)

// BenchmarkStorage measures each backend on each data set. Beside the time of an operation it tells what
// people compare: entries, nodes and versions a second, and bytes on disk for one of data.
func BenchmarkStorage(b *testing.B) {
	for _, kind := range DataSets {
		r := &run{dir: b.TempDir(), opts: StorageOptions{Entries: benchEntries}}
		data, err := r.makeData(b.Context(), kind)
		if err != nil {
			b.Fatal(err)
		}
		for _, backend := range Backends {
			b.Run(backend+"/"+kind, func(b *testing.B) { benchmarkRun(b, r, backend, data) })
		}
	}
}

func benchmarkRun(b *testing.B, r *run, backend string, data *data) {
	b.Run("load", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			s := opened(b, r, backend)
			b.StartTimer()
			if _, err := s.load(b.Context(), data, func(string, int) {}); err != nil {
				b.Fatal(err)
			}
		}
		perSecond(b, data.len(), "entries/s")
	})
	s := loaded(b, r, backend, data)
	disk, err := s.disk(b.Context(), data)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("scan", func(b *testing.B) {
		nodes := 0
		for b.Loop() {
			if _, nodes, err = s.walk(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		perSecond(b, nodes, "nodes/s")
		b.ReportMetric(disk.Amplification, "file-B/data-B")
	})
	b.Run("read", func(b *testing.B) {
		random := newUpdates(data)
		for b.Loop() {
			tree := mkvs.NewWithRoot(s.ndb, s.root, mkvs.WithoutWriteLog())
			if value, err := tree.Get(b.Context(), random.key()); err != nil || value == nil {
				b.Fatal(value, err)
			}
			tree.Close()
		}
	})
	for _, size := range commitSizes {
		b.Run(fmt.Sprintf("commit-%d", size), func(b *testing.B) {
			random := newUpdates(data)
			for b.Loop() {
				tree := mkvs.NewWithRoot(s.ndb, s.root)
				if err := s.update(b.Context(), tree, random, size); err != nil {
					b.Fatal(err)
				}
				tree.Close()
			}
		})
	}
	b.Run("steady", func(b *testing.B) {
		// It is run several times, and goes on where it was.
		if _, err := s.steady(b.Context(), data, benchKeep, 1, func(int) {}); err != nil {
			b.Fatal(err)
		}
		random, tree := newUpdates(data), mkvs.NewWithRoot(s.ndb, s.root)
		defer tree.Close()
		for b.Loop() {
			if _, err := s.segment(b.Context(), tree, random, benchKeep, 1, func(int) {}); err != nil {
				b.Fatal(err)
			}
		}
		perSecond(b, 1, "versions/s")
	})
}

// BenchmarkPrune measures one prune, with its space freed, of tiny versions with few and many kept.
func BenchmarkPrune(b *testing.B) {
	for _, backend := range Backends {
		r := &run{dir: b.TempDir()}
		s := opened(b, r, backend)
		for _, kept := range []int{fewVersions, 100 * fewVersions} {
			b.Run(fmt.Sprintf("%s/kept=%d", backend, kept), func(b *testing.B) {
				for b.Loop() {
					b.StopTimer()
					if err := s.fill(b.Context(), kept+1, func(int) {}); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
					if err := s.prune(b.Context()); err != nil {
						b.Fatal(err)
					}
					if err := s.ndb.CollectGarbage(context.Background(), nil); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func perSecond(b *testing.B, n int, unit string) {
	b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), unit)
}
