package conformance

import (
	"context"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/plugin"
)

// Harness opens the databases to be proved. Its functions are called at the same time by several cases,
// for several databases.
type Harness struct {
	// Open opens the database that cfg names, and makes it where there is none, as a factory's New does.
	// With the same config after a Close, or a Crash, it opens the same database again.
	Open func(ctx context.Context, cfg *db.Config) (db.NodeDB, error)
	// Crash ends the process that serves a database as kill -9 does, and returns when it is gone. It is nil
	// where the database lives in this process.
	Crash func(ndb db.NodeDB) error
	// Settings are the backend's own, for all databases that are opened.
	Settings []byte
	// Program is the plugin's program; nil where the databases live in this process, or where what is between
	// is not for the suite to see.
	Program *Program
}

// processOf returns the process of a database that Program's harness has opened.
func processOf(ndb db.NodeDB) *plugin.Process {
	if s, ok := ndb.(*served); ok {
		return s.process
	}
	return nil
}
