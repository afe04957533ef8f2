package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/hashicorp/go-hclog"
)

// Directory is a ChunkProvider of files: one checkpoint's directory, a version's directory, or a
// directory of checkpoints. It only reads, and what changes in the directory is seen. A checkpoint that chunks are
// read of is not deleted by a checkpointer, in whatever process, until a minute after the last one.
type Directory struct {
	directory
	single bool // path is one checkpoint's directory
}

// DirectoryOption is an option of OpenDirectory.
type DirectoryOption func(*Directory)

// WithDirectoryLimits bounds the metadata that is read. A checkpoint beyond that is in the list with
// ErrLimitExceeded. Chunks are for their receiver to bound.
func WithDirectoryLimits(limits Limits) DirectoryOption {
	return func(d *Directory) { d.limits = limits }
}

// OpenDirectory returns the provider of the checkpoints in dir, which must be there.
func OpenDirectory(dir string, opts ...DirectoryOption) (*Directory, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("checkpoint: %s is no directory", dir)
	}
	d := &Directory{directory: directory{path: dir, logger: hclog.NewNullLogger(), grace: leaseGrace}}
	for _, opt := range opts {
		opt(d)
	}
	switch _, err := os.Stat(filepath.Join(dir, metadataName)); {
	case err == nil:
		d.single = true
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	return d, nil
}

// Path is the directory that was opened.
func (d *Directory) Path() string { return d.path }

// List returns all checkpoints, the newest version first. Those that can't be read are in the list, with
// the reason.
func (d *Directory) List(ctx context.Context) ([]Stored, error) {
	if d.single {
		m, err := d.readMetadata(d.path)
		return []Stored{d.stored(d.path, m, err)}, ctx.Err()
	}
	all, err := d.list(ctx)
	if err != nil || len(all) > 0 {
		return all, err
	}
	// A version's directory has its version for a name, wherever it lies.
	abs, err := filepath.Abs(d.path)
	if err != nil {
		return nil, err
	}
	version, err := strconv.ParseUint(filepath.Base(abs), 10, 64)
	if err != nil {
		return nil, nil
	}
	if all, err = d.listVersion(d.path, version); err != nil {
		return nil, err
	}
	sortStored(all)
	return all, nil
}

// GetCheckpoints implements ChunkProvider.
func (d *Directory) GetCheckpoints(ctx context.Context, request *GetCheckpointsRequest) ([]*Metadata, error) {
	all, err := d.List(ctx)
	if err != nil {
		return nil, err
	}
	return choose(d.logger, all, request), nil
}

// GetCheckpointChunk implements ChunkProvider.
func (d *Directory) GetCheckpointChunk(ctx context.Context, chunk *ChunkMetadata, w io.Writer) error {
	if chunk.Version != checkpointVersion {
		return fmt.Errorf("%w: version %d of the format", ErrCheckpointNotFound, chunk.Version)
	}
	if !d.single {
		dir, m, err := d.find(chunk.Root)
		if err == nil {
			return d.copyChunk(ctx, dir, m, chunk, w)
		}
		if !errors.Is(err, ErrCheckpointNotFound) {
			return err
		}
	}
	all, err := d.List(ctx)
	if err != nil {
		return err
	}
	for _, s := range all {
		if s.Err == nil && s.Metadata.Root == chunk.Root {
			return d.copyChunk(ctx, s.Path, s.Metadata, chunk, w)
		}
	}
	return fmt.Errorf("%w: %s", ErrCheckpointNotFound, chunk.Root)
}
