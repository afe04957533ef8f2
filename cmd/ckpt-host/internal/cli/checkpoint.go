package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/config"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/console"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/exit"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/size"
	"github.com/ckpt-project/ckpt/framework/checkpoint"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

func newCheckpointCommand(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "checkpoint",
		Short: "Make, list, show, verify, export, import, keep and delete checkpoints",
		Args:  cobra.ArbitraryArgs,
		RunE:  needsCommand,
	}
	cmd.AddCommand(
		newCheckpointCreateCommand(e),
		newCheckpointListCommand(e),
		newCheckpointShowCommand(e),
		newCheckpointVerifyCommand(e),
		newCheckpointExportCommand(e),
		newCheckpointImportCommand(e),
		newCheckpointKeepCommand(e),
		newCheckpointUnkeepCommand(e),
		newCheckpointDeleteCommand(e),
	)
	return cmd
}

// checkpointResult is what is told of a checkpoint with --json. What isn't known of one that was made
// elsewhere is left out.
type checkpointResult struct {
	Root         node.Root   `json:"root"`
	MetadataHash hash.Hash   `json:"metadata_hash"`
	Chunks       []hash.Hash `json:"chunks"`
	Path         string      `json:"path"`
	Bytes        int64       `json:"bytes"`
	// Kept says that it is marked to be kept.
	Kept      bool       `json:"kept"`
	Entries   *uint64    `json:"entries,omitempty"`
	ChunkSize *uint64    `json:"chunk_size,omitempty"`
	Threads   *int       `json:"threads,omitempty"`
	Created   *time.Time `json:"created,omitempty"`
	Software  string     `json:"software,omitempty"`
	// Existed says that it was there before it was asked for.
	Existed *bool `json:"existed,omitempty"`
	// Seconds is how long it took to make it.
	Seconds *float64 `json:"seconds,omitempty"`
}

// newCheckpointResult tells what the metadata and the manifest, nil where there is none, say of a checkpoint.
func newCheckpointResult(s checkpoint.Stored, manifest *checkpoint.Manifest) checkpointResult {
	m := s.Metadata
	r := checkpointResult{Root: m.Root, MetadataHash: m.EncodedHash(), Chunks: m.Chunks, Path: s.Path, Kept: s.Kept}
	if manifest != nil {
		seconds := manifest.Finished.Sub(manifest.Started).Seconds()
		r.Bytes, r.Entries, r.ChunkSize, r.Threads = manifest.Bytes, &manifest.Entries, &manifest.ChunkSize, &manifest.Threads
		r.Created, r.Software, r.Seconds = &manifest.Finished, manifest.Software, &seconds
	}
	return r
}

// describe tells of a stored checkpoint.
func describe(ctx context.Context, s checkpoint.Stored, manifest *checkpoint.Manifest) (checkpointResult, error) {
	path, err := filepath.Abs(s.Path)
	if err != nil {
		return checkpointResult{}, err
	}
	s.Path = path
	r := newCheckpointResult(s, manifest)
	if manifest != nil {
		return r, nil
	}
	for i := range r.Chunks {
		if err := ctx.Err(); err != nil {
			return r, err
		}
		info, err := os.Stat(filepath.Join(path, "chunks", fmt.Sprint(i)))
		if err != nil {
			return r, fmt.Errorf("%w: %w", checkpoint.ErrChunkNotFound, err)
		}
		r.Bytes += info.Size()
	}
	return r, nil
}

// store is a namespace's directory of checkpoints, which needs no database to be read.
type store struct {
	ns      *config.Namespace
	creator checkpoint.Creator
	checkpoint.Inspector
	checkpoint.Keeper
}

func openStore(e *env, ns *config.Namespace) (*store, error) {
	creator, err := checkpoint.NewFileCreator(ns.CheckpointsDir(), nil, checkpoint.WithCreatorLogger(e.logger()), checkpoint.WithCreatorLimits(ns.CheckpointLimits()))
	if err != nil {
		return nil, err
	}
	inspector, ok := creator.(checkpoint.Inspector)
	if !ok {
		return nil, errors.New("the checkpoint store can't be listed")
	}
	keeper, ok := creator.(checkpoint.Keeper)
	if !ok {
		return nil, errors.New("the checkpoint store knows no marks")
	}
	return &store{ns: ns, creator: creator, Inspector: inspector, Keeper: keeper}, nil
}

// describe tells of one of the store's checkpoints.
func (s *store) describe(ctx context.Context, stored checkpoint.Stored) (checkpointResult, error) {
	manifest, _, err := s.Describe(ctx, stored.Metadata.Root)
	if err != nil {
		return checkpointResult{}, err
	}
	return describe(ctx, stored, manifest)
}

// find returns the one checkpoint that the flags name: of the newest version that has one of the type,
// unless a version is named.
func (s *store) find(ctx context.Context, flags *rootFlags) (checkpoint.Stored, error) {
	none := checkpoint.Stored{}
	rootType, err := flags.parseType()
	if err != nil {
		return none, err
	}
	all, err := s.List(ctx)
	if err != nil {
		return none, fmt.Errorf("listing the checkpoints of namespace %q: %w", s.ns.Name, err)
	}
	var found []checkpoint.Stored
	for _, c := range all {
		if c.Err != nil || c.Metadata.Root.Namespace != s.ns.ID || c.Metadata.Root.Type != rootType {
			continue
		}
		version := c.Metadata.Root.Version
		if flags.hasVersion() && version != flags.version || len(found) > 0 && version != found[0].Metadata.Root.Version {
			continue
		}
		found = append(found, c)
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return none, exit.Errorf(exit.Failed, "version %d has several %s checkpoints: %s and %s",
			found[0].Metadata.Root.Version, rootType, found[0].Path, found[1].Path).
			WithHint("move those that are not meant out of %s", s.ns.CheckpointsDir())
	}
	return none, s.notFound(all, rootType, flags)
}

// notFound says that no checkpoint is what was asked for, and which ones there are.
func (s *store) notFound(all []checkpoint.Stored, rootType node.RootType, flags *rootFlags) error {
	what := fmt.Sprintf("no %s checkpoint", rootType)
	if flags.hasVersion() {
		what += fmt.Sprintf(" of version %d", flags.version)
	}
	err := exit.Errorf(exit.NotFound, "namespace %q has %s in %s", s.ns.Name, what, s.ns.CheckpointsDir())
	var damaged int
	for _, c := range all {
		if c.Err != nil {
			damaged++
		}
	}
	switch {
	case damaged > 0:
		return err.WithHint("%d can't be read; see 'ckpt-host checkpoint list'", damaged)
	case len(all) > 0:
		return err.WithHint("see which there are with 'ckpt-host checkpoint list'")
	default:
		return err.WithHint("make one with 'ckpt-host checkpoint create'")
	}
}

// printCheckpoint writes what is known of a checkpoint for people.
func (e *env) printCheckpoint(r checkpointResult) error {
	rows := [][]string{
		{"version", fmt.Sprint(r.Root.Version)},
		{"root type", r.Root.Type.String()},
		{"root hash", r.Root.Hash.String()},
		{"namespace", r.Root.Namespace.String()},
		{"metadata hash", r.MetadataHash.String()},
		{"chunks", console.Count(len(r.Chunks))},
		{"size", size.Exact(r.Bytes)},
	}
	if r.Entries != nil {
		rows = append(rows, []string{"entries", console.Count(*r.Entries)})
	}
	if r.ChunkSize != nil {
		rows = append(rows, []string{"chunk size", size.Exact(int64(*r.ChunkSize))})
	}
	if r.Threads != nil && *r.Threads > 1 {
		rows = append(rows, []string{"threads", fmt.Sprint(*r.Threads)})
	}
	if r.Created != nil {
		rows = append(rows, []string{"made", fmt.Sprintf("%s in %s", r.Created.Local().Format(time.DateTime), console.Duration(time.Duration(*r.Seconds*1e9)))})
	}
	if r.Kept {
		rows = append(rows, []string{"kept", "until 'checkpoint unkeep'"})
	}
	rows = append(rows, []string{"path", r.Path})
	return e.Table(nil, rows)
}

// rootName is how a root is written on the command line: what --root takes.
func rootName(root node.Root) string {
	return strings.Join([]string{root.Type.String(), fmt.Sprint(root.Version), root.Hash.String()}, ":")
}
