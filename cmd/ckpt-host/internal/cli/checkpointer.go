package cli

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/config"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/host"
	"github.com/ckpt-project/ckpt/framework/checkpoint"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// maker makes the checkpoints that a namespace's configuration asks for while versions come in. Without
// a checkpoints block it does nothing.
type maker struct {
	store        *store
	checkpointer *checkpoint.ManagedCheckpointer

	mu   sync.Mutex
	made []*checkpoint.Metadata
}

// startCheckpointer starts a checkpointer where the namespace's configuration asks for one. It works until
// finish or stop.
func startCheckpointer(ctx context.Context, e *env, ns *config.Namespace, ndb db.NodeDB) (*maker, error) {
	m := &maker{}
	if ns.Checkpoints == nil {
		return m, nil
	}
	var err error
	if m.store, err = openStore(e, ns); err != nil {
		return nil, err
	}
	logger := e.logger()
	creator, err := checkpoint.NewFileCreator(ns.CheckpointsDir(), ndb,
		checkpoint.WithThreads(ns.Checkpoints.Threads), checkpoint.WithCreatorLogger(logger),
		checkpoint.WithVerification(ns.Checkpoints.Verification),
		checkpoint.WithCreatorLimits(ns.CheckpointLimits()))
	if err != nil {
		return nil, err
	}
	opts := []checkpoint.CheckpointerOption{
		checkpoint.WithCheckpointerLogger(logger), checkpoint.WithEvents(m.event), checkpoint.WithJitter(ns.Checkpoints.Jitter),
	}
	if initial := ns.Checkpoints.InitialVersion; initial != nil {
		opts = append(opts, checkpoint.WithInitialVersion(*initial))
	}
	m.checkpointer, err = checkpoint.NewManagedCheckpointer(ctx, ndb, creator, checkpoint.CheckpointerConfig{
		Name:      ns.Name,
		Namespace: ns.ID,
		// However many roots a version has: an IO root is there where the version has IO operations.
		RootsPerVersion: 0,
		Parameters: &checkpoint.CreationParameters{
			Interval: ns.Checkpoints.Interval, NumKept: ns.Checkpoints.Keep, ChunkSize: ns.Checkpoints.ChunkSize,
		},
	}, opts...)
	if err != nil {
		return nil, err
	}
	return m, nil
}

// event keeps the account of what was made and is still there.
func (m *maker) event(event checkpoint.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch event.Kind {
	case checkpoint.EventFinished:
		m.made = append(m.made, event.Metadata)
	case checkpoint.EventDeleted:
		for i, made := range m.made {
			if made.Root == event.Root {
				m.made = append(m.made[:i], m.made[i+1:]...)
				break
			}
		}
	}
}

// finalized tells of a new version.
func (m *maker) finalized(version uint64) {
	if m.checkpointer != nil {
		m.checkpointer.NotifyNewVersion(version)
	}
}

// finish waits until all checkpoints that are due are made, and ends the checkpointer. It returns those
// that were made and kept.
func (m *maker) finish(ctx context.Context) ([]checkpointResult, error) {
	if m.checkpointer == nil {
		return nil, nil
	}
	err := host.Persist(func() error { return m.checkpointer.Flush(ctx) })
	err = errors.Join(err, m.checkpointer.Close())
	if err != nil {
		return nil, fmt.Errorf("making the checkpoints that the configuration asks for: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var results []checkpointResult
	for _, metadata := range m.made {
		result, err := m.store.describeRoot(ctx, metadata)
		if err != nil {
			return results, err
		}
		results = append(results, result)
	}
	return results, nil
}

// stop ends the checkpointer, whatever it is doing.
func (m *maker) stop() error {
	if m.checkpointer == nil {
		return nil
	}
	return m.checkpointer.Close()
}
