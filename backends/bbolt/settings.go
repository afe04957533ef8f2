package bbolt

import (
	"fmt"
	"math/bits"
	"runtime"

	"github.com/ckpt-project/ckpt/backends/internal/settings"
)

const (
	// defaultMapBytes is how much address space is mapped at first. When a file outgrows its mapping, the
	// writer waits until all snapshots are closed, and new ones wait for the writer. Address space costs
	// nothing, so we take more than most files ever need.
	defaultMapBytes = 64 << 30
	maxMapBytes     = 1 << 46

	// defaultFill is how full pages are made. Nearly all keys are appended (they begin with a version that
	// only grows), so a page that was split is not filled any more. Blocks of 4,000 bytes lie two to a page
	// of two, whatever this says; small values and blocks that were written again are where it counts
	// (with bbolt's own 0.5, seven per cent more is written). The rest is for what is put in between.
	defaultFill = 0.95

	// preferredBatchBytes: a transaction costs two fsyncs and a path of pages. 8 to 16 MiB make that
	// small; what is larger only takes memory, since a transaction's pages are held until its end.
	preferredBatchBytes = 12 << 20

	// The file grows by an eighth of its length within these bounds: each time costs an fsync, and what
	// is not used yet counts as the file's.
	minGrowBytes = 1 << 20
	maxGrowBytes = 64 << 20

	// amplification: restores of 4 to 350 MB took from 1.08 to 1.33 bytes of file for each byte
	// put, and 1.49 where keys have thousands of bytes, which leave pages half full.
	amplification = 1.5

	// The engine's bounds are 32,768 and 2^31-2 bytes. The lower one for values leaves room for the page
	// that holds one.
	maxKeyBytes   = 32768
	maxValueBytes = 1 << 30
)

type config struct {
	InitialMmapBytes *int64   `json:"initial_mmap_bytes"`
	FillPercent      *float64 `json:"fill_percent"`
}

type parameters struct {
	mapBytes int
	fill     float64
}

func parseSettings(raw []byte) (parameters, error) {
	p := parameters{fill: defaultFill}
	// On Windows a file is as long as its mapping, and with 32 bits address space is scarce.
	if space := int64(defaultMapBytes); bits.UintSize == 64 && runtime.GOOS != "windows" {
		p.mapBytes = int(space)
	}
	var c config
	if err := settings.Decode(Name, raw, &c); err != nil {
		return p, err
	}
	if n := c.InitialMmapBytes; n != nil {
		if *n < 0 || *n > maxMapBytes || int64(int(*n)) != *n {
			return p, settings.Bad(Name, "initial_mmap_bytes", fmt.Sprintf("%d is not within 0 and %d", *n, int64(maxMapBytes)))
		}
		p.mapBytes = int(*n)
	}
	if f := c.FillPercent; f != nil {
		if !(*f >= 0.1 && *f <= 1) {
			return p, settings.Bad(Name, "fill_percent", fmt.Sprintf("%v is not within 0.1 and 1", *f))
		}
		p.fill = *f
	}
	return p, nil
}
