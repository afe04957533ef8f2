package history

import (
	"crypto/sha256"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"

	"github.com/ckpt-project/ckpt/framework/checkpoint"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// open opens the database.
func (r *run) open() {
	ndb, err := r.h.Open(r.ctx, &r.cfg)
	r.must(err)
	r.ndb = ndb
	r.restorer, err = checkpoint.NewRestorer(ndb)
	r.must(err)
}

// letGo gives up what ends with the open database.
func (r *run) letGo() {
	r.closeTree()
	for _, w := range r.walks {
		w.stop()
	}
	r.pins, r.walks = nil, nil
}

func (r *run) compact() bool {
	r.must(r.ndb.Compact(r.ctx, func(done, total int64) {
		if done < 0 || done > total {
			r.Errorf("Compact has done %d of %d", done, total)
		}
	}))
	size, err := r.ndb.Size(r.ctx)
	r.must(err)
	if size.Live < 0 || size.File < 0 {
		r.Fatalf("size is %+v", size)
	}
	return true
}

func (r *run) sync() bool {
	r.must(r.ndb.Sync(r.ctx))
	return true
}

// openAgain closes the database and opens it again.
func (r *run) openAgain() bool {
	if !r.durable {
		return false
	}
	r.letGo()
	r.must(r.ndb.Close(r.ctx))
	r.open()
	return true
}

// kill kills the database's process and opens it again: what was acknowledged is there.
func (r *run) kill() bool {
	if !r.durable || r.h.Crash == nil {
		return false
	}
	r.letGo()
	r.must(r.h.Crash(r.ndb))
	if err := r.ndb.Close(r.ctx); err != nil { // what this side held of it goes
		r.refused("closing a database whose process was killed", err, db.ErrUnavailable, db.ErrClosed)
	}
	r.open()
	return true
}

// openForReading opens the database for reading only, compares everything, and looks whether a file has
// changed.
func (r *run) openForReading() bool {
	if !r.durable {
		return false
	}
	r.letGo()
	r.must(r.ndb.Close(r.ctx))
	before := r.files()
	r.cfg.ReadOnly = true
	r.open()
	r.lookAtAll()
	version := r.next()
	_, err := r.ndb.NewBatch(r.ctx, emptyRoot(stateType, version), version)
	for what, err := range map[string]error{
		"NewBatch":       err,
		"Finalize":       r.ndb.Finalize(r.ctx, []node.Root{emptyRoot(stateType, version)}),
		"Prune":          r.ndb.Prune(r.ctx, r.earliest),
		"StartMultipart": r.ndb.StartMultipart(r.ctx, version),
		"AbortMultipart": r.ndb.AbortMultipart(r.ctx),
		"Compact":        r.ndb.Compact(r.ctx, nil),
	} {
		r.refused(what+" of a database opened for reading", err, db.ErrReadOnly)
	}
	r.must(r.ndb.Close(r.ctx))
	if after := r.files(); !maps.Equal(before, after) {
		r.Fatalf("a database opened for reading has changed its files")
	}
	r.cfg.ReadOnly = false
	r.open()
	return true
}

// files are the digests of the database's files.
func (r *run) files() map[string][sha256.Size]byte {
	files := make(map[string][sha256.Size]byte)
	err := filepath.WalkDir(r.cfg.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		files[path] = sha256.Sum256(content)
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // not all databases have a directory
		r.Fatalf("%v", err)
	}
	return files
}

// end ends everything that is going on, and looks for what it may have left behind.
func (r *run) end() {
	if r.rng == nil {
		return // nothing has happened
	}
	for len(r.walks) > 0 {
		r.leaveWalk(r.walks[0])
	}
	for len(r.pins) > 0 {
		r.unpin(r.pins[0].Pin)
	}
	r.closeTree()
	r.must(r.ndb.AbortMultipart(r.ctx))
	r.insert = nil
	r.must(r.restorer.AbortRestore(r.ctx))
	r.openAgain() // what was left of batches goes now at the latest
	r.lookAtAll()
	r.check() // with what is due to be freed
	r.compact()
	r.check()
	r.lookAtAll()
	if r.h.AtEnd == nil {
		return
	}
	reached := make(map[node.RootType][]db.Entry)
	for _, t := range r.all() {
		reached[t.Type] = append(reached[t.Type], t.top.Entries()...)
	}
	r.must(r.h.AtEnd(r.ctx, r.ndb, reached))
}
