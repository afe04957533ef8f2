package mkvs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/writelog"
)

// strictDB keeps what trees write in maps, and holds every commit against the letter of the contract: what
// is reachable from the new root must be there and hash to what its parent says, nothing else may have been
// put, and the entries named by Remove must be exactly those that only the old root reaches.
type strictDB struct {
	db.NodeDB  // what a tree does not call
	info       db.Info
	entries    map[entryID][]byte
	roots      map[node.Root]node.Address
	candidates map[uint64]uint16
	logs       map[node.Root]writelog.WriteLog
	// briefPaths makes GetPath leave out the node whose label the key leaves, and leaves off its way.
	briefPaths bool
	// unchecked lets damage through for the tree to find.
	unchecked bool
	// mu guards the calls, which come from several goroutines at once; the entries change with a commit only.
	mu sync.Mutex
	// fail, where not nil, is asked before every call that can fail.
	fail  func(call string) error
	calls map[string]int
}

type entryID struct {
	address  node.Address
	position string
}

func newStrictDB() *strictDB {
	return &strictDB{
		info: db.Info{
			MaxKeyBytes: db.DefaultMaxKeyBytes, MaxValueBytes: db.DefaultMaxValueBytes, EmbedBytes: db.DefaultEmbedBytes,
			Capabilities: db.Capabilities{WriteLogs: true},
		},
		entries:    map[entryID][]byte{},
		roots:      map[node.Root]node.Address{},
		candidates: map[uint64]uint16{},
		logs:       map[node.Root]writelog.WriteLog{},
		calls:      map[string]int{},
	}
}

func (s *strictDB) call(ctx context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[name]++
	if s.fail != nil {
		if err := s.fail(name); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (s *strictDB) Info() db.Info { return s.info }

func (s *strictDB) RootAddress(ctx context.Context, root node.Root) (node.Address, error) {
	if err := s.call(ctx, "RootAddress"); err != nil {
		return node.Address{}, err
	}
	address, ok := s.roots[root]
	if !ok {
		return node.Address{}, db.ErrRootNotFound
	}
	return address, nil
}

func (s *strictDB) GetNode(ctx context.Context, root node.Root, address node.Address, position node.Position) ([]byte, error) {
	if err := s.call(ctx, "GetNode"); err != nil {
		return nil, err
	}
	if _, ok := s.roots[root]; !ok {
		return nil, db.ErrRootNotFound
	}
	record, ok := s.entries[entryID{address, string(position)}]
	if !ok {
		return nil, fmt.Errorf("%w: %s %s", db.ErrNodeNotFound, address, position)
	}
	return record, nil
}

func (s *strictDB) GetPath(ctx context.Context, root node.Root, address node.Address, depth node.Depth, key node.Key) ([]db.Entry, error) {
	if err := s.call(ctx, "GetPath"); err != nil {
		return nil, err
	}
	if depth > key.BitLength() {
		return nil, db.ErrMalformed
	}
	var path []db.Entry
	for {
		position := node.NewPosition(key, depth)
		record, ok := s.entries[entryID{address, string(position)}]
		if !ok {
			return nil, fmt.Errorf("%w: %s %s", db.ErrNodeNotFound, address, position)
		}
		r, err := node.ParseRecord(record, address)
		if err != nil { // left for the tree to find
			return append(path, db.Entry{Address: address, Position: position, Record: record}), nil
		}
		start := max(depth, 1) - 1
		end := start + r.LabelBitLength
		off := r.Leaf && !r.Key.Equal(key) ||
			!r.Leaf && (key.BitLength() < end || !key.Slice(start, end).Equal(r.Label))
		if off && s.briefPaths && len(path) > 0 {
			return path, nil
		}
		path = append(path, db.Entry{Address: address, Position: position, Record: record})
		if off || r.Leaf || key.BitLength() == end {
			return path, nil
		}
		side := node.Left
		if key.GetBit(end) {
			side = node.Right
		}
		c := &r.Children[side]
		if !c.Present || c.Embedded != nil {
			return path, nil
		}
		address, depth = c.Address, end+1
	}
}

// reachable lists the entries below a root in pre-order, checking hashes on the way.
func (s *strictDB) reachable(root node.Root) ([]db.Entry, error) {
	if root.IsEmpty() {
		return nil, nil
	}
	address, ok := s.roots[root]
	if !ok {
		return nil, fmt.Errorf("%w: %s", db.ErrRootNotFound, root)
	}
	return s.reachableFrom(root.Hash, address)
}

func (s *strictDB) reachableFrom(h hash.Hash, address node.Address) ([]db.Entry, error) {
	type pending struct {
		address node.Address
		path    node.Key
		depth   node.Depth
		hash    hash.Hash
	}
	var out []db.Entry
	stack := []pending{{address: address, hash: h}}
	for len(stack) > 0 {
		p := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		position := node.NewPosition(p.path, p.depth)
		record, ok := s.entries[entryID{p.address, string(position)}]
		if !ok {
			return nil, fmt.Errorf("no entry of %s at %s", p.address, position)
		}
		r, err := node.ParseRecord(record, p.address)
		if err != nil {
			return nil, err
		}
		if got := r.ComputeHash(); got != p.hash && !s.unchecked {
			return nil, fmt.Errorf("entry of %s at %s hashes to %s, want %s", p.address, position, got, p.hash)
		}
		out = append(out, db.Entry{Address: p.address, Position: position, Record: record})
		start := max(p.depth, 1) - 1
		end := start + r.LabelBitLength
		for _, side := range []int{node.Right, node.Left} {
			c := &r.Children[side]
			if !c.Present {
				continue
			}
			if c.Embedded != nil {
				if len(c.Embedded) > s.info.EmbedBytes {
					return nil, fmt.Errorf("a leaf of %d bytes is embedded", len(c.Embedded))
				}
				continue
			}
			path := make(node.Key, (end + 1).ToBytes())
			copy(path, p.path)
			path.CopyBits(start, r.Label, r.LabelBitLength)
			path.SetBit(end, side == node.Right)
			stack = append(stack, pending{c.Address, path, end + 1, c.Hash})
		}
	}
	return out, nil
}

func (s *strictDB) Walk(ctx context.Context, root node.Root, from node.Position) iter.Seq2[db.Entry, error] {
	return func(yield func(db.Entry, error) bool) {
		if err := s.call(ctx, "Walk"); err != nil {
			yield(db.Entry{}, err)
			return
		}
		entries, err := s.reachable(root)
		if err != nil {
			yield(db.Entry{}, err)
			return
		}
		path, depth, err := from.Bits()
		if err != nil {
			yield(db.Entry{}, err)
			return
		}
		for _, e := range entries {
			if e.Position.Compare(from) < 0 {
				above, n, _ := e.Position.Bits()
				if n > depth || above.CommonPrefixLen(n, path, depth) < n {
					continue
				}
			}
			// What is yielded is valid until the next step only: see that nobody relies on more.
			lent := db.Entry{Address: e.Address, Position: bytes.Clone(e.Position), Record: bytes.Clone(e.Record)}
			if err := s.call(ctx, "step"); err != nil {
				yield(db.Entry{}, err)
				return
			}
			more := yield(lent, nil)
			clear(lent.Position)
			clear(lent.Record)
			if !more {
				return
			}
		}
	}
}

func (s *strictDB) GetWriteLog(_ context.Context, _, end node.Root) iter.Seq2[writelog.LogEntry, error] {
	return func(yield func(writelog.LogEntry, error) bool) {
		for _, e := range s.logs[end] {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func (s *strictDB) NewBatch(ctx context.Context, oldRoot node.Root, version uint64) (db.Batch, error) {
	if err := s.call(ctx, "NewBatch"); err != nil {
		return nil, err
	}
	if _, ok := s.roots[oldRoot]; !ok && !oldRoot.IsEmpty() {
		return nil, db.ErrRootNotFound
	}
	if !oldRoot.IsEmpty() && (oldRoot.Version+1 != version || oldRoot.Type == node.RootTypeIO) {
		return nil, db.ErrRootMustFollowOld
	}
	b := &strictBatch{
		s: s, oldRoot: oldRoot, version: version,
		address: node.Address{Version: version, Candidate: s.candidates[version]},
		put:     map[string][]byte{},
		removed: map[entryID]bool{},
	}
	s.candidates[version]++
	return b, nil
}

type strictBatch struct {
	s       *strictDB
	oldRoot node.Root
	version uint64
	address node.Address
	run     []node.Position
	spans   [][2]node.Position
	put     map[string][]byte
	removed map[entryID]bool
	log     writelog.WriteLog
	over    bool
}

func (b *strictBatch) Address() node.Address { return b.address }

func (b *strictBatch) Put(ctx context.Context, position node.Position, record []byte) error {
	if err := b.s.call(ctx, "Put"); err != nil {
		return err
	}
	if len(b.run) > 0 && b.run[len(b.run)-1].Compare(position) >= 0 {
		return fmt.Errorf("%w: position %s after %s", db.ErrMalformed, position, b.run[len(b.run)-1])
	}
	if _, err := node.ParseRecord(record, b.address); err != nil {
		return err
	}
	b.run = append(b.run, bytes.Clone(position))
	b.put[string(position)] = bytes.Clone(record)
	return nil
}

func (b *strictBatch) EndRun(ctx context.Context) error {
	if err := b.s.call(ctx, "EndRun"); err != nil {
		return err
	}
	if len(b.run) == 0 {
		return fmt.Errorf("%w: a run without entries", db.ErrMalformed)
	}
	b.spans = append(b.spans, [2]node.Position{b.run[0], b.run[len(b.run)-1]})
	b.run = nil
	return nil
}

func (b *strictBatch) Remove(ctx context.Context, address node.Address, position node.Position) error {
	if err := b.s.call(ctx, "Remove"); err != nil {
		return err
	}
	id := entryID{address, string(position)}
	if b.removed[id] {
		return fmt.Errorf("%w: %v is removed twice", db.ErrMalformed, id)
	}
	b.removed[id] = true
	return nil
}

func (b *strictBatch) PutWriteLog(ctx context.Context, log writelog.WriteLog) error {
	if err := b.s.call(ctx, "PutWriteLog"); err != nil {
		return err
	}
	for _, e := range log {
		if n := len(b.log); n > 0 && bytes.Compare(b.log[n-1].Key, e.Key) >= 0 {
			return fmt.Errorf("%w: write log is not sorted", db.ErrMalformed)
		}
		b.log = append(b.log, e)
	}
	return nil
}

func (b *strictBatch) Commit(ctx context.Context, root node.Root, rootAddress node.Address) error {
	if err := b.s.call(ctx, "Commit"); err != nil {
		return err
	}
	if b.over || len(b.run) > 0 || root.Version != b.version || root.Type != b.oldRoot.Type {
		return fmt.Errorf("%w: commit of %s", db.ErrMalformed, root)
	}
	slices.SortFunc(b.spans, func(x, y [2]node.Position) int { return x[0].Compare(y[0]) })
	for i := 1; i < len(b.spans); i++ {
		if b.spans[i-1][1].Compare(b.spans[i][0]) >= 0 {
			return fmt.Errorf("%w: spans of runs overlap", db.ErrMalformed)
		}
	}
	before, err := b.s.reachable(b.oldRoot)
	if err != nil {
		return err
	}
	old := maps.Clone(b.s.entries)
	for position, record := range b.put {
		b.s.entries[entryID{b.address, position}] = record
	}
	err = b.check(root, rootAddress, before)
	if err != nil {
		b.s.entries = old
		return err
	}
	b.over = true
	if _, there := b.s.roots[root]; there {
		b.s.entries = old // the batch leaves nothing: DB34
		return nil
	}
	b.s.logs[root] = b.log
	if !root.IsEmpty() {
		b.s.roots[root] = rootAddress
	}
	return nil
}

func (b *strictBatch) check(root node.Root, rootAddress node.Address, before []db.Entry) error {
	var after []db.Entry
	if !root.IsEmpty() {
		var err error
		if after, err = b.s.reachableFrom(root.Hash, rootAddress); err != nil {
			return err
		}
	}
	kept := map[entryID]bool{}
	puts := 0
	for _, e := range after {
		id := entryID{e.Address, string(e.Position)}
		kept[id] = true
		if e.Address == b.address {
			puts++
		}
	}
	if puts != len(b.put) {
		return fmt.Errorf("%w: %d entries were put, and %d of them are reachable", db.ErrMalformed, len(b.put), puts)
	}
	gone := 0
	for _, e := range before {
		id := entryID{e.Address, string(e.Position)}
		switch {
		case kept[id] && b.removed[id]:
			return fmt.Errorf("%w: %v is reachable, and was removed", db.ErrMalformed, id)
		case !kept[id] && !b.removed[id]:
			return fmt.Errorf("%w: %v is not reachable any more, and was not removed", db.ErrMalformed, id)
		case !kept[id]:
			gone++
		}
	}
	if gone != len(b.removed) {
		return fmt.Errorf("%w: %d entries were removed, and the old root reached %d of them", db.ErrMalformed, len(b.removed), gone)
	}
	return nil
}

func (b *strictBatch) Abort(context.Context) error {
	b.over = true
	return nil
}

var errInjected = errors.New("injected failure")
