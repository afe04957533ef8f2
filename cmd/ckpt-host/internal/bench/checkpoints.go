package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// CheckpointsOptions say what Checkpoints measures.
type CheckpointsOptions struct {
	// Backend is a built-in backend that outlasts its process.
	Backend string
	// Data is the data set, of Entries entries.
	Data    string
	Entries int
	// Versions is how many versions the entries are imported as, beside all as one; 0 leaves that out.
	Versions int
	// ChunkSize is that of the checkpoints.
	ChunkSize uint64
	// Rounds is how often each step is done; the best counts.
	Rounds int
	// Dir is where the directory for databases and checkpoints is made; empty: among the temporary files.
	Dir string
	// Command is the program with the arguments that make it call RunStep.
	Command []string
	// Tell, which may be nil, is called with what is being done. It returns soon.
	Tell func(status string)
}

// CheckpointsResult is what Checkpoints has measured. Its names in JSON are documented in
// docs/commands.md, and stay.
type CheckpointsResult struct {
	Go   string `json:"go"`
	OS   string `json:"os"`
	Arch string `json:"arch"`
	// CPUs is how many each process may use.
	CPUs int `json:"cpus"`

	Backend   string `json:"backend"`
	Data      string `json:"data"`
	Entries   int    `json:"entries"`
	Versions  int    `json:"versions"`
	ChunkSize uint64 `json:"chunk_size"`
	Rounds    int    `json:"rounds"`

	// The figures that are asked for most, all through the plugin's process.
	MakeRatio                 float64 `json:"make_ratio"`
	MakeVerifiedRatio         float64 `json:"make_verified_ratio"`
	RestoreRatio              float64 `json:"restore_ratio"`
	PluginOverhead            float64 `json:"plugin_overhead"`
	ImportEntriesPerS         float64 `json:"import_entries_per_s"`
	ImportVersionsEntriesPerS float64 `json:"import_versions_entries_per_s,omitempty"`
	ImportSortedEntriesPerS   float64 `json:"import_sorted_entries_per_s"`
	MakeEntriesPerS           float64 `json:"make_entries_per_s"`
	MakeVerifiedEntriesPerS   float64 `json:"make_verified_entries_per_s"`
	VerifyEntriesPerS         float64 `json:"verify_entries_per_s"`
	RestoreEntriesPerS        float64 `json:"restore_entries_per_s"`

	Rooflines Rooflines `json:"rooflines"`
	// Steps are the best rounds.
	Steps []Step `json:"steps"`
	// Seconds is how long all of it took.
	Seconds float64 `json:"seconds"`
}

// Step is one step, measured.
type Step struct {
	// Step is import, import-versions, import-sorted, make, verify or restore.
	Step string `json:"step"`
	// Plugin says that the database was in a process of its own.
	Plugin bool `json:"plugin"`
	// Verified says, of making, that what was made was verified before it appeared.
	Verified bool `json:"verified,omitempty"`
	// Entries were worked on; Bytes of them are those of keys and values for an import, and of chunks before
	// compression otherwise.
	Entries int   `json:"entries"`
	Bytes   int64 `json:"bytes"`
	Chunks  int   `json:"chunks,omitempty"`
	// BaseRSSAnonBytes is the host's resident anonymous memory when the step began: for an import, the
	// entries are in it.
	BaseRSSAnonBytes int64 `json:"base_rss_anon_bytes,omitempty"`

	Seconds          float64 `json:"seconds"`
	EntriesPerSecond float64 `json:"entries_per_second"`
	MBPerSecond      float64 `json:"mb_per_second"`
	// Version is how long it took from one version that was finalized to the next, where there are several.
	Version *Times `json:"version,omitempty"`
	// OfRoofline is the share of the limit that one core sets.
	OfRoofline float64 `json:"of_roofline,omitempty"`
	// Host is the process that does the work, PluginProcess the one that has the database.
	Host ProcessUsage `json:"host"`
	// Their peaks are the highest of all rounds.
	PluginProcess *ProcessUsage `json:"plugin_process,omitempty"`
}

// Checkpoints measures an import, and making, verifying and restoring a checkpoint, in process and through
// a plugin's process, beside the limits that one core sets. Each step runs in a process of its own. It
// removes what it made before it returns, also when ctx ends it.
func Checkpoints(ctx context.Context, opts CheckpointsOptions) (_ *CheckpointsResult, err error) {
	began := time.Now()
	b := &checkpointsRun{opts: opts, result: &CheckpointsResult{
		Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH, CPUs: runtime.GOMAXPROCS(0),
		Backend: opts.Backend, Data: opts.Data, Entries: opts.Entries, Versions: opts.Versions,
		ChunkSize: opts.ChunkSize, Rounds: opts.Rounds,
	}}
	dir, err := newWorkDir(opts.Dir, b.tell)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, dir.remove()) }()
	b.dir, b.held = dir.path, dir.held()
	if err := b.all(ctx); err != nil {
		return nil, err
	}
	b.result.Seconds = time.Since(began).Seconds()
	return b.result, nil
}

// checkpointsRun is a run of Checkpoints.
type checkpointsRun struct {
	opts   CheckpointsOptions
	dir    string
	held   []*os.File // what processes inherit that work in dir
	result *CheckpointsResult
	stores int
}

// variants are a step's in process and through the plugin.
var variants = []bool{false, true}

func (b *checkpointsRun) all(ctx context.Context) error {
	r, opts := b.result, &b.opts
	var best []*Step
	// The database is made anew in each round of an import, and the last one stays.
	state := filepath.Join(b.dir, "state")
	for _, i := range []struct {
		step    string
		rounds  int
		through *float64
	}{
		{stepVersions, min(opts.Versions, 1), &r.ImportVersionsEntriesPerS},
		{stepSorted, opts.Rounds, &r.ImportSortedEntriesPerS},
		{stepImport, opts.Rounds, &r.ImportEntriesPerS},
	} {
		if i.rounds == 0 {
			continue
		}
		steps, err := b.rounds(ctx, stepSpec{Step: i.step}, i.rounds, func(s *stepSpec) error {
			s.Database = state
			return os.RemoveAll(state)
		})
		if err != nil {
			return err
		}
		best = append(best, steps...)
		*i.through = steps[1].EntriesPerSecond
	}

	newStore := func(s *stepSpec) error {
		err := os.RemoveAll(storeOf(b.dir, b.stores))
		b.stores++
		s.Database, s.Store = state, storeOf(b.dir, b.stores)
		return err
	}
	made, err := b.rounds(ctx, stepSpec{Step: stepMake}, opts.Rounds, newStore)
	if err != nil {
		return err
	}
	verified, err := b.rounds(ctx, stepSpec{Step: stepMake, Verified: true}, opts.Rounds, newStore)
	if err != nil {
		return err
	}
	store := storeOf(b.dir, b.stores)
	b.tell("rooflines")
	if err := b.process(ctx, stepSpec{Step: stepRoofline, Store: store}, &r.Rooflines); err != nil {
		return err
	}
	checked, err := b.variant(ctx, stepSpec{Step: stepVerify, Store: store}, opts.Rounds, func(*stepSpec) error { return nil })
	if err != nil {
		return err
	}
	copied := filepath.Join(b.dir, "copy")
	restored, err := b.rounds(ctx, stepSpec{Step: stepRestore, Store: store}, opts.Rounds, func(s *stepSpec) error {
		s.Database = copied
		return os.RemoveAll(copied)
	})
	if err != nil {
		return err
	}
	// Once more, in case something else took the machine's time.
	again := Rooflines{}
	b.tell("rooflines")
	if err := b.process(ctx, stepSpec{Step: stepRoofline, Store: store}, &again); err != nil {
		return err
	}
	r.Rooflines = r.Rooflines.best(again)

	for _, s := range append(made, verified...) {
		s.OfRoofline = s.EntriesPerSecond / r.Rooflines.Make.EntriesPerSecond
	}
	for _, s := range append(restored, checked) {
		s.OfRoofline = s.EntriesPerSecond / r.Rooflines.Restore.EntriesPerSecond
	}
	r.MakeRatio, r.MakeEntriesPerS = made[1].OfRoofline, made[1].EntriesPerSecond
	r.MakeVerifiedRatio, r.MakeVerifiedEntriesPerS = verified[1].OfRoofline, verified[1].EntriesPerSecond
	r.PluginOverhead = 1 - made[1].EntriesPerSecond/made[0].EntriesPerSecond
	r.VerifyEntriesPerS = checked.EntriesPerSecond
	r.RestoreRatio, r.RestoreEntriesPerS = restored[1].OfRoofline, restored[1].EntriesPerSecond
	best = append(best, made...)
	best = append(best, verified...)
	best = append(best, checked)
	for _, s := range append(best, restored...) {
		r.Steps = append(r.Steps, *s)
	}
	return nil
}

// best is the higher of each limit.
func (r Rooflines) best(o Rooflines) Rooflines {
	if o.Make.EntriesPerSecond > r.Make.EntriesPerSecond {
		r.Make = o.Make
	}
	if o.Restore.EntriesPerSecond > r.Restore.EntriesPerSecond {
		r.Restore = o.Restore
	}
	return r
}

// rounds does a step some times in process and through the plugin, by turns, and returns the best of each.
func (b *checkpointsRun) rounds(ctx context.Context, spec stepSpec, rounds int, prepare func(*stepSpec) error) ([]*Step, error) {
	best := make([]*Step, len(variants))
	for range rounds {
		for i, throughPlugin := range variants {
			spec := spec
			spec.Plugin = throughPlugin
			step, err := b.variant(ctx, spec, 1, prepare)
			if err != nil {
				return nil, err
			}
			best[i] = better(best[i], step)
		}
	}
	return best, nil
}

// variant does a step some times, and returns the best.
func (b *checkpointsRun) variant(ctx context.Context, spec stepSpec, rounds int, prepare func(*stepSpec) error) (best *Step, err error) {
	spec.Backend, spec.Data, spec.Entries = b.opts.Backend, b.opts.Data, b.opts.Entries
	spec.Versions, spec.ChunkSize = b.opts.Versions, b.opts.ChunkSize
	for range rounds {
		if err := prepare(&spec); err != nil {
			return nil, err
		}
		b.tell("%s", spec.describeFor())
		step := &Step{}
		if err := b.process(ctx, spec, step); err != nil {
			return nil, fmt.Errorf("%s: %w", spec.describeFor(), err)
		}
		best = better(best, step)
	}
	return best, nil
}

func (s *stepSpec) describeFor() string {
	switch {
	case s.Step == stepVerify:
		return s.Step
	case s.Plugin:
		return s.Step + " through the plugin"
	default:
		return s.Step + " in process"
	}
}

// better returns the faster of two steps, with the higher peaks of memory of both.
func better(a, b *Step) *Step {
	if a == nil {
		return b
	}
	if a.Seconds > b.Seconds {
		a, b = b, a
	}
	a.Host.raise(&b.Host)
	if a.PluginProcess != nil && b.PluginProcess != nil {
		a.PluginProcess.raise(b.PluginProcess)
	}
	return a
}

func (u *ProcessUsage) raise(o *ProcessUsage) {
	if u.PeakRSSAnonBytes != nil && o.PeakRSSAnonBytes != nil {
		*u.PeakRSSAnonBytes = max(*u.PeakRSSAnonBytes, *o.PeakRSSAnonBytes)
	}
}

// process has a process of its own do a step.
func (b *checkpointsRun) process(ctx context.Context, spec stepSpec, answer any) error {
	in, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, b.opts.Command[0], b.opts.Command[1:]...)
	cmd.Args[0] = os.Args[0] // the program may go by it
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	cmd.ExtraFiles = b.held // and the plugin's process inherits it in turn
	var out, messages bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &messages
	switch err := cmd.Run(); {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(messages.String()))
	}
	return json.Unmarshal(out.Bytes(), answer)
}

func (b *checkpointsRun) tell(format string, args ...any) {
	if b.opts.Tell != nil {
		b.opts.Tell(fmt.Sprintf(format, args...))
	}
}
