package checkpoint

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"path"
	"runtime"
	"strings"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// An archive is read as what may come from anybody. Each header is looked at by itself before package tar is
// given its one block, so that none of the extensions of tar files, which ask for memory, come in: only
// regular files do. Names, their order and their number have to be those of the metadata, and lengths
// within the limits, before anything of a file is taken. What tar programs fill in (modes, owners, times)
// does not matter, so that an archive need not have been written here.

// maxArchiveTail is how many zeros may follow an archive: tar programs fill up whole records.
const maxArchiveTail = 1 << 20

// ImportOptions say how an archive is read.
type ImportOptions struct {
	// Namespace is the one that the checkpoint has to be of, unless it is nil.
	Namespace *common.Namespace
	// Limits bounds what the checkpoint may hold.
	Limits Limits
	// Workers is how many chunks are verified at once; 0 means GOMAXPROCS.
	Workers int
	// DryRun has the archive verified and nothing written. Chunks are held in memory then, as many as there
	// are workers and one more.
	DryRun bool
	// Progress is told how many bytes of the archive were read, of how many: 0 where that isn't known. It may
	// be nil.
	Progress func(done, total int64)
	// Verifying is told, from several goroutines, of each chunk that was verified when all are there: how many
	// of how many, and their bytes, of as many as were read. A dry run verifies as it reads. It may be nil.
	Verifying func(done, chunks int, bytes, total int64)
	// Logger takes messages; nil is none.
	Logger hclog.Logger
}

// Imported tells of an archive that was read.
type Imported struct {
	// Path is the checkpoint's directory; that it would have, for a dry run.
	Path string
	// Metadata and Manifest are the checkpoint's; Manifest is nil where the archive has none.
	Metadata *Metadata
	Manifest *Manifest
	// Bytes is the length of all chunks together, Entries the number of keys. Entries is 0 where Existed is
	// set.
	Bytes   int64
	Entries uint64
	// Existed says that the checkpoint was there already. Then only the archive's digests were checked.
	Existed bool
}

// ImportArchive reads an archive to its end and puts its checkpoint into dataDir, a directory of checkpoints
// that need not be there yet. Digests are checked as chunks come in; when all are there, the checkpoint is
// verified as by Verify; then it appears as one that was made here does. Where anything fails, nothing of it is
// left.
//
// What is no archive, or only the beginning of one, is ErrMalformedArchive (and io.ErrUnexpectedEOF). A
// checkpoint of the same root that is cut otherwise is ErrParametersDiffer where one is there already, a
// manifest that tells of something else ErrDamaged, another namespace db.ErrBadNamespace; all else is as for
// Verify.
func ImportArchive(ctx context.Context, r io.Reader, dataDir string, opts ImportOptions) (*Imported, error) {
	if opts.Logger == nil {
		opts.Logger = hclog.NewNullLogger()
	}
	creator, err := NewFileCreator(dataDir, nil, WithCreatorLogger(opts.Logger))
	if err != nil {
		return nil, err
	}
	i := &archiveImport{store: creator.(*fileCreator), opts: opts, archive: newArchiveReader(ctx, r, opts)}
	imported, err := i.run(ctx)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: importing an archive: %w", err)
	}
	return imported, nil
}

// archiveImport is the reading of one archive into a directory of checkpoints.
type archiveImport struct {
	store   *fileCreator
	opts    ImportOptions
	archive *archiveReader
}

func (i *archiveImport) run(ctx context.Context) (*Imported, error) {
	a := i.archive
	if err := a.begin(); err != nil {
		return nil, err
	}
	root := a.metadata.Root
	if ns := i.opts.Namespace; ns != nil && root.Namespace != *ns {
		return nil, fmt.Errorf("%w: it is of %s, not of %s", db.ErrBadNamespace, root.Namespace, ns)
	}
	imported := &Imported{Metadata: a.metadata, Manifest: a.manifest}
	var err error
	if imported.Path, imported.Existed, err = i.existing(); err != nil {
		return nil, err
	}
	switch {
	case imported.Existed:
		err = a.chunks(chunkTaker{create: func(int) (io.WriteCloser, error) { return notClosed{io.Discard}, nil }})
	case i.opts.DryRun:
		imported.Entries, err = i.verifyOnly(ctx)
	default:
		err = i.write(ctx, imported)
	}
	if err != nil {
		return nil, err
	}
	imported.Bytes = a.chunkBytes
	return imported, nil
}

// existing returns where the checkpoint is, and that it is there; where it isn't, where it would be.
func (i *archiveImport) existing() (dir string, existed bool, err error) {
	m := i.archive.metadata
	dir, there, err := i.store.find(m.Root)
	switch {
	case errors.Is(err, ErrCheckpointNotFound):
		dirs := checkpointDirs(i.store.path, m.Root)
		if _, err := i.store.readMetadata(dirs[0]); err == nil {
			return dirs[1], false, nil // another root of the version, with the same hash
		}
		return dirs[0], false, nil
	case err != nil:
		return "", false, fmt.Errorf("the checkpoint that is there: %w", err)
	case there.EncodedHash() != m.EncodedHash():
		return "", false, fmt.Errorf("%w: %s has %d chunks and the metadata hash %s, the archive's has %d and %s",
			ErrParametersDiffer, dir, len(there.Chunks), there.EncodedHash(), len(m.Chunks), m.EncodedHash())
	}
	return dir, true, syncPlace(i.store.path, dir)
}

// verifyOnly verifies the archive's checkpoint, chunk by chunk, in memory.
func (i *archiveImport) verifyOnly(ctx context.Context) (entries uint64, err error) {
	a := i.archive
	v := newVerifier("", i.verifyOptions())
	v.root = a.metadata.Root
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(v.workers)
	var chunk *bytes.Buffer
	err = a.chunks(chunkTaker{
		create: func(int) (io.WriteCloser, error) {
			chunk = &bytes.Buffer{}
			return notClosed{chunk}, gctx.Err()
		},
		done: func(index int) {
			b := chunk.Bytes()
			group.Go(func() error {
				if err := v.take(index, bytes.NewReader(b), a.metadata.Chunks[index]); err != nil {
					return fmt.Errorf("chunk %d: %w", index, err)
				}
				return nil
			})
		},
	})
	// What a chunk is bad for is why the reading was ended.
	if verr := group.Wait(); verr != nil {
		return 0, verr
	}
	if err != nil {
		return 0, err
	}
	report, err := v.finish(a.metadata)
	if err != nil {
		return 0, err
	}
	return report.Entries, a.checkManifest(report)
}

// write puts the archive's checkpoint into the directory.
func (i *archiveImport) write(ctx context.Context, imported *Imported) error {
	a, c := i.archive, i.store
	shop, err := openWorkshop(c.path)
	if err != nil {
		return err
	}
	defer c.closeWorkshop(shop)
	if err := sweep(c.path); err != nil {
		c.logger.Warn("what a crash left can't be removed", "err", err)
	}
	files := &checkpointFiles{dir: shop.result(), root: a.metadata.Root}
	create := func(index int) (io.WriteCloser, error) { return files.create(uint64(index)) }
	if err := a.chunks(chunkTaker{create: create}); err != nil {
		return err
	}
	if err := files.finish(ctx, a.metadata, a.manifest); err != nil {
		return err
	}
	report, err := Verify(ctx, shop.result(), i.verifyOptions()...)
	if err != nil {
		return err
	}
	if err := a.checkManifest(report); err != nil {
		return err
	}
	if imported.Path, imported.Existed, err = c.publish(shop, a.metadata.Root); err != nil {
		return err
	}
	if imported.Existed { // somebody else brought it meanwhile, and perhaps cut otherwise
		if _, _, err := i.existing(); err != nil {
			return err
		}
	} else {
		imported.Entries = report.Entries
	}
	c.index(ctx, shop)
	return nil
}

func (i *archiveImport) verifyOptions() []VerifyOption {
	workers := i.opts.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	opts := []VerifyOption{VerifyRoot(i.archive.metadata.Root), VerifyLimits(i.archive.limits), VerifyWorkers(workers)}
	if i.opts.Verifying != nil && !i.opts.DryRun {
		opts = append(opts, VerifyProgress(func(done VerifyCount) {
			i.opts.Verifying(done.Chunks, len(i.archive.metadata.Chunks), done.Bytes, i.archive.chunkBytes)
		}))
	}
	return opts
}

// archiveReader reads an archive from its beginning to its end.
type archiveReader struct {
	r      io.Reader
	limits Limits

	done, total int64
	progress    func(done, total int64)

	metadata *Metadata
	manifest *Manifest // nil where there is none
	first    *tar.Header

	chunkBytes int64
	block      [archiveBlock]byte
	buffer     []byte
}

func newArchiveReader(ctx context.Context, r io.Reader, opts ImportOptions) *archiveReader {
	a := &archiveReader{
		r: &contextReader{ctx, r}, limits: opts.Limits.withDefaults(), progress: opts.Progress,
		buffer: make([]byte, archiveBuffer),
	}
	if a.progress == nil {
		a.progress = func(int64, int64) {}
	}
	return a
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrMalformedArchive, fmt.Errorf(format, args...))
}

// Read reads from the archive, and tells of it.
func (a *archiveReader) Read(p []byte) (int, error) {
	n, err := a.r.Read(p)
	a.done += int64(n)
	a.progress(a.done, a.total)
	return n, err
}

// cut is the error of reading that came to the end too early, or failed.
func (a *archiveReader) cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return malformed("cut short at byte %d: %w", a.done, io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("reading it: %w", err)
}

// next reads the header of the next file; nil at the end.
func (a *archiveReader) next() (*tar.Header, error) {
	at := a.done
	if _, err := io.ReadFull(a, a.block[:]); err != nil {
		return nil, a.cut(err)
	}
	if isZero(a.block[:]) {
		for range archiveEndBlocks - 1 {
			if _, err := io.ReadFull(a, a.block[:]); err != nil {
				return nil, a.cut(err)
			}
			if !isZero(a.block[:]) {
				return nil, malformed("a block of zeros at byte %d", at)
			}
		}
		return nil, nil
	}
	if at == 0 {
		if err := a.compressed(); err != nil {
			return nil, err
		}
	}
	const typeAt = 156
	if kind := a.block[typeAt]; kind != tar.TypeReg && kind != 0 {
		return nil, malformed("an entry of type %q at byte %d: an archive holds only regular files", kind, at)
	}
	header, err := tar.NewReader(bytes.NewReader(a.block[:])).Next()
	if err != nil {
		return nil, malformed("header at byte %d: %w", at, err)
	}
	return header, nil
}

// compressed says which program has compressed what begins like the present block.
func (a *archiveReader) compressed() error {
	for _, c := range []struct{ magic, by string }{
		{"\x1f\x8b", "gzip"}, {"\x28\xb5\x2f\xfd", "zstd"}, {"\xfd7zXZ\x00", "xz"}, {"BZh", "bzip2"},
	} {
		if bytes.HasPrefix(a.block[:], []byte(c.magic)) {
			return malformed("compressed by %s: it has to be decompressed first", c.by)
		}
	}
	return nil
}

// copyFile copies a file of so many bytes to w, and reads what fills its last block.
func (a *archiveReader) copyFile(w io.Writer, size int64) error {
	n, err := io.CopyBuffer(w, io.LimitReader(a, size), a.buffer)
	if errors.Is(err, io.ErrUnexpectedEOF) { // from a reader that knows how much should have come
		return a.cut(err)
	}
	if err != nil {
		return fmt.Errorf("at byte %d: %w", a.done, err)
	}
	if n < size {
		return a.cut(io.EOF)
	}
	fill := a.block[:archiveFill(size)]
	if _, err := io.ReadFull(a, fill); err != nil {
		return a.cut(err)
	}
	if !isZero(fill) {
		return malformed("something between the files, before byte %d", a.done)
	}
	return nil
}

// readFile reads a file of at most limit bytes. Memory is taken as they come.
func (a *archiveReader) readFile(header *tar.Header, limit int64) ([]byte, error) {
	if header.Size > limit {
		return nil, malformed("%q has %d bytes, and can have %d", header.Name, header.Size, limit)
	}
	var b bytes.Buffer
	err := a.copyFile(&b, header.Size)
	return b.Bytes(), err
}

// begin reads what comes before the chunks: the metadata, and the manifest where there is one.
func (a *archiveReader) begin() error {
	header, err := a.next()
	switch {
	case err != nil:
		return err
	case header == nil:
		return malformed("it is empty")
	case path.Base(header.Name) != metadataName || strings.Count(header.Name, "/") != 2:
		return malformed("it begins with %q, and has to with VERSION/HASH/%s", header.Name, metadataName)
	}
	most, setting, limit := a.limits.metadataBytes()
	if header.Size > most {
		return exceeded(setting, limit, fmt.Sprintf("the checkpoint's metadata has %d bytes", header.Size))
	}
	b, err := a.readFile(header, most)
	if err != nil {
		return err
	}
	if a.metadata, err = DecodeMetadata(b); err != nil {
		return err
	}
	if err := a.limits.checkMetadata(a.metadata); err != nil {
		return err
	}
	dir := archiveDir(a.metadata.Root)
	if want := path.Join(dir, metadataName); header.Name != want {
		return malformed("%q is the metadata of %q", header.Name, want)
	}
	if a.first, err = a.next(); err != nil || a.first == nil || a.first.Name != path.Join(dir, manifestName) {
		return err
	}
	if b, err = a.readFile(a.first, maxManifestBytes(a.metadata)); err != nil {
		return err
	}
	manifest, err := decodeManifest(b, a.metadata)
	if err != nil {
		return err
	}
	a.manifest = archivedManifest(manifest)
	a.total = a.done + archiveEndBlocks*archiveBlock
	for i := range a.manifest.Chunks {
		a.total += archiveEntryBytes(min(a.manifest.Chunks[i].Bytes, a.limits.ChunkBytes))
	}
	a.first, err = a.next()
	return err
}

// chunkTaker is where the chunks of an archive go.
type chunkTaker struct {
	// create returns what a chunk is written to. It is closed in any case.
	create func(index int) (io.WriteCloser, error)
	// done tells that a chunk is there, its digest right; it may be nil.
	done func(index int)
}

// chunks reads all chunks, in order, and the archive's end.
func (a *archiveReader) chunks(taker chunkTaker) error {
	header := a.first
	for i := range a.metadata.Chunks {
		if i > 0 {
			var err error
			if header, err = a.next(); err != nil {
				return err
			}
		}
		if err := a.checkChunk(header, i); err != nil {
			return err
		}
		if err := a.chunk(header.Size, i, taker); err != nil {
			return fmt.Errorf("chunk %d: %w", i, err)
		}
		a.chunkBytes += header.Size
	}
	header, err := a.next()
	if err != nil {
		return err
	}
	if header != nil {
		return malformed("%q is more than the metadata tells of", header.Name)
	}
	return a.tail()
}

// checkChunk says whether a header is that of a chunk.
func (a *archiveReader) checkChunk(header *tar.Header, index int) error {
	chunks := len(a.metadata.Chunks)
	if header == nil {
		return malformed("it ends with %d chunks of %d", index, chunks)
	}
	want := archiveChunkName(a.metadata.Root, index)
	switch {
	case header.Name != want:
		return malformed("%q comes where %q has to", header.Name, want)
	case header.Size > a.limits.ChunkBytes:
		return exceeded("ChunkBytes", a.limits.ChunkBytes, fmt.Sprintf("chunk %d has %d", index, header.Size))
	case a.manifest != nil && a.manifest.Chunks[index].Bytes != header.Size:
		return fmt.Errorf("%w: chunk %d has %d bytes, and the manifest tells of %d", ErrDamaged,
			index, header.Size, a.manifest.Chunks[index].Bytes)
	}
	return nil
}

func (a *archiveReader) chunk(size int64, index int, taker chunkTaker) error {
	out, err := taker.create(index)
	if err != nil {
		return err
	}
	digest := sha512.New512_256()
	err = errors.Join(a.copyFile(io.MultiWriter(digest, out), size), out.Close())
	if err != nil {
		return err
	}
	var got hash.Hash
	digest.Sum(got[:0])
	if want := a.metadata.Chunks[index]; got != want {
		return fmt.Errorf("%w: digest of its %d bytes is %s, not %s", ErrChunkCorrupted, size, got, want)
	}
	if taker.done != nil {
		taker.done(index)
	}
	return nil
}

// tail reads what follows the archive's end: zeros, and not many.
func (a *archiveReader) tail() error {
	for left := maxArchiveTail; ; {
		n, err := a.Read(a.buffer)
		if !isZero(a.buffer[:n]) {
			return malformed("something follows its end")
		}
		if left -= n; left < 0 {
			return malformed("more than %d zeros follow its end", maxArchiveTail)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return a.cut(err)
		}
	}
}

// checkManifest compares what the manifest tells with what was found.
func (a *archiveReader) checkManifest(report *Report) error {
	if m := a.manifest; m != nil && (m.Bytes != report.Bytes || m.Entries != report.Entries || m.Root != report.Root) {
		return fmt.Errorf("%w: the manifest tells of %d bytes and %d entries, and there are %d and %d", ErrDamaged,
			m.Bytes, m.Entries, report.Bytes, report.Entries)
	}
	return nil
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// notClosed is a writer that nobody has to close.
type notClosed struct{ io.Writer }

func (notClosed) Close() error { return nil }
