//go:build unix

package plugin_test

import (
	"testing"

	"github.com/ckpt-project/ckpt/conformance/crash"
)

// TestKills kills the process of a database in the middle of operations that a host does through it: what it
// acknowledged is there afterwards, what it did not is absent or whole.
func TestKills(t *testing.T) {
	h := builtin(t, "bbolt").Harness()
	crash.Kills(t, crash.Harness{Remote: &crash.Remote{Open: h.Open, Kill: h.Crash}, Strict: true, Crashes: 24})
}
