package checkpoint

import (
	"context"
	"errors"
	"fmt"
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

// Report is what Verify found out about a checkpoint that is all right.
type Report struct {
	// Path is the checkpoint's directory, absolute.
	Path string `json:"path"`
	// Root is the checkpoint's root. Whether it is to be trusted, Verify doesn't know.
	Root node.Root `json:"root"`
	// MetadataHash is the hash of the checkpoint's metadata.
	MetadataHash hash.Hash `json:"metadata_hash"`
	// Chunks is the number of chunks, Bytes their length together.
	Chunks int   `json:"chunks"`
	Bytes  int64 `json:"bytes"`
	// Entries is the number of keys that the chunks hold.
	Entries uint64 `json:"entries"`
}

// VerifyOption is an option of Verify.
type VerifyOption func(*verifier)

// VerifyRoot demands that the checkpoint is of the given root.
func VerifyRoot(root node.Root) VerifyOption { return func(v *verifier) { v.want = &root } }

// VerifyLimits bounds what chunks may hold.
func VerifyLimits(limits Limits) VerifyOption { return func(v *verifier) { v.limits = limits } }

// VerifyWorkers sets how many chunks are verified at once; the default is GOMAXPROCS.
func VerifyWorkers(n int) VerifyOption { return func(v *verifier) { v.workers = n } }

// VerifyProgress sets what is told, from several goroutines, of each chunk that was verified.
func VerifyProgress(progress func(done, chunks int, bytes int64)) VerifyOption {
	return func(v *verifier) { v.progress = progress }
}

type verifier struct {
	dir      string
	metadata *Metadata
	want     *node.Root
	limits   Limits
	workers  int
	progress func(done, chunks int, bytes int64)

	mu    sync.Mutex
	known *knownTree
	spans []span
	done  int
	bytes int64
}

// Verify checks the checkpoint in dir (the directory that its metadata lies in) with no database: its
// metadata's form, each chunk's digest and proof, and that the chunks together hold every node of the
// tree, each once. What it accepts, a Restorer restores.
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
	v := &verifier{dir: abs, known: newKnownTree(), workers: runtime.GOMAXPROCS(0)}
	for _, opt := range opts {
		opt(v)
	}
	v.limits = v.limits.withDefaults()
	v.workers = max(v.workers, 1)
	v.metadata, err = readMetadata(abs)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrCheckpointNotFound, err)
	}
	if err != nil {
		return nil, err
	}
	// No checkpointer deletes it meanwhile.
	var l leases
	release, err := l.take(abs, 0)
	if err != nil {
		return nil, err
	}
	defer release()
	root := v.metadata.Root
	if v.want != nil && *v.want != root {
		return nil, fmt.Errorf("%w: %s holds that of %s, not %s", ErrCheckpointNotFound, abs, root, *v.want)
	}
	if root.IsEmpty() && len(v.metadata.Chunks) != 1 {
		return nil, fmt.Errorf("%w: %d chunks of an empty tree", ErrMalformedMetadata, len(v.metadata.Chunks))
	}

	if n := len(v.metadata.Chunks); n > v.limits.Chunks {
		return nil, exceeded("Chunks", v.limits.Chunks, fmt.Sprintf("the checkpoint has %d", n))
	}

	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(v.workers)
	for i := range v.metadata.Chunks {
		if gctx.Err() != nil {
			break
		}
		group.Go(func() error {
			if err := v.chunk(gctx, i); err != nil {
				return fmt.Errorf("checkpoint: chunk %d of %s: %w", i, root, err)
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
	slices.SortFunc(v.spans, func(a, b span) int { return a.first.Compare(b.first) })
	if err := overlap(v.spans); err != nil {
		return nil, err
	}
	if !v.known.complete() {
		return nil, fmt.Errorf("%w: no chunk holds some of the nodes of %s", errIncomplete, root)
	}
	return &Report{
		Path:         abs,
		Root:         root,
		MetadataHash: v.metadata.EncodedHash(),
		Chunks:       len(v.metadata.Chunks),
		Bytes:        v.bytes,
		Entries:      v.known.entries,
	}, nil
}

func (v *verifier) chunk(ctx context.Context, index int) error {
	f, err := openRegular(chunkPath(v.dir, uint64(index)))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrChunkNotFound, err)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := readChunk(&contextReader{ctx, f}, v.metadata.Chunks[index], &v.limits)
	if err != nil {
		return err
	}
	tree, err := decodeChunk(b, v.metadata.Root.Hash, &v.limits)
	if err != nil {
		return err
	}
	v.add(index, tree, int64(len(b)))
	return nil
}

// add notes what a verified chunk holds.
func (v *verifier) add(index int, tree *proof.Tree, bytes int64) {
	s, ok := spanOf(tree, index)
	v.mu.Lock()
	defer v.mu.Unlock()
	if ok {
		v.spans = append(v.spans, s)
	}
	v.known.add(tree)
	v.done++
	v.bytes += bytes
	if v.progress != nil {
		v.progress(v.done, len(v.metadata.Chunks), v.bytes)
	}
}
