package checkpoint

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// The names of a checkpoint's files.
const (
	metadataName = "meta"
	manifestName = "manifest.json"
	chunksName   = "chunks"
)

// CheckpointDir returns the directory of a root's checkpoint in a directory of checkpoints, unless
// another root of the version with the same hash is there already (see package).
func CheckpointDir(dataDir string, root node.Root) string {
	return filepath.Join(dataDir, strconv.FormatUint(root.Version, 10), root.Hash.Hex())
}

// checkpointDirs returns the directories that a root's checkpoint can be in.
func checkpointDirs(dataDir string, root node.Root) [2]string {
	dir := CheckpointDir(dataDir, root)
	return [2]string{dir, dir + "-" + strconv.Itoa(int(root.Type))}
}

func chunkPath(dir string, index uint64) string {
	return filepath.Join(dir, chunksName, strconv.FormatUint(index, 10))
}

// Stored is a checkpoint found in a directory.
type Stored struct {
	// Path is the checkpoint's own directory; a version's where that can't be read.
	Path string
	// Metadata is the checkpoint's metadata; nil where Err is set.
	Metadata *Metadata
	// Kept says that it is marked to be kept (see Keeper).
	Kept bool
	// Err says why the checkpoint can't be used.
	Err error
}

// directory is a directory of checkpoints, for reading.
type directory struct {
	path   string
	limits Limits
	logger hclog.Logger

	leases leases
	grace  time.Duration
}

// readMetadata reads the metadata of the checkpoint in dir.
func (d *directory) readMetadata(dir string) (*Metadata, error) { return readMetadata(dir, d.limits) }

// readMetadata reads the metadata of the checkpoint in dir. What is beyond the limits is not read.
func readMetadata(dir string, limits Limits) (*Metadata, error) {
	path := filepath.Join(dir, metadataName)
	limits = limits.withDefaults()
	most, setting, limit := limits.metadataBytes()
	b, err := readBounded(path, most)
	if errors.Is(err, errTooLong) && most < MaxMetadataBytes {
		return nil, fmt.Errorf("%s: %w", path, exceeded(setting, limit, "the checkpoint's metadata is longer than that allows"))
	}
	if err != nil {
		return nil, err
	}
	m, err := DecodeMetadata(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, path, err)
	}
	if err := limits.checkMetadata(m); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// errTooLong is what readBounded returns for a file that is too long.
var errTooLong = fmt.Errorf("%w: too long", ErrDamaged)

// readBounded reads a regular file of at most limit bytes.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%w: %s: more than %d bytes", errTooLong, path, limit)
	}
	return b, nil
}

// openRegular opens a regular file for reading: opening a pipe would wait for ever.
func openRegular(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is no regular file", ErrDamaged, path)
	}
	return os.Open(path)
}

// find returns the checkpoint of a root and its directory.
func (d *directory) find(root node.Root) (string, *Metadata, error) {
	var damage error
	for _, dir := range checkpointDirs(d.path, root) {
		m, err := d.readMetadata(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			damage = cmp.Or(damage, err)
		case m.Root == root:
			return dir, m, nil
		}
	}
	if damage != nil {
		return "", nil, damage
	}
	return "", nil, fmt.Errorf("%w: %s", ErrCheckpointNotFound, root)
}

// list returns all checkpoints, the newest version first, then by type and path.
func (d *directory) list(ctx context.Context) ([]Stored, error) {
	versions, err := os.ReadDir(d.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var all []Stored
	for _, v := range versions {
		version, err := strconv.ParseUint(v.Name(), 10, 64)
		if err != nil || strconv.FormatUint(version, 10) != v.Name() {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if !v.IsDir() && v.Type()&fs.ModeSymlink == 0 {
			continue // none of ours
		}
		path := filepath.Join(d.path, v.Name())
		found, err := d.listVersion(path, version)
		if err != nil {
			found = []Stored{{Path: path, Err: err}}
		}
		all = append(all, found...)
	}
	sortStored(all)
	return all, nil
}

// listVersion returns the checkpoints in a version's directory.
func (d *directory) listVersion(path string, version uint64) ([]Stored, error) {
	names, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(names) == 0 {
		return nil, nil // deleted meanwhile
	}
	if err != nil {
		return nil, err
	}
	var found []Stored
	for _, n := range names {
		name, _, _ := strings.Cut(n.Name(), "-")
		var h hash.Hash
		if h.UnmarshalHex(name) != nil || h.Hex() != name {
			continue
		}
		dir := filepath.Join(path, n.Name())
		m, err := d.readMetadata(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue // being copied here, or deleted
		case err == nil && (m.Root.Version != version || m.Root.Hash != h):
			err = fmt.Errorf("%w: %s: the metadata is of another root, %s", ErrDamaged, dir, m.Root)
		}
		found = append(found, d.stored(dir, m, err))
	}
	return found, nil
}

// stored is the checkpoint in dir, whose metadata is m or can't be used.
func (d *directory) stored(dir string, m *Metadata, err error) Stored {
	kept, kerr := IsKept(dir)
	if kerr != nil {
		d.logger.Warn("whether a checkpoint is to be kept can't be told", "path", dir, "err", kerr)
	}
	if err != nil {
		m = nil
	}
	return Stored{Path: dir, Metadata: m, Kept: kept, Err: err}
}

func sortStored(all []Stored) {
	slices.SortStableFunc(all, func(a, b Stored) int {
		if a.Metadata == nil || b.Metadata == nil {
			return cmp.Or(boolOrder(a.Metadata == nil, b.Metadata == nil), cmp.Compare(a.Path, b.Path))
		}
		return cmp.Or(
			cmp.Compare(b.Metadata.Root.Version, a.Metadata.Root.Version),
			cmp.Compare(a.Metadata.Root.Type, b.Metadata.Root.Type),
			cmp.Compare(a.Path, b.Path))
	})
}

// boolOrder sorts false before true.
func boolOrder(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}

// choose picks those of the stored checkpoints that a request asks for. Those that can't be read are
// logged.
func choose(logger hclog.Logger, all []Stored, request *GetCheckpointsRequest) []*Metadata {
	if request == nil || request.Version != checkpointVersion {
		return nil
	}
	var chosen []*Metadata
	for _, s := range all {
		if s.Err != nil {
			logger.Warn("checkpoint can't be read", "path", s.Path, "err", s.Err)
			continue
		}
		root := s.Metadata.Root
		if root.Namespace != request.Namespace || request.RootVersion != nil && root.Version != *request.RootVersion {
			continue
		}
		chosen = append(chosen, s.Metadata)
	}
	return chosen
}

// copyChunk writes a chunk of the checkpoint in dir, whose metadata is m, to w.
func (d *directory) copyChunk(ctx context.Context, dir string, m *Metadata, chunk *ChunkMetadata, w io.Writer) error {
	if chunk.Index >= uint64(len(m.Chunks)) {
		return fmt.Errorf("%w: index %d of %d", ErrChunkNotFound, chunk.Index, len(m.Chunks))
	}
	if m.Chunks[chunk.Index] != chunk.Digest {
		return fmt.Errorf("%w: chunk %d is %s here, not %s", ErrChunkNotFound, chunk.Index, m.Chunks[chunk.Index], chunk.Digest)
	}
	release, err := d.leases.take(dir, d.grace)
	if err != nil {
		return err
	}
	defer release()
	f, err := openRegular(chunkPath(dir, chunk.Index))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrChunkNotFound, err)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, &contextReader{ctx, f})
	return err
}

// contextReader stops reading when its context is done.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r *contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
