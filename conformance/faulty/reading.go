package faulty

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sync"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/writelog"
)

// copied is an entry that stays when the walk goes on.
func copied(e db.Entry) db.Entry {
	return db.Entry{Address: e.Address, Position: slices.Clone(e.Position), Record: slices.Clone(e.Record)}
}

type walk = iter.Seq2[db.Entry, error]

// walkReversed yields the right child's side of some nodes first, as a store does whose keys sort wrongly:
// here each pair of neighbours that is not on the way to the other is swapped.
func walkReversed(_ node.Root, _ node.Position, sound walk) walk {
	return func(yield func(db.Entry, error) bool) {
		var held *db.Entry
		for e, err := range sound {
			if err != nil {
				yield(db.Entry{}, err)
				return
			}
			e = copied(e)
			switch {
			case held == nil:
				held = &e
			case len(e.Position) == len(held.Position):
				if !yield(e, nil) || !yield(*held, nil) {
					return
				}
				held = nil
			default:
				if !yield(*held, nil) {
					return
				}
				held = &e
			}
		}
		if held != nil {
			yield(*held, nil)
		}
	}
}

// frame is after how many entries a faulty walk goes wrong: where it would fetch more.
const frame = 40

// walkSkips loses an entry between two frames.
func walkSkips(_ node.Root, _ node.Position, sound walk) walk {
	return func(yield func(db.Entry, error) bool) {
		n := 0
		for e, err := range sound {
			if n++; n%frame == 0 && err == nil {
				continue
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// walkRepeats begins a frame with the last entry of the one before.
func walkRepeats(_ node.Root, _ node.Position, sound walk) walk {
	return func(yield func(db.Entry, error) bool) {
		n := 0
		for e, err := range sound {
			if !yield(e, err) {
				return
			}
			if n++; n%frame == 0 && err == nil && !yield(e, nil) {
				return
			}
		}
	}
}

// walkWithoutAncestors begins right at its position.
func walkWithoutAncestors(_ node.Root, from node.Position, sound walk) walk {
	return func(yield func(db.Entry, error) bool) {
		for e, err := range sound {
			if err == nil && from != nil && e.Position.Compare(from) < 0 {
				continue
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// walkFromStart begins at the root wherever it should.
type walkFromStart struct{ db.NodeDB }

func (d *walkFromStart) Walk(ctx context.Context, root node.Root, _ node.Position) walk {
	return d.NodeDB.Walk(ctx, root, nil)
}

// walkEndsQuietly ends as if it were through where it can't go on.
func walkEndsQuietly(_ node.Root, _ node.Position, sound walk) walk {
	return func(yield func(db.Entry, error) bool) {
		n := 0
		for e, err := range sound {
			if n++; err != nil && n > 1 {
				return
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// walkKeepsReader has so many readers, and gets back only those whose walk went to its end.
type walkKeepsReader struct {
	db.NodeDB
	mu   sync.Mutex
	kept int
}

const readers = 8

func (d *walkKeepsReader) Walk(ctx context.Context, root node.Root, from node.Position) walk {
	return func(yield func(db.Entry, error) bool) {
		d.mu.Lock()
		kept := d.kept
		d.mu.Unlock()
		if kept >= readers {
			yield(db.Entry{}, errors.New("no reader is free"))
			return
		}
		for e, err := range d.NodeDB.Walk(ctx, root, from) {
			if !yield(e, err) {
				d.mu.Lock()
				d.kept++
				d.mu.Unlock()
				return
			}
		}
	}
}

// walkMixes goes on in the latest version when that changes meanwhile: its snapshot is renewed between
// frames, and what it looks at then is whatever is current.
type walkMixes struct{ db.NodeDB }

func (d *walkMixes) Walk(ctx context.Context, root node.Root, from node.Position) walk {
	return func(yield func(db.Entry, error) bool) {
		before, _, err := d.GetLatestVersion(ctx)
		if err != nil {
			yield(db.Entry{}, err)
			return
		}
		n := 0
		for e, err := range d.NodeDB.Walk(ctx, root, from) {
			if n++; n > frame && err == nil {
				latest, _, _ := d.GetLatestVersion(ctx)
				if all, _ := d.GetRootsForVersion(ctx, latest); latest != before && len(all) > 0 {
					d.NodeDB.Walk(ctx, all[0], e.Position)(yield)
					return
				}
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// recordRotten flips a bit of large records, as a backend without checksums hands out what a disk gives.
func recordRotten(_ node.Root, _ node.Position, sound walk) walk {
	return func(yield func(db.Entry, error) bool) {
		for e, err := range sound {
			if len(e.Record) > 400 {
				e.Record = slices.Clone(e.Record)
				e.Record[len(e.Record)-1] ^= 1
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// rootAtOwnVersion takes a root's node to be where its version would have written it first.
type rootAtOwnVersion struct{ db.NodeDB }

func (d *rootAtOwnVersion) RootAddress(ctx context.Context, root node.Root) (node.Address, error) {
	address, err := d.NodeDB.RootAddress(ctx, root)
	if err == nil && !root.IsEmpty() {
		address = node.Address{Version: root.Version}
	}
	return address, err
}

// nodeByPosition finds a node by its position alone, whichever version wrote it.
type nodeByPosition struct{ db.NodeDB }

func (d *nodeByPosition) GetNode(ctx context.Context, root node.Root, address node.Address, position node.Position) ([]byte, error) {
	record, err := d.NodeDB.GetNode(ctx, root, address, position)
	if !errors.Is(err, db.ErrNodeNotFound) {
		return record, err
	}
	for e, walkErr := range d.Walk(ctx, root, position) {
		if walkErr == nil && e.Position.Compare(position) == 0 {
			return slices.Clone(e.Record), nil
		}
	}
	return record, err
}

// staleNode has a cache of nodes, and forgets the address in its key.
type staleNode struct {
	db.NodeDB
	mu    sync.Mutex
	cache map[string][]byte
}

func (d *staleNode) GetNode(ctx context.Context, root node.Root, address node.Address, position node.Position) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if record, ok := d.cache[string(position)]; ok {
		return record, nil
	}
	record, err := d.NodeDB.GetNode(ctx, root, address, position)
	if err == nil {
		d.cache[string(position)] = record
	}
	return record, err
}

// bufferReused returns each record in the same memory.
type bufferReused struct {
	db.NodeDB
	mu     sync.Mutex
	buffer []byte
}

func (d *bufferReused) GetNode(ctx context.Context, root node.Root, address node.Address, position node.Position) ([]byte, error) {
	record, err := d.NodeDB.GetNode(ctx, root, address, position)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.buffer = append(d.buffer[:0], record...)
	return d.buffer, nil
}

// pathShort ends before the node that the key leads to.
type pathShort struct{ db.NodeDB }

func (d *pathShort) GetPath(ctx context.Context, root node.Root, address node.Address, depth node.Depth, key node.Key) ([]db.Entry, error) {
	path, err := d.NodeDB.GetPath(ctx, root, address, depth, key)
	if len(path) > 2 {
		path = path[:len(path)-1]
	}
	return path, err
}

// pathFromRoot begins at the root wherever it should.
type pathFromRoot struct{ db.NodeDB }

func (d *pathFromRoot) GetPath(ctx context.Context, root node.Root, _ node.Address, _ node.Depth, key node.Key) ([]db.Entry, error) {
	top, err := d.RootAddress(ctx, root)
	if err != nil {
		return nil, err
	}
	return d.NodeDB.GetPath(ctx, root, top, 0, key)
}

// pathsAgain reads many paths at once, and repeats what they share.
type pathsAgain struct{ db.NodeDB }

func (d *pathsAgain) GetPaths(ctx context.Context, root node.Root, starts []db.PathStart) iter.Seq2[db.Entry, error] {
	return func(yield func(db.Entry, error) bool) {
		for _, s := range starts {
			path, err := d.GetPath(ctx, root, s.Address, s.Depth, s.Key)
			if err != nil {
				yield(db.Entry{}, err)
				return
			}
			for _, e := range path {
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}

// pathPastLabels goes by a key's bits at the branches, and does not compare the labels between.
type pathPastLabels struct{ db.NodeDB }

func (d *pathPastLabels) GetPath(ctx context.Context, root node.Root, address node.Address, depth node.Depth, key node.Key) ([]db.Entry, error) {
	path, err := d.NodeDB.GetPath(ctx, root, address, depth, key)
	for err == nil && len(path) > 0 {
		last := path[len(path)-1]
		record, err := node.ParseRecord(last.Record, last.Address)
		if err != nil {
			return nil, err
		}
		bits, n, err := last.Position.Bits()
		if err != nil {
			return nil, err
		}
		end := n + record.LabelBitLength
		if record.Leaf || end >= key.BitLength() {
			break
		}
		child, right := record.Children[node.Left], key.GetBit(end)
		if right {
			child = record.Children[node.Right]
		}
		if !child.Present || child.Embedded != nil {
			break
		}
		way := make(node.Key, (end + 1).ToBytes())
		way.CopyBits(0, bits, n)
		way.CopyBits(n, record.Label, record.LabelBitLength)
		way.SetBit(end, right)
		position := node.NewPosition(way, end+1)
		below, err := d.GetNode(ctx, root, child.Address, position)
		if err != nil {
			break
		}
		path = append(path, db.Entry{Address: child.Address, Position: position, Record: below})
	}
	return path, err
}

// emptyUnknown knows only roots that were committed.
type emptyUnknown struct{ db.NodeDB }

func (d *emptyUnknown) HasRoot(ctx context.Context, root node.Root) (bool, error) {
	has, err := d.NodeDB.HasRoot(ctx, root)
	return has && !root.IsEmpty(), err
}

func (d *emptyUnknown) RootAddress(ctx context.Context, root node.Root) (node.Address, error) {
	address, err := d.NodeDB.RootAddress(ctx, root)
	if err == nil && root.IsEmpty() {
		err = db.ErrRootNotFound
	}
	return address, err
}

// unknownEmpty takes a root that is not there for one that holds nothing.
type unknownEmpty struct{ db.NodeDB }

func (d *unknownEmpty) RootAddress(ctx context.Context, root node.Root) (node.Address, error) {
	address, err := d.NodeDB.RootAddress(ctx, root)
	if errors.Is(err, db.ErrRootNotFound) {
		return node.Address{}, nil
	}
	return address, err
}

func (d *unknownEmpty) Walk(ctx context.Context, root node.Root, from node.Position) walk {
	return func(yield func(db.Entry, error) bool) {
		for e, err := range d.NodeDB.Walk(ctx, root, from) {
			if errors.Is(err, db.ErrRootNotFound) || !yield(e, err) {
				return
			}
		}
	}
}

// rootsUnsorted lists roots as they come.
type rootsUnsorted struct{ db.NodeDB }

func (d *rootsUnsorted) GetRootsForVersion(ctx context.Context, version uint64) ([]node.Root, error) {
	all, err := d.NodeDB.GetRootsForVersion(ctx, version)
	slices.Reverse(all)
	return all, err
}

// gapFilled takes every version from the earliest to the latest to be there.
type gapFilled struct{ db.NodeDB }

func (d *gapFilled) Pin(ctx context.Context, version uint64, owner string) (db.Pin, error) {
	pin, err := d.NodeDB.Pin(ctx, version, owner)
	latest, any, latestErr := d.GetLatestVersion(ctx)
	if errors.Is(err, db.ErrVersionNotFound) && latestErr == nil && any && version < latest {
		return &pinOfNothing{version}, nil
	}
	return pin, err
}

// rootIgnored reads a node for whichever root: it looks at the address alone.
type rootIgnored struct {
	db.NodeDB
	// ignored is what is wrong with the roots for which it does.
	ignored error
}

func (d *rootIgnored) GetNode(ctx context.Context, root node.Root, address node.Address, position node.Position) ([]byte, error) {
	record, err := d.NodeDB.GetNode(ctx, root, address, position)
	if !errors.Is(err, d.ignored) {
		return record, err
	}
	latest, _, latestErr := d.GetLatestVersion(ctx)
	all, rootsErr := d.GetRootsForVersion(ctx, latest)
	if latestErr != nil || rootsErr != nil || len(all) == 0 {
		return record, err
	}
	return d.NodeDB.GetNode(ctx, all[0], address, position)
}

// prunedForgotten does not know any more that a version was there.
func prunedForgotten(ndb db.NodeDB) db.NodeDB {
	return &every{ndb: ndb, leave: func(method string, err error) error {
		switch {
		case !errors.Is(err, db.ErrVersionPruned):
			return err
		case method == "Pin" || method == "Check" || method == "GetRootsForVersion":
			return db.ErrVersionNotFound
		default:
			return db.ErrRootNotFound
		}
	}}
}

// logs changes write logs.
type logs struct {
	db.NodeDB
	change func(log writelog.WriteLog) writelog.WriteLog
}

func (d *logs) GetWriteLog(ctx context.Context, start, end node.Root) iter.Seq2[writelog.LogEntry, error] {
	var log writelog.WriteLog
	for entry, err := range d.NodeDB.GetWriteLog(ctx, start, end) {
		if err != nil {
			return failing[writelog.LogEntry](err)
		}
		log = append(log, writelog.LogEntry{Key: slices.Clone(entry.Key), Value: slices.Clone(entry.Value)})
	}
	return func(yield func(writelog.LogEntry, error) bool) {
		for _, entry := range d.change(log) {
			if !yield(entry, nil) {
				return
			}
		}
	}
}

func logged(change func(writelog.WriteLog) writelog.WriteLog) func(db.NodeDB) db.NodeDB {
	return func(ndb db.NodeDB) db.NodeDB { return &logs{ndb, change} }
}

// logUnsorted returns changes in the order of whatever map they were in.
func logUnsorted(log writelog.WriteLog) writelog.WriteLog {
	slices.Reverse(log)
	return log
}

// logShort loses the last change.
func logShort(log writelog.WriteLog) writelog.WriteLog { return log[:max(len(log)-1, 0)] }

// logEmptyIsGone tells of an empty value as of a removal.
func logEmptyIsGone(log writelog.WriteLog) writelog.WriteLog {
	for i := range log {
		if len(log[i].Value) == 0 {
			log[i].Value = nil
		}
	}
	return log
}

// logInvented says that nothing has changed where it does not know.
type logInvented struct{ db.NodeDB }

func (d *logInvented) GetWriteLog(ctx context.Context, start, end node.Root) iter.Seq2[writelog.LogEntry, error] {
	return func(yield func(writelog.LogEntry, error) bool) {
		for entry, err := range d.NodeDB.GetWriteLog(ctx, start, end) {
			if errors.Is(err, db.ErrWriteLogNotFound) || !yield(entry, err) {
				return
			}
		}
	}
}

// logKept keeps write logs that are to be discarded.
func logKept(ctx context.Context, sound db.Factory, cfg *db.Config) (db.NodeDB, error) {
	below := *cfg
	below.DiscardWriteLogs = false
	return sound.New(ctx, &below)
}

// pathMemoryReused returns each path's records in the same memory.
type pathMemoryReused struct {
	db.NodeDB
	mu     sync.Mutex
	buffer [1 << 16]byte
}

func (d *pathMemoryReused) GetPath(ctx context.Context, root node.Root, address node.Address, depth node.Depth, key node.Key) ([]db.Entry, error) {
	path, err := d.NodeDB.GetPath(ctx, root, address, depth, key)
	d.mu.Lock()
	defer d.mu.Unlock()
	used := 0
	for i := range path {
		end := used + len(path[i].Record)
		if end > len(d.buffer) {
			break
		}
		copy(d.buffer[used:], path[i].Record)
		path[i].Record, used = d.buffer[used:end:end], end
	}
	return path, err
}

// pathPanics has an index out of range where a path is long.
type pathPanics struct{ db.NodeDB }

func (d *pathPanics) GetPath(ctx context.Context, root node.Root, address node.Address, depth node.Depth, key node.Key) ([]db.Entry, error) {
	path, err := d.NodeDB.GetPath(ctx, root, address, depth, key)
	if n := len(path); n > 3 {
		_ = path[n]
	}
	return path, err
}

// walkUninterrupted looks at its context when it begins, and then not any more.
type walkUninterrupted struct{ db.NodeDB }

func (d *walkUninterrupted) Walk(ctx context.Context, root node.Root, from node.Position) walk {
	if err := ctx.Err(); err != nil {
		return failing[db.Entry](err)
	}
	return d.NodeDB.Walk(context.WithoutCancel(ctx), root, from)
}

// damageSkipped goes on behind what is damaged, as if it were not there.
func damageSkipped(_ node.Root, _ node.Position, sound walk) walk {
	return func(yield func(db.Entry, error) bool) {
		for e, err := range sound {
			if errors.Is(err, db.ErrCorrupted) {
				return
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// walkKeepsPin has its version pinned while it walks, and releases it only where it came to its end.
type walkKeepsPin struct{ db.NodeDB }

func (d *walkKeepsPin) Walk(ctx context.Context, root node.Root, from node.Position) walk {
	return func(yield func(db.Entry, error) bool) {
		pin, pinErr := d.Pin(ctx, root.Version, "a walk") // a candidate needs none
		for e, err := range d.NodeDB.Walk(ctx, root, from) {
			if !yield(e, err) || err != nil {
				return
			}
		}
		if pinErr == nil {
			_ = pin.Release(ctx) // a context that is done now leaves it, too
		}
	}
}

// rootByVersion finds a final root by its version alone, whatever its type and hash.
type rootByVersion struct{ db.NodeDB }

// found is the root that is found in the place of another.
func (d *rootByVersion) found(ctx context.Context, root node.Root) node.Root {
	has, err := d.NodeDB.HasRoot(ctx, root)
	if has || err != nil {
		return root
	}
	if all, err := d.GetRootsForVersion(ctx, root.Version); err == nil && len(all) > 0 {
		return all[0]
	}
	return root
}

func (d *rootByVersion) HasRoot(ctx context.Context, root node.Root) (bool, error) {
	return d.NodeDB.HasRoot(ctx, d.found(ctx, root))
}

func (d *rootByVersion) RootAddress(ctx context.Context, root node.Root) (node.Address, error) {
	return d.NodeDB.RootAddress(ctx, d.found(ctx, root))
}

func (d *rootByVersion) GetNode(ctx context.Context, root node.Root, address node.Address, position node.Position) ([]byte, error) {
	return d.NodeDB.GetNode(ctx, d.found(ctx, root), address, position)
}

func (d *rootByVersion) Walk(ctx context.Context, root node.Root, from node.Position) walk {
	return d.NodeDB.Walk(ctx, d.found(ctx, root), from)
}
