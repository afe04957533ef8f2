// Package bbolt is a backend that keeps its data in one file, a copy-on-write B+tree mapped into
// memory (go.etcd.io/bbolt). Reading is as fast as the page cache; every batch is one transaction with an
// fsync, so that nothing is ever half there, also after a loss of power.
//
// # What it is good for
//
// Values are returned as they lie in the mapped file, without a copy. The file does not shrink by
// itself: pages that pruning freed are used again, Compact gives them back. A snapshot that stays open
// keeps the pages it sees from being used again, so the file grows behind it.
//
// # Settings
//
// A JSON object with any of:
//
//	initial_mmap_bytes   address space to map at first (default 64 GiB; 0: as much as the file needs)
//	fill_percent         how full a page is made before it is split (default 0.95; 0.1 to 1)
//
// The reasons for the defaults stand in settings.go.
package bbolt

import (
	"context"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb"
)

// Name is the backend's name.
const Name = "bbolt"

// Version is the backend's version.
const Version = "1"

type factory struct{}

// New returns the backend's factory.
func New() db.Factory { return factory{} }

// Name returns "bbolt".
func (factory) Name() string { return Name }

// New opens the database in cfg.Dir.
func (factory) New(ctx context.Context, cfg *db.Config) (db.NodeDB, error) {
	store, err := OpenStore(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return kvdb.Open(ctx, store, cfg, kvdb.Options{Backend: Name, BackendVersion: Version, Compact: true})
}
