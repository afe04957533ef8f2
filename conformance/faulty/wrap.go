package faulty

import (
	"context"
	"iter"
	"sync"
	"time"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/writelog"
)

// Most defects are a type that embeds a sound database and has its own idea of a method or two. These are
// the types that several are made of.

// walks changes what walks yield.
type walks struct {
	db.NodeDB
	change func(root node.Root, from node.Position, sound iter.Seq2[db.Entry, error]) iter.Seq2[db.Entry, error]
}

func (d *walks) Walk(ctx context.Context, root node.Root, from node.Position) iter.Seq2[db.Entry, error] {
	return d.change(root, from, d.NodeDB.Walk(ctx, root, from))
}

// walked makes a defect of walks.
func walked(change func(node.Root, node.Position, iter.Seq2[db.Entry, error]) iter.Seq2[db.Entry, error]) func(db.NodeDB) db.NodeDB {
	return func(ndb db.NodeDB) db.NodeDB { return &walks{ndb, change} }
}

// batches hands out batches of its own.
type batches struct {
	db.NodeDB
	change func(b db.Batch, oldRoot node.Root, version uint64) db.Batch
}

func (d *batches) NewBatch(ctx context.Context, oldRoot node.Root, version uint64) (db.Batch, error) {
	b, err := d.NodeDB.NewBatch(ctx, oldRoot, version)
	if err != nil {
		return nil, err
	}
	return d.change(b, oldRoot, version), nil
}

// batched makes a defect of batches.
func batched(change func(db.Batch) db.Batch) func(db.NodeDB) db.NodeDB {
	return func(ndb db.NodeDB) db.NodeDB {
		return &batches{ndb, func(b db.Batch, _ node.Root, _ uint64) db.Batch { return change(b) }}
	}
}

// chunks hands out writers of chunks of its own.
type chunks struct {
	db.NodeDB
	change func(w db.ChunkWriter, root node.Root, index uint64) db.ChunkWriter
}

func (d *chunks) NewChunk(ctx context.Context, root node.Root, index uint64) (db.ChunkWriter, error) {
	w, err := d.NodeDB.NewChunk(ctx, root, index)
	if err != nil {
		return nil, err
	}
	return d.change(w, root, index), nil
}

// insert changes what is told of the open multipart insert.
type insert struct {
	db.NodeDB
	change func(m *db.Multipart)
}

func (d *insert) Multipart(ctx context.Context) (*db.Multipart, error) {
	m, err := d.NodeDB.Multipart(ctx)
	if m != nil {
		d.change(m)
	}
	return m, err
}

// How long a call waits to be interrupted: longer than a busy machine takes to bring it here, so that a case
// which gives each call twice as long as the one before does not miss it.
const (
	// onlyOne is for a call that is interrupted before others have waited in vain; amongMany for one that comes
	// after several which are not interrupted, each of which waits as long.
	onlyOne   = 5 * time.Second
	amongMany = time.Second
)

// interruptible waits for the end of a call's context, if that comes, and returns its error.
func interruptible(ctx context.Context, atMost time.Duration) error {
	timer := time.NewTimer(atMost)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// failing is a walk, or a write log, that only has an error.
func failing[T any](err error) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		yield(none, err)
	}
}

// roots is a set of roots, for any number of goroutines.
type roots struct {
	mu  sync.Mutex
	all []node.Root
}

func (r *roots) add(root ...node.Root) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, root...)
}

func (r *roots) has(root node.Root) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, one := range r.all {
		if one == root {
			return true
		}
	}
	return false
}

// take removes a root, and says whether it was there.
func (r *roots) take(root node.Root) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, one := range r.all {
		if one == root {
			r.all = append(r.all[:i], r.all[i+1:]...)
			return true
		}
	}
	return false
}

// every lets each method through a gate of its own.
type every struct {
	ndb db.NodeDB
	// enter is called before a method, and may change its context, or answer for it with an error.
	enter func(ctx context.Context, method string) (context.Context, error)
	// leave is given the method's error, and returns another.
	leave func(method string, err error) error
}

// gate calls f between enter and leave.
func (d *every) gate(ctx context.Context, method string, f func(ctx context.Context) error) error {
	if d.enter != nil {
		var err error
		if ctx, err = d.enter(ctx, method); err != nil {
			return err
		}
	}
	err := f(ctx)
	if d.leave != nil {
		err = d.leave(method, err)
	}
	return err
}

// asked is gate for a method with an answer.
func asked[T any](ctx context.Context, d *every, method string, f func(ctx context.Context) (T, error)) (answer T, err error) {
	err = d.gate(ctx, method, func(ctx context.Context) (err error) {
		answer, err = f(ctx)
		return err
	})
	return answer, err
}

// stepped is gate for a method that yields.
func stepped[T any](ctx context.Context, d *every, method string, f func(ctx context.Context) iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		left := false
		err := d.gate(ctx, method, func(ctx context.Context) error {
			for one, err := range f(ctx) {
				if err != nil {
					return err
				}
				if !yield(one, nil) {
					left = true
					return nil
				}
			}
			return nil
		})
		if err != nil && !left {
			var none T
			yield(none, err)
		}
	}
}

type versionAnswer struct {
	version uint64
	any     bool
}

func (d *every) Info() db.Info { return d.ndb.Info() }

func (d *every) GetLatestVersion(ctx context.Context) (uint64, bool, error) {
	a, err := asked(ctx, d, "GetLatestVersion", func(ctx context.Context) (a versionAnswer, err error) {
		a.version, a.any, err = d.ndb.GetLatestVersion(ctx)
		return a, err
	})
	return a.version, a.any, err
}

func (d *every) GetEarliestVersion(ctx context.Context) (uint64, bool, error) {
	a, err := asked(ctx, d, "GetEarliestVersion", func(ctx context.Context) (a versionAnswer, err error) {
		a.version, a.any, err = d.ndb.GetEarliestVersion(ctx)
		return a, err
	})
	return a.version, a.any, err
}

func (d *every) GetRootsForVersion(ctx context.Context, version uint64) ([]node.Root, error) {
	return asked(ctx, d, "GetRootsForVersion", func(ctx context.Context) ([]node.Root, error) {
		return d.ndb.GetRootsForVersion(ctx, version)
	})
}

func (d *every) HasRoot(ctx context.Context, root node.Root) (bool, error) {
	return asked(ctx, d, "HasRoot", func(ctx context.Context) (bool, error) { return d.ndb.HasRoot(ctx, root) })
}

func (d *every) RootAddress(ctx context.Context, root node.Root) (node.Address, error) {
	return asked(ctx, d, "RootAddress", func(ctx context.Context) (node.Address, error) {
		return d.ndb.RootAddress(ctx, root)
	})
}

func (d *every) GetNode(ctx context.Context, root node.Root, address node.Address, position node.Position) ([]byte, error) {
	return asked(ctx, d, "GetNode", func(ctx context.Context) ([]byte, error) {
		return d.ndb.GetNode(ctx, root, address, position)
	})
}

func (d *every) GetPath(ctx context.Context, root node.Root, address node.Address, depth node.Depth, key node.Key) ([]db.Entry, error) {
	return asked(ctx, d, "GetPath", func(ctx context.Context) ([]db.Entry, error) {
		return d.ndb.GetPath(ctx, root, address, depth, key)
	})
}

func (d *every) Walk(ctx context.Context, root node.Root, from node.Position) iter.Seq2[db.Entry, error] {
	return stepped(ctx, d, "Walk", func(ctx context.Context) iter.Seq2[db.Entry, error] {
		return d.ndb.Walk(ctx, root, from)
	})
}

func (d *every) GetWriteLog(ctx context.Context, start, end node.Root) iter.Seq2[writelog.LogEntry, error] {
	return stepped(ctx, d, "GetWriteLog", func(ctx context.Context) iter.Seq2[writelog.LogEntry, error] {
		return d.ndb.GetWriteLog(ctx, start, end)
	})
}

func (d *every) NewBatch(ctx context.Context, oldRoot node.Root, version uint64) (db.Batch, error) {
	b, err := asked(ctx, d, "NewBatch", func(ctx context.Context) (db.Batch, error) {
		return d.ndb.NewBatch(ctx, oldRoot, version)
	})
	if err != nil {
		return nil, err
	}
	return &everyBatch{b, d}, nil
}

func (d *every) Finalize(ctx context.Context, roots []node.Root) error {
	return d.gate(ctx, "Finalize", func(ctx context.Context) error { return d.ndb.Finalize(ctx, roots) })
}

func (d *every) Pin(ctx context.Context, version uint64, owner string) (db.Pin, error) {
	return asked(ctx, d, "Pin", func(ctx context.Context) (db.Pin, error) { return d.ndb.Pin(ctx, version, owner) })
}

func (d *every) Pins(ctx context.Context) ([]db.PinInfo, error) {
	return asked(ctx, d, "Pins", d.ndb.Pins)
}

func (d *every) Prune(ctx context.Context, version uint64) error {
	return d.gate(ctx, "Prune", func(ctx context.Context) error { return d.ndb.Prune(ctx, version) })
}

func (d *every) PruneBefore(ctx context.Context, version uint64) (uint64, error) {
	return asked(ctx, d, "PruneBefore", func(ctx context.Context) (uint64, error) { return d.ndb.PruneBefore(ctx, version) })
}

func (d *every) CollectGarbage(ctx context.Context, progress func(done, total int64)) error {
	return d.gate(ctx, "CollectGarbage", func(ctx context.Context) error { return d.ndb.CollectGarbage(ctx, progress) })
}

func (d *every) StartMultipart(ctx context.Context, version uint64) error {
	return d.gate(ctx, "StartMultipart", func(ctx context.Context) error { return d.ndb.StartMultipart(ctx, version) })
}

func (d *every) Multipart(ctx context.Context) (*db.Multipart, error) {
	return asked(ctx, d, "Multipart", d.ndb.Multipart)
}

func (d *every) AddMultipartRoot(ctx context.Context, root node.Root, chunks uint64, tag []byte) error {
	return d.gate(ctx, "AddMultipartRoot", func(ctx context.Context) error {
		return d.ndb.AddMultipartRoot(ctx, root, chunks, tag)
	})
}

func (d *every) NewChunk(ctx context.Context, root node.Root, index uint64) (db.ChunkWriter, error) {
	w, err := asked(ctx, d, "NewChunk", func(ctx context.Context) (db.ChunkWriter, error) {
		return d.ndb.NewChunk(ctx, root, index)
	})
	if err != nil {
		return nil, err
	}
	return &everyChunk{w, d}, nil
}

func (d *every) CompleteRoot(ctx context.Context, root node.Root) error {
	return d.gate(ctx, "CompleteRoot", func(ctx context.Context) error { return d.ndb.CompleteRoot(ctx, root) })
}

func (d *every) AbortRoot(ctx context.Context, root node.Root) error {
	return d.gate(ctx, "AbortRoot", func(ctx context.Context) error { return d.ndb.AbortRoot(ctx, root) })
}

func (d *every) AbortMultipart(ctx context.Context) error {
	return d.gate(ctx, "AbortMultipart", d.ndb.AbortMultipart)
}

func (d *every) Size(ctx context.Context) (db.Size, error) { return asked(ctx, d, "Size", d.ndb.Size) }

func (d *every) Compact(ctx context.Context, progress func(done, total int64)) error {
	return d.gate(ctx, "Compact", func(ctx context.Context) error { return d.ndb.Compact(ctx, progress) })
}

func (d *every) Check(ctx context.Context, opts db.CheckOptions) (*db.CheckReport, error) {
	return asked(ctx, d, "Check", func(ctx context.Context) (*db.CheckReport, error) { return d.ndb.Check(ctx, opts) })
}

func (d *every) Sync(ctx context.Context) error { return d.gate(ctx, "Sync", d.ndb.Sync) }

func (d *every) Close(ctx context.Context) error { return d.gate(ctx, "Close", d.ndb.Close) }

// everyBatch is a batch of every.
type everyBatch struct {
	db.Batch
	d *every
}

func (b *everyBatch) Put(ctx context.Context, position node.Position, record []byte) error {
	return b.d.gate(ctx, "Batch.Put", func(ctx context.Context) error { return b.Batch.Put(ctx, position, record) })
}

func (b *everyBatch) EndRun(ctx context.Context) error {
	return b.d.gate(ctx, "Batch.EndRun", b.Batch.EndRun)
}

func (b *everyBatch) Remove(ctx context.Context, address node.Address, position node.Position) error {
	return b.d.gate(ctx, "Batch.Remove", func(ctx context.Context) error { return b.Batch.Remove(ctx, address, position) })
}

func (b *everyBatch) PutWriteLog(ctx context.Context, log writelog.WriteLog) error {
	return b.d.gate(ctx, "Batch.PutWriteLog", func(ctx context.Context) error { return b.Batch.PutWriteLog(ctx, log) })
}

func (b *everyBatch) Commit(ctx context.Context, root node.Root, rootAddress node.Address) error {
	return b.d.gate(ctx, "Batch.Commit", func(ctx context.Context) error { return b.Batch.Commit(ctx, root, rootAddress) })
}

func (b *everyBatch) Abort(ctx context.Context) error {
	return b.d.gate(ctx, "Batch.Abort", b.Batch.Abort)
}

// everyChunk is a writer of a chunk of every.
type everyChunk struct {
	db.ChunkWriter
	d *every
}

func (w *everyChunk) Put(ctx context.Context, position node.Position, record []byte, whole bool) error {
	return w.d.gate(ctx, "ChunkWriter.Put", func(ctx context.Context) error {
		return w.ChunkWriter.Put(ctx, position, record, whole)
	})
}

func (w *everyChunk) Commit(ctx context.Context, sync bool) error {
	return w.d.gate(ctx, "ChunkWriter.Commit", func(ctx context.Context) error { return w.ChunkWriter.Commit(ctx, sync) })
}

func (w *everyChunk) Abort(ctx context.Context) error {
	return w.d.gate(ctx, "ChunkWriter.Abort", w.ChunkWriter.Abort)
}
