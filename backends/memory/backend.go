// Package memory is a backend that keeps its data in memory, for tests, trials and states that are made
// again each time. The data lives as long as the open database: every open makes a new, empty one, and
// two opens in one process are two databases.
//
// Its store is a copy-on-write B-tree: a snapshot costs the same whatever the store holds, and neither
// waits for writers nor makes them wait for longer than one batch takes. It has no settings.
package memory

import (
	"context"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb"
)

// Name is the backend's name.
const Name = "memory"

// Version is the backend's version.
const Version = "1"

type factory struct{}

// New returns the backend's factory. It keeps nothing between two opens.
func New() db.Factory { return factory{} }

// Name returns "memory".
func (factory) Name() string { return Name }

// New makes a new, empty database. Of the config, Dir and LockWait mean nothing here.
func (factory) New(ctx context.Context, cfg *db.Config) (db.NodeDB, error) {
	store, err := OpenStore(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return kvdb.Open(ctx, store, cfg, kvdb.Options{Backend: Name, BackendVersion: Version})
}
