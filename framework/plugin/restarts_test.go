package plugin

import (
	"testing"
	"time"
)

func TestFailures(t *testing.T) {
	f := failures{restarts: Restarts{Max: 4, Window: time.Minute, Backoff: time.Second, MaxBackoff: 3 * time.Second}.withDefaults()}
	now := time.Unix(1000, 0)
	for i, longest := range []time.Duration{time.Second, 2 * time.Second, 3 * time.Second, 3 * time.Second} {
		pause, again := f.add(now.Add(time.Duration(i) * time.Second))
		if !again || pause > longest || pause < longest/2 {
			t.Errorf("failure %d: pause %s, again %v; want at most %s", i+1, pause, again, longest)
		}
	}
	if _, again := f.add(now.Add(59 * time.Second)); again {
		t.Error("one more than allowed is tried again")
	}
	if pause, again := f.add(now.Add(2 * time.Minute)); !again || pause > time.Second {
		t.Errorf("failures that are long over still count: %s, %v", pause, again)
	}

	none := failures{restarts: Restarts{Max: -1}.withDefaults()}
	if _, again := none.add(now); again {
		t.Error("tried again where nothing should be")
	}
	if got, want := (Restarts{}).withDefaults(), (Restarts{DefaultRestarts, DefaultRestartWindow, DefaultBackoff, DefaultMaxBackoff}); got != want {
		t.Errorf("defaults %+v", got)
	}
}

// TestPausesDiffer sees that hosts that failed together don't come back together.
func TestPausesDiffer(t *testing.T) {
	seen := map[time.Duration]bool{}
	for range 20 {
		f := failures{restarts: Restarts{}.withDefaults()}
		pause, _ := f.add(time.Now())
		seen[pause] = true
	}
	if len(seen) < 2 {
		t.Error("all pauses are the same")
	}
}
