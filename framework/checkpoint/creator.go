package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/ckpt-project/ckpt/framework/common/durable"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// releaseTimeout is how long ending a pin may take when its owner's context is done already.
const releaseTimeout = 10 * time.Second

// indexTimeout is how long writing the index may take: it reads the metadata of all checkpoints.
const indexTimeout = time.Minute

// Inspector is what a Creator of files can tell beside. What NewFileCreator returns is one.
type Inspector interface {
	// Describe returns the manifest and the absolute path of a root's checkpoint. The manifest is nil where
	// the checkpoint has none that can be used: it was made elsewhere.
	Describe(ctx context.Context, root node.Root) (manifest *Manifest, path string, err error)
	// List returns all checkpoints, of all namespaces, the newest version first. Those that can't be read
	// are in the list, with the reason.
	List(ctx context.Context) ([]Stored, error)
}

// CreatorOption is an option of NewFileCreator.
type CreatorOption func(*fileCreator)

// WithThreads chooses the layout of n threads; 0 and 1 are the sequential layout, which is the default.
// It is part of what makes two checkpoints equal, and has nothing to do with how many goroutines work.
func WithThreads(n int) CreatorOption { return func(c *fileCreator) { c.threads = layoutThreads(n) } }

// WithWorkers sets how many chunks are compressed and written at once; the default is GOMAXPROCS and a few
// more, that wait for the disk. Each takes some 5 MiB of memory, and the length of its longest value.
func WithWorkers(n int) CreatorOption { return func(c *fileCreator) { c.workers = n } }

// WithCreatorLimits bounds what checkpoints are made to hold: what can't be restored under these limits is
// ErrLimitExceeded when it is made. Metadata that is there is read under them, too.
func WithCreatorLimits(limits Limits) CreatorOption {
	return func(c *fileCreator) { c.limits = limits }
}

// Verification says whether a checkpoint is verified, as by Verify, before it appears.
type Verification int

const (
	// VerifyUnlessIntegrity verifies where the database does not declare that it finds by itself what is
	// damaged (see db.Capabilities): elsewhere, damage to the files as they are written is all that could be
	// found.
	VerifyUnlessIntegrity Verification = iota
	// VerifyAlways verifies every checkpoint, while it is made. It costs more than making it.
	VerifyAlways
	// VerifyNever verifies none.
	VerifyNever
)

// WithVerification sets which checkpoints are verified before they appear; the default is
// VerifyUnlessIntegrity.
func WithVerification(v Verification) CreatorOption {
	return func(c *fileCreator) { c.verification = v }
}

// WithCreatorLogger sets where messages go; by default there are none.
func WithCreatorLogger(logger hclog.Logger) CreatorOption {
	return func(c *fileCreator) { c.logger = logger }
}

// WithProgress sets what is told, from several goroutines, of each chunk that was made, and verified
// where it is: how many there are so far, and their bytes and entries.
func WithProgress(progress func(root node.Root, chunks uint64, bytes int64, entries uint64)) CreatorOption {
	return func(c *fileCreator) { c.progress = progress }
}

type fileCreator struct {
	directory
	ndb     db.NodeDB
	threads int
	workers int

	verification Verification
	progress     func(root node.Root, chunks uint64, bytes int64, entries uint64)

	mu     sync.Mutex
	making map[node.Root]chan struct{} // closed when the making has ended
}

var (
	_ Creator   = (*fileCreator)(nil)
	_ Inspector = (*fileCreator)(nil)
	_ Keeper    = (*fileCreator)(nil)
)

// NewFileCreator returns a creator that makes checkpoints of what is in ndb, and keeps them in dataDir
// (see package). The directory is made when the first checkpoint is. Several creators, in several
// processes, can share it.
//
// ndb may be nil: then checkpoints can be provided and deleted, and not created.
func NewFileCreator(dataDir string, ndb db.NodeDB, opts ...CreatorOption) (Creator, error) {
	abs, err := filepath.Abs(dataDir)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: directory: %w", err)
	}
	c := &fileCreator{
		directory: directory{path: abs, logger: hclog.NewNullLogger(), grace: leaseGrace},
		ndb:       ndb,
		threads:   1,
		making:    make(map[node.Root]chan struct{}),
	}
	for _, opt := range opts {
		opt(c)
	}
	c.limits = c.limits.withDefaults()
	return c, nil
}

func (c *fileCreator) GetCheckpoints(ctx context.Context, request *GetCheckpointsRequest) ([]*Metadata, error) {
	all, err := c.list(ctx)
	if err != nil {
		return nil, err
	}
	return choose(c.logger, all, request), nil
}

func (c *fileCreator) GetCheckpointChunk(ctx context.Context, chunk *ChunkMetadata, w io.Writer) error {
	dir, m, err := c.get(chunk.Version, chunk.Root)
	if err != nil {
		return err
	}
	return c.copyChunk(ctx, dir, m, chunk, w)
}

func (c *fileCreator) GetCheckpoint(_ context.Context, version uint16, root node.Root) (*Metadata, error) {
	_, m, err := c.get(version, root)
	return m, err
}

func (c *fileCreator) get(version uint16, root node.Root) (string, *Metadata, error) {
	if version != checkpointVersion {
		return "", nil, fmt.Errorf("%w: version %d of the format", ErrCheckpointNotFound, version)
	}
	return c.find(root)
}

func (c *fileCreator) List(ctx context.Context) ([]Stored, error) { return c.list(ctx) }

func (c *fileCreator) Describe(_ context.Context, root node.Root) (*Manifest, string, error) {
	dir, m, err := c.find(root)
	if err != nil {
		return nil, "", err
	}
	return c.manifest(dir, m), dir, nil
}

// manifest returns a checkpoint's manifest, nil where there is none that can be used.
func (c *fileCreator) manifest(dir string, m *Metadata) *Manifest {
	manifest, err := ReadManifest(dir, m)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.logger.Warn("checkpoint's manifest can't be used", "path", dir, "err", err)
	}
	return manifest
}

func (c *fileCreator) DeleteCheckpoint(ctx context.Context, version uint16, root node.Root) error {
	unlock, err := c.lock(ctx, root)
	if err != nil {
		return err
	}
	defer unlock()
	dir, _, err := c.get(version, root)
	if errors.Is(err, ErrDamaged) || errors.Is(err, ErrLimitExceeded) {
		// Its metadata doesn't say what it is of, or can't be read to say it; its name does, unless another is there, too.
		dir, err = CheckpointDir(c.path, root), nil
		if m, merr := c.readMetadata(dir); merr == nil && m.Root != root {
			dir = checkpointDirs(c.path, root)[1]
		}
	}
	if err != nil {
		return err
	}
	err = c.remove(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s", ErrCheckpointNotFound, root)
	}
	if err != nil {
		return fmt.Errorf("checkpoint: deleting %s: %w", dir, err)
	}
	shop, err := openWorkshop(c.path)
	if err != nil {
		c.logger.Warn("index can't be written", "path", c.path, "err", err)
		return nil
	}
	defer c.closeWorkshop(shop)
	c.index(ctx, shop)
	return nil
}

// index brings the index up to date after a checkpoint came or went, also where ctx ends just now. The
// checkpoint is as good without.
func (c *fileCreator) index(ctx context.Context, shop *workshop) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), indexTimeout)
	defer cancel()
	err := c.updateIndex(ctx, func(b []byte) error { return shop.replace(b, filepath.Join(c.path, IndexName)) })
	if err != nil {
		c.logger.Warn("index can't be written", "path", c.path, "err", err)
	}
}

func (c *fileCreator) closeWorkshop(shop *workshop) {
	if err := shop.close(); err != nil {
		c.logger.Warn("directory can't be removed", "path", shop.path, "err", err)
	}
}

// lock waits until nobody else in this process makes or deletes the checkpoint of root.
func (c *fileCreator) lock(ctx context.Context, root node.Root) (unlock func(), err error) {
	for {
		c.mu.Lock()
		busy, ok := c.making[root]
		if !ok {
			done := make(chan struct{})
			c.making[root] = done
			c.mu.Unlock()
			return func() {
				c.mu.Lock()
				delete(c.making, root)
				c.mu.Unlock()
				close(done)
			}, nil
		}
		c.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (c *fileCreator) CreateCheckpoint(ctx context.Context, root node.Root, chunkSize uint64) (*Metadata, error) {
	if c.ndb == nil {
		return nil, fmt.Errorf("checkpoint: no database to make a checkpoint of: %w", db.ErrUnsupported)
	}
	if !root.Type.IsValid() {
		return nil, fmt.Errorf("checkpoint: %w: %s", db.ErrMalformed, root.Type)
	}
	if ns := c.ndb.Info().Namespace; root.Namespace != ns {
		return nil, fmt.Errorf("checkpoint: %w: root of %s, database of %s", db.ErrBadNamespace, root.Namespace, ns)
	}
	unlock, err := c.lock(ctx, root)
	if err != nil {
		return nil, err
	}
	defer unlock()

	if m, err := c.existing(root, chunkSize); !errors.Is(err, ErrCheckpointNotFound) {
		return m, err
	}
	m, err := c.create(ctx, root, chunkSize)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: creating that of %s: %w", root, err)
	}
	return m, nil
}

// existing returns the checkpoint of root that is there already.
func (c *fileCreator) existing(root node.Root, chunkSize uint64) (*Metadata, error) {
	dir, m, err := c.find(root)
	if err != nil {
		return nil, err
	}
	manifest := c.manifest(dir, m)
	if manifest != nil && (manifest.ChunkSize != chunkSize || manifest.Threads != c.threads) {
		return nil, fmt.Errorf("%w: %s has chunk size %d and threads %d, asked for were %d and %d",
			ErrParametersDiffer, dir, manifest.ChunkSize, manifest.Threads, chunkSize, c.threads)
	}
	if err := syncPlace(c.path, dir); err != nil {
		return nil, fmt.Errorf("checkpoint: that of %s is there already: %w", root, err)
	}
	return m, nil
}

// create makes the checkpoint of a root that has none.
func (c *fileCreator) create(ctx context.Context, root node.Root, chunkSize uint64) (m *Metadata, err error) {
	pin, err := c.ndb.Pin(ctx, root.Version, "checkpoint of "+root.String())
	if err != nil {
		return nil, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
		defer cancel()
		if err := pin.Release(ctx); err != nil {
			c.logger.Warn("pin of a version can't be released", "version", root.Version, "err", err)
		}
	}()
	if ok, err := c.ndb.HasRoot(ctx, root); err != nil {
		return nil, err
	} else if !ok {
		return nil, db.ErrRootNotFound
	}

	shop, err := openWorkshop(c.path)
	if err != nil {
		return nil, err
	}
	defer c.closeWorkshop(shop)
	if err := sweep(c.path); err != nil {
		c.logger.Warn("what a crash left can't be removed", "err", err)
	}

	started := time.Now()
	files := &checkpointFiles{dir: shop.result(), root: root, progress: c.progress, verifier: c.verifier(shop.result(), root)}
	cut := &cutter{ndb: c.ndb, root: root, size: chunkSize, threads: c.threads, workers: c.workers, limits: c.limits, files: files}
	chunks, err := cut.cut(ctx)
	if err != nil {
		return nil, err
	}
	m = files.metadata(chunks)
	if err := c.limits.checkMetadata(m); err != nil {
		return nil, err
	}
	manifest := newManifest(m, files.chunks[:chunks])
	manifest.ChunkSize, manifest.Threads = chunkSize, c.threads
	manifest.Started, manifest.Finished = started.UTC(), time.Now().UTC()
	manifest.Origin, manifest.Software = originOf(ctx), software()
	if err := files.finish(ctx, m, manifest); err != nil {
		return nil, err
	}
	if files.verifier != nil {
		c.logger.Debug("checkpoint was verified", "root", root)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	_, existed, err := c.publish(shop, root)
	if err == nil && existed { // somebody else made it meanwhile
		m, err = c.existing(root, chunkSize)
	}
	if err != nil {
		return nil, err
	}
	c.index(ctx, shop)
	return m, nil
}

// verifier returns what verifies a checkpoint of root in dir as it is made; nil where the setting says not to.
func (c *fileCreator) verifier(dir string, root node.Root) *verifier {
	if c.verification == VerifyNever || c.verification == VerifyUnlessIntegrity && c.ndb.Info().Capabilities.Integrity {
		c.logger.Debug("checkpoint is not verified, as is set", "root", root)
		return nil
	}
	v := newVerifier(dir, []VerifyOption{VerifyLimits(c.limits)})
	v.root = root
	return v
}

// publish puts a finished checkpoint of a root into its place, and tells which that is. Where one of the root is there
// already, it leaves that, and says so.
func (c *fileCreator) publish(shop *workshop, root node.Root) (dir string, existed bool, err error) {
	for _, dir := range checkpointDirs(c.path, root) {
		taken, err := c.place(shop, dir)
		if err != nil {
			return "", false, err
		}
		if !taken {
			return dir, false, nil
		}
		if there, err := c.readMetadata(dir); err == nil && there.Root == root {
			return dir, true, syncPlace(c.path, dir)
		}
	}
	return "", false, fmt.Errorf("%s and its neighbour hold checkpoints of other roots: %w", CheckpointDir(c.path, root), fs.ErrExist)
}

// place renames a finished checkpoint to dir, unless there is one.
func (c *fileCreator) place(shop *workshop, dir string) (taken bool, err error) {
	// Where nothing is there, whatever comes meanwhile comes whole, and renaming fails: asked in the other order, it
	// would be taken for what has no metadata.
	if _, err := os.Lstat(dir); err == nil {
		if _, err := os.Lstat(filepath.Join(dir, metadataName)); err == nil {
			return true, nil
		}
		// Chunks without metadata: what was copied here in part, or deleted in part by another program.
		if err := discard(c.path, dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	err = shop.publish(c.path, dir)
	if errors.Is(err, fs.ErrExist) {
		return true, nil
	}
	return false, err
}

// checkpointFiles are the files of a checkpoint in the making.
type checkpointFiles struct {
	dir      string
	root     node.Root
	progress func(root node.Root, chunks uint64, bytes int64, entries uint64)
	verifier *verifier // nil where nothing is verified

	mu      sync.Mutex
	chunks  []ChunkManifest // by index; a digest of zeros where it isn't done
	count   uint64
	bytes   int64
	entries uint64
	unsafe  []string // paths of files to make safe
}

func (f *checkpointFiles) create(index uint64) (io.WriteCloser, error) {
	file, err := createFile(chunkPath(f.dir, index))
	if err != nil {
		return nil, err
	}
	return &chunkFile{safeFile: file, later: f.note}, nil
}

// note notes a file that has yet to be made safe.
func (f *checkpointFiles) note(path string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unsafe = append(f.unsafe, path)
}

// done verifies a chunk, from its file, and notes what it holds.
func (f *checkpointFiles) done(ctx context.Context, index uint64, info chunkInfo) error {
	if f.verifier != nil {
		if err := f.verifier.chunk(ctx, int(index), info.digest); err != nil {
			return unverified(err)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for uint64(len(f.chunks)) <= index {
		f.chunks = append(f.chunks, ChunkManifest{})
	}
	f.chunks[index] = ChunkManifest{Digest: info.digest, Bytes: info.bytes, RawBytes: info.raw, Entries: info.entries, Nodes: info.nodes}
	f.count++
	f.bytes += info.bytes
	f.entries += info.entries
	if f.progress != nil {
		f.progress(f.root, f.count, f.bytes, f.entries)
	}
	return nil
}

// metadata is that of a checkpoint with so many chunks, which are all done.
func (f *checkpointFiles) metadata(chunks uint64) *Metadata {
	m := &Metadata{Version: checkpointVersion, Root: f.root, Chunks: make([]hash.Hash, chunks)}
	for i := range m.Chunks {
		m.Chunks[i] = f.chunks[i].Digest
	}
	return m
}

func unverified(err error) error {
	return fmt.Errorf("what was made does not verify, and is thrown away: %w", err)
}

// finish says whether the chunks that were verified are the whole tree, and writes what lies beside them, the
// metadata last. There may be no manifest.
func (f *checkpointFiles) finish(ctx context.Context, m *Metadata, manifest *Manifest) error {
	if f.verifier != nil {
		if _, err := f.verifier.finish(m); err != nil {
			return unverified(err)
		}
	}
	if err := syncFiles(ctx, f.unsafe); err != nil {
		return err
	}
	if err := durable.SyncDir(filepath.Join(f.dir, chunksName)); err != nil {
		return err
	}
	if manifest != nil {
		b, err := encodeManifest(manifest)
		if err != nil {
			return err
		}
		if err := writeFile(filepath.Join(f.dir, manifestName), b); err != nil {
			return err
		}
	}
	return writeFile(filepath.Join(f.dir, metadataName), EncodeMetadata(m))
}
