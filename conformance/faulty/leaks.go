package faulty

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"sync"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// lost are files that nobody closes: as long as they are here no collector does, either.
var lost struct {
	mu    sync.Mutex
	files []*os.File
}

// loseFile opens a file, and forgets it.
func loseFile(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	lost.mu.Lock()
	defer lost.mu.Unlock()
	lost.files = append(lost.files, f)
	return nil
}

// leaksFile leaves a file open each time that a database is opened.
func leaksFile(ctx context.Context, sound db.Factory, cfg *db.Config) (db.NodeDB, error) {
	ndb, err := sound.New(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := loseFile(cfg.Dir); err != nil {
		return nil, errors.Join(err, ndb.Close(ctx))
	}
	return ndb, nil
}

// leaksProcess leaves a process of its own.
func leaksProcess(ctx context.Context, sound db.Factory, cfg *db.Config) (db.NodeDB, error) {
	ndb, err := sound.New(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := startLeft(); err != nil {
		return nil, errors.Join(err, ndb.Close(ctx))
	}
	return ndb, nil
}

// startLeft starts this program again, as one that hangs: it ends by itself, too late.
func startLeft() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	child := exec.Command(self)
	child.Env = append(os.Environ(), ProgramVariable+"=hangs-at-start")
	return child.Start()
}

// leaks leaves a file open in some methods.
type leaks struct {
	db.NodeDB
	walk, batch, pin bool
}

func (d *leaks) Walk(ctx context.Context, root node.Root, from node.Position) walk {
	return func(yield func(db.Entry, error) bool) {
		for e, err := range d.NodeDB.Walk(ctx, root, from) {
			if !yield(e, err) {
				if d.walk {
					_ = loseFile(os.DevNull) // where it is not there nothing leaks
				}
				return
			}
		}
	}
}

type leakingBatch struct{ db.Batch }

func (b *leakingBatch) Abort(ctx context.Context) error {
	_ = loseFile(os.DevNull)
	return b.Batch.Abort(ctx)
}

func (d *leaks) NewBatch(ctx context.Context, oldRoot node.Root, version uint64) (db.Batch, error) {
	b, err := d.NodeDB.NewBatch(ctx, oldRoot, version)
	if err != nil || !d.batch {
		return b, err
	}
	return &leakingBatch{b}, nil
}

func (d *leaks) Pin(ctx context.Context, version uint64, owner string) (db.Pin, error) {
	pin, err := d.NodeDB.Pin(ctx, version, owner)
	if err == nil && d.pin {
		err = loseFile(os.DevNull)
	}
	return pin, err
}
