package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/console"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/exit"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/size"
	"github.com/ckpt-project/ckpt/framework/checkpoint"
)

// stream is the name of stdin or stdout in the place of a file's.
const stream = "-"

// exportResult is what `checkpoint export --json` prints.
type exportResult struct {
	File   string `json:"file"`
	DryRun bool   `json:"dry_run"`
	// Bytes is the archive's length.
	Bytes      int64            `json:"bytes"`
	Checkpoint checkpointResult `json:"checkpoint"`
	Seconds    float64          `json:"seconds"`
}

func newCheckpointExportCommand(e *env) *cobra.Command {
	var (
		flags                 namespaceFlags
		root                  rootFlags
		force, dryRun, asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "export --config FILE --namespace NAME ARCHIVE|-",
		Short: "Write a checkpoint to one file or to stdout",
		Long: `Writes a checkpoint as a tar archive to a file, or to stdout where it is "-": the newest one, unless
--version names another. It needs no database.

Digests are checked on the way: a damaged checkpoint is not exported. The file appears when all of it is
safe on the disk; one that is there already is replaced with --force only.`,
		Example: `  ckpt-host checkpoint export --config ckpt.hcl --namespace demo demo.tar
  ckpt-host checkpoint export -c ckpt.hcl -n demo - | zstd | ssh elsewhere 'zstd -d | ckpt-host checkpoint import -c ckpt.hcl -n demo -'`,
		Args: takes(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := root.parseType(); err != nil {
				return err
			}
			if args[0] == stream && !dryRun {
				switch {
				case asJSON:
					return exit.Errorf(exit.Usage, "--json and - exclude each other: both write to stdout")
				case e.OutTerminal():
					return exit.Errorf(exit.Usage, "an archive is not for a terminal").WithHint("name a file, or pipe stdout elsewhere")
				}
			}
			ns, err := flags.load()
			if err != nil {
				return err
			}
			s, err := openStore(e, ns)
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			found, err := s.find(ctx, &root)
			if err != nil {
				return err
			}
			result, err := e.export(ctx, s, found, args[0], checkpoint.ExportOptions{Replace: force, DryRun: dryRun, Logger: e.logger()})
			switch {
			case err != nil:
				return exportFailed(args[0], err)
			case asJSON:
				return e.JSON(result)
			case args[0] == stream && !dryRun:
				e.Note("%s", result)
				return nil
			}
			return e.Printf("%s\n", result)
		},
	}
	flags.add(cmd)
	root.add(cmd, "the newest that has a checkpoint")
	cmd.Flags().BoolVar(&force, "force", false, "replace a file that is there")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only tell what would be written")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// export writes a checkpoint to a file, or to stdout.
func (e *env) export(ctx context.Context, s *store, found checkpoint.Stored, file string, opts checkpoint.ExportOptions) (*exportResult, error) {
	began := time.Now()
	described, err := s.describe(ctx, found)
	if err != nil {
		return nil, err
	}
	what := fmt.Sprintf("exporting the %s checkpoint of version %d", described.Root.Type, described.Root.Version)
	meter := console.NewMeter(what, console.Amount{})
	opts.Progress = meter.SetBytes
	progress := e.StartMeter(meter)
	defer progress.Stop()
	var exported *checkpoint.Exported
	if file == stream {
		exported, err = checkpoint.WriteArchive(ctx, e.Out(), found.Path, opts)
	} else {
		exported, err = checkpoint.WriteArchiveFile(ctx, file, found.Path, opts)
	}
	if err != nil {
		return nil, err
	}
	return &exportResult{
		File: file, DryRun: opts.DryRun, Bytes: exported.Bytes, Checkpoint: described, Seconds: time.Since(began).Seconds(),
	}, nil
}

// String tells the result for people.
func (r *exportResult) String() string {
	verb, to := "exported", r.File
	if r.DryRun {
		verb = "would export"
	}
	if r.File == stream {
		to = "stdout"
	}
	return fmt.Sprintf("%s the %s checkpoint of version %d to %s: %s, %s\n  %s", verb, r.Checkpoint.Root.Type, r.Checkpoint.Root.Version,
		to, console.Counted(len(r.Checkpoint.Chunks), "chunk"), size.Format(r.Bytes), rootName(r.Checkpoint.Root))
}

func exportFailed(file string, err error) error {
	wrapped := &exit.Error{Code: exitCode(err), Err: err}
	switch {
	case errors.Is(err, fs.ErrExist):
		return wrapped.WithHint("name another, or say --force, which replaces a regular file")
	case wrapped.Code == exit.Invalid && file == stream:
		return wrapped.WithHint("what went to stdout is no archive; see 'ckpt-host checkpoint verify'")
	case wrapped.Code == exit.Invalid || errors.Is(err, checkpoint.ErrChunkNotFound):
		return wrapped.WithHint("nothing was written; see 'ckpt-host checkpoint verify'")
	}
	return wrapped
}
