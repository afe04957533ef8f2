package console

import (
	"fmt"
	"testing"
	"time"
)

func TestMeter(t *testing.T) {
	now := time.Unix(1000, 0)
	m := NewMeter(func(n int64) string { return fmt.Sprint(n, " B") })
	m.now = func() time.Time { return now }
	step := func(after time.Duration, done, total int64, bar bool, want string) {
		t.Helper()
		now = now.Add(after)
		m.Set(done, total)
		if got := m.text(bar); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := meterLine("working", m.text(true)); got != "working" {
		t.Errorf("before it begins: %q", got)
	}
	step(0, 50, 1000, false, "5%, 50 B of 1000 B, 0 B/s") // what was there is no rate
	step(time.Second, 150, 1000, false, "15%, 150 B of 1000 B, 100 B/s, 9s left")
	step(time.Second, 250, 1000, true, "[#####---------------] 25%, 250 B of 1000 B, 100 B/s, 8s left")
	for range 20 { // stuck: the rate is that of late
		now = now.Add(time.Second)
		m.text(true)
	}
	step(0, 250, 1000, true, "[#####---------------] 25%, 250 B of 1000 B, 0 B/s")
	step(time.Second, 1000, 1000, true, "[####################] 100%, 1000 B of 1000 B, 75 B/s")
	step(time.Second, 0, 0, true, "0 B, 0 B/s") // begins anew, and nobody knows how much there is
	step(2*time.Second, 10, 0, true, "10 B, 5 B/s")
	step(time.Second, 12, 10, true, "[####################] 100%, 12 B of 10 B, 4 B/s")
}
