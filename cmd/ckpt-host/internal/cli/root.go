// Package cli is the program's command line: one file a command, and the root that they hang on.
package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/config"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/console"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/exit"
)

// Run runs the command that args (without the program's name) ask for, and returns the exit code. It
// ends soon after ctx does, with everything that it started.
func Run(ctx context.Context, args []string, version string, c *console.Console) int {
	e := &env{Console: c, version: version}
	root := newRootCommand(e)
	// With a flag after it, a command that there isn't would be told of as a flag that there isn't.
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if name := firstWord(args, cmd); cmd.HasSubCommands() && name != "" {
			return needsCommand(cmd, []string{name})
		}
		return exit.Errorf(exit.Usage, "%s", err).WithHint("see '%s --help'", cmd.CommandPath())
	})
	root.SetArgs(args)
	root.SetIn(c.In())
	root.SetOut(c.Out())
	root.SetErr(c.Err())
	err := root.ExecuteContext(ctx)
	code, hint := exit.Of(err)
	if err == nil || code == exit.BrokenPipe {
		return code
	}
	if ctx.Err() != nil {
		code, err = exit.Interrupted, fmt.Errorf("interrupted: %w", err)
	}
	reportError(c, err, hint)
	return code
}

// reportError writes what went wrong to stderr.
func reportError(c *console.Console, err error, hint string) {
	var wrong *config.InvalidError
	if errors.As(err, &wrong) {
		// It is of several lines, and says itself that it is an error.
		c.Note("%s", wrong)
		return
	}
	c.Note("ckpt-host: %s", strings.TrimRight(err.Error(), "\n"))
	if hint != "" {
		c.Note("  %s", hint)
	}
}

func newRootCommand(e *env) *cobra.Command {
	root := &cobra.Command{
		Use:   "ckpt-host",
		Short: "Keep a Merkle state in a backend of your choice, and make, check and restore checkpoints of it",
		Long: `ckpt-host keeps versioned Merkle states in storage backends that run as processes of their own, and
makes, checks and restores checkpoints of them.

Try it:  ckpt-host quickstart`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.ArbitraryArgs,
		RunE:          needsCommand,
	}
	level := root.PersistentFlags().String("log-level", "warn", "least level of log messages on stderr: trace, debug, info, warn, error or off")
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		if e.logLevel = hclog.LevelFromString(*level); e.logLevel == hclog.NoLevel {
			return exit.Errorf(exit.Usage, "--log-level %s: want trace, debug, info, warn, error or off", *level)
		}
		return nil
	}
	root.AddCommand(
		newQuickstartCommand(e),
		newImportCommand(e),
		newDumpCommand(e),
		newCheckpointCommand(e),
		newRestoreCommand(e),
		newConvertCommand(e),
		newDBCommand(e),
		newBenchCommand(e),
		newConformanceCommand(e),
		newVersionCommand(e),
	)
	return root
}

// needsCommand is what a command does that only groups others: without arguments it shows them, an
// argument is the name of a command that there isn't.
func needsCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	err := exit.Errorf(exit.Usage, "there is no command %q", cmd.CommandPath()+" "+args[0])
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return err.WithHint("did you mean '%s %s'?", cmd.CommandPath(), near[0])
	}
	return err.WithHint("see '%s --help'", cmd.CommandPath())
}

// firstWord returns the first argument after the command's own name that is no flag.
func firstWord(args []string, cmd *cobra.Command) string {
	if cmd.HasParent() {
		if i := slices.Index(args, cmd.Name()); i >= 0 {
			args = args[i+1:]
		}
	}
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		return args[0]
	}
	return ""
}

// takes makes an argument check that fails as wrong use.
func takes(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return exit.Errorf(exit.Usage, "%s: %w", cmd.CommandPath(), err).WithHint("see '%s --help'", cmd.CommandPath())
		}
		return nil
	}
}
