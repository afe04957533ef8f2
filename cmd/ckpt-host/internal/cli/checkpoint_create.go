package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/config"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/console"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/exit"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/host"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/size"
	"github.com/ckpt-project/ckpt/framework/checkpoint"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// layoutFlags say how a checkpoint is cut.
type layoutFlags struct {
	chunkSize string
	threads   int

	cmd *cobra.Command
}

func (f *layoutFlags) add(cmd *cobra.Command) {
	f.cmd = cmd
	cmd.Flags().StringVar(&f.chunkSize, "chunk-size", "", "the `size` that chunks are cut at, like 8MiB; a number alone is bytes (default: that of the configuration, or 8MiB)")
	cmd.Flags().IntVar(&f.threads, "threads", 0, "the `number` of subtrees that are cut side by side; it is part of the layout (default: that of the configuration, or one sequence)")
}

// layout is how a checkpoint is cut.
type layout struct {
	chunkSize uint64
	threads   int
}

// choose returns the layout: what the flags say, before what a checkpoint that is there has, before what
// the configuration says.
func (f *layoutFlags) choose(ns *config.Namespace, existing *checkpoint.Manifest) (layout, error) {
	chosen := layout{chunkSize: config.DefaultChunkSize}
	if c := ns.Checkpoints; c != nil {
		chosen = layout{c.ChunkSize, c.Threads}
	}
	if existing != nil {
		chosen = layout{existing.ChunkSize, existing.Threads}
	}
	if f.cmd.Flags().Changed("chunk-size") {
		n, err := size.Parse(f.chunkSize)
		if err != nil {
			return chosen, exit.Errorf(exit.Usage, "--chunk-size: %w", err)
		}
		if n > config.MaxChunkSize {
			return chosen, exit.Errorf(exit.Usage, "--chunk-size %s is more than %s", f.chunkSize, size.Format(config.MaxChunkSize))
		}
		chosen.chunkSize = n
	}
	if f.cmd.Flags().Changed("threads") {
		if f.threads < 0 || f.threads > config.MaxThreads {
			return chosen, exit.Errorf(exit.Usage, "--threads %d: want 0 to %d", f.threads, config.MaxThreads)
		}
		chosen.threads = f.threads
	}
	return chosen, nil
}

func newCheckpointCreateCommand(e *env) *cobra.Command {
	var (
		flags  namespaceFlags
		root   rootFlags
		cut    layoutFlags
		keep   bool
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "create --config FILE --namespace NAME",
		Short: "Make a checkpoint of a version",
		Long: `Makes a checkpoint of a finalized version, in the namespace's directory of checkpoints. One that is
there already is told as it is; asking for another chunk size or number of threads for it is an error.`,
		Example: `  ckpt-host checkpoint create --config ckpt.hcl --namespace demo
  ckpt-host checkpoint create --config ckpt.hcl --namespace demo --version 7 --chunk-size 64KiB --json`,
		Args: takes(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := root.parseType(); err != nil {
				return err
			}
			ns, err := flags.load()
			if err != nil {
				return err
			}
			if _, err := cut.choose(ns, nil); err != nil {
				return err
			}
			ctx := cmd.Context()
			return e.withDatabase(ctx, ns, &flags, host.Read, func(ndb db.NodeDB) error {
				found, err := root.find(ctx, ndb, ns)
				if err != nil {
					return err
				}
				result, err := e.createCheckpoint(ctx, ns, ndb, found, &cut)
				if err != nil {
					return err
				}
				if keep {
					if err := e.markCreated(ctx, ns, &result); err != nil {
						return err
					}
				}
				return e.printCreated(result, asJSON)
			})
		},
	}
	flags.add(cmd)
	flags.addLockWait(cmd)
	root.add(cmd, "the newest")
	cut.add(cmd)
	cmd.Flags().BoolVar(&keep, "keep", false, "mark it to be kept, as 'checkpoint keep' does")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

func (e *env) printCreated(r checkpointResult, asJSON bool) error {
	if asJSON {
		return e.JSON(r)
	}
	if *r.Existed {
		if err := e.Printf("this checkpoint is there already\n"); err != nil {
			return err
		}
	}
	return e.printCheckpoint(r)
}

// markCreated marks a checkpoint that was made, or was there, to be kept.
func (e *env) markCreated(ctx context.Context, ns *config.Namespace, created *checkpointResult) error {
	s, err := openStore(e, ns)
	if err != nil {
		return err
	}
	if err := s.Keep(ctx, created.Root); err != nil {
		return err
	}
	created.Kept = true
	return nil
}

// createCheckpoint makes the checkpoint of a root, or finds it.
func (e *env) createCheckpoint(ctx context.Context, ns *config.Namespace, ndb db.NodeDB, root node.Root, flags *layoutFlags) (checkpointResult, error) {
	began := time.Now()
	existing, err := openStore(e, ns)
	if err != nil {
		return checkpointResult{}, err
	}
	manifest, _, err := existing.Describe(ctx, root)
	existed := err == nil
	if err != nil && !errors.Is(err, checkpoint.ErrCheckpointNotFound) {
		return checkpointResult{}, fmt.Errorf("the checkpoint that is there: %w", err)
	}
	chosen, err := flags.choose(ns, manifest)
	if err != nil {
		return checkpointResult{}, err
	}

	// Nobody knows how much there is, as there is no manifest yet.
	meter := console.NewMeter(fmt.Sprintf("making the %s checkpoint of version %d", root.Type, root.Version), console.Amount{})
	progress := e.StartMeter(meter)
	defer progress.Stop()
	var verification checkpoint.Verification
	if c := ns.Checkpoints; c != nil {
		verification = c.Verification
	}
	creator, err := checkpoint.NewFileCreator(ns.CheckpointsDir(), ndb,
		checkpoint.WithVerification(verification),
		checkpoint.WithThreads(chosen.threads),
		checkpoint.WithCreatorLimits(ns.CheckpointLimits()),
		checkpoint.WithCreatorLogger(e.logger()),
		checkpoint.WithProgress(func(_ node.Root, chunks uint64, bytes int64, entries uint64) {
			meter.Set(console.Amount{Bytes: bytes, Entries: int64(entries), Chunks: int64(chunks)})
		}))
	if err != nil {
		return checkpointResult{}, err
	}
	metadata, err := creator.CreateCheckpoint(ctx, root, chosen.chunkSize)
	progress.Stop()
	if err != nil {
		return checkpointResult{}, createFailed(err)
	}
	result, err := existing.describeRoot(ctx, metadata)
	if err != nil {
		return result, err
	}
	result.Existed = &existed
	if !existed {
		seconds := time.Since(began).Seconds()
		result.Seconds = &seconds
	}
	return result, nil
}

func createFailed(err error) error {
	if errors.Is(err, checkpoint.ErrChunkSizeTooSmall) {
		return (&exit.Error{Code: exit.Failed, Err: err}).WithHint("choose a larger --chunk-size")
	}
	if errors.Is(err, checkpoint.ErrParametersDiffer) {
		return (&exit.Error{Code: exit.Failed, Err: err}).
			WithHint("leave --chunk-size and --threads out, or delete it first with 'ckpt-host checkpoint delete'")
	}
	return err
}

// describeRoot tells of the checkpoint that has this metadata.
func (s *store) describeRoot(ctx context.Context, m *checkpoint.Metadata) (checkpointResult, error) {
	manifest, path, err := s.Describe(ctx, m.Root)
	if err != nil {
		return checkpointResult{}, err
	}
	kept, err := checkpoint.IsKept(path)
	if err != nil {
		return checkpointResult{}, err
	}
	return describe(ctx, checkpoint.Stored{Path: path, Metadata: m, Kept: kept}, manifest)
}
