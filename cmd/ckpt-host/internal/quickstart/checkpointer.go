package quickstart

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/ckpt-project/ckpt/framework/checkpoint"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// follower is a checkpointer that follows the versions as they come. The zero value does nothing: the
// configuration asks for none.
type follower struct {
	checkpointer *checkpoint.ManagedCheckpointer
	made         atomic.Uint64
}

// follow starts the checkpointer that the configuration asks for.
func (r *run) follow(ctx context.Context, ndb db.NodeDB, creator checkpoint.Creator) (*follower, error) {
	f := &follower{}
	parameters := r.dir.history.Checkpoints
	if parameters == nil {
		return f, nil
	}
	var err error
	f.checkpointer, err = checkpoint.NewManagedCheckpointer(ctx, ndb, creator, checkpoint.CheckpointerConfig{
		Name:            sourceNamespace,
		Namespace:       r.dir.history.ID,
		RootsPerVersion: 1,
		Parameters: &checkpoint.CreationParameters{
			Interval: parameters.Interval, NumKept: parameters.Keep, ChunkSize: parameters.ChunkSize,
		},
	}, checkpoint.WithCheckpointerLogger(r.Logger), checkpoint.WithEvents(f.event))
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (f *follower) event(event checkpoint.Event) {
	if event.Kind == checkpoint.EventFinished {
		f.made.Add(1)
	}
}

// notify tells of a version that was finalized.
func (f *follower) notify(version uint64) {
	if f.checkpointer != nil {
		f.checkpointer.NotifyNewVersion(version)
	}
}

// finish ends the checkpointer: when all that is due is made, or at once.
func (f *follower) finish(ctx context.Context, all bool) error {
	if f.checkpointer == nil {
		return nil
	}
	var err error
	if all {
		err = f.checkpointer.Flush(ctx)
	}
	if err = errors.Join(err, f.checkpointer.Close()); err != nil {
		return fmt.Errorf("checkpointer: %w", err)
	}
	return nil
}
