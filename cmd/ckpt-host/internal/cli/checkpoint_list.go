package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/console"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/size"
)

// listResult is what `checkpoint list --json` prints.
type listResult struct {
	Checkpoints []checkpointResult `json:"checkpoints"`
	Damaged     []damagedResult    `json:"damaged"`
}

// damagedResult tells of a checkpoint that can't be used.
type damagedResult struct {
	Path  string `json:"path"`
	Error string `json:"error"`
}

func newCheckpointListCommand(e *env) *cobra.Command {
	var (
		flags  namespaceFlags
		root   rootFlags
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "list --config FILE --namespace NAME",
		Short: "List a namespace's checkpoints, the newest first",
		Long: `Lists the checkpoints in the namespace's directory of checkpoints, the newest version first. It needs no
database. --version and --root-type limit the list.`,
		Args: takes(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			rootType, err := root.parseType()
			if err != nil {
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
			all, err := s.List(ctx)
			if err != nil {
				return fmt.Errorf("listing the checkpoints of namespace %q: %w", ns.Name, err)
			}
			result := listResult{Checkpoints: []checkpointResult{}, Damaged: []damagedResult{}}
			for _, c := range all {
				if c.Err == nil && (root.hasVersion() && c.Metadata.Root.Version != root.version ||
					root.hasType() && c.Metadata.Root.Type != rootType) {
					continue
				}
				err := c.Err
				if err == nil {
					var described checkpointResult
					if described, err = s.describe(ctx, c); err == nil {
						result.Checkpoints = append(result.Checkpoints, described)
						continue
					}
				}
				if ctx.Err() != nil {
					return ctx.Err()
				}
				result.Damaged = append(result.Damaged, damagedResult{c.Path, err.Error()})
			}
			if asJSON {
				return e.JSON(result)
			}
			return e.printList(result, ns.CheckpointsDir())
		},
	}
	flags.add(cmd)
	root.add(cmd, "all")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

func (e *env) printList(r listResult, dir string) error {
	for _, d := range r.Damaged {
		e.Note("can't be used: %s: %s", d.Path, d.Error)
	}
	if len(r.Checkpoints) == 0 {
		return e.Printf("no checkpoints in %s\n", dir)
	}
	rows := make([][]string, len(r.Checkpoints))
	for i, c := range r.Checkpoints {
		entries, made := "?", "elsewhere"
		if c.Entries != nil {
			entries, made = console.Count(*c.Entries), c.Created.Local().Format(time.DateTime)
		}
		kept := ""
		if c.Kept {
			kept = "yes"
		}
		rows[i] = []string{
			fmt.Sprint(c.Root.Version), c.Root.Type.String(), c.Root.Hash.String(),
			console.Count(len(c.Chunks)), size.Format(c.Bytes), entries, made, kept,
		}
	}
	return e.Table([]string{"VERSION", "TYPE", "ROOT", "CHUNKS", "SIZE", "ENTRIES", "MADE", "KEPT"}, rows)
}
