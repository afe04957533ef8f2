package checkpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// IndexName is the name of the index at the top of a directory of checkpoints.
const IndexName = "index.json"

const (
	// indexFormat is the only format of indexes.
	indexFormat = 1
	// maxIndexBytes is more than the index of a hundred thousand checkpoints takes.
	maxIndexBytes = 64 << 20
)

// Index is what a directory of checkpoints holds, for those that can't list it: behind a web server, or in
// an object store. It is the only file there that changes, and is replaced as a whole. It says where to
// look, and no more: who knows version and root needs no index, and nobody has to believe it.
type Index struct {
	// Format is the index's format.
	Format int `json:"format"`
	// Checkpoints are those that can be read, the newest version first.
	Checkpoints []IndexEntry `json:"checkpoints"`
}

// IndexEntry tells of one checkpoint.
type IndexEntry struct {
	// Path is the checkpoint's directory, relative to the index, with slashes.
	Path string `json:"path"`
	// Namespace, Version, Type and Root are the checkpoint's root; Type is as in node.RootType's String.
	Namespace common.Namespace `json:"namespace"`
	Version   uint64           `json:"version"`
	Type      string           `json:"type"`
	Root      hash.Hash        `json:"root"`
	// MetadataHash is the hash of the checkpoint's metadata.
	MetadataHash hash.Hash `json:"metadata_hash"`
	// Bytes is the length of all chunks together.
	Bytes int64 `json:"bytes"`
}

// EncodeIndex returns the bytes of an index.
func EncodeIndex(index *Index) ([]byte, error) {
	b, err := json.MarshalIndent(index, "", " ")
	if err != nil {
		return nil, err
	}
	return append(b, '\n'), nil
}

// DecodeIndex decodes an index. One that is no index, or whose paths lead out of its directory, is
// ErrDamaged.
func DecodeIndex(b []byte) (*Index, error) {
	if len(b) > maxIndexBytes {
		return nil, fmt.Errorf("%w: index of %d bytes, and there are never more than %d", ErrDamaged, len(b), maxIndexBytes)
	}
	var index Index
	if err := json.Unmarshal(b, &index); err != nil {
		return nil, fmt.Errorf("%w: index: %w", ErrDamaged, err)
	}
	if index.Format != indexFormat {
		return nil, fmt.Errorf("%w: index of format %d, and only %d is known", ErrDamaged, index.Format, indexFormat)
	}
	for i := range index.Checkpoints {
		e := &index.Checkpoints[i]
		switch {
		case !fs.ValidPath(e.Path) || e.Path == "." || strings.Contains(e.Path, `\`):
			return nil, fmt.Errorf("%w: index: path %q", ErrDamaged, e.Path)
		case e.Bytes < 0:
			return nil, fmt.Errorf("%w: index: %s has %d bytes", ErrDamaged, e.Path, e.Bytes)
		case e.Type != node.RootTypeState.String() && e.Type != node.RootTypeIO.String():
			return nil, fmt.Errorf("%w: index: %s is of the type %q", ErrDamaged, e.Path, e.Type)
		}
	}
	return &index, nil
}

// ReadIndex reads the index of a directory of checkpoints.
func ReadIndex(dataDir string) (*Index, error) {
	b, err := readBounded(filepath.Join(dataDir, IndexName), maxIndexBytes)
	if err != nil {
		return nil, err
	}
	return DecodeIndex(b)
}

// indexAttempts is how often the index is written anew because the directory has changed meanwhile.
const indexAttempts = 10

// updateIndex brings the index up to date; replace puts the bytes that it is given in its place. Several
// processes may do so at once: each compares what it wrote with the directory afterwards, so that the last
// one to write has seen all changes.
func (d *directory) updateIndex(ctx context.Context, replace func(b []byte) error) error {
	known, err := ReadIndex(d.path)
	if err != nil {
		known = &Index{} // there is none, or none that can be used: it is made from the directory
	}
	index, err := d.makeIndex(ctx, known)
	if err != nil {
		return err
	}
	for range indexAttempts {
		b, err := EncodeIndex(index)
		if err != nil {
			return err
		}
		if err := replace(b); err != nil {
			return err
		}
		again, err := d.makeIndex(ctx, index)
		if err != nil {
			return err
		}
		if slices.Equal(again.Checkpoints, index.Checkpoints) {
			return nil
		}
		index = again
	}
	return errors.New("checkpoint: the index is never up to date: others change the directory all the time")
}

// makeIndex makes the index of what is in the directory. What a known index tells of a checkpoint is not
// found out again.
func (d *directory) makeIndex(ctx context.Context, known *Index) (*Index, error) {
	all, err := d.list(ctx)
	if err != nil {
		return nil, err
	}
	bytes := make(map[IndexEntry]int64, len(known.Checkpoints)) // by all but the bytes
	for _, e := range known.Checkpoints {
		n := e.Bytes
		e.Bytes = 0
		bytes[e] = n
	}
	index := &Index{Format: indexFormat, Checkpoints: []IndexEntry{}}
	for _, s := range all {
		if s.Err != nil {
			continue
		}
		path, err := filepath.Rel(d.path, s.Path)
		if err != nil {
			return nil, err
		}
		root := s.Metadata.Root
		e := IndexEntry{
			Path: filepath.ToSlash(path), Namespace: root.Namespace, Version: root.Version, Type: root.Type.String(),
			Root: root.Hash, MetadataHash: s.Metadata.EncodedHash(),
		}
		n, ok := bytes[e]
		if !ok {
			if n, err = chunkBytes(ctx, s.Path, s.Metadata); errors.Is(err, fs.ErrNotExist) {
				continue // not whole: being copied here, or deleted
			} else if err != nil {
				return nil, err
			}
		}
		e.Bytes = n
		index.Checkpoints = append(index.Checkpoints, e)
	}
	return index, nil
}

// chunkBytes returns the length of all chunks of the checkpoint in dir, whose metadata is m.
func chunkBytes(ctx context.Context, dir string, m *Metadata) (n int64, err error) {
	if manifest, err := ReadManifest(dir, m); err == nil {
		return manifest.Bytes, nil
	}
	for i := range m.Chunks {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		info, err := os.Stat(chunkPath(dir, uint64(i)))
		if err != nil {
			return 0, err
		}
		n += info.Size()
	}
	return n, nil
}
