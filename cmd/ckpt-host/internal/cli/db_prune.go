package cli

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/spf13/cobra"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/config"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/console"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/exit"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/host"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/size"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// pruneResult is what `db prune --json` prints.
type pruneResult struct {
	Namespace string `json:"namespace"`
	DryRun    bool   `json:"dry_run"`
	// Removed is how many versions have gone, or would go.
	Removed uint64 `json:"removed"`
	// Earliest and Latest are what is there afterwards, or would be.
	Earliest uint64 `json:"earliest"`
	Latest   uint64 `json:"latest"`
	// InTheWay says what keeps a dry run's versions from being pruned.
	InTheWay []string `json:"in_the_way,omitempty"`
	spaceChange
}

func newDBPruneCommand(e *env) *cobra.Command {
	var (
		flags          namespaceFlags
		before         uint64
		dryRun, asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "prune --config FILE --namespace NAME --before VERSION",
		Short: "Remove all versions below one, and free their space",
		Long: `Removes all versions below the one that --before names, in one step and without a question, and then
frees the space that they took. --dry-run only tells what would go, and what stands in its way.

The versions are gone as soon as that step is done. What a signal or a crash keeps from being freed is freed
later: by the next such command, or in the background when the database is next written to. Freed space is
used again; the files become smaller with 'ckpt-host db compact'.`,
		Example: `  ckpt-host db prune --config ckpt.hcl --namespace demo --before 1000 --dry-run
  ckpt-host db prune --config ckpt.hcl --namespace demo --before 1000 --json`,
		Args: takes(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("before") {
				return exit.Errorf(exit.Usage, "--before is missing").WithHint("name the first version to keep: --before VERSION")
			}
			ns, err := flags.load()
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			mode, do := host.Change, e.prune
			if dryRun {
				mode, do = host.Read, e.dryPrune
			}
			return e.withDatabase(ctx, handWorked(ns), &flags, mode, func(ndb db.NodeDB) error {
				have, err := someVersions(ctx, ndb, ns)
				if err != nil {
					return err
				}
				if before > have.latest {
					return exit.Errorf(exit.Failed, "the latest version of namespace %q is %d, and it can't be pruned", ns.Name, have.latest).
						WithHint("--before can be %d at most", have.latest)
				}
				result, err := do(ctx, ns, ndb, have, before)
				if err != nil {
					return err
				}
				if asJSON {
					return e.JSON(result)
				}
				return e.printPruned(result, have)
			})
		},
	}
	flags.add(cmd)
	flags.addLockWait(cmd)
	cmd.Flags().Uint64Var(&before, "before", 0, "the first `version` to keep")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only tell what would be removed")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// prune removes the versions below one, and frees their space.
func (e *env) prune(ctx context.Context, ns *config.Namespace, ndb db.NodeDB, _ versions, before uint64) (r pruneResult, err error) {
	r = pruneResult{Namespace: ns.Name}
	err = r.measure(ctx, ndb, func() (err error) {
		if r.Removed, err = ndb.PruneBefore(ctx, before); err != nil {
			return pruneFailed(err)
		}
		if err := e.collect(ctx, ndb); err != nil {
			if r.Removed > 0 { // whatever becomes of their space
				e.Note("%s below version %d were removed", console.Counted(r.Removed, "version"), before)
			}
			return err
		}
		left, err := versionsOf(ctx, ndb)
		r.Earliest, r.Latest = left.earliest, left.latest
		return err
	})
	return r, err
}

func pruneFailed(err error) error {
	refused := exit.Errorf(exit.Failed, "nothing was removed: %w", err)
	switch {
	case errors.Is(err, db.ErrMultipartInProgress):
		return refused.WithHint("run the restore that is not finished again, or remove what it has restored with 'ckpt-host restore abort'")
	case errors.Is(err, db.ErrVersionPinned):
		return refused.WithHint("wait for whoever reads that version")
	default: // whether it was done before that is not known
		return fmt.Errorf("pruning: %w", err)
	}
}

// dryPrune tells what prune would do.
func (e *env) dryPrune(ctx context.Context, ns *config.Namespace, ndb db.NodeDB, have versions, before uint64) (r pruneResult, err error) {
	r = pruneResult{Namespace: ns.Name, DryRun: true, Earliest: have.earliest, Latest: have.latest}
	err = r.measure(ctx, ndb, func() (err error) {
		if before <= have.earliest {
			return nil
		}
		if r.Removed, r.Earliest, err = e.countVersions(ctx, ndb, have, before); err != nil {
			return err
		}
		r.InTheWay, err = inTheWay(ctx, ndb, before)
		return err
	})
	return r, err
}

// countVersions counts the versions below one, and finds the first that is not.
func (e *env) countVersions(ctx context.Context, ndb db.NodeDB, have versions, before uint64) (below, first uint64, err error) {
	var asked atomic.Uint64
	progress := e.StartProgress(func() string {
		return fmt.Sprintf("counting versions: at %d, up to %d", asked.Load(), before)
	})
	defer progress.Stop()
	for version := have.earliest; version <= have.latest; version++ {
		asked.Store(version)
		roots, err := ndb.GetRootsForVersion(ctx, version)
		switch {
		case err != nil && (ctx.Err() != nil || !errors.Is(err, db.ErrCorrupted)):
			return 0, 0, fmt.Errorf("asking for version %d: %w", version, err)
		case err == nil && len(roots) == 0: // restores leave gaps
		case version >= before:
			return below, version, nil
		default: // a damaged version is one, too
			below++
		}
	}
	return below, have.latest, nil
}

// inTheWay says what keeps the versions below one from being pruned.
func inTheWay(ctx context.Context, ndb db.NodeDB, before uint64) (reasons []string, err error) {
	multipart, err := ndb.Multipart(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking for an unfinished restore: %w", err)
	}
	if multipart != nil {
		reasons = append(reasons, multipartText(multipart))
	}
	pins, err := ndb.Pins(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking for the pins: %w", err)
	}
	for _, p := range pins {
		if p.Version < before {
			reasons = append(reasons, fmt.Sprintf("version %d is kept for %s", p.Version, p.Owner))
		}
	}
	return reasons, nil
}

func (e *env) printPruned(r pruneResult, had versions) error {
	if r.Removed == 0 {
		if err := e.Printf("nothing to remove: namespace %q has %s\n", r.Namespace, versionRange(r.Earliest, r.Latest)); err != nil {
			return err
		}
	} else {
		removed, has := "removed", "it now has"
		if r.DryRun {
			removed, has = "would remove", "it would have"
		}
		if err := e.Printf("%s %s of namespace %q, from %d on; %s %s\n", removed, console.Counted(r.Removed, "version"),
			r.Namespace, had.earliest, has, versionRange(r.Earliest, r.Latest)); err != nil {
			return err
		}
	}
	for _, reason := range r.InTheWay {
		if err := e.Printf("in the way: %s\n", reason); err != nil {
			return err
		}
	}
	taken := r.text()
	if freed := r.LiveBytesBefore - r.LiveBytes; freed > 0 {
		taken += fmt.Sprintf("; %s were freed, to be used again", size.Format(freed))
	}
	return e.Printf("now %s\n", taken)
}
