package cli

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/exit"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/quickstart"
)

func newQuickstartCommand(e *env) *cobra.Command {
	opts := quickstart.Options{Console: e.Console}
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "quickstart",
		Short: "See all of it at work on a git repository's history",
		Long: `Puts the history of a git repository into a Merkle state kept by a backend in another process, while
a checkpointer makes checkpoints of it; restores the checkpoint of the last version into another kind of
backend; and compares what came out, blob by blob, with what git says of that commit.

Each commit on the first-parent line, oldest first, is a version; a path is a key, and a file's bytes (a
symlink's target) its value. Submodules are left out and counted, and so are files and paths beyond the
limits of the state. The repository is only read.

Without --git the repository is the one that the command runs in; where there is none, a small sample of
real data is taken. Without --dir everything goes to a new directory among the temporary files. A run into
the directory of an earlier one, finished or not, goes on where that ended; anything else in the directory
is left alone, and the run refused.`,
		Example: `  ckpt-host quickstart
  ckpt-host quickstart --git ~/src/project --dir demo
  ckpt-host quickstart --from-backend leveldb --to-backend memory --json`,
		Args: takes(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, name := range []string{"git", "dir", "from-backend", "to-backend"} {
				if flag := cmd.Flags().Lookup(name); flag.Changed && flag.Value.String() == "" {
					return exit.Errorf(exit.Usage, "--%s is empty", name)
				}
			}
			if opts.Sample && opts.Git != "" {
				return exit.Errorf(exit.Usage, "--git and --sample exclude each other")
			}
			opts.Logger = e.logger()
			result, err := quickstart.Run(cmd.Context(), opts)
			if err != nil {
				return err
			}
			if asJSON {
				return e.JSON(result)
			}
			return quickstart.Summarize(e.Console, result, quickstart.ProgramCommand(os.Args[0]))
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.Git, "git", "", "`directory` of the git repository to read (default: the one around the working directory)")
	flags.BoolVar(&opts.Sample, "sample", false, "take the sample that ships with the program")
	flags.StringVar(&opts.Dir, "dir", "", "`directory` to keep everything in (default: a new one among the temporary files)")
	flags.StringVar(&opts.FromBackend, "from-backend", "", "built-in `backend` to put the history into (default "+quickstart.DefaultFromBackend+")")
	flags.StringVar(&opts.ToBackend, "to-backend", "", "built-in `backend` to restore into (default "+quickstart.DefaultToBackend+")")
	flags.BoolVar(&asJSON, "json", false, "print one JSON object, and nothing else, on stdout")
	return cmd
}
