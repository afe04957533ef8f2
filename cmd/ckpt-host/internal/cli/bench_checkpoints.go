package cli

import (
	"fmt"
	"os"
	"runtime"
	"sync/atomic"

	"github.com/spf13/cobra"

	"github.com/ckpt-project/ckpt/backends/bbolt"
	"github.com/ckpt-project/ckpt/backends/leveldb"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/bench"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/config"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/console"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/exit"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/size"
)

// benchCheckpointsResult is what `bench --json` prints.
type benchCheckpointsResult struct {
	// Version is the program's.
	Version string `json:"version"`
	*bench.CheckpointsResult
}

// lastingBackends are those that keep a state from one process to the next.
var lastingBackends = []string{bbolt.Name, leveldb.Name}

func newBenchCommand(e *env) *cobra.Command {
	var (
		opts      bench.CheckpointsOptions
		chunkSize string
		asJSON    bool
	)
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure how fast states are imported, and checkpoints made, verified and restored, on this machine",
		Long: `Imports a state, makes a checkpoint of it, verifies and restores that, in process and with the
database behind a plugin's process, and compares with what one core can do at most (the rooflines):

  make     snappy and SHA-512/256 over the checkpoint's bytes
  restore  digest and decompression of these bytes, and one hash for each node of the tree

Each step runs in a process of its own, --rounds times by turns; the best time counts, and the highest peak
of memory. What it makes is in a new directory, which is removed at the end. A million entries need some
three gigabytes of space, half a gigabyte of memory, and two minutes. Let nothing else run meanwhile.`,
		Example: `  ckpt-host bench
  ckpt-host bench --backend leveldb --entries 100000 --data accounts --json
  ckpt-host bench storage`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return needsCommand(cmd, args)
			}
			if _, err := oneOf("--backend", opts.Backend, lastingBackends); err != nil {
				return err
			}
			if _, err := oneOf("--data", opts.Data, bench.DataSets); err != nil {
				return err
			}
			if !cmd.Flags().Changed("versions") {
				opts.Versions = min(opts.Versions, opts.Entries)
			}
			for _, n := range []struct {
				flag            string
				value, low, max int
			}{
				{"--entries", opts.Entries, 1, maxBenchEntries},
				{"--versions", opts.Versions, 0, opts.Entries},
				{"--rounds", opts.Rounds, 1, 1000},
			} {
				if n.value < n.low || n.value > n.max {
					return exit.Errorf(exit.Usage, "%s %d: want %s to %s", n.flag, n.value, console.Count(n.low), console.Count(n.max))
				}
			}
			n, err := size.Parse(chunkSize)
			if err != nil || n < 1 || n > config.MaxChunkSize {
				return exit.Errorf(exit.Usage, "--chunk-size %s: want a size from 1 byte to %s", chunkSize, size.Format(config.MaxChunkSize))
			}
			opts.ChunkSize = uint64(n)
			if opts.Command, err = stepCommand(); err != nil {
				return err
			}
			var status atomic.Pointer[string]
			opts.Tell = func(now string) { status.Store(&now) }
			opts.Tell("beginning")
			progress := e.StartProgress(func() string { return *status.Load() })
			defer progress.Stop()
			result, err := bench.Checkpoints(cmd.Context(), opts)
			progress.Stop()
			if err != nil {
				return err
			}
			if asJSON {
				return e.JSON(benchCheckpointsResult{e.version, result})
			}
			return e.printBenchCheckpoints(result)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.Backend, "backend", bbolt.Name, "measure this built-in `backend`: bbolt or leveldb")
	flags.StringVar(&opts.Data, "data", bench.DataSets[0], "measure on this `data set`: uniform or accounts")
	flags.IntVar(&opts.Entries, "entries", 1_000_000, "the `number` of entries of the state")
	flags.IntVar(&opts.Versions, "versions", 1000, "the `number` of versions to import the entries as, beside all as one; 0 leaves that out")
	flags.StringVar(&chunkSize, "chunk-size", "8MiB", "the chunk `size` of the checkpoints")
	flags.IntVar(&opts.Rounds, "rounds", 3, "how `often` each step is done; the import as versions is done once")
	flags.StringVar(&opts.Dir, "dir", "", "the `directory` to work in (default: that of temporary files)")
	flags.BoolVar(&asJSON, "json", false, "print one JSON object")
	_ = cmd.RegisterFlagCompletionFunc("backend", cobra.FixedCompletions(lastingBackends, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("data", cobra.FixedCompletions(bench.DataSets, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.MarkFlagDirname("dir")
	cmd.AddCommand(newBenchStorageCommand(e), newBenchStepCommand(e))
	return cmd
}

// stepName is the command that `bench` launches this program with, a step each time.
const stepName = "step"

// stepCommand is this program as a step.
func stepCommand() ([]string, error) {
	if runtime.GOOS == "linux" { // also where the file was replaced meanwhile
		return []string{"/proc/self/exe", "bench", stepName}, nil
	}
	path, err := os.Executable()
	return []string{path, "bench", stepName}, err
}

func newBenchStepCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:    stepName,
		Short:  "Do one step of bench, as told on standard input",
		Hidden: true,
		Args:   takes(cobra.NoArgs),
		RunE:   func(cmd *cobra.Command, _ []string) error { return bench.RunStep(cmd.Context(), e.In(), e.Out()) },
	}
}

func (e *env) printBenchCheckpoints(r *bench.CheckpointsResult) error {
	if err := e.Printf("%s, %s of %s, chunks of %s; %s, %s/%s, %s\n\n", r.Backend, console.Counted(r.Entries, "entry"), r.Data,
		size.Format(int64(r.ChunkSize)), console.Counted(r.CPUs, "CPU"), r.OS, r.Arch, r.Go); err != nil {
		return err
	}
	rows := [][]string{
		rooflineRow("make, one core at most", r.Rooflines.Make),
		rooflineRow("restore, one core at most", r.Rooflines.Restore),
	}
	for i := range r.Steps {
		rows = append(rows, stepRow(r, &r.Steps[i]))
	}
	header := []string{"STEP", "ENTRIES/S", "MB/S", "OF ONE CORE", "TIME", "CPU HOST", "PLUGIN", "MEMORY HOST", "PLUGIN"}
	if err := e.Table(header, rows); err != nil {
		return err
	}
	return e.Printf("\nmaking through the plugin's process costs %.0f%% of the speed in process; took %s\n",
		100*r.PluginOverhead, console.Duration(seconds(r.Seconds)))
}

func rooflineRow(name string, r bench.Roofline) []string {
	return []string{name, console.Count(int64(r.EntriesPerSecond)), decimals(r.MBPerSecond), "1.00", "", "", "", "", ""}
}

func stepRow(r *bench.CheckpointsResult, s *bench.Step) []string {
	name := s.Step
	switch {
	case s.Step == "import-versions":
		name = fmt.Sprintf("import as %s", console.Counted(r.Versions, "version"))
	case s.Step == "import-sorted":
		name = "import sorted"
	case s.Verified:
		name = "make and verify"
	}
	if s.PluginProcess != nil {
		name += ", plugin"
	} else if s.Step != "verify" {
		name += ", in process"
	}
	ratio := ""
	if s.OfRoofline > 0 {
		ratio = fmt.Sprintf("%.2f", s.OfRoofline)
	}
	row := []string{name, console.Count(int64(s.EntriesPerSecond)), decimals(s.MBPerSecond), ratio, told(s.Seconds * 1000), "", "", "", ""}
	row[5], row[7] = processUsed(s.Host)
	if s.PluginProcess != nil {
		row[6], row[8] = processUsed(*s.PluginProcess)
	}
	return row
}

func processUsed(u bench.ProcessUsage) (cpu, memory string) {
	if u.CPUSeconds != nil {
		cpu = fmt.Sprintf("%.2f s", *u.CPUSeconds)
	}
	if u.PeakRSSAnonBytes != nil {
		memory = size.Format(*u.PeakRSSAnonBytes)
	}
	return cpu, memory
}
