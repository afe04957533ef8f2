//go:build unix

package plugin_test

import (
	"context"
	"fmt"
	"syscall"
	"testing"

	"github.com/ckpt-project/ckpt/conformance"
	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/plugin"
)

// TestConformance runs the table over databases in processes of their own: the way there must change
// nothing of what the contract says, and the processes can be killed.
func TestConformance(t *testing.T) {
	backends := []string{"memory", "bbolt", "leveldb"}
	if testing.Short() { // the way is the same for all
		backends = backends[1:2]
	}
	for _, backend := range backends {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			dir := runDir(t)
			conformance.Run(t, conformance.Harness{
				Open: func(ctx context.Context, cfg *db.Config) (db.NodeDB, error) {
					return openAlone(ctx, backend, dir, cfg)
				},
				Crash: crash,
			})
		})
	}
}

// alone is a database that has a process for itself.
type alone struct {
	db.NodeDB
	process *plugin.Process
}

func openAlone(ctx context.Context, backend, runDir string, cfg *db.Config) (db.NodeDB, error) {
	path, args, err := plugin.Builtin(backend)
	if err != nil {
		return nil, err
	}
	p, err := plugin.Launch(ctx, plugin.LaunchConfig{Path: path, Args: args, Env: []string{quickRace}, RunDir: runDir})
	if err != nil {
		return nil, err
	}
	ndb, err := p.Open(ctx, cfg)
	if err != nil {
		return nil, errors.Join(err, p.Close(ctx))
	}
	return alone{ndb, p}, nil
}

func (a alone) Close(ctx context.Context) error {
	err := a.NodeDB.Close(ctx)
	return errors.Join(err, a.process.Close(context.WithoutCancel(ctx)))
}

func crash(ndb db.NodeDB) error {
	a, ok := ndb.(alone)
	if !ok {
		return fmt.Errorf("a %T has no process", ndb)
	}
	if err := syscall.Kill(a.process.PID(), syscall.SIGKILL); err != nil {
		return err
	}
	<-a.process.Done()
	return nil
}
