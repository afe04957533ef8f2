//go:build unix

package plugin_test

import (
	"context"
	"testing"

	"github.com/ckpt-project/ckpt/conformance"
	crashes "github.com/ckpt-project/ckpt/conformance/crash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// TestKills kills the process of a database in the middle of operations that a host does through it: what it
// acknowledged is there afterwards, what it did not is absent or whole.
func TestKills(t *testing.T) {
	dir := runDir(t)
	crashes.Kills(t, crashes.Harness{
		Remote: &conformance.Harness{
			Open: func(ctx context.Context, cfg *db.Config) (db.NodeDB, error) {
				return openAlone(ctx, "bbolt", dir, cfg)
			},
			Crash: crash,
		},
		Strict:  true,
		Crashes: 24,
	})
}
