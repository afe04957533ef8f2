package faulty

import (
	"context"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// reopened makes a defect of what an open database finds: spoil is called where the database was there
// before. What a defect has to keep it keeps in a file beside the database's directory.
func reopened(spoil func(ctx context.Context, ndb db.NodeDB) (db.NodeDB, error)) func(context.Context, db.Factory, *db.Config) (db.NodeDB, error) {
	return func(ctx context.Context, sound db.Factory, cfg *db.Config) (db.NodeDB, error) {
		_, statErr := os.Stat(cfg.Dir)
		ndb, err := sound.New(ctx, cfg)
		if err != nil || statErr != nil {
			return ndb, err
		}
		return spoiled(ctx, ndb, spoil)
	}
}

// killed makes a defect of what an open database finds after its process was killed: a file beside the
// database's directory says that Close has not been called.
func killed(spoil func(ctx context.Context, ndb db.NodeDB) (db.NodeDB, error)) func(context.Context, db.Factory, *db.Config) (db.NodeDB, error) {
	return func(ctx context.Context, sound db.Factory, cfg *db.Config) (db.NodeDB, error) {
		ndb, err := sound.New(ctx, cfg)
		if err != nil {
			return nil, err
		}
		running := cfg.Dir + ".running"
		if _, err := os.Stat(running); err == nil {
			return spoiled(ctx, ndb, spoil)
		}
		if err := os.WriteFile(running, nil, 0o600); err != nil {
			return nil, errors.Join(err, ndb.Close(ctx))
		}
		return &every{ndb: ndb, leave: func(method string, err error) error {
			if method == "Close" && err == nil {
				err = os.Remove(running)
			}
			return err
		}}, nil
	}
}

func spoiled(ctx context.Context, ndb db.NodeDB, spoil func(ctx context.Context, ndb db.NodeDB) (db.NodeDB, error)) (db.NodeDB, error) {
	bad, err := spoil(ctx, ndb)
	if err != nil {
		return nil, errors.Join(err, ndb.Close(ctx))
	}
	return bad, nil
}

// candidatesLost is a database that does not find what was committed and not finalized.
type candidatesLost struct {
	db.NodeDB
	lost roots
}

func loseCandidates(ctx context.Context, ndb db.NodeDB) (db.NodeDB, error) {
	latest, any, err := ndb.GetLatestVersion(ctx)
	if err != nil {
		return nil, err
	}
	first := uint64(0)
	if any {
		first = latest + 1
	}
	d := &candidatesLost{NodeDB: ndb}
	for v := first; v < first+5; v++ {
		all, err := ndb.GetRootsForVersion(ctx, v)
		if err != nil {
			return nil, err
		}
		d.lost.add(all...)
	}
	return d, nil
}

func (d *candidatesLost) HasRoot(ctx context.Context, root node.Root) (bool, error) {
	has, err := d.NodeDB.HasRoot(ctx, root)
	return has && !d.lost.has(root), err
}

func (d *candidatesLost) GetRootsForVersion(ctx context.Context, version uint64) ([]node.Root, error) {
	all, err := d.NodeDB.GetRootsForVersion(ctx, version)
	return slices.DeleteFunc(all, d.lost.has), err
}

// loseMarks finds an open insert, and none of its marks.
func loseMarks(ctx context.Context, ndb db.NodeDB) (db.NodeDB, error) {
	m, err := ndb.Multipart(ctx)
	if err != nil || m == nil {
		return ndb, err
	}
	for _, r := range m.Roots {
		if err := ndb.AbortRoot(ctx, r.Root); err != nil {
			return nil, err
		}
		if err := ndb.AddMultipartRoot(ctx, r.Root, r.Chunks, r.Tag); err != nil {
			return nil, err
		}
	}
	return ndb, nil
}

// loseInsert finds no open insert.
func loseInsert(ctx context.Context, ndb db.NodeDB) (db.NodeDB, error) {
	return ndb, ndb.AbortMultipart(ctx)
}

// tearInsert finds marks of chunks whose nodes never were safe: here of all.
func tearInsert(_ context.Context, ndb db.NodeDB) (db.NodeDB, error) {
	return &insert{ndb, func(m *db.Multipart) {
		for i := range m.Roots {
			r := &m.Roots[i]
			r.Done = nil
			for c := range r.Chunks {
				r.Done = append(r.Done, c)
			}
		}
	}}, nil
}

// earlierForgotten has found the latest version alone.
type earlierForgotten struct {
	db.NodeDB
	from uint64
	any  bool
}

func forgetEarlier(ctx context.Context, ndb db.NodeDB) (db.NodeDB, error) {
	latest, any, err := ndb.GetLatestVersion(ctx)
	return &earlierForgotten{ndb, latest, any}, err
}

func (d *earlierForgotten) GetEarliestVersion(ctx context.Context) (uint64, bool, error) {
	if d.any {
		return d.from, true, ctx.Err()
	}
	return d.NodeDB.GetEarliestVersion(ctx)
}

// closeCommits makes whatever is open count before it closes.
type closeCommits struct {
	batches
	mu   sync.Mutex
	open map[*pending]bool
}

func newCloseCommits(ndb db.NodeDB) db.NodeDB {
	d := &closeCommits{open: make(map[*pending]bool)}
	d.batches = batches{ndb, func(b db.Batch, oldRoot node.Root, version uint64) db.Batch {
		p := newPending(b, oldRoot, version)
		d.mu.Lock()
		defer d.mu.Unlock()
		d.open[p] = true
		p.ended = func(node.Root) {
			d.mu.Lock()
			defer d.mu.Unlock()
			delete(d.open, p)
		}
		return p
	}}
	return d
}

func (d *closeCommits) Close(ctx context.Context) error {
	d.mu.Lock()
	open := d.open
	d.open = make(map[*pending]bool)
	d.mu.Unlock()
	for p := range open {
		if p.any {
			if err := p.Batch.Commit(ctx, p.root, p.Address()); err != nil {
				return err
			}
		}
	}
	return d.NodeDB.Close(ctx)
}

// foreignCleared makes room for itself in a directory that holds another namespace's database.
func foreignCleared(ctx context.Context, sound db.Factory, cfg *db.Config) (db.NodeDB, error) {
	ndb, err := sound.New(ctx, cfg)
	if !errors.Is(err, db.ErrBadNamespace) {
		return ndb, err
	}
	if err := os.RemoveAll(cfg.Dir); err != nil {
		return nil, err
	}
	return sound.New(ctx, cfg)
}

// readOnlyWrites opens for writing whatever it is told.
func readOnlyWrites(ctx context.Context, sound db.Factory, cfg *db.Config) (db.NodeDB, error) {
	below := *cfg
	below.ReadOnly = false
	return sound.New(ctx, &below)
}

// readOnlyTouches opens for reading, and makes a file.
func readOnlyTouches(ctx context.Context, sound db.Factory, cfg *db.Config) (db.NodeDB, error) {
	ndb, err := sound.New(ctx, cfg)
	if err == nil && cfg.ReadOnly {
		err = os.WriteFile(cfg.Dir+"/LOCK.shared", nil, 0o600)
	}
	return ndb, err
}

// pinsStored writes pins down, in a file beside the database's directory, and has them in force again.
type pinsStored struct {
	db.NodeDB
	file string
	mu   sync.Mutex
}

func openPinsStored(ctx context.Context, sound db.Factory, cfg *db.Config) (db.NodeDB, error) {
	ndb, err := sound.New(ctx, cfg)
	if err != nil {
		return nil, err
	}
	d := &pinsStored{NodeDB: ndb, file: cfg.Dir + ".pins"}
	stored, err := os.ReadFile(d.file)
	if errors.Is(err, os.ErrNotExist) {
		return d, nil
	}
	for _, line := range strings.Fields(string(stored)) {
		version, parseErr := strconv.ParseUint(line, 10, 64)
		_, pinErr := ndb.Pin(ctx, version, "somebody, once")
		err = errors.Join(err, parseErr, pinErr)
	}
	if err != nil {
		return nil, errors.Join(err, ndb.Close(ctx))
	}
	return d, nil
}

func (d *pinsStored) Pin(ctx context.Context, version uint64, owner string) (db.Pin, error) {
	pin, err := d.NodeDB.Pin(ctx, version, owner)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	f, err := os.OpenFile(d.file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = f.WriteString(strconv.FormatUint(version, 10) + "\n")
	return pin, errors.Join(err, f.Close())
}

// lockKept leaves its lock when it closes: a file beside the database's directory.
func lockKept(ctx context.Context, sound db.Factory, cfg *db.Config) (db.NodeDB, error) {
	lock := cfg.Dir + ".lock"
	if _, err := os.Stat(lock); err == nil {
		return nil, db.ErrLocked
	}
	ndb, err := sound.New(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return ndb, os.WriteFile(lock, nil, 0o600)
}

// damageWiped begins anew where it can't open what is there.
func damageWiped(ctx context.Context, sound db.Factory, cfg *db.Config) (db.NodeDB, error) {
	ndb, err := sound.New(ctx, cfg)
	if err == nil || ctx.Err() != nil || errors.Is(err, db.ErrLocked) {
		return ndb, err
	}
	if err := os.RemoveAll(cfg.Dir); err != nil {
		return nil, err
	}
	return sound.New(ctx, cfg)
}

// readOnlyMakes makes the database that it is to read.
func readOnlyMakes(ctx context.Context, sound db.Factory, cfg *db.Config) (db.NodeDB, error) {
	if cfg.ReadOnly {
		if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
			return nil, err
		}
	}
	return sound.New(ctx, cfg)
}

// lockStale finds a lock, and does not look whether who took it lives.
func lockStale(ctx context.Context, sound db.Factory, cfg *db.Config) (db.NodeDB, error) {
	lock := cfg.Dir + ".lock"
	if _, err := os.Stat(lock); err == nil {
		return nil, db.ErrLocked
	}
	ndb, err := sound.New(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(lock, nil, 0o600); err != nil {
		return nil, errors.Join(err, ndb.Close(ctx))
	}
	return &every{ndb: ndb, leave: func(method string, err error) error {
		if method == "Close" && err == nil {
			err = os.Remove(lock)
		}
		return err
	}}, nil
}

// lockMissing lets everybody in: here each into a directory of its own, so that nothing breaks.
func lockMissing(ctx context.Context, sound db.Factory, cfg *db.Config) (db.NodeDB, error) {
	ndb, err := sound.New(ctx, cfg)
	if !errors.Is(err, db.ErrLocked) {
		return ndb, err
	}
	below := *cfg
	below.Dir, below.ReadOnly = cfg.Dir+".other", false
	return sound.New(ctx, &below)
}

// lockUnnamed does not say who has the lock.
func lockUnnamed(ctx context.Context, sound db.Factory, cfg *db.Config) (db.NodeDB, error) {
	ndb, err := sound.New(ctx, cfg)
	if errors.Is(err, db.ErrLocked) {
		err = db.ErrLocked
	}
	return ndb, err
}

// openUninterrupted goes on to open when nobody waits for it any more, and holds the lock.
func openUninterrupted(ctx context.Context, sound db.Factory, cfg *db.Config) (db.NodeDB, error) {
	ndb, err := sound.New(context.WithoutCancel(ctx), cfg)
	if ended := interruptible(ctx, amongMany); err == nil && ended != nil { // as if there were much to read
		return nil, ended // and nobody closes it
	}
	return ndb, err
}

// closeUnsafe does not make safe what was committed last.
func closeUnsafe(ctx context.Context, sound db.Factory, cfg *db.Config) (db.NodeDB, error) {
	ndb, err := sound.New(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return loseCandidates(ctx, ndb)
}
