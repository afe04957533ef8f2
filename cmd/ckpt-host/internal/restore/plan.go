package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/ckpt-project/ckpt/framework/checkpoint"
	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// ErrRefused is returned for a directory that does not hold what is trusted.
var ErrRefused = errors.New("refused")

// ErrNoCheckpoints is returned for a directory without any checkpoint.
var ErrNoCheckpoints = errors.New("no checkpoints")

// Source is one checkpoint that is to be restored.
type Source struct {
	// Path is the checkpoint's directory; empty for one that is nowhere, and cut when it is restored.
	Path     string
	Metadata *checkpoint.Metadata
	// Bytes is the length of all chunks together.
	Bytes int64
	// sizes are the lengths of the chunks.
	sizes []int64

	tree *tree // what is cut; nil where there is a Path
}

// chunk is the path of a chunk.
func (s *Source) chunk(index uint64) string {
	return filepath.Join(s.Path, "chunks", strconv.FormatUint(index, 10))
}

// Plan is what is to be restored: all of one version.
type Plan struct {
	Version uint64
	// Sources are the checkpoints, by root type.
	Sources []Source
	// LeftOut are roots of the version that the directory holds and that are not restored.
	LeftOut []node.Root
	// Limits bound what the checkpoints may hold.
	Limits checkpoint.Limits
	// Others are other versions that hold the trusted roots, too; the newest was chosen.
	Others []uint64
}

// Roots are the roots that are to be restored, by type.
func (p *Plan) Roots() []node.Root {
	roots := make([]node.Root, len(p.Sources))
	for i := range p.Sources {
		roots[i] = p.Sources[i].Metadata.Root
	}
	return roots
}

// Bytes is the length of all chunks.
func (p *Plan) Bytes() (n int64) {
	for i := range p.Sources {
		n += p.Sources[i].Bytes
	}
	return n
}

// Chunks is the number of all chunks.
func (p *Plan) Chunks() (n int) {
	for i := range p.Sources {
		n += len(p.Sources[i].Metadata.Chunks)
	}
	return n
}

// NewPlan picks from a directory the checkpoints of the trusted roots; where trusted is nil, all of the
// newest version. It reads all metadata that is within the limits, and looks whether the chunks are there.
func NewPlan(ctx context.Context, dir string, namespace common.Namespace, trusted []Trusted, limits checkpoint.Limits) (*Plan, error) {
	directory, err := checkpoint.OpenDirectory(dir, checkpoint.WithDirectoryLimits(limits))
	if err != nil {
		return nil, err
	}
	all, err := directory.List(ctx)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%w in %s", ErrNoCheckpoints, dir)
	}
	s := shelf{dir: dir, namespace: namespace}
	for _, c := range all {
		if c.Err != nil {
			s.damaged = append(s.damaged, c)
		} else {
			s.good = append(s.good, c)
		}
	}
	var plan *Plan
	if trusted == nil {
		plan, err = s.newest()
	} else {
		plan, err = s.trusted(trusted)
	}
	if err != nil {
		return nil, err
	}
	plan.Limits = limits
	for i := range plan.Sources {
		if err := plan.Sources[i].measure(ctx); err != nil {
			return nil, err
		}
	}
	return plan, nil
}

// measure sees that all chunks are there, and how long they are.
func (s *Source) measure(ctx context.Context) error {
	for i := range s.Metadata.Chunks {
		if err := ctx.Err(); err != nil {
			return err
		}
		info, err := os.Stat(s.chunk(uint64(i)))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("%w: chunk %d of %d of %s is missing: %w",
				checkpoint.ErrChunkNotFound, i, len(s.Metadata.Chunks), s.Metadata.Root, err)
		case err != nil:
			return err
		case !info.Mode().IsRegular():
			return fmt.Errorf("%w: %s is no regular file", checkpoint.ErrDamaged, s.chunk(uint64(i)))
		}
		s.Bytes += info.Size()
		s.sizes = append(s.sizes, info.Size())
	}
	return nil
}

// shelf is what a directory holds.
type shelf struct {
	dir       string
	namespace common.Namespace
	good      []checkpoint.Stored // the newest version first
	damaged   []checkpoint.Stored
}

// trusted picks the checkpoints of trusted roots, of the newest version that has them all.
func (s *shelf) trusted(roots []Trusted) (*Plan, error) {
	var versions []uint64
	for _, c := range s.good {
		if v := c.Metadata.Root.Version; !slices.Contains(versions, v) && s.holds(v, roots) {
			versions = append(versions, v)
		}
	}
	if len(versions) == 0 {
		return nil, s.mismatch(roots)
	}
	plan := &Plan{Version: versions[0], Others: versions[1:]}
	for _, c := range s.ofVersion(plan.Version) {
		root := c.Metadata.Root
		isTrusted := slices.ContainsFunc(roots, func(t Trusted) bool { return t.names(root) })
		switch {
		case !isTrusted:
			plan.LeftOut = append(plan.LeftOut, root)
		case !slices.Contains(plan.Roots(), root):
			plan.Sources = append(plan.Sources, Source{Path: c.Path, Metadata: c.Metadata})
		}
	}
	return plan, nil
}

// ofVersion returns the checkpoints of a version in the namespace.
func (s *shelf) ofVersion(version uint64) []checkpoint.Stored {
	var found []checkpoint.Stored
	for _, c := range s.good {
		if c.Metadata.Root.Version == version && c.Metadata.Root.Namespace == s.namespace {
			found = append(found, c)
		}
	}
	return found
}

// holds says whether there are checkpoints of all roots at one version.
func (s *shelf) holds(version uint64, roots []Trusted) bool {
	there := s.ofVersion(version)
	for _, t := range roots {
		if !slices.ContainsFunc(there, func(c checkpoint.Stored) bool { return t.names(c.Metadata.Root) }) {
			return false
		}
	}
	return true
}

// mismatch says in what the directory's checkpoints differ from what is trusted.
func (s *shelf) mismatch(roots []Trusted) error {
	for _, t := range roots {
		if err := s.mismatchOf(t); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: %s has checkpoints of all these roots, but not of one version", ErrRefused, s.dir)
}

// mismatchOf says why no checkpoint is that of a trusted root; nil where one is.
func (s *shelf) mismatchOf(t Trusted) error {
	var nearest error
	for _, c := range s.good {
		root := c.Metadata.Root
		anyVersion := Trusted{Type: t.Type, Hash: t.Hash}
		switch {
		case t.names(root) && root.Namespace == s.namespace:
			return nil
		case t.names(root):
			nearest = fmt.Errorf("%w: %s is of namespace %s, not of %s", ErrRefused, c.Path, root.Namespace, s.namespace)
		case anyVersion.names(root) && nearest == nil:
			nearest = fmt.Errorf("%w: %s is of version %d, and version %d is trusted", ErrRefused, c.Path, root.Version, t.Version)
		}
	}
	if nearest != nil {
		return nearest
	}
	return fmt.Errorf("%w: %s holds no checkpoint of %s%s", ErrRefused, s.dir, t, s.contents())
}

// contents lists what is in the directory, as far as that helps.
func (s *shelf) contents() string {
	const most = 4
	var text strings.Builder
	for i, c := range s.good {
		if i == most {
			fmt.Fprintf(&text, "\n    and %d others", len(s.good)-most)
			break
		}
		fmt.Fprintf(&text, "\n    it holds %s", c.Metadata.Root)
		if c.Metadata.Root.Namespace != s.namespace {
			fmt.Fprintf(&text, " of namespace %s", c.Metadata.Root.Namespace)
		}
	}
	for _, c := range s.damaged[:min(len(s.damaged), most)] {
		fmt.Fprintf(&text, "\n    unreadable: %s: %s", c.Path, c.Err)
	}
	return text.String()
}

// newest picks all checkpoints of the newest version.
func (s *shelf) newest() (*Plan, error) {
	var plan *Plan
	for _, c := range s.good {
		root := c.Metadata.Root
		switch {
		case root.Namespace != s.namespace || plan != nil && root.Version != plan.Version:
			continue
		case plan == nil:
			plan = &Plan{Version: root.Version}
		}
		for _, there := range plan.Roots() {
			if there.Type == root.Type {
				return nil, fmt.Errorf("%w: %s holds two %s roots of version %d, %s and %s; say with --root which is meant",
					ErrRefused, s.dir, root.Type, root.Version, there.Hash, root.Hash)
			}
		}
		plan.Sources = append(plan.Sources, Source{Path: c.Path, Metadata: c.Metadata})
	}
	if plan == nil {
		return nil, fmt.Errorf("%w: %s holds no checkpoint of namespace %s%s", ErrRefused, s.dir, s.namespace, s.contents())
	}
	for _, c := range s.damaged {
		version, err := strconv.ParseUint(filepath.Base(filepath.Dir(c.Path)), 10, 64)
		if err != nil || version >= plan.Version {
			return nil, fmt.Errorf("%w: a checkpoint that may be of the newest version can't be read: %s: %w", ErrRefused, c.Path, c.Err)
		}
	}
	return plan, nil
}
