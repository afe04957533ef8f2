package memory

import (
	"bytes"
	"context"
	"sync"

	"github.com/tidwall/btree"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
)

// preferredBatchBytes keeps the time that a snapshot waits for a batch in the tens of milliseconds.
const preferredBatchBytes = 8 << 20

type pair struct{ key, value []byte }

func less(a, b pair) bool { return bytes.Compare(a.key, b.key) < 0 }

// store is a kv.Store in memory. Pairs in the tree never change, so that snapshots share them.
type store struct {
	readOnly bool

	// mu is held for writing by whatever changes the tree, and that includes copying it: both copies
	// then know that their nodes are shared.
	mu     sync.RWMutex
	tree   *btree.BTreeG[pair]
	bytes  int64
	closed bool
}

// OpenStore returns a new, empty store; of the config, it looks at ReadOnly and Settings. It is for those
// who build on the store alone; New makes a whole database of it.
func OpenStore(ctx context.Context, cfg *db.Config) (kv.Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := checkSettings(cfg.Settings); err != nil {
		return nil, err
	}
	return &store{readOnly: cfg.ReadOnly, tree: btree.NewBTreeGOptions(less, btree.Options{NoLocks: true})}, nil
}

// Limits has no bounds: what fits in memory is taken.
func (s *store) Limits() kv.Limits {
	return kv.Limits{PreferredBatchBytes: preferredBatchBytes, StableValues: true}
}

// Apply copies what it takes before it locks, so that snapshots wait for the tree alone.
func (s *store) Apply(ctx context.Context, batch *kv.Batch, _ bool) error {
	if err := s.check(ctx); err != nil {
		return err
	}
	if s.readOnly {
		return kv.ErrReadOnly
	}
	ops := batch.Ops()
	pairs := make([]pair, len(ops))
	for i, op := range ops {
		if len(op.Key) == 0 {
			return kv.ErrLimitExceeded
		}
		if op.Delete {
			pairs[i].key = op.Key // only looked for, not kept
			continue
		}
		both := make([]byte, len(op.Key)+len(op.Value))
		n := copy(both, op.Key)
		copy(both[n:], op.Value)
		pairs[i] = pair{both[:n:n], both[n:]}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return kv.ErrClosed
	}
	for i, op := range ops {
		if op.Delete {
			if old, had := s.tree.Delete(pairs[i]); had {
				s.bytes -= int64(len(old.key) + len(old.value))
			}
			continue
		}
		if old, had := s.tree.Set(pairs[i]); had {
			s.bytes -= int64(len(old.key) + len(old.value))
		}
		s.bytes += int64(len(op.Key) + len(op.Value))
	}
	return nil
}

func (s *store) Snapshot(ctx context.Context) (kv.Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, kv.ErrClosed
	}
	return &snapshot{tree: s.tree.Copy()}, nil
}

// Sync has nothing to do: a loss of power takes everything in any case.
func (s *store) Sync(ctx context.Context) error { return s.check(ctx) }

func (s *store) Size(ctx context.Context) (kv.Size, error) {
	if err := s.check(ctx); err != nil {
		return kv.Size{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return kv.Size{Live: s.bytes}, nil
}

// Compact has nothing to give back.
func (s *store) Compact(ctx context.Context, _ func(done, total int64)) error { return s.check(ctx) }

// Close gives up the data.
func (s *store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return kv.ErrClosed
	}
	s.closed, s.tree = true, nil
	return nil
}

func (s *store) check(ctx context.Context) error {
	s.mu.RLock()
	closed := s.closed
	s.mu.RUnlock()
	if closed {
		return kv.ErrClosed
	}
	return ctx.Err()
}
