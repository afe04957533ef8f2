// Package bench measures what storage costs on the machine that it runs on: the built-in backends, in
// this process, under the same work. What it tells was computed or counted, all of it, in that run.
package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"time"

	"github.com/ckpt-project/ckpt/backends/bbolt"
	"github.com/ckpt-project/ckpt/backends/leveldb"
	"github.com/ckpt-project/ckpt/backends/memory"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/console"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// Backends are the names of the backends that can be measured, in the order in which they are.
var Backends = []string{memory.Name, bbolt.Name, leveldb.Name}

// DataSets are the names of the data sets: random keys of 32 bytes with values of 0 to 199 random bytes,
// and tables of accounts as JSON of some 110 bytes. Package vectors makes them.
var DataSets = []string{"uniform", "accounts"}

func factoryOf(backend string) (db.Factory, error) {
	for _, f := range []db.Factory{memory.New(), bbolt.New(), leveldb.New()} {
		if f.Name() == backend {
			return f, nil
		}
	}
	return nil, fmt.Errorf("there is no backend %q to measure", backend)
}

// sizes say how often what is measured is done.
type sizes struct{ scanPasses, pointReads, commitRounds int }

// usualSizes are the same in each run, so that results can be compared.
var usualSizes = sizes{scanPasses: 3, pointReads: 20_000, commitRounds: 100}

const (
	// steadyUpdates is the number of updates in each version of the steady state.
	steadyUpdates  = 1000
	steadySegments = 10
	// fewVersions is the number of tiny versions that are kept when the first ones are pruned.
	fewVersions    = 100
	prunedOneByOne = 100
)

// commitSizes are the numbers of updates whose commit is measured.
var commitSizes = []int{10, 100, 1000}

// StorageOptions say what Storage measures.
type StorageOptions struct {
	// Backends and DataSets are some of those that there are.
	Backends []string
	DataSets []string
	// Entries is the number of entries of the state, at least 1.
	Entries int
	// Versions is the number of versions that are committed and pruned in the steady state, with Keep kept.
	// Both are at least 1.
	Versions int
	Keep     int
	// ManyVersions is the larger number of tiny versions that are kept while some are pruned; it is more
	// than 100.
	ManyVersions int
	// Dir is where the directory for the databases is made; empty: among the temporary files.
	Dir string
	// Tell, which may be nil, is called with what is being done and how far it is, in a sentence. It returns
	// soon.
	Tell func(status string)
}

// Storage measures storage. It removes what it made before it returns, also when ctx ends it.
func Storage(ctx context.Context, opts StorageOptions) (*StorageResult, error) {
	return measureStorage(ctx, opts, usualSizes)
}

func measureStorage(ctx context.Context, opts StorageOptions, sizes sizes) (_ *StorageResult, err error) {
	began := time.Now()
	r := &run{opts: opts, sizes: sizes}
	dir, err := newWorkDir(opts.Dir, r.tell)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, dir.remove()) }()
	r.dir = dir.path
	result := &StorageResult{
		Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH, CPUs: runtime.GOMAXPROCS(0),
		Entries: opts.Entries, Keep: opts.Keep, Versions: opts.Versions,
		Runs: []Run{}, Prunes: []PruneCost{},
	}
	r.tell("measuring the machine")
	if result.Machine, err = measureMachine(ctx, r.dir); err != nil {
		return nil, err
	}
	for _, kind := range opts.DataSets {
		data, err := r.makeData(ctx, kind)
		if err != nil {
			return nil, err
		}
		for _, backend := range opts.Backends {
			one, err := r.run(ctx, backend, data)
			if err != nil {
				return nil, fmt.Errorf("%s, %s: %w", backend, kind, err)
			}
			result.Runs = append(result.Runs, one)
		}
	}
	for _, backend := range opts.Backends {
		costs, err := r.prunes(ctx, backend)
		if err != nil {
			return nil, fmt.Errorf("%s, tiny versions: %w", backend, err)
		}
		result.Prunes = append(result.Prunes, costs...)
	}
	result.Seconds = time.Since(began).Seconds()
	return result, nil
}

// run is a run of Storage.
type run struct {
	opts  StorageOptions
	sizes sizes
	dir   string
	made  int // databases
}

func (r *run) tell(format string, args ...any) {
	if r.opts.Tell != nil {
		r.opts.Tell(fmt.Sprintf(format, args...))
	}
}

// makeData makes a data set, which takes a while where it is large.
func (r *run) makeData(ctx context.Context, kind string) (*data, error) {
	return newData(ctx, kind, r.opts.Entries, func(i int) {
		r.tell("making the data set %s: %s of %s", kind, console.Count(i), console.Counted(r.opts.Entries, "entry"))
	})
}

// open makes a database in a directory of its own.
func (r *run) open(ctx context.Context, backend string, cfg db.Config) (*state, error) {
	r.made++
	cfg.Dir = filepath.Join(r.dir, fmt.Sprint(r.made))
	return openState(ctx, backend, cfg)
}

// run measures one backend on one data set.
func (r *run) run(ctx context.Context, backend string, data *data) (result Run, err error) {
	s, err := r.open(ctx, backend, db.Config{})
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, s.remove(ctx)) }()
	result = Run{Backend: backend, Data: data.kind}
	name := backend + ", " + data.kind

	if result.Load, err = s.load(ctx, data, func(what string, done int) {
		r.tell("%s: load: %s, %s of %s", name, what, console.Count(done), console.Counted(data.len(), "entry"))
	}); err != nil {
		return result, fmt.Errorf("load: %w", err)
	}
	if result.Disk, err = s.disk(ctx, data); err != nil {
		return result, fmt.Errorf("size: %w", err)
	}
	r.tell("%s: scan", name)
	if result.Scan, err = s.scan(ctx, r.sizes.scanPasses); err != nil {
		return result, fmt.Errorf("scan: %w", err)
	}
	r.tell("%s: point reads", name)
	if result.Reads, err = s.read(ctx, data, r.sizes.pointReads); err != nil {
		return result, fmt.Errorf("point reads: %w", err)
	}
	for _, updates := range commitSizes {
		r.tell("%s: commits of %s", name, console.Counted(updates, "update"))
		c, err := s.commits(ctx, data, updates, r.sizes.commitRounds)
		if err != nil {
			return result, fmt.Errorf("commits of %d updates: %w", updates, err)
		}
		result.Commits = append(result.Commits, c)
	}
	if result.Steady, err = s.steady(ctx, data, r.opts.Keep, r.opts.Versions, func(done int) {
		r.tell("%s: commit and prune: %s of %s", name, console.Count(done), console.Counted(r.opts.Versions, "version"))
	}); err != nil {
		return result, fmt.Errorf("commit and prune: %w", err)
	}
	return result, nil
}

// prunes measures what it costs to prune versions of one change each, with few and with many kept.
func (r *run) prunes(ctx context.Context, backend string) (costs []PruneCost, err error) {
	// Space is freed when it is asked for only, so that all of the cost is measured.
	s, err := r.open(ctx, backend, db.Config{GarbageRate: -1})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.remove(ctx)) }()
	for _, kept := range []int{fewVersions, r.opts.ManyVersions} {
		if err := s.fill(ctx, kept+prunedOneByOne, func(done int) {
			r.tell("%s: tiny versions: %s of %s", backend, console.Count(done), console.Count(kept+prunedOneByOne))
		}); err != nil {
			return nil, err
		}
		c, err := s.pruneOneByOne(ctx, prunedOneByOne)
		if err != nil {
			return nil, err
		}
		costs = append(costs, c)
	}
	return costs, nil
}
