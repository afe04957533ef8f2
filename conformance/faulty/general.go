package faulty

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"sync"
	"time"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// contextIgnored has no way to be interrupted.
func contextIgnored(ndb db.NodeDB) db.NodeDB {
	return &every{ndb: ndb, enter: func(ctx context.Context, _ string) (context.Context, error) {
		return context.WithoutCancel(ctx), nil
	}}
}

// contextErrorFlat is interrupted, and then says so in words alone.
func contextErrorFlat(ndb db.NodeDB) db.NodeDB {
	return &every{ndb: ndb, leave: func(_ string, err error) error {
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			return errors.New("transaction aborted: " + err.Error())
		}
		return err
	}}
}

// errorsFlat tells its errors' texts, as a backend does that formats them with %v, or sends them over a wire
// as strings.
func errorsFlat(ndb db.NodeDB) db.NodeDB {
	return &every{ndb: ndb, leave: func(_ string, err error) error {
		if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		return errors.New(err.Error())
	}}
}

// closedUnnoticed fails after Close with whatever the files below say.
func closedUnnoticed(ndb db.NodeDB) db.NodeDB {
	return &every{ndb: ndb, leave: func(_ string, err error) error {
		if errors.Is(err, db.ErrClosed) {
			return fs.ErrClosed
		}
		return err
	}}
}

// closedAnswers answers a question after Close, from what it has in memory.
type closedAnswers struct {
	db.NodeDB
	mu     sync.Mutex
	latest uint64
	any    bool
}

func (d *closedAnswers) GetLatestVersion(ctx context.Context) (uint64, bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	latest, any, err := d.NodeDB.GetLatestVersion(ctx)
	if errors.Is(err, db.ErrClosed) {
		return d.latest, d.any, nil
	}
	if err == nil {
		d.latest, d.any = latest, any
	}
	return latest, any, err
}

// closesTwice takes a second Close for done.
type closesTwice struct{ db.NodeDB }

func (d *closesTwice) Close(ctx context.Context) error {
	if err := d.NodeDB.Close(ctx); !errors.Is(err, db.ErrClosed) {
		return err
	}
	return nil
}

// closeWaits does not close while something walks.
type closeWaits struct {
	db.NodeDB
	reading sync.RWMutex
}

func (d *closeWaits) Walk(ctx context.Context, root node.Root, from node.Position) iter.Seq2[db.Entry, error] {
	return func(yield func(db.Entry, error) bool) {
		d.reading.RLock()
		defer d.reading.RUnlock()
		d.NodeDB.Walk(ctx, root, from)(yield)
	}
}

func (d *closeWaits) Close(ctx context.Context) error {
	for !d.reading.TryLock() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	defer d.reading.Unlock()
	return d.NodeDB.Close(ctx)
}

// panics has an index out of range where a node is not there.
type panics struct{ db.NodeDB }

func (d *panics) GetNode(ctx context.Context, root node.Root, address node.Address, position node.Position) ([]byte, error) {
	record, err := d.NodeDB.GetNode(ctx, root, address, position)
	if errors.Is(err, db.ErrNodeNotFound) {
		_ = record[0]
	}
	return record, err
}

// hangs waits in a method for something that never comes, until its context is done.
func hangs(method string) func(db.NodeDB) db.NodeDB {
	return func(ndb db.NodeDB) db.NodeDB {
		return &every{ndb: ndb, enter: func(ctx context.Context, m string) (context.Context, error) {
			if m == method {
				<-ctx.Done()
			}
			return ctx, nil
		}}
	}
}

// tooLong is how long the deaf are: longer than a case is given.
const tooLong = 20 * time.Second

// deaf waits in a method for something that comes much too late, and nothing brings it back before.
func deaf(method string) func(db.NodeDB) db.NodeDB {
	return func(ndb db.NodeDB) db.NodeDB {
		return &every{ndb: ndb, enter: func(ctx context.Context, m string) (context.Context, error) {
			if m == method {
				time.Sleep(tooLong)
			}
			return ctx, nil
		}}
	}
}

// slow takes a while for each call.
func slow(ndb db.NodeDB) db.NodeDB {
	return &every{ndb: ndb, enter: func(ctx context.Context, m string) (context.Context, error) {
		if m != "Close" {
			time.Sleep(300 * time.Millisecond)
		}
		return ctx, nil
	}}
}

// anyNamespace reads a root without a look at its namespace.
type anyNamespace struct{ db.NodeDB }

func (d *anyNamespace) own(root node.Root) node.Root {
	root.Namespace = d.Info().Namespace
	return root
}

func (d *anyNamespace) HasRoot(ctx context.Context, root node.Root) (bool, error) {
	return d.NodeDB.HasRoot(ctx, d.own(root))
}

func (d *anyNamespace) RootAddress(ctx context.Context, root node.Root) (node.Address, error) {
	return d.NodeDB.RootAddress(ctx, d.own(root))
}

func (d *anyNamespace) GetNode(ctx context.Context, root node.Root, address node.Address, position node.Position) ([]byte, error) {
	return d.NodeDB.GetNode(ctx, d.own(root), address, position)
}

func (d *anyNamespace) Walk(ctx context.Context, root node.Root, from node.Position) iter.Seq2[db.Entry, error] {
	return d.NodeDB.Walk(ctx, d.own(root), from)
}

// limitsForgotten tells of limits that it does not keep.
func limitsForgotten(ctx context.Context, sound db.Factory, cfg *db.Config) (db.NodeDB, error) {
	below := *cfg
	below.MaxKeyBytes, below.MaxValueBytes = 0, 0
	ndb, err := sound.New(ctx, &below)
	if err != nil || cfg.MaxKeyBytes == 0 {
		return ndb, err
	}
	info := ndb.Info()
	info.MaxKeyBytes, info.MaxValueBytes = cfg.MaxKeyBytes, cfg.MaxValueBytes
	return &told{ndb, info}, nil
}

// told is a database that says something else of itself.
type told struct {
	db.NodeDB
	info db.Info
}

func (d *told) Info() db.Info { return d.info }

// shared is what all faulty databases that are opened in a process have in common.
var shared struct {
	mu   sync.Mutex
	pins []db.PinInfo
}

// pinsShared has the pins of all databases of its process in one list.
type pinsShared struct{ db.NodeDB }

func (d *pinsShared) Pin(ctx context.Context, version uint64, owner string) (db.Pin, error) {
	pin, err := d.NodeDB.Pin(ctx, version, owner)
	if err == nil {
		shared.mu.Lock()
		defer shared.mu.Unlock()
		shared.pins = append(shared.pins, db.PinInfo{Version: version, Owner: owner, Since: time.Now()})
	}
	return pin, err
}

func (d *pinsShared) Pins(ctx context.Context) ([]db.PinInfo, error) {
	if _, err := d.NodeDB.Pins(ctx); err != nil {
		return nil, err
	}
	shared.mu.Lock()
	defer shared.mu.Unlock()
	return append([]db.PinInfo(nil), shared.pins...), nil
}

// limitsUnread does not read the limits of its config: it has its own.
func limitsUnread(ctx context.Context, sound db.Factory, cfg *db.Config) (db.NodeDB, error) {
	below := *cfg
	below.MaxKeyBytes, below.MaxValueBytes = 0, 0
	return sound.New(ctx, &below)
}
