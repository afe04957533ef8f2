package checkpoint

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// CutOptions say how Cut cuts a tree.
type CutOptions struct {
	// ChunkSize and Threads are the layout: see Creator and WithThreads.
	ChunkSize uint64
	Threads   int
	// Workers is how many chunks are made, and taken, at once; 0 means GOMAXPROCS.
	Workers int
	// Limits bounds what chunks are made to hold.
	Limits Limits
	// Progress is told, from several goroutines, of each chunk that was made: how many there are so far, and
	// their bytes and entries. It may be nil.
	Progress func(chunks uint64, bytes int64, entries uint64)
}

// Cut makes the chunks of a root's checkpoint and keeps nothing of them. take, unless it is nil, is given each
// chunk, by as many goroutines as there are workers, in no certain order, and keeps nothing either; when it
// fails, so does Cut, with its error. Memory is bounded by the workers' chunks.
//
// It returns the metadata and the manifest of a checkpoint with these chunks: those that a Creator makes with
// the same layout, times aside. As a restorer needs the metadata before the chunks, bringing a tree from one
// database into another takes two calls, the first without take.
//
// ndb has to hold the root, and the caller to keep its version pinned.
func Cut(ctx context.Context, ndb db.NodeDB, root node.Root, opts CutOptions, take func(ctx context.Context, index uint64, chunk []byte) error) (*Metadata, *Manifest, error) {
	passed := &passedChunks{checkpointFiles: checkpointFiles{root: root}, take: take, present: make(map[uint64]*bytes.Buffer)}
	if opts.Progress != nil {
		passed.progress = func(_ node.Root, chunks uint64, bytes int64, entries uint64) { opts.Progress(chunks, bytes, entries) }
	}
	threads := layoutThreads(opts.Threads)
	cut := &cutter{
		ndb: ndb, root: root, size: opts.ChunkSize, threads: threads, workers: opts.Workers, limits: opts.Limits, files: passed,
	}
	chunks, err := cut.cut(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("checkpoint: cutting %s: %w", root, err)
	}
	m := passed.metadata(chunks)
	limits := opts.Limits.withDefaults()
	if err := limits.checkMetadata(m); err != nil {
		return nil, nil, fmt.Errorf("checkpoint: cutting %s: %w", root, err)
	}
	manifest := newManifest(m, passed.chunks[:chunks])
	manifest.ChunkSize, manifest.Threads, manifest.Software = opts.ChunkSize, threads, software()
	return m, manifest, nil
}

// passedChunks are chunks that are handed on in the place of being written.
type passedChunks struct {
	checkpointFiles
	take func(ctx context.Context, index uint64, chunk []byte) error

	mu      sync.Mutex
	present map[uint64]*bytes.Buffer // those that are being made
}

func (p *passedChunks) create(index uint64) (io.WriteCloser, error) {
	if p.take == nil {
		return notClosed{io.Discard}, nil
	}
	b := &bytes.Buffer{}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.present[index] = b
	return notClosed{b}, nil
}

func (p *passedChunks) done(ctx context.Context, index uint64, info chunkInfo) error {
	if p.take != nil {
		p.mu.Lock()
		b := p.present[index]
		delete(p.present, index)
		p.mu.Unlock()
		if err := p.take(ctx, index, b.Bytes()); err != nil {
			return err
		}
	}
	return p.checkpointFiles.done(ctx, index, info)
}
