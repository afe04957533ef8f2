package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

func newCheckpointKeepCommand(e *env) *cobra.Command {
	return newMarkCommand(e, mark{
		use: "keep", short: "Mark a checkpoint to be kept", kept: true,
		long: `Marks a checkpoint to be kept: the newest one, unless --version names another. No checkpointer deletes it,
whatever newer ones there are, and it is not counted as one of those to be kept. 'checkpoint delete' refuses it,
until 'checkpoint unkeep' takes the mark away. It needs no database.`,
		set: func(ctx context.Context, s *store, root node.Root) error { return s.Keep(ctx, root) },
	})
}

func newCheckpointUnkeepCommand(e *env) *cobra.Command {
	return newMarkCommand(e, mark{
		use: "unkeep", short: "Take the mark of 'keep' away",
		long: `Takes the mark of 'checkpoint keep' away: of the newest checkpoint, unless --version names another. What a
checkpointer made, it deletes again when there are enough newer ones. It needs no database.`,
		set: func(ctx context.Context, s *store, root node.Root) error { return s.Unkeep(ctx, root) },
	})
}

// mark is what a command does to a checkpoint's mark.
type mark struct {
	use, short, long string
	set              func(ctx context.Context, s *store, root node.Root) error
	kept             bool
}

func newMarkCommand(e *env, m mark) *cobra.Command {
	var (
		flags  namespaceFlags
		root   rootFlags
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   m.use + " --config FILE --namespace NAME",
		Short: m.short,
		Long:  m.long,
		Args:  takes(cobra.NoArgs),
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
			if err := m.set(ctx, s, found.Metadata.Root); err != nil {
				return err
			}
			found.Kept = m.kept
			result, err := s.describe(ctx, found)
			if err != nil {
				return err
			}
			if asJSON {
				return e.JSON(result)
			}
			verb := "marked to be kept"
			if !m.kept {
				verb = "no longer marked to be kept"
			}
			return e.Printf("%s: the %s checkpoint of version %d: %s\n", verb, result.Root.Type, result.Root.Version, result.Path)
		},
	}
	flags.add(cmd)
	root.add(cmd, "the newest that has a checkpoint")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}
