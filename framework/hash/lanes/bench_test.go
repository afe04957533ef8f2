package lanes_test

import (
	"fmt"
	"testing"

	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/hash/lanes"
)

// BenchmarkBatch measures a full batch with each kernel, and hash.Sum for comparison.
func BenchmarkBatch(b *testing.B) {
	const messages = 200
	for _, size := range []int{40, 100, 150, 200, 300, 1000} {
		message := make([]byte, size)
		digests := make([]hash.Hash, messages)
		run := func(name string, sum func()) {
			b.Run(fmt.Sprintf("%dB/%s", size, name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					sum()
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/messages, "ns/hash")
			})
		}
		run("hash.Sum", func() {
			for i := range digests {
				digests[i] = hash.Sum(message)
			}
		})
		for _, k := range lanes.Kernels() {
			var batch lanes.Batch
			batch.Use(k)
			run(k.String(), func() {
				for i := range digests {
					batch.Add(&digests[i], message)
				}
				batch.Sum()
			})
		}
	}
}
