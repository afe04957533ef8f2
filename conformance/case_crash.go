package conformance

import (
	"errors"

	"github.com/ckpt-project/ckpt/conformance/crash"
)

// historyCases is how many cases share the kills.
const historyCases = 4

// crashHistories is one of the cases that live through histories with kills, each through others.
func crashHistories(number int) func(e *env) {
	return func(e *env) {
		kills := (e.suite.opts.Kills + historyCases - 1) / historyCases
		remote := crash.Remote{Open: e.openKept, Kill: e.h.Crash}
		counts, err := crash.KillRemote(e.ctx, remote, e.h.Settings, e.TempDir(), kills, uint64(number)*1_000_000)
		e.Logf("%s", counts)
		switch violation := (*crash.Violation)(nil); {
		case errors.As(err, &violation):
			e.Fatalf("%v", err)
		case err != nil:
			e.broken("%v", err)
		}
	}
}
