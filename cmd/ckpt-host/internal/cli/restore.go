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
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/host"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/restore"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/size"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// restoreResult is what `restore --json` prints.
type restoreResult struct {
	Namespace string `json:"namespace"`
	Version   uint64 `json:"version"`
	// Root is the first of Roots: the state root where there is one.
	Root    node.Root   `json:"root"`
	Roots   []node.Root `json:"roots"`
	LeftOut []node.Root `json:"left_out"`
	// AlreadyThere says that the version had been finalized with these roots before.
	AlreadyThere  bool  `json:"already_there"`
	Chunks        int   `json:"chunks"`
	ChunksResumed int   `json:"chunks_resumed"`
	Bytes         int64 `json:"bytes"`
	// Entries is left out where the checkpoints have no manifests, or nothing was read back.
	Entries *uint64 `json:"entries,omitempty"`
	Seconds float64 `json:"seconds"`
}

func newRestoreCommand(e *env) *cobra.Command {
	var (
		flags               namespaceFlags
		from                string
		roots               []string
		trustSource, asJSON bool
		skip                restoreSkips
	)
	cmd := &cobra.Command{
		Use:   "restore --config FILE --namespace NAME --from DIR --root [state:|io:][VERSION:]HASH",
		Short: "Restore a version from checkpoints, verified",
		Long: `Restores a version into the namespace's database, which has to be empty or older, from one checkpoint's
directory or a directory of checkpoints.

--root is what you trust: a root hash that you have from somewhere else than DIR. It is given once for
each root of the version that is to be restored; "state" is meant where no type stands before it. All of
them become visible at once, when every chunk has been verified against them. Without it, --trust-source
takes all roots of DIR's newest version as DIR has them.

A restore that was interrupted goes on where it was when it is run again. 'ckpt-host restore status' tells of
it, 'ckpt-host restore abort' removes what it has left; until then nothing else can be restored.

Where the checkpoints have manifests, it is refused if the disk has not the space for it, and what was
restored is read back, hash by hash, and compared with what they tell.`,
		Example: `  ckpt-host restore --config ckpt.hcl --namespace demo --from state/demo/checkpoints --root 0f3c...
  ckpt-host restore --config ckpt.hcl --namespace demo --from backup --root 7:0f3c... --root io:7:99ab...`,
		Args: takes(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			trusted, err := parseTrusted(roots, trustSource)
			if err != nil {
				return err
			}
			if from == "" {
				return exit.Errorf(exit.Usage, "--from is missing").WithHint("name the directory with the checkpoints: --from DIR")
			}
			ns, err := flags.load()
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			plan, err := restore.NewPlan(ctx, from, ns.ID, trusted, ns.CheckpointLimits())
			if err != nil {
				return planFailed(from, err)
			}
			return e.withDatabase(ctx, ns, &flags, host.Write, func(ndb db.NodeDB) error {
				return e.restore(ctx, ns, ndb, plan, skip, asJSON)
			})
		},
	}
	flags.add(cmd)
	flags.addLockWait(cmd)
	cmd.Flags().StringVar(&from, "from", "", "the `directory` with one checkpoint, or with checkpoints")
	cmd.Flags().StringArrayVar(&roots, "root", nil, "a trusted `root`, [state:|io:][VERSION:]HASH; once for each root of the version")
	cmd.Flags().BoolVar(&trustSource, "trust-source", false, "take all roots of the newest version in DIR, whatever they are")
	cmd.Flags().BoolVar(&skip.space, "ignore-space", false, "begin whatever space the disk has")
	cmd.Flags().BoolVar(&skip.audit, "no-audit", false, "do not read back what was restored")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	_ = cmd.MarkFlagDirname("from")
	cmd.AddCommand(newRestoreStatusCommand(e), newRestoreAbortCommand(e))
	return cmd
}

// restoreSkips are the precautions that are not to be taken.
type restoreSkips struct{ space, audit bool }

// parseTrusted reads the roots that the user trusts; nil where it is all that the source has.
func parseTrusted(texts []string, trustSource bool) ([]restore.Trusted, error) {
	switch {
	case len(texts) == 0 && !trustSource:
		return nil, exit.Errorf(exit.Usage, "without --root nothing says what is to be trusted").
			WithHint("give the root hash that you trust with --root, or --trust-source to take what the directory holds")
	case len(texts) > 0 && trustSource:
		return nil, exit.Errorf(exit.Usage, "--root and --trust-source exclude each other")
	case trustSource:
		return nil, nil
	}
	roots := make([]restore.Trusted, len(texts))
	for i, text := range texts {
		var err error
		if roots[i], err = restore.ParseTrusted(text); err != nil {
			return nil, exit.Errorf(exit.Usage, "--root: %w", err)
		}
	}
	if err := restore.CheckTrusted(roots); err != nil {
		return nil, exit.Errorf(exit.Usage, "--root: %w", err)
	}
	return roots, nil
}

func planFailed(dir string, err error) error {
	switch {
	case errors.Is(err, restore.ErrRefused):
		return exit.Errorf(exit.Invalid, "restore: %w", err).WithHint("nothing was written")
	case errors.Is(err, restore.ErrNoCheckpoints):
		return exit.Errorf(exit.NotFound, "restore: %w", err).
			WithHint("a checkpoint's directory has a file 'meta' in it, a directory of checkpoints has VERSION/HASH/meta")
	default:
		return fmt.Errorf("restore: reading %s: %w", dir, err)
	}
}

// restore carries the plan out and tells of it.
func (e *env) restore(ctx context.Context, ns *config.Namespace, ndb db.NodeDB, plan *restore.Plan, skip restoreSkips, asJSON bool) error {
	began := time.Now()
	outcome, err := e.runPlan(ctx, ns, ndb, plan, fmt.Sprintf("restoring version %d", plan.Version), skip)
	if err != nil {
		return restoreFailed(ns, plan, err)
	}
	if !ndb.Info().Capabilities.Durable {
		e.Note("note: the %s backend keeps nothing from one command to the next; this showed only that the checkpoint restores", ns.Backend.PluginName())
	}
	result := restoreResult{
		Namespace: ns.Name, Version: plan.Version, Root: plan.Roots()[0], Roots: plan.Roots(), LeftOut: plan.LeftOut,
		AlreadyThere: outcome.AlreadyThere, Chunks: plan.Chunks(), ChunksResumed: outcome.Resumed,
		Bytes: plan.Bytes(),
	}
	if !skip.audit && !outcome.AlreadyThere {
		if result.Entries, err = e.auditRestore(ctx, ndb, plan); err != nil {
			return restoreFailed(ns, plan, err)
		}
	}
	result.Seconds = time.Since(began).Seconds()
	if result.LeftOut == nil {
		result.LeftOut = []node.Root{}
	}
	if len(plan.Others) > 0 {
		e.Note("note: the trusted root is also that of version %s; the newest was taken. Say --root VERSION:HASH for another", joinVersions(plan.Others))
	}
	if asJSON {
		return e.JSON(result)
	}
	return e.printRestore(result)
}

// runPlan sees that there is space for what the plan says, and restores it into the namespace's database, telling what
// it does and how far it is.
func (e *env) runPlan(ctx context.Context, ns *config.Namespace, ndb db.NodeDB, plan *restore.Plan, what string, skip restoreSkips) (restore.Outcome, error) {
	if !skip.space {
		if err := restore.CheckSpace(ctx, ndb, plan, ns.DatabaseDir(), restore.FreeSpace); err != nil {
			return restore.Outcome{}, err
		}
	}
	amount, err := plan.Amount()
	if err != nil {
		return restore.Outcome{}, err
	}
	meter := console.NewMeter(what, amount)
	progress := e.StartMeter(meter)
	defer progress.Stop()
	return restore.Run(ctx, ndb, plan, meter, e.logger())
}

// auditRestore reads back what was restored, and returns the number of its entries where that is known.
func (e *env) auditRestore(ctx context.Context, ndb db.NodeDB, plan *restore.Plan) (*uint64, error) {
	meter := console.NewMeter(fmt.Sprintf("reading version %d back", plan.Version), console.Amount{})
	progress := e.StartMeter(meter)
	defer progress.Stop()
	entries, audited, err := restore.Audit(ctx, ndb, plan, meter.SetSteps)
	if err != nil || !audited {
		return nil, err
	}
	return &entries, nil
}

// finishOrAbort is what to do about an unfinished restore that is in the way.
const finishOrAbort = "finish it with the command that began it, or remove what it has restored with 'ckpt-host restore abort'"

func restoreFailed(ns *config.Namespace, plan *restore.Plan, err error) error {
	wrapped := &exit.Error{Code: exitCode(err), Err: fmt.Errorf("restoring version %d into namespace %q: %w", plan.Version, ns.Name, err)}
	var kept *restore.KeptError
	switch {
	case errors.Is(err, restore.ErrNoSpace):
		return wrapped.WithHint("free some, or begin all the same with --ignore-space; nothing was written")
	case errors.Is(err, restore.ErrNotOlder):
		return wrapped.WithHint("restore into a namespace of its own, or into a fresh data directory")
	case errors.Is(err, restore.ErrUnfinished):
		return wrapped.WithHint("%s; nothing was written", finishOrAbort)
	case errors.As(err, &kept):
		return wrapped.WithHint("what was restored so far is kept; run the same command again to go on, or remove it with 'ckpt-host restore abort'")
	case wrapped.Code == exit.Invalid:
		return wrapped.WithHint("nothing of it is visible in the database; get the checkpoint anew, or another one")
	}
	return wrapped
}

func joinVersions(versions []uint64) string {
	texts := make([]string, len(versions))
	for i, v := range versions {
		texts[i] = fmt.Sprint(v)
	}
	return strings.Join(texts, ", ")
}

func (e *env) printRestore(r restoreResult) error {
	var text strings.Builder
	if r.AlreadyThere {
		fmt.Fprintf(&text, "version %d is already there, finalized with exactly these roots\n", r.Version)
	} else {
		fmt.Fprintf(&text, "restored version %d: %s, %s in %s\n", r.Version, console.Counted(r.Chunks, "chunk"),
			size.Format(r.Bytes), console.Duration(time.Duration(r.Seconds*float64(time.Second))))
	}
	if r.ChunksResumed > 0 {
		fmt.Fprintf(&text, "%s had been restored by an earlier run\n", console.Counted(r.ChunksResumed, "chunk"))
	}
	for _, root := range r.Roots {
		fmt.Fprintf(&text, "%-5s root: %s\n", root.Type, root.Hash)
	}
	for _, root := range r.LeftOut {
		fmt.Fprintf(&text, "left out, because --root does not name it: %s\n", rootName(root))
	}
	return e.Printf("%s", text.String())
}
