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
	"github.com/ckpt-project/ckpt/framework/checkpoint"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// releaseTimeout is how long ending a pin may take when the command is interrupted.
const releaseTimeout = 10 * time.Second

// convertResult is what `convert --json` prints.
type convertResult struct {
	From    string      `json:"from"`
	To      string      `json:"to"`
	Version uint64      `json:"version"`
	Roots   []node.Root `json:"roots"`
	// AlreadyThere says that the version had been finalized with these roots before.
	AlreadyThere  bool  `json:"already_there"`
	Chunks        int   `json:"chunks"`
	ChunksResumed int   `json:"chunks_resumed"`
	Bytes         int64 `json:"bytes"`
	// Entries is left out where nothing was read back.
	Entries *uint64 `json:"entries,omitempty"`
	Seconds float64 `json:"seconds"`
}

func newConvertCommand(e *env) *cobra.Command {
	var (
		flags    namespaceFlags
		from, to string
		version  uint64
		cut      layoutFlags
		skip     restoreSkips
		asJSON   bool
	)
	cmd := &cobra.Command{
		Use:   "convert --config FILE --from NAME --to NAME",
		Short: "Bring a version from one namespace's backend into another's, verified",
		Long: `Brings a version, with all its roots, from the database of one namespace into that of another one with the
same id: into another backend, for instance. What goes from one to the other is a checkpoint's chunks, each
verified, and none of them is stored. The database that is written to has to be empty or older.

The source is read twice: first to learn what the chunks are, then to restore them. All roots become
visible at once, at the end. A conversion that was interrupted goes on where it was when it is run again.`,
		Example: `  ckpt-host convert --config ckpt.hcl --from demo --to demo-leveldb`,
		Args:    takes(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := newConversion(e, &flags, from, to)
			if err != nil {
				return err
			}
			c.layout, err = cut.choose(c.from, nil)
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("version") {
				c.version = &version
			}
			c.skip = skip
			ctx := cmd.Context()
			return e.withDatabases(ctx, &flags, func(open openDatabase) error {
				result, err := c.run(ctx, open)
				if err != nil {
					return err
				}
				if asJSON {
					return e.JSON(result)
				}
				return e.printConversion(result)
			})
		},
	}
	flags.addConfig(cmd)
	flags.addLockWait(cmd)
	cmd.Flags().StringVar(&from, "from", "", "the `name` of the namespace to read from")
	cmd.Flags().StringVar(&to, "to", "", "the `name` of the namespace to write to")
	cmd.Flags().Uint64Var(&version, "version", 0, "the `version` (default: the newest)")
	cut.add(cmd)
	cmd.Flags().BoolVar(&skip.space, "ignore-space", false, "begin whatever space the disk has")
	cmd.Flags().BoolVar(&skip.audit, "no-audit", false, "do not read back what was written")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	_ = cmd.RegisterFlagCompletionFunc("from", flags.complete)
	_ = cmd.RegisterFlagCompletionFunc("to", flags.complete)
	return cmd
}

// conversion is a version's way from one namespace into another.
type conversion struct {
	*env
	from, to *config.Namespace
	version  *uint64 // nil for the newest
	layout   layout
	skip     restoreSkips
}

// newConversion finds the two namespaces, which have to be two of the same id.
func newConversion(e *env, flags *namespaceFlags, from, to string) (*conversion, error) {
	cfg, err := loadConfig(flags.config)
	if err != nil {
		return nil, err
	}
	c := &conversion{env: e}
	if c.from, err = findNamespace(cfg, flags.config, "--from", from); err != nil {
		return nil, err
	}
	if c.to, err = findNamespace(cfg, flags.config, "--to", to); err != nil {
		return nil, err
	}
	switch {
	case c.from == c.to:
		return nil, exit.Errorf(exit.Usage, "--from and --to name the same namespace")
	case c.from.ID != c.to.ID:
		return nil, exit.Errorf(exit.Config, "namespace %q has the id %s, and %q has %s: roots hold the id, and would not be the same",
			from, c.from.ID, to, c.to.ID).WithHint("give both the same id, where the one that is written to is empty")
	}
	return c, nil
}

func (c *conversion) run(ctx context.Context, open openDatabase) (*convertResult, error) {
	began := time.Now()
	source, err := open(c.from, host.Read)
	if err != nil {
		return nil, err
	}
	roots, err := c.findRoots(ctx, source)
	if err != nil {
		return nil, err
	}
	version := roots[0].Version
	pin, err := source.Pin(ctx, version, fmt.Sprintf("conversion of namespace %q to %q", c.from.Name, c.to.Name))
	if err != nil {
		return nil, fmt.Errorf("pinning version %d of namespace %q: %w", version, c.from.Name, err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
		defer cancel()
		if err := pin.Release(ctx); err != nil && !errors.Is(err, db.ErrUnavailable) {
			c.logger().Warn("pin of a version can't be released", "version", version, "err", err)
		}
	}()
	target, err := open(c.to, host.Write)
	if err != nil {
		return nil, err
	}

	result := &convertResult{From: c.from.Name, To: c.to.Name, Version: version, Roots: roots}
	// Before the source is read for long.
	result.AlreadyThere, err = restore.AlreadyThere(ctx, target, version, roots)
	if err == nil && !result.AlreadyThere {
		err = c.transfer(ctx, source, target, result)
	}
	if err != nil {
		return nil, c.failed(version, err)
	}
	if !target.Info().Capabilities.Durable {
		c.Note("note: the %s backend keeps nothing from one command to the next; this showed only that it can be done", c.to.Backend.PluginName())
	}
	result.Seconds = time.Since(began).Seconds()
	return result, nil
}

// findRoots returns all roots of the version that is to be converted.
func (c *conversion) findRoots(ctx context.Context, source db.NodeDB) ([]node.Root, error) {
	have, err := someVersions(ctx, source, c.from)
	if err != nil {
		return nil, err
	}
	version := have.latest
	if c.version != nil {
		version = *c.version
	}
	return rootsOf(ctx, source, c.from, have, version)
}

// transfer reads the source twice, and restores into the target what it reads the second time.
func (c *conversion) transfer(ctx context.Context, source, target db.NodeDB, result *convertResult) error {
	plan, err := c.plan(ctx, source, target, result.Roots)
	if err != nil {
		return err
	}
	outcome, err := c.runPlan(ctx, c.to, target, plan, fmt.Sprintf("writing version %d to %s", plan.Version, c.to.Name), c.skip)
	if err != nil {
		return err
	}
	if err := restore.CheckRoots(ctx, target, plan); err != nil {
		return err
	}
	if !c.skip.audit {
		if result.Entries, err = c.auditRestore(ctx, target, plan); err != nil {
			return err
		}
	}
	result.Chunks, result.ChunksResumed, result.Bytes = plan.Chunks(), outcome.Resumed, plan.Bytes()
	return nil
}

// plan reads the source for the first time.
func (c *conversion) plan(ctx context.Context, source, target db.NodeDB, roots []node.Root) (*restore.Plan, error) {
	meter := console.NewMeter(fmt.Sprintf("reading version %d of %s the first time", roots[0].Version, c.from.Name), c.amount(ctx, roots))
	progress := c.StartMeter(meter)
	defer progress.Stop()
	return restore.NewConversion(ctx, source, roots, checkpoint.CutOptions{
		ChunkSize: c.layout.chunkSize, Threads: c.layout.threads,
		Limits: c.to.CheckpointLimits(),
	}, meter)
}

// amount is how much there is to read, as the manifests of checkpoints tell that the source's namespace has of all the
// roots. Where one is missing it is not known: no database counts a tree's entries.
func (c *conversion) amount(ctx context.Context, roots []node.Root) (sum console.Amount) {
	s, err := openStore(c.env, c.from)
	if err != nil {
		return console.Amount{}
	}
	sameLayout := true
	for _, root := range roots {
		if root.Hash.IsEmpty() {
			continue
		}
		manifest, _, err := s.Describe(ctx, root)
		if err != nil || manifest == nil {
			return console.Amount{}
		}
		sum = sum.Plus(console.Amount{Entries: int64(manifest.Entries), Bytes: manifest.Bytes, Chunks: int64(len(manifest.Chunks))})
		sameLayout = sameLayout && manifest.ChunkSize == c.layout.chunkSize && manifest.Threads == max(c.layout.threads, 1)
	}
	if !sameLayout { // other chunks of the same entries
		sum.Bytes, sum.Chunks = 0, 0
	}
	return sum
}

func (c *conversion) failed(version uint64, err error) error {
	wrapped := &exit.Error{Code: exitCode(err), Err: fmt.Errorf("converting version %d of namespace %q to %q: %w", version, c.from.Name, c.to.Name, err)}
	var kept *restore.KeptError
	switch {
	case errors.Is(err, restore.ErrNoSpace):
		return wrapped.WithHint("free some, or begin all the same with --ignore-space; nothing was written")
	case errors.Is(err, restore.ErrNotOlder):
		return wrapped.WithHint("convert to a namespace of its own, or into a fresh data directory")
	case errors.Is(err, restore.ErrUnfinished):
		return wrapped.WithHint("%s; nothing was written", finishOrAbort)
	case errors.Is(err, checkpoint.ErrChunkSizeTooSmall):
		return wrapped.WithHint("choose a larger --chunk-size")
	case errors.Is(err, checkpoint.ErrLimitExceeded):
		return wrapped.WithHint("what namespace %q takes is limited by its backend, and by its limits block", c.to.Name)
	case errors.As(err, &kept):
		return wrapped.WithHint("what was written so far is kept; run the same command again to go on, or remove it with 'ckpt-host restore abort'")
	case wrapped.Code == exit.Invalid:
		return wrapped.WithHint("nothing of it is visible in namespace %q; see 'ckpt-host db check --namespace %s'", c.to.Name, c.from.Name)
	}
	return wrapped
}

func (e *env) printConversion(r *convertResult) error {
	var text strings.Builder
	if r.AlreadyThere {
		fmt.Fprintf(&text, "version %d is already in %s, finalized with exactly these roots\n", r.Version, r.To)
	} else {
		fmt.Fprintf(&text, "converted version %d from %s to %s: %s, %s in %s\n", r.Version, r.From, r.To, console.Counted(r.Chunks, "chunk"),
			size.Format(r.Bytes), console.Duration(time.Duration(r.Seconds*float64(time.Second))))
	}
	if r.ChunksResumed > 0 {
		fmt.Fprintf(&text, "%s had been written by an earlier run\n", console.Counted(r.ChunksResumed, "chunk"))
	}
	for _, root := range r.Roots {
		fmt.Fprintf(&text, "%-5s root: %s\n", root.Type, root.Hash)
	}
	return e.Printf("%s", text.String())
}
