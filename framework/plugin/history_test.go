//go:build unix

package plugin_test

import (
	"testing"

	"github.com/ckpt-project/ckpt/conformance/history"
)

// TestHistories runs histories over a database in a process of its own, which is killed now and then: what
// it acknowledged is there afterwards.
func TestHistories(t *testing.T) {
	history.Run(t, history.Harness{Harness: builtin(t, "bbolt").Harness(), Histories: 10})
}
