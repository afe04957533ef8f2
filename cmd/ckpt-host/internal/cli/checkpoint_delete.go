package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/exit"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/size"
	"github.com/ckpt-project/ckpt/framework/checkpoint"
)

// deleteResult is what `checkpoint delete --json` prints.
type deleteResult struct {
	Deleted bool             `json:"deleted"`
	DryRun  bool             `json:"dry_run"`
	Target  checkpointResult `json:"checkpoint"`
}

func newCheckpointDeleteCommand(e *env) *cobra.Command {
	var (
		flags               namespaceFlags
		root                rootFlags
		dryRun, yes, asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "delete --config FILE --namespace NAME",
		Short: "Delete a checkpoint",
		Long: `Deletes a checkpoint: the newest one, unless --version names another. It needs no database, and leaves
the version in the database alone. One that is marked to be kept is refused (see 'checkpoint unkeep').
On a terminal it asks first, unless --yes is given.`,
		Args: takes(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := root.parseType(); err != nil {
				return err
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
			if found.Kept { // before anybody is asked, or told that it would be deleted
				return deleteFailed(fmt.Errorf("%w: %s", checkpoint.ErrCheckpointKept, found.Path))
			}
			// One that lost chunks can be deleted, too: what is told of it is then what is known.
			target, _ := s.describe(ctx, found)
			target.Root, target.Path = found.Metadata.Root, found.Path
			result := deleteResult{DryRun: dryRun, Target: target}
			if !dryRun {
				if e.Interactive() && !yes {
					if err := e.confirm(ctx, fmt.Sprintf("Delete the checkpoint %s?", found.Path), errNotDeleted); err != nil {
						return err
					}
				}
				if err := s.creator.DeleteCheckpoint(ctx, found.Metadata.Version, found.Metadata.Root); err != nil {
					return deleteFailed(err)
				}
				result.Deleted = true
			}
			if asJSON {
				return e.JSON(result)
			}
			verb := "deleted"
			if dryRun {
				verb = "would delete"
			}
			return e.Printf("%s the %s checkpoint of version %d (%s): %s\n",
				verb, target.Root.Type, target.Root.Version, size.Format(target.Bytes), target.Path)
		},
	}
	flags.add(cmd)
	root.add(cmd, "the newest that has a checkpoint")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only tell what would be deleted")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

func deleteFailed(err error) error {
	if errors.Is(err, checkpoint.ErrCheckpointKept) {
		return (&exit.Error{Code: exit.Failed, Err: err}).WithHint("take the mark away first with 'ckpt-host checkpoint unkeep'")
	}
	return err
}

// errNotDeleted is what no means to the question.
var errNotDeleted = exit.Errorf(exit.Failed, "nothing was deleted")
