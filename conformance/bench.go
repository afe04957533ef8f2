package conformance

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"time"

	"github.com/ckpt-project/ckpt/conformance/vectors"
	"github.com/ckpt-project/ckpt/framework/checkpoint"
	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/mkvs"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// What is measured. It is little, so that it takes seconds on any disk: it tells a backend that is slow
// from one that is not, and its author whether a change was one for the better.
const (
	benchEntries      = 10_000
	benchUpdates      = 1_000
	benchUpdateRounds = 5
	benchWalks        = 5
	benchReads        = 1_000
	benchChunkBytes   = 64 << 10

	benchTimeout = 5 * time.Minute
)

// bench measures the backend, alone on its machine as far as the suite is concerned. What was measured
// before an error is reported.
func (s *suite) bench(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, benchTimeout)
	defer cancel()
	b := bench{s: s, data: vectors.DataSet{Kind: "uniform", Seed: 1, N: benchEntries}, random: rand.New(rand.NewPCG(1, 0))}
	var err error
	if b.ndb, err = b.open(ctx, "bench"); err != nil {
		return err
	}
	return errors.Join(b.run(ctx), closed(ctx, b.ndb))
}

// bench is a database that is measured.
type bench struct {
	s      *suite
	ndb    db.NodeDB
	data   vectors.DataSet
	random *rand.Rand
	root   node.Root
}

func (b *bench) open(ctx context.Context, name string) (db.NodeDB, error) {
	return b.s.h.Open(ctx, &db.Config{Dir: filepath.Join(b.s.dir, name, "db"), Namespace: namespace, Settings: b.s.h.Settings})
}

// closed closes a database, whatever ctx says.
func closed(ctx context.Context, ndb db.NodeDB) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return ndb.Close(ctx)
}

// note reports a measurement.
func (b *bench) note(name string, value float64, unit string) {
	b.s.report.Benchmarks = append(b.s.report.Benchmarks, Benchmark{Name: name, Value: value, Unit: unit})
}

func (b *bench) run(ctx context.Context) error {
	for _, step := range []func(context.Context) error{b.load, b.update, b.walk, b.read, b.checkpointed} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// finalize commits a tree as the next version, and finalizes that.
func (b *bench) finalize(ctx context.Context, tree *mkvs.Tree) error {
	next := node.Root{Namespace: namespace, Version: b.root.Version + 1, Type: stateType}
	var err error
	if _, next.Hash, err = tree.Commit(ctx, namespace, next.Version); err != nil {
		return err
	}
	b.root = next
	return b.ndb.Finalize(ctx, []node.Root{next})
}

func (b *bench) load(ctx context.Context) error {
	b.root = emptyRootOf(stateType, 0)
	began := time.Now()
	tree := mkvs.NewWithRoot(b.ndb, b.root)
	defer tree.Close()
	for i := range b.data.N {
		key, value := b.data.Entry(i)
		if err := tree.Insert(ctx, key, value); err != nil {
			return err
		}
	}
	if err := b.finalize(ctx, tree); err != nil {
		return err
	}
	b.note("commit of 10,000 entries", perSecond(benchEntries, time.Since(began)), "entries/s")
	return nil
}

// update makes versions of random changes, each by a tree that has nothing in memory.
func (b *bench) update(ctx context.Context) error {
	times := make([]time.Duration, benchUpdateRounds)
	for round := range times {
		began := time.Now()
		tree := mkvs.NewWithRoot(b.ndb, b.root)
		for i := range benchUpdates {
			key, value := b.data.Entry(b.random.Uint64N(b.data.N))
			value = binary.BigEndian.AppendUint64(value, uint64(round*benchUpdates+i))
			if err := tree.Insert(ctx, key, value); err != nil {
				return err
			}
		}
		if err := b.finalize(ctx, tree); err != nil {
			return err
		}
		times[round] = time.Since(began)
		tree.Close()
	}
	b.note("commit of 1,000 updates, median", milliseconds(median(times)), "ms")
	return nil
}

func (b *bench) walk(ctx context.Context) error {
	records := 0
	began := time.Now()
	for range benchWalks {
		for _, err := range b.ndb.Walk(ctx, b.root, node.RootPosition()) {
			if err != nil {
				return err
			}
			records++
		}
	}
	b.note("walk", perSecond(records, time.Since(began)), "records/s")
	return nil
}

// read reads random keys, each by a tree that has nothing in memory.
func (b *bench) read(ctx context.Context) error {
	times := make([]time.Duration, benchReads)
	for i := range times {
		key, _ := b.data.Entry(b.random.Uint64N(b.data.N))
		began := time.Now()
		tree := mkvs.NewWithRoot(b.ndb, b.root, mkvs.WithoutWriteLog())
		value, err := tree.Get(ctx, key)
		if err != nil {
			return err
		}
		tree.Close()
		if times[i] = time.Since(began); value == nil {
			return fmt.Errorf("key %x is not there", key)
		}
	}
	b.note("read of a random key, median", float64(median(times).Microseconds()), "µs")
	return nil
}

// checkpointed makes a checkpoint, and restores it into another database.
func (b *bench) checkpointed(ctx context.Context) error {
	creator, err := checkpoint.NewFileCreator(filepath.Join(b.s.dir, "bench", "checkpoints"), b.ndb)
	if err != nil {
		return err
	}
	began := time.Now()
	metadata, err := creator.CreateCheckpoint(ctx, b.root, benchChunkBytes)
	if err != nil {
		return err
	}
	b.note("checkpoint made", perSecond(benchEntries, time.Since(began)), "entries/s")
	target, err := b.open(ctx, "bench-restored")
	if err != nil {
		return err
	}
	took, err := restored(ctx, target, creator, metadata)
	if err := errors.Join(err, closed(ctx, target)); err != nil {
		return err
	}
	b.note("checkpoint restored", perSecond(benchEntries, took), "entries/s")
	return nil
}

// restored restores a checkpoint and finalizes it, one chunk after the other.
func restored(ctx context.Context, ndb db.NodeDB, from checkpoint.ChunkProvider, metadata *checkpoint.Metadata) (time.Duration, error) {
	began := time.Now()
	restorer, err := checkpoint.NewRestorer(ndb)
	if err != nil {
		return 0, err
	}
	if err := restorer.StartRestore(ctx, metadata); err != nil {
		return 0, err
	}
	var data bytes.Buffer
	done := false
	for i := range metadata.Chunks {
		chunk, err := metadata.GetChunkMetadata(uint64(i))
		if err != nil {
			return 0, err
		}
		data.Reset()
		if err := from.GetCheckpointChunk(ctx, chunk, &data); err != nil {
			return 0, err
		}
		if done, err = restorer.RestoreChunk(ctx, uint64(i), &data); err != nil {
			return 0, err
		}
	}
	if !done {
		return 0, fmt.Errorf("the last of %d chunks did not complete the checkpoint", len(metadata.Chunks))
	}
	err = ndb.Finalize(ctx, []node.Root{metadata.Root})
	return time.Since(began), err
}

func perSecond(n int, took time.Duration) float64 { return math.Round(float64(n) / took.Seconds()) }

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// median sorts times.
func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}
