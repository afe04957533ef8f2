package checkpoint

import (
	"archive/tar"
	"context"
	"crypto/rand"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/ckpt-project/ckpt/framework/common/durable"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// An archive is one checkpoint as a tar file (the format called ustar): its files under the names that
// they have in a directory of checkpoints, the metadata first, then the manifest where there is one, then
// the chunks in order, then the two blocks of zeros that end a tar file. Nothing else is in it.
//
// It can be written and read from beginning to end, through a pipe. The bytes are a function of the
// checkpoint and its manifest: modes, owners and times are the same in all archives.

const (
	// archiveBlock is the unit of tar files: each header is one, each file is filled up to whole ones.
	archiveBlock = 512
	// archiveEndBlocks is how many blocks of zeros end a tar file.
	archiveEndBlocks = 2
	// archiveBuffer is how much of a chunk is read at once.
	archiveBuffer = 256 << 10
)

// archivedManifest is a checkpoint's manifest as an archive has it. Who made the checkpoint stays behind: a
// checkpointer that deletes what it has made need not know what came from elsewhere.
func archivedManifest(manifest *Manifest) *Manifest {
	if manifest == nil {
		return nil
	}
	m := *manifest
	m.Origin = ""
	return &m
}

// archiveDir is the name of the directory that all files of an archive are in.
func archiveDir(root node.Root) string {
	return path.Join(strconv.FormatUint(root.Version, 10), root.Hash.Hex())
}

// archiveChunkName is the name of a chunk in the archive of a root's checkpoint.
func archiveChunkName(root node.Root, index int) string {
	return path.Join(archiveDir(root), chunksName, strconv.Itoa(index))
}

// archiveEntryBytes is how much of an archive a file of so many bytes takes.
func archiveEntryBytes(size int64) int64 {
	return archiveBlock + size + archiveFill(size)
}

// archiveFill is how many zeros follow a file of so many bytes.
func archiveFill(size int64) int64 { return -size & (archiveBlock - 1) }

// ExportOptions say how an archive is written.
type ExportOptions struct {
	// Replace has WriteArchiveFile replace a file that is there.
	Replace bool
	// DryRun writes nothing.
	DryRun bool
	// Progress is told how many bytes of how many are written; it may be nil.
	Progress func(done, total int64)
	// Logger takes messages; nil is none.
	Logger hclog.Logger
}

// Exported tells of an archive that was written.
type Exported struct {
	// Metadata and Manifest are the checkpoint's; Manifest is nil where the archive has none.
	Metadata *Metadata
	Manifest *Manifest
	// Bytes is the archive's length, ChunkBytes that of all chunks together.
	Bytes      int64
	ChunkBytes int64
}

// WriteArchive writes the checkpoint in dir (the directory that its metadata lies in) as an archive to w.
// Digests are checked on the way: where one is wrong, it is ErrChunkCorrupted, and what was written by then
// is not an archive. A chunk that isn't there is ErrChunkNotFound, before anything is written. No checkpointer deletes
// the checkpoint meanwhile.
func WriteArchive(ctx context.Context, w io.Writer, dir string, opts ExportOptions) (*Exported, error) {
	release, err := holdLease(dir)
	if err != nil {
		return nil, err
	}
	defer release()
	a, err := planArchive(ctx, dir, opts)
	if err != nil {
		return nil, err
	}
	if !opts.DryRun {
		if err := a.write(ctx, w); err != nil {
			return nil, fmt.Errorf("checkpoint: archive of %s: %w", a.Metadata.Root, err)
		}
	}
	return &a.Exported, nil
}

// WriteArchiveFile is WriteArchive into a file, for its owner alone. The file is written aside in the same
// directory and appears when all of it is safe from a loss of power; where it fails, there is no file. One that
// is there already is fs.ErrExist, unless it is to be replaced.
func WriteArchiveFile(ctx context.Context, name, dir string, opts ExportOptions) (*Exported, error) {
	if err := checkArchiveTarget(name, opts.Replace); err != nil {
		return nil, err
	}
	release, err := holdLease(dir)
	if err != nil {
		return nil, err
	}
	defer release()
	a, err := planArchive(ctx, dir, opts)
	if err != nil {
		return nil, err
	}
	if opts.DryRun {
		return &a.Exported, nil
	}
	aside := filepath.Join(filepath.Dir(name), ".ckpt-archive-"+rand.Text())
	f, err := createFile(aside)
	if err != nil {
		return nil, err
	}
	err = errors.Join(a.write(ctx, f), f.Close())
	if err == nil {
		err = appear(aside, name, opts.Replace)
	}
	if err != nil {
		err = errors.Join(err, removeIfThere(aside))
	} else {
		err = durable.SyncDir(filepath.Dir(name))
	}
	if err != nil {
		return nil, fmt.Errorf("checkpoint: archive of %s: %w", a.Metadata.Root, err)
	}
	return &a.Exported, nil
}

// checkArchiveTarget says why an archive can't be written to a file of this name.
func checkArchiveTarget(name string, replace bool) error {
	info, err := os.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("checkpoint: %s is no regular file: %w", name, fs.ErrExist)
	case !replace:
		return fmt.Errorf("checkpoint: %s: %w", name, fs.ErrExist)
	}
	return nil
}

// appear gives a finished file its name.
func appear(aside, name string, replace bool) error {
	if replace {
		return os.Rename(aside, name)
	}
	// A link, unlike a rename, never replaces what somebody else has put there meanwhile.
	err := os.Link(aside, name)
	switch {
	case err == nil:
		return os.Remove(aside)
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("%s: %w", name, fs.ErrExist)
	}
	// There are file systems without links.
	if err := checkArchiveTarget(name, false); err != nil {
		return err
	}
	return os.Rename(aside, name)
}

func removeIfThere(name string) error {
	if err := os.Remove(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// archivePlan is an archive that is to be written.
type archivePlan struct {
	Exported
	dir      string
	manifest []byte // its encoding; nil where there is none
	progress func(done, total int64)
}

// planArchive reads all but the chunks, and sees that these are there.
func planArchive(ctx context.Context, dir string, opts ExportOptions) (*archivePlan, error) {
	a := &archivePlan{dir: dir, progress: opts.Progress}
	if a.progress == nil {
		a.progress = func(int64, int64) {}
	}
	logger := opts.Logger
	if logger == nil {
		logger = hclog.NewNullLogger()
	}
	var err error
	a.Metadata, err = readMetadata(dir, Limits{})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrCheckpointNotFound, err)
	}
	if err != nil {
		return nil, err
	}
	manifest, unusable := ReadManifest(dir, a.Metadata)
	if errors.Is(unusable, fs.ErrNotExist) {
		unusable = nil
	}
	if unusable != nil && !errors.Is(unusable, ErrDamaged) {
		return nil, unusable
	}
	for i := range a.Metadata.Chunks {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		f, size, err := openChunk(dir, i)
		if err != nil {
			return nil, err
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
		if manifest != nil && manifest.Chunks[i].Bytes != size {
			// Which of the two is wrong, the chunk's digest will tell.
			manifest, unusable = nil, fmt.Errorf("%w: the manifest tells of another length of chunk %d", ErrDamaged, i)
		}
		a.ChunkBytes += size
		a.Bytes += archiveEntryBytes(size)
	}
	if manifest != nil && (manifest.Bytes != a.ChunkBytes || manifest.Root != a.Metadata.Root) {
		manifest, unusable = nil, fmt.Errorf("%w: the manifest tells of another length of all chunks, or another root", ErrDamaged)
	}
	if unusable != nil {
		logger.Warn("the archive has no manifest: the checkpoint's can't be used", "path", dir, "err", unusable)
	}
	if a.Manifest = archivedManifest(manifest); a.Manifest != nil {
		if a.manifest, err = encodeManifest(a.Manifest); err != nil {
			return nil, err
		}
		a.Bytes += archiveEntryBytes(int64(len(a.manifest)))
	}
	a.Bytes += archiveEntryBytes(int64(len(EncodeMetadata(a.Metadata)))) + archiveEndBlocks*archiveBlock
	return a, nil
}

// openChunk opens a chunk of the checkpoint in dir, and tells its length.
func openChunk(dir string, index int) (*os.File, int64, error) {
	f, err := openRegular(chunkPath(dir, uint64(index)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, fmt.Errorf("%w: %w", ErrChunkNotFound, err)
	}
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

// write writes the archive.
func (a *archivePlan) write(ctx context.Context, w io.Writer) error {
	counted := &progressWriter{w: w, total: a.Bytes, progress: a.progress}
	tw := tar.NewWriter(counted)
	dir := archiveDir(a.Metadata.Root)
	if err := archiveFile(tw, path.Join(dir, metadataName), EncodeMetadata(a.Metadata)); err != nil {
		return err
	}
	if a.manifest != nil {
		if err := archiveFile(tw, path.Join(dir, manifestName), a.manifest); err != nil {
			return err
		}
	}
	buffer := make([]byte, archiveBuffer)
	for i := range a.Metadata.Chunks {
		if err := a.writeChunk(ctx, tw, i, buffer); err != nil {
			return fmt.Errorf("chunk %d: %w", i, err)
		}
	}
	return tw.Close()
}

func (a *archivePlan) writeChunk(ctx context.Context, tw *tar.Writer, index int, buffer []byte) error {
	f, size, err := openChunk(a.dir, index)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := tw.WriteHeader(archiveHeader(archiveChunkName(a.Metadata.Root, index), size)); err != nil {
		return err
	}
	digest := sha512.New512_256()
	n, err := io.CopyBuffer(io.MultiWriter(digest, tw), &contextReader{ctx, io.LimitReader(f, size)}, buffer)
	if err != nil {
		return err
	}
	var got hash.Hash
	digest.Sum(got[:0])
	if want := a.Metadata.Chunks[index]; n != size || got != want {
		return fmt.Errorf("%w: digest of its %d bytes is %s, not %s", ErrChunkCorrupted, n, got, want)
	}
	return nil
}

// archiveFile writes a file that is in memory.
func archiveFile(tw *tar.Writer, name string, b []byte) error {
	if err := tw.WriteHeader(archiveHeader(name, int64(len(b)))); err != nil {
		return err
	}
	_, err := tw.Write(b)
	return err
}

// archiveHeader is the header of a file in an archive. What tar programs make of it is for the owner alone.
func archiveHeader(name string, size int64) *tar.Header {
	return &tar.Header{
		Format: tar.FormatUSTAR, Typeflag: tar.TypeReg,
		Name: name, Size: size, Mode: fileMode, ModTime: time.Unix(0, 0),
	}
}

// progressWriter tells how much was written.
type progressWriter struct {
	w           io.Writer
	done, total int64
	progress    func(done, total int64)
}

func (p *progressWriter) Write(b []byte) (int, error) {
	n, err := p.w.Write(b)
	p.done += int64(n)
	p.progress(p.done, p.total)
	return n, err
}
