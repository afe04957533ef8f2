package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/config"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/console"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/exit"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/host"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/size"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// abortResult is what `restore abort --json` prints.
type abortResult struct {
	// Aborted says that a restore was removed: not in a dry run, and not where there was none.
	Aborted bool `json:"aborted"`
	DryRun  bool `json:"dry_run"`
	// Target is what was, or would be, removed.
	Target unfinishedResult `json:"restore"`
	spaceChange
}

func newRestoreAbortCommand(e *env) *cobra.Command {
	var (
		flags               namespaceFlags
		dryRun, yes, asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "abort --config FILE --namespace NAME --yes",
		Short: "Remove what a restore that is not finished has restored",
		Long: `Removes all that a restore which is not finished has written into a namespace's database, complete roots
included, and frees its space. Finalized versions stay as they are. Where no restore is in progress, there
is nothing to do, and the exit code is 0.

What is removed may have taken hours to restore. So it is told first: on a terminal with a question, unless
--yes is given; elsewhere nothing is removed without --yes. --dry-run only tells.`,
		Example: `  ckpt-host restore abort --config ckpt.hcl --namespace demo --dry-run
  ckpt-host restore abort --config ckpt.hcl --namespace demo --yes`,
		Args: takes(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ns, err := flags.load()
			if err != nil {
				return err
			}
			mode := host.Change
			if dryRun || !yes && !e.Interactive() {
				mode = host.Read
			}
			ctx := cmd.Context()
			return e.withDatabase(ctx, handWorked(ns), &flags, mode, func(ndb db.NodeDB) error {
				target, err := unfinished(ctx, ns, ndb)
				if err != nil {
					return err
				}
				result := abortResult{DryRun: dryRun, Target: target}
				err = result.measure(ctx, ndb, func() error {
					if dryRun || !target.InProgress {
						return nil
					}
					if err := e.agree(ctx, target, yes); err != nil {
						return err
					}
					result.Aborted = true
					return e.abort(ctx, ns, ndb)
				})
				if err != nil {
					return err
				}
				return e.printAborted(result, asJSON)
			})
		},
	}
	flags.add(cmd)
	flags.addLockWait(cmd)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only tell what would be removed")
	cmd.Flags().BoolVar(&yes, "yes", false, "remove it without a question")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// errNotAborted is what no means to the question.
var errNotAborted = exit.Errorf(exit.Failed, "nothing was removed: the restore is still unfinished").WithHint("%s", finishOrAbort)

// agree sees that what is told is to be removed.
func (e *env) agree(ctx context.Context, target unfinishedResult, yes bool) error {
	switch {
	case yes:
		return nil
	case e.Interactive():
		return e.confirm(ctx, fmt.Sprintf("Remove %s?", target.summary()), errNotAborted)
	default:
		return exit.Errorf(exit.Usage, "without --yes nothing is removed; %s would be", target.summary()).
			WithHint("look at it with 'ckpt-host restore status', and say --yes to remove it")
	}
}

// summary says in a line what there is.
func (r *unfinishedResult) summary() string {
	var done int
	var all uint64
	for _, root := range r.Roots {
		done += root.ChunksDone
		all += root.Chunks
	}
	return fmt.Sprintf("the unfinished restore of version %d into namespace %q, %s of %s", *r.Version, r.Namespace,
		console.Count(done), console.Counted(all, "chunk"))
}

// abort removes the restore.
func (e *env) abort(ctx context.Context, ns *config.Namespace, ndb db.NodeDB) error {
	began := time.Now()
	progress := e.StartProgress(func() string {
		return "removing what was restored: " + console.Duration(time.Since(began))
	})
	defer progress.Stop()
	if err := ndb.AbortMultipart(ctx); err != nil {
		return fmt.Errorf("aborting the restore into namespace %q: %w", ns.Name, err)
	}
	return nil
}

func (e *env) printAborted(r abortResult, asJSON bool) error {
	if asJSON {
		return e.JSON(r)
	}
	if !r.Target.InProgress {
		return e.Printf("nothing to remove: no restore is in progress in namespace %q\n", r.Target.Namespace)
	}
	verb := "removed"
	if r.DryRun {
		verb = "would remove"
	}
	if err := e.Printf("%s %s\n", verb, r.Target.summary()); err != nil {
		return err
	}
	if err := e.printUnfinishedRoots(r.Target); err != nil {
		return err
	}
	taken := r.text()
	if freed := r.LiveBytesBefore - r.LiveBytes; freed > 0 {
		taken += fmt.Sprintf("; %s were freed, to be used again", size.Format(freed))
	}
	return e.Printf("now %s\n", taken)
}
