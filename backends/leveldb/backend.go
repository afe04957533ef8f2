// Package leveldb is a backend that keeps its data in a log-structured merge tree
// (github.com/syndtr/goleveldb): small writes and large ones cost about the same a byte, and space is
// given back as tables are merged, without a compaction of the whole.
//
// # What it is good for
//
// States that are changed more than they are read, and disks with little room to spare. Lookups cost
// several times what they do in a mapped file; walks through the tree less so. Every batch is one
// record of a journal, with an fsync.
//
// # Settings
//
// A JSON object with any of:
//
//	write_buffer_bytes   what is kept in memory before it is written as a table (default 32 MiB)
//	block_cache_bytes    memory for blocks of tables that were read (default 64 MiB; 0: none)
//	compression          "none" (the default) or "snappy"
//
// The reasons for the defaults stand in settings.go.
package leveldb

import (
	"context"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb"
)

// Name is the backend's name.
const Name = "leveldb"

// Version is the backend's version.
const Version = "1"

type factory struct{}

// New returns the backend's factory.
func New() db.Factory { return factory{} }

// Name returns "leveldb".
func (factory) Name() string { return Name }

// New opens the database in cfg.Dir.
func (factory) New(ctx context.Context, cfg *db.Config) (db.NodeDB, error) {
	store, err := OpenStore(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return kvdb.Open(ctx, store, cfg, kvdb.Options{Backend: Name, BackendVersion: Version, Compact: true})
}
