package plugin

import (
	"context"
	"iter"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/writelog"
)

// The calls of a supervised database: each goes to the one that is present. None is made twice: whether
// it was done by a process that died with it is the caller's to find out.

// run makes a call.
func (d *supervised) run(ctx context.Context, call func(ndb db.NodeDB) error) error {
	in, err := d.ask(ctx)
	if err != nil {
		return err
	}
	return d.failure(in, call(in.NodeDB))
}

// get makes a call that gives something.
func get[T any](d *supervised, ctx context.Context, call func(ndb db.NodeDB) (T, error)) (result T, err error) {
	err = d.run(ctx, func(ndb db.NodeDB) (err error) {
		result, err = call(ndb)
		return err
	})
	return result, err
}

// yielded hands on what a sequence of the present database yields.
func yielded[T any](d *supervised, ctx context.Context, from func(ndb db.NodeDB) iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		in, err := d.ask(ctx)
		if err != nil {
			var none T
			yield(none, err)
			return
		}
		from(in.NodeDB)(func(item T, err error) bool { return yield(item, d.failure(in, err)) })
	}
}

// Info is what the database said when it was opened first.
func (d *supervised) Info() db.Info { return d.info }

func (d *supervised) GetLatestVersion(ctx context.Context) (version uint64, found bool, err error) {
	err = d.run(ctx, func(ndb db.NodeDB) (err error) {
		version, found, err = ndb.GetLatestVersion(ctx)
		return err
	})
	if err == nil && found {
		d.sawLatest(version)
	}
	return version, found, err
}

func (d *supervised) GetEarliestVersion(ctx context.Context) (version uint64, found bool, err error) {
	err = d.run(ctx, func(ndb db.NodeDB) (err error) {
		version, found, err = ndb.GetEarliestVersion(ctx)
		return err
	})
	return version, found, err
}

func (d *supervised) GetRootsForVersion(ctx context.Context, version uint64) ([]node.Root, error) {
	return get(d, ctx, func(ndb db.NodeDB) ([]node.Root, error) { return ndb.GetRootsForVersion(ctx, version) })
}

func (d *supervised) HasRoot(ctx context.Context, root node.Root) (bool, error) {
	return get(d, ctx, func(ndb db.NodeDB) (bool, error) { return ndb.HasRoot(ctx, root) })
}

func (d *supervised) RootAddress(ctx context.Context, root node.Root) (node.Address, error) {
	return get(d, ctx, func(ndb db.NodeDB) (node.Address, error) { return ndb.RootAddress(ctx, root) })
}

func (d *supervised) GetNode(ctx context.Context, root node.Root, address node.Address, position node.Position) ([]byte, error) {
	return get(d, ctx, func(ndb db.NodeDB) ([]byte, error) { return ndb.GetNode(ctx, root, address, position) })
}

func (d *supervised) GetPath(ctx context.Context, root node.Root, address node.Address, depth node.Depth, key node.Key) ([]db.Entry, error) {
	return get(d, ctx, func(ndb db.NodeDB) ([]db.Entry, error) { return ndb.GetPath(ctx, root, address, depth, key) })
}

func (d *supervised) GetPaths(ctx context.Context, root node.Root, starts []db.PathStart) iter.Seq2[db.Entry, error] {
	return yielded(d, ctx, func(ndb db.NodeDB) iter.Seq2[db.Entry, error] { return db.GetPaths(ctx, ndb, root, starts) })
}

func (d *supervised) Walk(ctx context.Context, root node.Root, from node.Position) iter.Seq2[db.Entry, error] {
	return yielded(d, ctx, func(ndb db.NodeDB) iter.Seq2[db.Entry, error] { return ndb.Walk(ctx, root, from) })
}

func (d *supervised) GetWriteLog(ctx context.Context, start, end node.Root) iter.Seq2[writelog.LogEntry, error] {
	return yielded(d, ctx, func(ndb db.NodeDB) iter.Seq2[writelog.LogEntry, error] { return ndb.GetWriteLog(ctx, start, end) })
}

func (d *supervised) Finalize(ctx context.Context, roots []node.Root) error {
	err := d.run(ctx, func(ndb db.NodeDB) error { return ndb.Finalize(ctx, roots) })
	if err == nil && len(roots) > 0 {
		d.sawLatest(roots[0].Version)
	}
	return err
}

func (d *supervised) Pins(ctx context.Context) ([]db.PinInfo, error) {
	return get(d, ctx, func(ndb db.NodeDB) ([]db.PinInfo, error) { return ndb.Pins(ctx) })
}

func (d *supervised) Prune(ctx context.Context, version uint64) error {
	return d.run(ctx, func(ndb db.NodeDB) error { return ndb.Prune(ctx, version) })
}

func (d *supervised) PruneBefore(ctx context.Context, version uint64) (uint64, error) {
	return get(d, ctx, func(ndb db.NodeDB) (uint64, error) { return ndb.PruneBefore(ctx, version) })
}

func (d *supervised) CollectGarbage(ctx context.Context, progress func(done, total int64)) error {
	return d.run(ctx, func(ndb db.NodeDB) error { return ndb.CollectGarbage(ctx, progress) })
}

func (d *supervised) StartMultipart(ctx context.Context, version uint64) error {
	return d.run(ctx, func(ndb db.NodeDB) error { return ndb.StartMultipart(ctx, version) })
}

func (d *supervised) Multipart(ctx context.Context) (*db.Multipart, error) {
	return get(d, ctx, func(ndb db.NodeDB) (*db.Multipart, error) { return ndb.Multipart(ctx) })
}

func (d *supervised) AddMultipartRoot(ctx context.Context, root node.Root, chunks uint64, tag []byte) error {
	return d.run(ctx, func(ndb db.NodeDB) error { return ndb.AddMultipartRoot(ctx, root, chunks, tag) })
}

func (d *supervised) CompleteRoot(ctx context.Context, root node.Root) error {
	return d.run(ctx, func(ndb db.NodeDB) error { return ndb.CompleteRoot(ctx, root) })
}

func (d *supervised) AbortRoot(ctx context.Context, root node.Root) error {
	return d.run(ctx, func(ndb db.NodeDB) error { return ndb.AbortRoot(ctx, root) })
}

func (d *supervised) AbortMultipart(ctx context.Context) error {
	return d.run(ctx, func(ndb db.NodeDB) error { return ndb.AbortMultipart(ctx) })
}

func (d *supervised) Size(ctx context.Context) (db.Size, error) {
	return get(d, ctx, func(ndb db.NodeDB) (db.Size, error) { return ndb.Size(ctx) })
}

func (d *supervised) Compact(ctx context.Context, progress func(done, total int64)) error {
	return d.run(ctx, func(ndb db.NodeDB) error { return ndb.Compact(ctx, progress) })
}

func (d *supervised) Check(ctx context.Context, opts db.CheckOptions) (*db.CheckReport, error) {
	return get(d, ctx, func(ndb db.NodeDB) (*db.CheckReport, error) { return ndb.Check(ctx, opts) })
}

func (d *supervised) Sync(ctx context.Context) error {
	return d.run(ctx, func(ndb db.NodeDB) error { return ndb.Sync(ctx) })
}

func (d *supervised) NewBatch(ctx context.Context, oldRoot node.Root, version uint64) (db.Batch, error) {
	in, err := d.ask(ctx)
	if err != nil {
		return nil, err
	}
	b, err := in.NewBatch(ctx, oldRoot, version)
	if err != nil {
		return nil, d.failure(in, err)
	}
	return supervisedBatch{b, d, in}, nil
}

// supervisedBatch is a batch of one of the databases. It ends with that.
type supervisedBatch struct {
	batch db.Batch
	d     *supervised
	in    *incarnation
}

func (b supervisedBatch) Address() node.Address { return b.batch.Address() }

func (b supervisedBatch) Put(ctx context.Context, position node.Position, record []byte) error {
	return b.d.failure(b.in, b.batch.Put(ctx, position, record))
}

func (b supervisedBatch) EndRun(ctx context.Context) error {
	return b.d.failure(b.in, b.batch.EndRun(ctx))
}

func (b supervisedBatch) Remove(ctx context.Context, address node.Address, position node.Position) error {
	return b.d.failure(b.in, b.batch.Remove(ctx, address, position))
}

func (b supervisedBatch) PutWriteLog(ctx context.Context, log writelog.WriteLog) error {
	return b.d.failure(b.in, b.batch.PutWriteLog(ctx, log))
}

func (b supervisedBatch) Commit(ctx context.Context, root node.Root, rootAddress node.Address) error {
	return b.d.failure(b.in, b.batch.Commit(ctx, root, rootAddress))
}

func (b supervisedBatch) Abort(ctx context.Context) error {
	return b.d.failure(b.in, b.batch.Abort(ctx))
}

func (d *supervised) NewChunk(ctx context.Context, root node.Root, index uint64) (db.ChunkWriter, error) {
	in, err := d.ask(ctx)
	if err != nil {
		return nil, err
	}
	c, err := in.NewChunk(ctx, root, index)
	if err != nil {
		return nil, d.failure(in, err)
	}
	return supervisedChunk{c, d, in}, nil
}

// supervisedChunk is a chunk of one of the databases. It ends with that.
type supervisedChunk struct {
	chunk db.ChunkWriter
	d     *supervised
	in    *incarnation
}

func (c supervisedChunk) Address() node.Address { return c.chunk.Address() }

func (c supervisedChunk) Put(ctx context.Context, position node.Position, record []byte, whole bool) error {
	return c.d.failure(c.in, c.chunk.Put(ctx, position, record, whole))
}

func (c supervisedChunk) Commit(ctx context.Context, sync bool) error {
	return c.d.failure(c.in, c.chunk.Commit(ctx, sync))
}

func (c supervisedChunk) Abort(ctx context.Context) error {
	return c.d.failure(c.in, c.chunk.Abort(ctx))
}
