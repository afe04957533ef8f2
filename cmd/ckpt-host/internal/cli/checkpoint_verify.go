package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/config"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/console"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/exit"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/size"
	"github.com/ckpt-project/ckpt/framework/checkpoint"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// verifyResult is what `checkpoint verify --json` prints.
type verifyResult struct {
	// Verified says that all checkpoints are all right.
	Verified bool `json:"verified"`
	// Level is how much was looked at.
	Level       checkpoint.Level `json:"level"`
	Checkpoints []verifiedItem   `json:"checkpoints"`
	Seconds     float64          `json:"seconds"`
}

// verifiedItem tells of one checkpoint that was verified.
type verifiedItem struct {
	Path         string      `json:"path"`
	Verified     bool        `json:"verified"`
	Error        string      `json:"error,omitempty"`
	Root         *node.Root  `json:"root,omitempty"`
	MetadataHash *hash.Hash  `json:"metadata_hash,omitempty"`
	Chunks       []hash.Hash `json:"chunks,omitempty"`
	Bytes        int64       `json:"bytes,omitempty"`
	Entries      *uint64     `json:"entries,omitempty"`
}

func newCheckpointVerifyCommand(e *env) *cobra.Command {
	var (
		flags       namespaceFlags
		root        rootFlags
		valueBytes  string
		level       string
		all, asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "verify [DIR] [--config FILE --namespace NAME]",
		Short: "Check a checkpoint's digests, proofs and completeness",
		Long: `Checks that a checkpoint's files are what its metadata says, that each chunk proves what it holds, and
that no node of the tree is missing. It needs no database.

--level says how much it looks at: "digests" at the metadata's form and whether the chunks are those that it
names, which costs little but reading them; "proofs" also at what each chunk proves; "full", which is meant
where it is left out, also at whether the chunks together hold every node, each once. Only what verifies in
full is sure to restore.

With DIR, one checkpoint's directory or a directory of checkpoints, it needs no configuration either, and
checks all that is there (--version and --root-type limit that). Without, it checks the namespace's newest
checkpoint, the one that --version names, or with --all every one.

It says whether a checkpoint is good, not whether its root is the one that you trust: compare that.`,
		Example: `  ckpt-host checkpoint verify state/demo/checkpoints/7/0f3c...
  ckpt-host checkpoint verify --config ckpt.hcl --namespace demo --version 7
  ckpt-host checkpoint verify backup --level digests`,
		Args: takes(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := root.parseType(); err != nil {
				return err
			}
			depth, err := checkpoint.ParseLevel(level)
			if err != nil {
				return exit.Errorf(exit.Usage, "--level %s: want digests, proofs or full", level)
			}
			ctx := cmd.Context()
			var chosen []checkpoint.Stored
			longest, err := parseValueBytes(cmd, valueBytes)
			if err != nil {
				return err
			}
			// Of a directory nobody says more.
			bounds := &config.Namespace{KeyBytes: db.DefaultMaxKeyBytes, ValueBytes: cmp.Or(longest, db.DefaultMaxValueBytes)}
			switch {
			case len(args) == 1 && (flags.config != "" || flags.namespace != ""):
				return exit.Errorf(exit.Usage, "DIR and --config exclude each other").WithHint("see '%s --help'", cmd.CommandPath())
			case len(args) == 1:
				chosen, err = chooseInDirectory(ctx, args[0], &root, bounds.CheckpointLimits())
			default:
				if bounds, chosen, err = e.chooseInNamespace(ctx, &flags, &root, all); err == nil {
					bounds.ValueBytes = cmp.Or(longest, bounds.ValueBytes)
				}
			}
			if err != nil {
				return err
			}
			return e.verify(ctx, chosen, depth, bounds.CheckpointLimits(), asJSON)
		},
	}
	flags.add(cmd)
	root.add(cmd, "the newest that has a checkpoint")
	cmd.Flags().BoolVar(&all, "all", false, "all checkpoints of the namespace")
	cmd.Flags().StringVar(&level, "level", checkpoint.LevelFull.String(), "how `much` to look at: digests, proofs or full")
	_ = cmd.RegisterFlagCompletionFunc("level", cobra.FixedCompletions(
		[]cobra.Completion{"digests", "proofs", "full"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.Flags().StringVar(&valueBytes, "value-bytes", "", "the `size` of the longest value to take (default: the namespace's limit, or 64MiB)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// parseValueBytes reads --value-bytes; 0 where it is not given.
func parseValueBytes(cmd *cobra.Command, text string) (int, error) {
	if !cmd.Flags().Changed("value-bytes") {
		return 0, nil
	}
	n, err := size.Parse(text)
	if err != nil || n < 1 || n > config.MaxValueBytes {
		return 0, exit.Errorf(exit.Usage, "--value-bytes %s: want a size up to %s", text, size.Format(config.MaxValueBytes))
	}
	return int(n), nil
}

// chooseInDirectory returns all checkpoints of a directory, as far as the flags don't limit them.
func chooseInDirectory(ctx context.Context, dir string, root *rootFlags, limits checkpoint.Limits) ([]checkpoint.Stored, error) {
	directory, err := checkpoint.OpenDirectory(dir, checkpoint.WithDirectoryLimits(limits))
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	all, err := directory.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	chosen := limit(all, root)
	if len(chosen) == 0 {
		return nil, exit.Errorf(exit.NotFound, "there is no such checkpoint in %s", dir).
			WithHint("a checkpoint's directory has a file 'meta' in it, a directory of checkpoints has VERSION/HASH/meta")
	}
	return chosen, nil
}

// limit leaves those of the checkpoints that the flags name, and those that can't be read.
func limit(all []checkpoint.Stored, root *rootFlags) []checkpoint.Stored {
	var chosen []checkpoint.Stored
	for _, c := range all {
		if c.Err == nil && (root.hasVersion() && c.Metadata.Root.Version != root.version ||
			root.hasType() && c.Metadata.Root.Type.String() != root.rootType) {
			continue
		}
		chosen = append(chosen, c)
	}
	return chosen
}

func (e *env) chooseInNamespace(ctx context.Context, flags *namespaceFlags, root *rootFlags, all bool) (*config.Namespace, []checkpoint.Stored, error) {
	if flags.config == "" {
		return nil, nil, exit.Errorf(exit.Usage, "neither DIR nor --config is given").
			WithHint("name a checkpoint's directory, or a namespace with --config and --namespace")
	}
	ns, err := flags.load()
	if err != nil {
		return nil, nil, err
	}
	s, err := openStore(e, ns)
	if err != nil {
		return nil, nil, err
	}
	if !all {
		found, err := s.find(ctx, root)
		return ns, []checkpoint.Stored{found}, err
	}
	stored, err := s.List(ctx)
	if err != nil {
		return nil, nil, err
	}
	chosen := limit(stored, root)
	if len(chosen) == 0 {
		return nil, nil, exit.Errorf(exit.NotFound, "namespace %q has no such checkpoint in %s", ns.Name, ns.CheckpointsDir())
	}
	return ns, chosen, nil
}

// verify checks checkpoints one after the other, all of them whatever is wrong with some.
func (e *env) verify(ctx context.Context, chosen []checkpoint.Stored, level checkpoint.Level, limits checkpoint.Limits, asJSON bool) error {
	began := time.Now()
	result := verifyResult{Verified: true, Level: level}
	var first error
	for _, c := range chosen {
		item, err := e.verifyOne(ctx, c, level, limits)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			result.Verified = false
			item.Error = err.Error()
			if first == nil {
				first = err
			}
			e.Note("%s: does not verify: %s", item.Path, err)
		}
		result.Checkpoints = append(result.Checkpoints, item)
		if !asJSON && err == nil {
			if err := e.Printf("%s: %s\n  %s\n  metadata hash %s\n", item.Path, item.summary(level), rootName(*item.Root), item.MetadataHash); err != nil {
				return err
			}
		}
	}
	result.Seconds = time.Since(began).Seconds()
	if asJSON {
		if err := e.JSON(result); err != nil {
			return err
		}
	}
	if result.Verified {
		return nil
	}
	var bad int
	for _, item := range result.Checkpoints {
		if !item.Verified {
			bad++
		}
	}
	// A chunk that is missing makes a checkpoint no good, whatever the reason.
	code := exit.Invalid
	if first != nil && !isAboutContent(first) {
		code = exitCode(first)
	}
	return exit.Errorf(code, "%d of %d checkpoints do not verify", bad, len(chosen))
}

// summary says what was found all right.
func (i *verifiedItem) summary(level checkpoint.Level) string {
	held := fmt.Sprintf("%s, %s", console.Counted(len(i.Chunks), "chunk"), size.Format(i.Bytes))
	switch level {
	case checkpoint.LevelDigests:
		return "digests verified, " + held
	case checkpoint.LevelProofs:
		return "digests and proofs verified, " + held
	default:
		return fmt.Sprintf("verified, %s, %s", held, console.Counted(*i.Entries, "entry"))
	}
}

// isAboutContent says whether an error is about what a checkpoint holds, rather than about reading it.
func isAboutContent(err error) bool {
	code := exitCode(err)
	return code == exit.Invalid || errors.Is(err, checkpoint.ErrChunkNotFound) || errors.Is(err, checkpoint.ErrLimitExceeded)
}

func (e *env) verifyOne(ctx context.Context, c checkpoint.Stored, level checkpoint.Level, limits checkpoint.Limits) (verifiedItem, error) {
	path, err := filepath.Abs(c.Path)
	if err != nil {
		return verifiedItem{Path: c.Path}, err
	}
	item := verifiedItem{Path: path}
	if c.Err != nil {
		return item, c.Err
	}
	item.Root = &c.Metadata.Root
	what := fmt.Sprintf("verifying the %s checkpoint of version %d", c.Metadata.Root.Type, c.Metadata.Root.Version)
	meter := console.NewMeter(what, verifyAmount(path, c.Metadata, level))
	progress := e.StartMeter(meter)
	defer progress.Stop()
	report, err := checkpoint.Verify(ctx, path, checkpoint.VerifyRoot(c.Metadata.Root),
		checkpoint.VerifyLevel(level), checkpoint.VerifyLimits(limits),
		checkpoint.VerifyProgress(func(done checkpoint.VerifyCount) { meter.Set(amountOf(done)) }))
	if err != nil {
		return item, err
	}
	item.Verified = true
	item.MetadataHash, item.Chunks = &report.MetadataHash, c.Metadata.Chunks
	item.Bytes = report.Bytes
	if level == checkpoint.LevelFull {
		item.Entries = &report.Entries
	}
	return item, nil
}

// verifyAmount is the work that verifying a checkpoint is, as far as its manifest tells. Without one it is known
// how many chunks there are.
func verifyAmount(dir string, m *checkpoint.Metadata, level checkpoint.Level) console.Amount {
	amount := console.Amount{Chunks: int64(len(m.Chunks))}
	manifest, err := checkpoint.ReadManifest(dir, m)
	if err != nil {
		return amount
	}
	amount.Bytes = manifest.Bytes
	if level == checkpoint.LevelFull {
		amount.Entries = int64(manifest.Entries)
	}
	return amount
}

// amountOf is how far a verification has come.
func amountOf(done checkpoint.VerifyCount) console.Amount {
	return console.Amount{Bytes: done.Bytes, Entries: int64(done.Entries), Chunks: int64(done.Chunks)}
}
