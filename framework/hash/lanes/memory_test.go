package lanes

import (
	"testing"

	"github.com/ckpt-project/ckpt/framework/hash"
)

// However many messages are added, a batch keeps no more of them than its constants say.
func TestMemory(t *testing.T) {
	for _, k := range Kernels() {
		for _, size := range []int{0, 100, 1000, maxMessageBytes, maxMessageBytes + 1} {
			var b Batch
			b.Use(k)
			message := make([]byte, size)
			for range 2 * (maxMessages + 1) {
				b.Add(new(hash.Hash), message)
				if len(b.messages) > maxMessages || len(b.blocks) > maxBatchBytes {
					t.Fatalf("%s: %d messages of %d bytes, %d bytes with padding", k, len(b.messages), size, len(b.blocks))
				}
			}
			b.Sum()
			if len(b.messages) > 0 || len(b.blocks) > 0 || cap(b.blocks) > maxBatchBytes+maxBatchBytes/4 {
				t.Errorf("%s: %d messages of %d bytes are kept, %d bytes, room for %d", k, len(b.messages), size, len(b.blocks), cap(b.blocks))
			}
		}
	}
}
