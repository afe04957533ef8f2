package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ckpt-project/ckpt/framework/hash"
)

const (
	machineHashes    = 1_000_000
	machineHashBytes = 128
	machineFsyncs    = 50
	machineBlock     = 4096
)

// measureMachine measures what the machine does at most, with a file in dir.
func measureMachine(ctx context.Context, dir string) (m Machine, err error) {
	block := make([]byte, machineHashBytes)
	began := time.Now()
	for i := range machineHashes {
		if i%10_000 == 0 && ctx.Err() != nil {
			return m, ctx.Err()
		}
		h := hash.Sum(block)
		copy(block, h[:]) // each one depends on the one before
	}
	m.HashesPerSecond = machineHashes / time.Since(began).Seconds()

	f, err := os.Create(filepath.Join(dir, "fsync"))
	if err != nil {
		return m, fmt.Errorf("measuring fsync: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	times := make([]time.Duration, machineFsyncs)
	for i := range times {
		if err := ctx.Err(); err != nil {
			return m, err
		}
		began := time.Now()
		if _, err := f.Write(make([]byte, machineBlock)); err != nil {
			return m, fmt.Errorf("measuring fsync: %w", err)
		}
		if err := f.Sync(); err != nil {
			return m, fmt.Errorf("measuring fsync: %w", err)
		}
		times[i] = time.Since(began)
	}
	m.Fsync = sumUp(times)
	return m, nil
}
