package checkpoint

import (
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/proof"
)

// Level says how much Verify looks at.
type Level int

const (
	// LevelFull is LevelProofs, and that the chunks together hold every node of the tree, each once. What is
	// accepted, a Restorer restores.
	LevelFull Level = iota
	// LevelProofs is LevelDigests, and that each chunk by itself is a valid proof of the root, within the
	// limits.
	LevelProofs
	// LevelDigests is the metadata's form and the chunks' digests: that the files are those that the metadata
	// names. It costs little but reading them.
	LevelDigests
)

var levelNames = map[Level]string{LevelFull: "full", LevelProofs: "proofs", LevelDigests: "digests"}

// ParseLevel reads a level's name: digests, proofs or full.
func ParseLevel(name string) (Level, error) {
	for level, n := range levelNames {
		if n == name {
			return level, nil
		}
	}
	return 0, fmt.Errorf("checkpoint: there is no level %q of verification: want digests, proofs or full", name)
}

// String returns the level's name.
func (l Level) String() string {
	if name, ok := levelNames[l]; ok {
		return name
	}
	return fmt.Sprintf("level %d", int(l))
}

// MarshalText returns the level's name.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText takes a level's name.
func (l *Level) UnmarshalText(text []byte) (err error) {
	*l, err = ParseLevel(string(text))
	return err
}

// Report is what Verify found out about a checkpoint that is all right.
type Report struct {
	// Path is the checkpoint's directory, absolute.
	Path string `json:"path"`
	// Root is the checkpoint's root. Whether it is to be trusted, Verify doesn't know.
	Root node.Root `json:"root"`
	// MetadataHash is the hash of the checkpoint's metadata.
	MetadataHash hash.Hash `json:"metadata_hash"`
	// Level is how much was looked at.
	Level Level `json:"level"`
	// Chunks is the number of chunks, Bytes their length together.
	Chunks int   `json:"chunks"`
	Bytes  int64 `json:"bytes"`
	// Entries is the number of keys that the chunks hold. They are counted at LevelFull alone.
	Entries uint64 `json:"entries,omitempty"`
}

// VerifyOption is an option of Verify.
type VerifyOption func(*verifier)

// VerifyRoot demands that the checkpoint is of the given root.
func VerifyRoot(root node.Root) VerifyOption { return func(v *verifier) { v.want = &root } }

// VerifyLevel sets how much is looked at; the default is LevelFull.
func VerifyLevel(level Level) VerifyOption { return func(v *verifier) { v.level = level } }

// VerifyLimits bounds what metadata and chunks may hold.
func VerifyLimits(limits Limits) VerifyOption { return func(v *verifier) { v.limits = limits } }

// VerifyWorkers sets how many chunks are verified at once; the default is GOMAXPROCS.
func VerifyWorkers(n int) VerifyOption { return func(v *verifier) { v.workers = n } }

// VerifyProgress sets what is told, from several goroutines but one at a time, of each chunk that was
// verified: the chunks, bytes and entries that were by now. Entries are counted at LevelFull alone.
func VerifyProgress(progress func(done VerifyCount)) VerifyOption {
	return func(v *verifier) { v.progress = progress }
}

// VerifyCount is how far Verify has come.
type VerifyCount struct {
	Chunks  int
	Bytes   int64
	Entries uint64
}

type verifier struct {
	dir      string
	root     node.Root
	want     *node.Root
	level    Level
	limits   Limits
	workers  int
	progress func(done VerifyCount)

	workspaces workspaces
	// slots holds a value for each chunk that is being verified, of as many as there are workers.
	slots chan struct{}

	mu    sync.Mutex
	known *knownTree
	spans []span
	done  VerifyCount
}

// Verify checks the checkpoint in dir (the directory that its metadata lies in) with no database: its
// metadata's form, each chunk's digest and proof, and that the chunks together hold every node of the
// tree, each once. What it accepts, a Restorer restores. Of a lower level than LevelFull, it looks at less.
//
// A chunk whose digest is wrong is ErrChunkCorrupted, one that isn't there ErrChunkNotFound; what is
// wrong under a right digest, and a checkpoint that isn't complete, is ErrChunkProofVerificationFailed.
// The memory it takes is that of the chunks being verified, and for chunks of a layout by the rules not
// much more.
func Verify(ctx context.Context, dir string, opts ...VerifyOption) (*Report, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	v := newVerifier(abs, opts)
	if _, known := levelNames[v.level]; !known {
		return nil, fmt.Errorf("checkpoint: there is no %s of verification", v.level)
	}
	m, err := readMetadata(abs, v.limits)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrCheckpointNotFound, err)
	}
	if err != nil {
		return nil, err
	}
	release, err := holdLease(abs)
	if err != nil {
		return nil, err
	}
	defer release()
	if v.want != nil && *v.want != m.Root {
		return nil, fmt.Errorf("%w: %s holds that of %s, not %s", ErrCheckpointNotFound, abs, m.Root, *v.want)
	}
	v.root = m.Root

	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(v.workers)
	for i := range m.Chunks {
		if gctx.Err() != nil {
			break
		}
		group.Go(func() error {
			if err := v.chunk(gctx, i, m.Chunks[i]); err != nil {
				return fmt.Errorf("checkpoint: chunk %d of %s: %w", i, m.Root, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return v.finish(m)
}

// newVerifier returns the verifier of the checkpoint in dir, whose root has yet to be told.
func newVerifier(dir string, opts []VerifyOption) *verifier {
	v := &verifier{dir: dir, known: newKnownTree(), workers: runtime.GOMAXPROCS(0)}
	for _, opt := range opts {
		opt(v)
	}
	v.limits = v.limits.withDefaults()
	v.workspaces.limits = &v.limits
	v.workers = max(v.workers, 1)
	v.slots = make(chan struct{}, v.workers)
	return v
}

// finish says whether the chunks, all verified, are the whole tree, given their metadata.
func (v *verifier) finish(m *Metadata) (*Report, error) {
	report := &Report{
		Path:         v.dir,
		Root:         m.Root,
		MetadataHash: m.EncodedHash(),
		Level:        v.level,
		Chunks:       len(m.Chunks),
		Bytes:        v.done.Bytes,
	}
	if v.level == LevelFull {
		if err := v.whole(); err != nil {
			return nil, err
		}
		report.Entries = v.known.entries
	}
	return report, nil
}

// whole says whether the chunks, each a valid proof, hold every node once.
func (v *verifier) whole() error {
	slices.SortFunc(v.spans, func(a, b span) int { return a.first.Compare(b.first) })
	if err := overlap(v.spans); err != nil {
		return err
	}
	if !v.known.complete() {
		return fmt.Errorf("%w: no chunk holds some of the nodes of %s", errIncomplete, v.root)
	}
	return nil
}

// chunk verifies a chunk's file.
func (v *verifier) chunk(ctx context.Context, index int, digest hash.Hash) error {
	select {
	case v.slots <- struct{}{}:
		defer func() { <-v.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	f, err := openRegular(chunkPath(v.dir, uint64(index)))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrChunkNotFound, err)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if v.level == LevelDigests {
		n, err := checkDigest(&contextReader{ctx, f}, digest, &v.limits)
		if err != nil {
			return err
		}
		v.add(index, nil, n)
		return nil
	}
	return v.take(index, &contextReader{ctx, f}, digest)
}

// take verifies a chunk that is read.
func (v *verifier) take(index int, r io.Reader, digest hash.Hash) error {
	reader := v.workspaces.reader()
	defer v.workspaces.putReader(reader)
	chunk, err := reader.read(r, digest)
	if err != nil {
		return err
	}
	decoder := v.workspaces.decoder()
	var tree *proof.Tree
	defer func() { v.workspaces.putDecoder(decoder, tree) }()
	if tree, err = decoder.decode(chunk, v.root.Hash); err != nil {
		return err
	}
	v.add(index, tree, int64(len(chunk)))
	return nil
}

// checkDigest is chunkReader.read for a chunk whose bytes nobody needs: it takes no memory for them.
func checkDigest(r io.Reader, want hash.Hash, limits *Limits) (n int64, err error) {
	digest := sha512.New512_256()
	if n, err = io.Copy(digest, io.LimitReader(r, limits.ChunkBytes+1)); err != nil {
		return n, fmt.Errorf("reading the chunk: %w", err)
	}
	if n > limits.ChunkBytes {
		return n, exceeded("ChunkBytes", limits.ChunkBytes, "the chunk is longer")
	}
	if got := hash.Hash(digest.Sum(nil)); got != want {
		return n, fmt.Errorf("%w: digest of its %d bytes is %s, not %s", ErrChunkCorrupted, n, got, want)
	}
	return n, nil
}

// add notes a verified chunk, and above LevelDigests what it holds.
func (v *verifier) add(index int, tree *proof.Tree, bytes int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.level == LevelFull {
		if s, ok := spanOf(tree, index); ok {
			v.spans = append(v.spans, s)
		}
		v.known.add(tree)
	}
	v.done.Chunks++
	v.done.Bytes += bytes
	v.done.Entries = v.known.entries
	if v.progress != nil {
		v.progress(v.done)
	}
}
