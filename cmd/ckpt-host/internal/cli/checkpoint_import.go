package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/config"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/console"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/exit"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/size"
	"github.com/ckpt-project/ckpt/framework/checkpoint"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// importedResult is what `checkpoint import --json` prints.
type importedResult struct {
	Imported bool `json:"imported"`
	DryRun   bool `json:"dry_run"`
	// Checkpoint is the one that is there now, or would be.
	Checkpoint checkpointResult `json:"checkpoint"`
	Seconds    float64          `json:"seconds"`
}

func newCheckpointImportCommand(e *env) *cobra.Command {
	var (
		flags          namespaceFlags
		dryRun, asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "import --config FILE --namespace NAME ARCHIVE|-",
		Short: "Read a checkpoint from one file or from stdin, verified",
		Long: `Reads an archive that 'checkpoint export' wrote from a file, or from stdin where it is "-", and puts the
checkpoint into the namespace's directory of checkpoints, which need not be there yet. It needs no database.

Digests are checked while the archive comes in, and all of the checkpoint is verified before it appears. It
says whether the checkpoint is good, not whether its root is the one that you trust: compare that.`,
		Example: `  ckpt-host checkpoint import --config ckpt.hcl --namespace demo demo.tar
  zstd -d < demo.tar.zst | ckpt-host checkpoint import --config ckpt.hcl --namespace demo --dry-run -`,
		Args: takes(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			ns, err := flags.load()
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			in, err := openInput(ctx, e, args[0])
			if err != nil {
				return err
			}
			defer in.Close()
			result, err := e.importArchive(ctx, ns, in, dryRun)
			if err != nil {
				return archiveFailed(ns, in.name, err)
			}
			if asJSON {
				return e.JSON(result)
			}
			return e.printImported(result)
		},
	}
	flags.add(cmd)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "verify the archive, and write nothing")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// importArchive reads an archive into a namespace's directory of checkpoints.
func (e *env) importArchive(ctx context.Context, ns *config.Namespace, in *input, dryRun bool) (*importedResult, error) {
	began := time.Now()
	meter := newArchiveMeter(in)
	progress := e.StartMeter(meter.Meter)
	defer progress.Stop()
	imported, err := checkpoint.ImportArchive(ctx, in, ns.CheckpointsDir(), checkpoint.ImportOptions{
		Namespace: &ns.ID,
		Limits:    ns.CheckpointLimits(),
		DryRun:    dryRun,
		Logger:    e.logger(),
		Progress:  meter.read,
		Verifying: meter.verified,
	})
	progress.Stop()
	if err != nil {
		return nil, err
	}
	stored := checkpoint.Stored{Path: imported.Path, Metadata: imported.Metadata}
	if imported.Existed {
		if stored.Kept, err = checkpoint.IsKept(imported.Path); err != nil {
			return nil, err
		}
	}
	c := newCheckpointResult(stored, imported.Manifest)
	c.Bytes, c.Existed = imported.Bytes, &imported.Existed
	if !imported.Existed {
		c.Entries = &imported.Entries
	}
	return &importedResult{
		Imported: !imported.Existed && !dryRun, DryRun: dryRun, Checkpoint: c, Seconds: time.Since(began).Seconds(),
	}, nil
}

// archiveMeter tells how much of an archive was read, and then how much of the checkpoint in it is verified.
type archiveMeter struct {
	*console.Meter
	in *input

	verifying bool
}

func newArchiveMeter(in *input) *archiveMeter {
	return &archiveMeter{Meter: console.NewMeter("reading "+in.name, console.Amount{Bytes: in.bytes}), in: in}
}

func (m *archiveMeter) read(done, total int64) {
	if total == 0 { // the archive's own manifest doesn't tell
		total = m.in.bytes
	}
	m.SetBytes(done, total)
}

// verified is called by several goroutines, but one at a time.
func (m *archiveMeter) verified(done, chunks int, bytes, total int64) {
	if !m.verifying {
		m.verifying = true
		m.Begin("verifying what "+m.in.name+" holds", console.Amount{Bytes: total, Chunks: int64(chunks)})
	}
	m.Set(console.Amount{Bytes: bytes, Chunks: int64(done)})
}

func (e *env) printImported(r *importedResult) error {
	var text strings.Builder
	c := &r.Checkpoint
	switch {
	case *c.Existed:
		text.WriteString("this checkpoint is there already; the archive's digests are right\n")
	case r.DryRun:
		text.WriteString("verified, and nothing was written; it would be this checkpoint\n")
	default:
		text.WriteString("imported and verified\n")
	}
	fmt.Fprintf(&text, "  %s: %s, %s", rootName(c.Root), console.Counted(len(c.Chunks), "chunk"), size.Format(c.Bytes))
	if c.Entries != nil {
		fmt.Fprintf(&text, ", %s", console.Counted(*c.Entries, "entry"))
	}
	fmt.Fprintf(&text, "\n  metadata hash %s\n  %s\n", c.MetadataHash, c.Path)
	return e.Printf("%s", text.String())
}

func archiveFailed(ns *config.Namespace, name string, err error) error {
	wrapped := &exit.Error{Code: exitCode(err), Err: fmt.Errorf("%s: %w", name, err)}
	switch {
	case errors.Is(err, checkpoint.ErrParametersDiffer):
		return wrapped.WithHint("nothing was written; delete the one that is there first with 'ckpt-host checkpoint delete'")
	case errors.Is(err, db.ErrBadNamespace):
		wrapped.Code = exit.Invalid
		return wrapped.WithHint("nothing was written; choose a namespace whose id in the configuration is that one")
	case errors.Is(err, checkpoint.ErrLimitExceeded):
		return wrapped.WithHint("nothing of it is in %s; the limits block of namespace %q has the bounds", ns.CheckpointsDir(), ns.Name)
	case wrapped.Code == exit.Invalid:
		return wrapped.WithHint("nothing of it is in %s; get the archive anew, or another one", ns.CheckpointsDir())
	}
	return wrapped
}
