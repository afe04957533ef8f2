//go:build unix

package plugin_test

import (
	"context"
	"testing"

	"github.com/ckpt-project/ckpt/conformance"
	"github.com/ckpt-project/ckpt/conformance/history"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// TestHistories runs histories over a database in a process of its own, which is killed now and then: what
// it acknowledged is there afterwards.
func TestHistories(t *testing.T) {
	dir := runDir(t)
	history.Run(t, history.Harness{
		Harness: conformance.Harness{
			Open: func(ctx context.Context, cfg *db.Config) (db.NodeDB, error) {
				return openAlone(ctx, "bbolt", dir, cfg)
			},
			Crash: crash,
		},
		Histories: 10,
	})
}
