package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/config"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/console"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/exit"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/host"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/size"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// compactResult is what `db compact --json` prints.
type compactResult struct {
	Namespace string `json:"namespace"`
	// Compacted is false where the backend has nothing to give back.
	Compacted bool `json:"compacted"`
	spaceChange
}

func newDBCompactCommand(e *env) *cobra.Command {
	var (
		flags  namespaceFlags
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "compact --config FILE --namespace NAME",
		Short: "Give the space that is not used back to the disk",
		Long: `Frees the space of pruned versions that is not free yet, and then gives the space that is not used back
to the disk, by writing what is live anew. While it runs it needs room for a copy of the data beside the
files that are there; how much is told on stderr. A signal or a crash leaves the database as it was.`,
		Args: takes(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ns, err := flags.load()
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			return e.withDatabase(ctx, handWorked(ns), &flags, host.Change, func(ndb db.NodeDB) error {
				result, err := e.compact(ctx, ns, ndb)
				if err != nil {
					return err
				}
				if asJSON {
					return e.JSON(result)
				}
				return e.printCompacted(result, ns)
			})
		},
	}
	flags.add(cmd)
	flags.addLockWait(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

func (e *env) compact(ctx context.Context, ns *config.Namespace, ndb db.NodeDB) (r compactResult, err error) {
	r = compactResult{Namespace: ns.Name, Compacted: ndb.Info().Capabilities.Compact}
	err = r.measure(ctx, ndb, func() error {
		if err := e.collect(ctx, ndb); err != nil || !r.Compacted {
			return err
		}
		taken, err := sizeOf(ctx, ndb)
		if err != nil {
			return err
		}
		e.Note("compacting needs up to %s of room in %s while it runs", size.Format(taken.Live), ns.DatabaseDir())
		return e.runCompact(ctx, ndb)
	})
	return r, err
}

func (e *env) runCompact(ctx context.Context, ndb db.NodeDB) error {
	meter := console.NewMeter("compacting", console.Amount{})
	progress := e.StartMeter(meter)
	defer progress.Stop()
	if err := ndb.Compact(ctx, meter.SetSteps); err != nil {
		if ctx.Err() != nil {
			return exit.Errorf(exit.Interrupted, "compacting: %w", err).WithHint("the database holds what it held before")
		}
		return fmt.Errorf("compacting: %w", err)
	}
	return nil
}

func (e *env) printCompacted(r compactResult, ns *config.Namespace) error {
	taken := r.text()
	if !r.Compacted {
		return e.Printf("the %s backend has nothing to give back: %s\n", ns.Backend.PluginName(), taken)
	}
	back := "gave nothing back"
	if n := r.FileBytesBefore - r.FileBytes; n > 0 {
		back = fmt.Sprintf("gave %s of %s back", size.Format(n), size.Format(r.FileBytesBefore))
	}
	return e.Printf("%s: now %s (%s)\n", back, taken, console.Duration(seconds(r.Seconds)))
}
