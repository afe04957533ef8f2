package leveldb

import (
	"fmt"

	"github.com/syndtr/goleveldb/leveldb/opt"

	"github.com/ckpt-project/ckpt/backends/internal/settings"
)

const (
	mib = 1 << 20

	// defaultWriteBuffer is the size of a table when it is first written: the larger, the less often the
	// same bytes are merged, and the longer what was overwritten takes space. Up to two such buffers are in
	// memory, and one is read again at an open.
	defaultWriteBuffer = 32 * mib
	minWriteBuffer     = 1 * mib
	maxWriteBuffer     = 1024 * mib

	defaultBlockCache = 64 * mib
	maxBlockCache     = 64 << 30

	// tableBytes and levelBytes are eight and twelve times the engine's own: with tables of 2 MiB a state
	// of some GB is thousands of files, and a commit's tables go through one level more.
	tableBytes = 16 * mib
	levelBytes = 128 * mib
	// blockBytes holds four of the database's usual values (4,000 bytes each).
	blockBytes = 16 << 10
	// openTables keeps all tables of a state of 16 GB open.
	openTables = 1000

	// Merging into the first level begins at four tables, so that pruned versions don't take more than some
	// 128 MiB. Writers are slowed down and stopped much later: bulk loads come in bursts, and the tables of
	// a burst are merged once.
	mergeTrigger, slowTrigger, stopTrigger = 4, 16, 32

	// preferredBatchBytes is well below the write buffer, so that a batch does not end one early.
	preferredBatchBytes = 12 * mib

	// amplification: restores of 4 to 350 MB took from 1.00 to 1.50 bytes of files for each byte put, the most where
	// some hundred MB are merged for the first time.
	amplification = 1.6

	// A batch is in memory three times: as it came, as the journal's record, and in the write buffer.
	maxBatchBytes = 256 * mib
	maxKeyBytes   = 64 << 10
	maxValueBytes = 128 * mib
)

type config struct {
	WriteBufferBytes *int64  `json:"write_buffer_bytes"`
	BlockCacheBytes  *int64  `json:"block_cache_bytes"`
	Compression      *string `json:"compression"`
}

func parseSettings(raw []byte, readOnly bool) (*opt.Options, error) {
	o := &opt.Options{
		WriteBuffer:            defaultWriteBuffer,
		BlockCacheCapacity:     defaultBlockCache,
		BlockSize:              blockBytes,
		CompactionTableSize:    tableBytes,
		CompactionTotalSize:    levelBytes,
		CompactionL0Trigger:    mergeTrigger,
		WriteL0SlowdownTrigger: slowTrigger,
		WriteL0PauseTrigger:    stopTrigger,
		OpenFilesCacheCapacity: openTables,
		// Nodes are mostly hashes, which don't get smaller; packing and unpacking would cost more than
		// the reading that it saves.
		Compression: opt.NoCompression,
		// Merging tables because they were read often rewrites a state that only checkpoints read.
		DisableSeeksCompaction: true,
		// A batch larger than the write buffer goes through the journal like any other. The engine's other
		// way leaves its write lock held for ever where the last step fails.
		DisableLargeBatchTransaction: true,
		// There is one writer, so there is nothing to merge.
		NoWriteMerge: true,
		Strict:       opt.DefaultStrict,
		ReadOnly:     readOnly,
	}
	var c config
	if err := settings.Decode(Name, raw, &c); err != nil {
		return nil, err
	}
	if n := c.WriteBufferBytes; n != nil {
		if *n < minWriteBuffer || *n > maxWriteBuffer {
			return nil, settings.Bad(Name, "write_buffer_bytes", fmt.Sprintf("%d is not within %d and %d", *n, minWriteBuffer, maxWriteBuffer))
		}
		o.WriteBuffer = int(*n)
	}
	if n := c.BlockCacheBytes; n != nil {
		if *n < 0 || *n > maxBlockCache || int64(int(*n)) != *n {
			return nil, settings.Bad(Name, "block_cache_bytes", fmt.Sprintf("%d is not within 0 and %d", *n, int64(maxBlockCache)))
		}
		if o.BlockCacheCapacity = int(*n); *n == 0 {
			o.BlockCacheCapacity = -1 // 0 means the engine's default
		}
	}
	if c.Compression != nil {
		switch *c.Compression {
		case "none":
		case "snappy":
			o.Compression = opt.SnappyCompression
		default:
			return nil, settings.Bad(Name, "compression", fmt.Sprintf("%q is neither none nor snappy", *c.Compression))
		}
	}
	return o, nil
}
