// Package importer turns a stream of operations into versions of a state.
package importer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync/atomic"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/host"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/ndjson"
	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// capacity is how many bytes of nodes the state's tree keeps in memory from one version to the next: with fewer,
// more is read again for each.
const capacity = 160 << 20

// Importer makes versions of operations: the operations of a version stand together, versions ascend by
// one, and each is committed, state and IO root, when the next one begins or the input ends, and finalized
// while that is made. It belongs to one goroutine, but for Status.
type Importer struct {
	ndb       db.NodeDB
	namespace common.Namespace
	// finalized is called with each version that was finalized, by another goroutine.
	finalized func(version uint64)
	// finalizing gives the outcome of the version that is being finalized, nil while there is none.
	finalizing chan error

	opts  []mkvs.Option
	state *mkvs.Tree
	// sorted says that the first version's state comes in the order of keys: builder then makes it.
	sorted  bool
	builder *mkvs.Builder
	// io is the present version's IO tree; nil where it has no such operation.
	io *mkvs.Tree
	// next is the only version that can come next; any can where anyVersion is set.
	next       uint64
	anyVersion bool
	// current is the version that the operations are of which are not committed yet.
	current uint64
	begun   bool
	pending uint64

	result Result // what is finalized, and belongs to what finalizes
	status atomic.Pointer[Result]
}

// Result is what was imported.
type Result struct {
	// Versions is the number of versions that were finalized, First and Last which.
	Versions    uint64
	First, Last uint64
	// Operations is the number of operations in them.
	Operations uint64
	// Roots are the roots of the last one.
	Roots []node.Root
}

// New returns an importer that goes on after the latest version in the database. finalized is called
// with each version once it is finalized, by one goroutine at a time and not always the caller's; nil means
// nobody. opts are further options of the trees.
func New(ctx context.Context, ndb db.NodeDB, finalized func(version uint64), opts ...mkvs.Option) (*Importer, error) {
	im := &Importer{ndb: ndb, namespace: ndb.Info().Namespace, finalized: finalized}
	if im.finalized == nil {
		im.finalized = func(uint64) {}
	}
	im.opts = []mkvs.Option{mkvs.WithCapacity(0), mkvs.WithCapacityBytes(capacity), mkvs.WithWriteLogStored()}
	if !ndb.Info().Capabilities.WriteLogs {
		im.opts = append(im.opts, mkvs.WithoutWriteLog())
	}
	im.opts = append(im.opts, opts...)
	latest, exists, err := ndb.GetLatestVersion(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking for the latest version: %w", err)
	}
	if !exists {
		im.anyVersion = true
		im.state = mkvs.New(ndb, node.RootTypeState, im.opts...)
		return im, nil
	}
	if latest == math.MaxUint64 {
		return nil, errors.New("the latest version is the highest that there can be")
	}
	im.next = latest + 1
	roots, err := ndb.GetRootsForVersion(ctx, latest)
	if err != nil {
		return nil, fmt.Errorf("asking for the roots of version %d: %w", latest, err)
	}
	for _, root := range roots {
		if root.Type == node.RootTypeState {
			im.state = mkvs.NewWithRoot(ndb, root, im.opts...)
			return im, nil
		}
	}
	return nil, fmt.Errorf("%w: the latest version, %d, was restored without its state root, so no state can follow it", db.ErrRootNotFound, latest)
}

// ErrNotEmpty is returned for sorted input to a database that holds versions.
var ErrNotEmpty = errors.New("the database holds versions already, and sorted input can only be its first one")

// Sorted says that the operations on the first version's state come in the order of their keys, and remove
// nothing. They then take memory that does not grow with their number, and less time. What is not so ends
// the import; so does a backend's process that dies meanwhile. It is called before Run.
func (im *Importer) Sorted() error {
	if !im.anyVersion {
		return ErrNotEmpty
	}
	im.sorted = true
	return nil
}

// Close gives up the operations that are not committed.
func (im *Importer) Close() {
	if im.builder != nil {
		im.builder.Close() // what it has written is removed when the database is opened next, if not now
	}
	im.state.Close()
	if im.io != nil {
		im.io.Close()
	}
}

// Status is what was imported so far. It may be called by other goroutines.
func (im *Importer) Status() Result {
	if r := im.status.Load(); r != nil {
		return *r
	}
	return Result{}
}

// Run imports all operations that r reads. Where it returns an error, the versions that were finalized
// before (Status) are kept, and nothing of the one that it happened in.
//
// A line that can't be read ends the version before it where it is a line of another version, or where
// the line after it is none of the same; a line whose version can't be read, in between lines of one
// version, is taken to be of that.
func (im *Importer) Run(ctx context.Context, r *ndjson.Reader) error {
	err := im.run(ctx, r)
	waitErr := im.wait()
	var bad *ndjson.LineError
	switch {
	case waitErr == nil:
		return err
	case err == nil:
		return waitErr
	case errors.As(err, &bad):
		return notKept(waitErr, bad)
	default:
		return errors.Join(err, waitErr)
	}
}

// notKept is the error where a line ended the import and the version before it could not be kept. That is what
// there is to do something about first, and so it is not taken for the error of a line.
func notKept(err error, bad *ndjson.LineError) error {
	return fmt.Errorf("%w; and then: %s", err, bad)
}

func (im *Importer) run(ctx context.Context, r *ndjson.Reader) error {
	for {
		op, err := r.Next()
		var bad *ndjson.LineError
		switch {
		case errors.Is(err, io.EOF):
			return im.finish(ctx)
		case errors.As(err, &bad):
			return im.endBefore(ctx, bad, im.belongs(bad, r))
		case err != nil:
			return err
		}
		if err := im.follows(op.Version); err != nil {
			return im.endBefore(ctx, &ndjson.LineError{Line: r.Line(), Err: err}, false)
		}
		if im.begun && op.Version != im.current {
			if err := im.finish(ctx); err != nil {
				return err
			}
		}
		if err := im.apply(ctx, op); err != nil {
			if errors.Is(err, db.ErrLimitExceeded) || errors.Is(err, mkvs.ErrNotAscending) || errors.Is(err, errSortedRemoval) {
				return &ndjson.LineError{Line: r.Line(), Err: err}
			}
			return fmt.Errorf("line %d: %w", r.Line(), err)
		}
	}
}

// belongs says whether a line that can't be read is one of the present version.
func (im *Importer) belongs(bad *ndjson.LineError, r *ndjson.Reader) bool {
	if bad.Readable {
		return bad.Version == im.current
	}
	op, err := r.Next()
	return err == nil && op.Version == im.current
}

// endBefore ends the import at a line, with the present version kept unless the line is one of it.
func (im *Importer) endBefore(ctx context.Context, bad *ndjson.LineError, belongs bool) error {
	if im.begun && !belongs {
		if err := im.finish(ctx); err != nil {
			return notKept(err, bad)
		}
	}
	return bad
}

// follows says why an operation of this version can't come now.
func (im *Importer) follows(version uint64) error {
	switch {
	case !im.begun && im.anyVersion:
		return nil
	case !im.begun && version < im.next:
		return fmt.Errorf("version %d is there already: the database goes up to version %d, so the input has to begin with version %d",
			version, im.next-1, im.next)
	case !im.begun && version > im.next:
		return fmt.Errorf("version %d does not follow: the database goes up to version %d, so the input has to begin with version %d",
			version, im.next-1, im.next)
	case !im.begun || version == im.current:
		return nil
	case version < im.current:
		return fmt.Errorf("version %d comes after version %d: the operations of a version stand together, and versions ascend", version, im.current)
	case version-im.current > 1:
		return fmt.Errorf("version %d comes after version %d: versions ascend by one", version, im.current)
	default:
		return nil
	}
}

// apply makes one change.
func (im *Importer) apply(ctx context.Context, op ndjson.Operation) error {
	im.current, im.begun = op.Version, true
	im.pending++
	if op.Type == node.RootTypeState && im.anyVersion && im.sorted {
		return im.build(ctx, op)
	}
	tree := im.state
	if op.Type == node.RootTypeIO {
		if im.io == nil {
			im.io = mkvs.New(im.ndb, node.RootTypeIO, im.opts...)
		}
		tree = im.io
	}
	return host.Persist(func() error { // an error leaves the tree as it was
		if op.Value == nil {
			return tree.Remove(ctx, op.Key)
		}
		return tree.Insert(ctx, op.Key, op.Value)
	})
}

// errSortedRemoval is what is wrong with a removal in sorted input.
var errSortedRemoval = errors.New("sorted input can't remove keys in its first version: there are none before it")

// build makes one change of the first version, whose keys come in order.
func (im *Importer) build(ctx context.Context, op ndjson.Operation) error {
	if op.Value == nil {
		return errSortedRemoval
	}
	if im.builder == nil {
		root := node.Root{Namespace: im.namespace, Version: op.Version, Type: node.RootTypeState}
		b, err := mkvs.NewBuilder(ctx, im.ndb, root, im.opts...)
		if err != nil {
			return err
		}
		im.builder = b
	}
	return im.builder.Add(op.Key, op.Value)
}

// finish commits the present version, where there is one, and begins to finalize it.
func (im *Importer) finish(ctx context.Context) error {
	if !im.begun {
		return nil
	}
	version, operations := im.current, im.pending
	roots, err := im.commit(ctx)
	if err != nil {
		return fmt.Errorf("version %d: %w", version, err)
	}
	if err := im.wait(); err != nil {
		return err
	}
	finalizing := make(chan error, 1)
	im.finalizing = finalizing
	go func() { finalizing <- im.finalize(ctx, version, operations, roots) }()
	im.begun, im.anyVersion, im.pending = false, false, 0
	im.next = version + 1
	return nil
}

// wait waits for the version that is being finalized.
func (im *Importer) wait() error {
	if im.finalizing == nil {
		return nil
	}
	err := <-im.finalizing
	im.finalizing = nil
	return err
}

// finalize finalizes a version, and tells of it.
func (im *Importer) finalize(ctx context.Context, version, operations uint64, roots []node.Root) error {
	if err := host.Persist(func() error { return im.ndb.Finalize(ctx, roots) }); err != nil {
		return fmt.Errorf("version %d: finalizing: %w", version, err)
	}
	if im.result.Versions == 0 {
		im.result.First = version
	}
	im.result.Versions++
	im.result.Last = version
	im.result.Operations += operations
	im.result.Roots = roots
	done := im.result
	im.status.Store(&done)
	im.finalized(version)
	return nil
}

// commitTree commits a tree of the present version. After an error it is as it was.
func (im *Importer) commitTree(ctx context.Context, tree *mkvs.Tree) (h hash.Hash, err error) {
	err = host.Persist(func() error {
		_, h, err = tree.Commit(ctx, im.namespace, im.current)
		return err
	})
	return h, err
}

// commitState commits the present version's state.
func (im *Importer) commitState(ctx context.Context) (hash.Hash, error) {
	if im.builder == nil {
		return im.commitTree(ctx, im.state)
	}
	root, err := im.builder.Commit()
	if err != nil {
		return hash.Hash{}, err
	}
	im.builder = nil
	im.state.Close()
	im.state = mkvs.NewWithRoot(im.ndb, root, im.opts...)
	return root.Hash, nil
}

func (im *Importer) commit(ctx context.Context) ([]node.Root, error) {
	root := func(t node.RootType, h hash.Hash) node.Root {
		return node.Root{Namespace: im.namespace, Version: im.current, Type: t, Hash: h}
	}
	h, err := im.commitState(ctx)
	if err != nil {
		return nil, fmt.Errorf("committing the state: %w", err)
	}
	roots := []node.Root{root(node.RootTypeState, h)}
	if im.io != nil {
		if h, err = im.commitTree(ctx, im.io); err != nil {
			return nil, fmt.Errorf("committing the IO root: %w", err)
		}
		roots = append(roots, root(node.RootTypeIO, h))
		im.io.Close()
		im.io = nil
	}
	return roots, nil
}
