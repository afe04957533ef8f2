package cli

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/bench"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/console"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/exit"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/size"
)

// The bounds of what can be asked for: beyond them nobody waits for the end, or the data set, which is in
// memory, is too large.
const (
	maxBenchEntries  = 100_000_000
	maxBenchVersions = 10_000_000
	minManyVersions  = 101
)

// benchStorageResult is what `bench storage --json` prints.
type benchStorageResult struct {
	// Version is the program's.
	Version string `json:"version"`
	*bench.StorageResult
}

func newBenchStorageCommand(e *env) *cobra.Command {
	var (
		opts          bench.StorageOptions
		backend, data string
		asJSON        bool
	)
	cmd := &cobra.Command{
		Use:   "storage",
		Short: "Measure the built-in backends: load, scan, commits, reads, pruning, space",
		Long: `Measures each built-in backend, in this process, on each data set, and prints a table:

  load     all entries inserted, committed and finalized as one version
  scan     a walk through all of it
  read     random keys, each read by a tree that has nothing in memory
  commit   10, 100 and 1,000 random updates, each time by such a tree, until Finalize has returned
  steady   1,000 updates a version, with the earliest pruned, so that --keep versions are kept
  prune    tiny versions pruned one by one, with 100 kept and with --many-versions

The databases are in a new directory, which is removed at the end. A million entries need up to a gigabyte
of space and a gigabyte and a half of memory, and the whole takes some minutes; give --backend, --data or
fewer --entries for less.
Let nothing else run meanwhile.`,
		Example: `  ckpt-host bench storage
  ckpt-host bench storage --backend bbolt --data uniform --entries 100000 --dir /mnt/disk --json`,
		Args: takes(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if opts.Backends, err = oneOf("--backend", backend, bench.Backends); err != nil {
				return err
			}
			if opts.DataSets, err = oneOf("--data", data, bench.DataSets); err != nil {
				return err
			}
			for _, n := range []struct {
				flag            string
				value, low, max int
			}{
				{"--entries", opts.Entries, 1, maxBenchEntries},
				{"--versions", opts.Versions, 1, maxBenchVersions},
				{"--keep", opts.Keep, 1, maxBenchVersions},
				{"--many-versions", opts.ManyVersions, minManyVersions, maxBenchVersions},
			} {
				if n.value < n.low || n.value > n.max {
					return exit.Errorf(exit.Usage, "%s %d: want %s to %s", n.flag, n.value, console.Count(n.low), console.Count(n.max))
				}
			}
			var status atomic.Pointer[string]
			opts.Tell = func(now string) { status.Store(&now) }
			opts.Tell("beginning")
			progress := e.StartProgress(func() string { return *status.Load() })
			defer progress.Stop()
			result, err := bench.Storage(cmd.Context(), opts)
			progress.Stop()
			if err != nil {
				return err
			}
			if asJSON {
				return e.JSON(benchStorageResult{e.version, result})
			}
			return e.printBenchStorage(result)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&backend, "backend", "", "measure this built-in `backend` only")
	flags.StringVar(&data, "data", "", "measure on this `data set` only: uniform or accounts")
	flags.IntVar(&opts.Entries, "entries", 1_000_000, "the `number` of entries of the state")
	flags.IntVar(&opts.Versions, "versions", 300, "the `number` of versions to commit and prune in the steady state")
	flags.IntVar(&opts.Keep, "keep", 100, "the `number` of versions that are kept in it")
	flags.IntVar(&opts.ManyVersions, "many-versions", 10_000, "the larger `number` of tiny versions that are kept while some are pruned")
	flags.StringVar(&opts.Dir, "dir", "", "the `directory` to make the databases in (default: that of temporary files)")
	flags.BoolVar(&asJSON, "json", false, "print one JSON object")
	_ = cmd.RegisterFlagCompletionFunc("backend", cobra.FixedCompletions(bench.Backends, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("data", cobra.FixedCompletions(bench.DataSets, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.MarkFlagDirname("dir")
	return cmd
}

// oneOf returns what was chosen of all that there are: all where nothing was.
func oneOf(flag, chosen string, all []string) ([]string, error) {
	switch {
	case chosen == "":
		return all, nil
	case slices.Contains(all, chosen):
		return []string{chosen}, nil
	default:
		return nil, exit.Errorf(exit.Usage, "%s %s: want %s", flag, chosen, strings.Join(all, ", "))
	}
}

func (e *env) printBenchStorage(r *bench.StorageResult) error {
	if err := e.Printf("%s, %s, %s/%s, %s\nthis machine: %s million hashes/s, %s for a durable write of 4 KiB\n",
		console.Counted(r.Entries, "entry"), console.Counted(r.CPUs, "CPU"), r.OS, r.Arch, r.Go,
		decimals(r.Machine.HashesPerSecond/1e6), told(r.Machine.Fsync.MedianMS)); err != nil {
		return err
	}
	for _, run := range r.Runs {
		if err := e.Printf("\n%s, %s\n", run.Backend, run.Data); err != nil {
			return err
		}
		if err := e.Table([]string{"STEP", "RESULT", "DETAIL", "CPU", "PEAK MEMORY"}, benchRows(run)); err != nil {
			return err
		}
	}
	if len(r.Prunes) > 0 {
		if err := e.Printf("\ntiny versions, pruned one by one\n"); err != nil {
			return err
		}
		rows := make([][]string, len(r.Prunes))
		for i, p := range r.Prunes {
			rows[i] = append([]string{
				p.Backend, console.Count(p.Kept), told(p.Prune.MedianMS), told(p.Prune.P95MS), told(p.CollectMS),
			}, used(p.Usage)...)
		}
		if err := e.Table([]string{"BACKEND", "KEPT", "PRUNE MEDIAN", "P95", "FREE SPACE", "CPU", "PEAK MEMORY"}, rows); err != nil {
			return err
		}
	}
	return e.Printf("\ntook %s\n", console.Duration(seconds(r.Seconds)))
}

// benchRows are the rows of one backend on one data set.
func benchRows(r bench.Run) (rows [][]string) {
	add := func(step, result, detail string, u bench.Usage) {
		rows = append(rows, append([]string{step, result, detail}, used(u)...))
	}
	l := r.Load
	add("load", perSecond(l.EntriesPerSecond, "entries"),
		fmt.Sprintf("insert %.2f s, commit %.2f s, finalize %.2f s", l.InsertSeconds, l.CommitSeconds, l.FinalizeSeconds), l.Usage)
	d := r.Disk
	if d.FileBytes > 0 {
		rows = append(rows, []string{
			"disk", fmt.Sprintf("%.2f times the data", d.Amplification),
			fmt.Sprintf("%s for %s of keys and values", size.Format(d.FileBytes), size.Format(d.KeyValueBytes)),
		})
	} else {
		rows = append(rows, []string{
			"disk", "none",
			fmt.Sprintf("%s in memory for %s of keys and values", size.Format(d.LiveBytes), size.Format(d.KeyValueBytes)),
		})
	}
	add("scan", perSecond(r.Scan.NodesPerSecond, "nodes"), perSecond(r.Scan.RecordsPerSecond, "records"), r.Scan.Usage)
	add("read", told(r.Reads.MedianMS), timesOf(r.Reads.Times), r.Reads.Usage)
	for _, c := range r.Commits {
		add("commit "+console.Count(c.Updates), told(c.MedianMS), timesOf(c.Times), c.Usage)
	}
	s := r.Steady
	files := "nothing on disk"
	if s.FileBytesLast > 0 {
		files = fmt.Sprintf("file %s at first, %s at the end", size.Format(s.FileBytesFirst), size.Format(s.FileBytesLast))
	}
	add("steady", decimals(s.VersionsPerSecond)+" versions/s",
		fmt.Sprintf("%s, %s kept; %s", console.Counted(s.Versions, "version"), console.Count(s.Keep), files), s.Usage)
	from := 0
	for _, segment := range s.Segments {
		detail := fmt.Sprintf("commit %s, prune %s, at most %s", told(segment.Commit.MedianMS), told(segment.Prune.MedianMS), told(segment.Prune.MaxMS))
		if segment.FileBytes > 0 {
			detail += "; file " + size.Format(segment.FileBytes)
		}
		rows = append(rows, []string{
			fmt.Sprintf("  %s to %s", console.Count(from+1), console.Count(from+segment.Versions)),
			decimals(segment.VersionsPerSecond) + " versions/s", detail,
		})
		from += segment.Versions
	}
	return rows
}

func used(u bench.Usage) []string {
	cells := []string{"", ""}
	if u.CPUSeconds != nil {
		cells[0] = fmt.Sprintf("%.2f s", *u.CPUSeconds)
	}
	if u.PeakRSSBytes != nil {
		cells[1] = size.Format(*u.PeakRSSBytes)
	}
	return cells
}

func timesOf(t bench.Times) string {
	return fmt.Sprintf("median; 95%% within %s, at most %s", told(t.P95MS), told(t.MaxMS))
}

// told writes milliseconds for people.
func told(ms float64) string {
	switch {
	case ms < 1:
		return decimals(ms*1000) + " µs"
	case ms < 1000:
		return decimals(ms) + " ms"
	default:
		return decimals(ms/1000) + " s"
	}
}

// decimals writes a number with as many decimals as say something.
func decimals(n float64) string {
	switch {
	case n < 10:
		return fmt.Sprintf("%.2f", n)
	case n < 100:
		return fmt.Sprintf("%.1f", n)
	default:
		return console.Count(int64(n + 0.5))
	}
}

func perSecond(n float64, what string) string { return console.Count(int64(n+0.5)) + " " + what + "/s" }

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
