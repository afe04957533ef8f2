package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/config"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/console"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/host"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/restore"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/size"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// unfinishedResult is what `restore status --json` prints, and what `restore abort --json` removes.
type unfinishedResult struct {
	Namespace string `json:"namespace"`
	// InProgress says that there is a restore which is not finished. Without one the rest is left out.
	InProgress bool    `json:"in_progress"`
	Version    *uint64 `json:"version,omitempty"`
	// Complete says that all chunks of all roots that were begun are in, and nothing is missing.
	Complete *bool            `json:"complete,omitempty"`
	Roots    []unfinishedRoot `json:"roots"`
}

type unfinishedRoot struct {
	Root node.Root `json:"root"`
	// MetadataHash names the checkpoint; null where it is not known.
	MetadataHash *hash.Hash `json:"metadata_hash"`
	Chunks       uint64     `json:"chunks"`
	ChunksDone   int        `json:"chunks_done"`
	Complete     bool       `json:"complete"`
	// The rest is left out where the checkpoint was not found, or has no manifest.
	Bytes       *int64  `json:"bytes,omitempty"`
	BytesDone   *int64  `json:"bytes_done,omitempty"`
	Entries     *uint64 `json:"entries,omitempty"`
	EntriesDone *uint64 `json:"entries_done,omitempty"`
}

func newUnfinishedResult(ns *config.Namespace, u *restore.Unfinished) unfinishedResult {
	r := unfinishedResult{Namespace: ns.Name, Roots: []unfinishedRoot{}}
	if u == nil {
		return r
	}
	complete := u.Complete()
	r.InProgress, r.Version, r.Complete = true, &u.Version, &complete
	for _, root := range u.Roots {
		one := unfinishedRoot{
			Root: root.Root, MetadataHash: root.Metadata,
			Chunks: root.Chunks, ChunksDone: len(root.Done), Complete: root.Complete,
		}
		if root.All != nil {
			one.Bytes, one.BytesDone = &root.All.Bytes, &root.Restored.Bytes
			one.Entries, one.EntriesDone = &root.All.Entries, &root.Restored.Entries
		}
		r.Roots = append(r.Roots, one)
	}
	return r
}

func newRestoreStatusCommand(e *env) *cobra.Command {
	var (
		flags  namespaceFlags
		from   string
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "status --config FILE --namespace NAME [--from DIR]",
		Short: "Tell of a restore that is not finished",
		Long: `Tells what a namespace's database holds of a restore that is not finished: its version, its roots and the
checkpoints they come from, how many of their chunks are durable, and what to do next. A conversion that was
interrupted is one, too. Where none is in progress it says so, and the exit code is 0. It changes nothing.

With --from, the directory that is being restored from, it also tells bytes and entries, by the manifests
there.`,
		Example: `  ckpt-host restore status --config ckpt.hcl --namespace demo
  ckpt-host restore status --config ckpt.hcl --namespace demo --from backup --json`,
		Args: takes(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ns, err := flags.load()
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			return e.withDatabase(ctx, ns, &flags, host.Read, func(ndb db.NodeDB) error {
				u, err := restore.Find(ctx, ndb)
				if err != nil {
					return err
				}
				if u != nil && from != "" {
					if err := u.Measure(ctx, from, ns.CheckpointLimits()); err != nil {
						return fmt.Errorf("reading %s: %w", from, err)
					}
				}
				return e.printUnfinished(newUnfinishedResult(ns, u), asJSON)
			})
		},
	}
	flags.add(cmd)
	flags.addLockWait(cmd)
	cmd.Flags().StringVar(&from, "from", "", "the `directory` that is being restored from, to tell bytes and entries by its manifests")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	_ = cmd.MarkFlagDirname("from")
	return cmd
}

func (e *env) printUnfinished(r unfinishedResult, asJSON bool) error {
	if asJSON {
		return e.JSON(r)
	}
	if !r.InProgress {
		return e.Printf("no restore is in progress in namespace %q\n", r.Namespace)
	}
	if err := e.Printf("a restore of version %d into namespace %q is not finished\n", *r.Version, r.Namespace); err != nil {
		return err
	}
	if err := e.printUnfinishedRoots(r); err != nil {
		return err
	}
	next := "run the same 'ckpt-host restore' or 'ckpt-host convert' again to go on with it, or remove what it has restored with 'ckpt-host restore abort'"
	if *r.Complete {
		next = "all chunks are in; run the same 'ckpt-host restore' or 'ckpt-host convert' again to finalize the version"
	}
	return e.Printf("next: %s\n", next)
}

// printUnfinishedRoots writes a table of what is there of each root.
func (e *env) printUnfinishedRoots(r unfinishedResult) error {
	if len(r.Roots) == 0 {
		return e.Printf("no root was begun\n")
	}
	for _, root := range r.Roots {
		state := fmt.Sprintf("%s of %s", console.Count(root.ChunksDone), console.Counted(root.Chunks, "chunk"))
		if root.Complete {
			state += ", complete"
		}
		rows := [][]string{{root.Root.Type.String() + " root", root.Root.Hash.String()}}
		if root.MetadataHash != nil {
			rows = append(rows, []string{"metadata hash", root.MetadataHash.String()})
		}
		rows = append(rows, []string{"restored", state})
		if root.Bytes != nil {
			rows = append(rows,
				[]string{"bytes", fmt.Sprintf("%s of %s", size.Format(*root.BytesDone), size.Format(*root.Bytes))},
				[]string{"entries", fmt.Sprintf("%s of %s", console.Count(*root.EntriesDone), console.Count(*root.Entries))})
		}
		if err := e.Table(nil, rows); err != nil {
			return err
		}
	}
	return nil
}

// unfinished asks for an unfinished restore, and tells of it as JSON has it.
func unfinished(ctx context.Context, ns *config.Namespace, ndb db.NodeDB) (unfinishedResult, error) {
	u, err := restore.Find(ctx, ndb)
	return newUnfinishedResult(ns, u), err
}
