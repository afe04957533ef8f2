// Command backend is a storage backend of one's own, as small as a durable one gets: a key-value store
// (store.go) that kvdb makes a node database of, served as a plugin. docs/writing-a-backend.md goes
// through it.
package main

import (
	"context"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb"
	"github.com/ckpt-project/ckpt/framework/plugin"
)

func main() {
	plugin.Serve(plugin.ServeOptions{Factory: factory{}, Version: "1"})
}

type factory struct{}

func (factory) Name() string { return "journal" }

func (factory) New(ctx context.Context, cfg *db.Config) (db.NodeDB, error) {
	store, err := openStore(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return kvdb.Open(ctx, store, cfg, kvdb.Options{Backend: "journal", BackendVersion: "1", Compact: true})
}
