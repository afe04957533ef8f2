package console

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// clock is a clock that stands until it is set.
type clock struct{ time.Time }

func (c *clock) now() time.Time { return c.Time }

func (c *clock) pass(d time.Duration) { c.Time = c.Add(d) }

// newTestMeter returns a meter whose work begins at the clock's time.
func newTestMeter(total Amount) (*Meter, *clock) {
	c := &clock{time.Unix(1e9, 0)}
	m := NewMeter("working", Amount{})
	m.now = c.now
	m.Begin("working", total)
	return m, c
}

func wantLine(t *testing.T, m *Meter, want string) {
	t.Helper()
	if got := m.line(0); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestMeterLine(t *testing.T) {
	total := Amount{Bytes: 100e6, Entries: 10_000, Chunks: 100}
	m, c := newTestMeter(total)
	wantLine(t, m, "working: 0%, 0 of 100 chunks, 0 B of 95.4 MiB, 0 of 10,000 entries")
	c.pass(time.Second)
	m.Add(Amount{Bytes: 2e6, Entries: 200, Chunks: 2})
	wantLine(t, m, "working: 2%, 2.0 MB/s, 200 entries/s, 2 of 100 chunks, 1.9 MiB of 95.4 MiB, 200 of 10,000 entries")
	c.pass(time.Second)
	m.Add(Amount{Bytes: 2e6, Entries: 200, Chunks: 2})
	wantLine(t, m, "working: 4%, 48 s left, 2.0 MB/s, 200 entries/s, 4 of 100 chunks, 3.8 MiB of 95.4 MiB, 400 of 10,000 entries")
	m.Set(total)
	c.pass(8 * time.Second)
	wantLine(t, m, "working: 100%, 10.0 MB/s, 1,000 entries/s, 100 of 100 chunks, 95.4 MiB of 95.4 MiB, 10,000 of 10,000 entries")
}

// TestMeterRateIsOfLate checks that neither what was done before the work began nor what went at another speed
// long ago is in the rate and the time left.
func TestMeterRateIsOfLate(t *testing.T) {
	m, c := newTestMeter(Amount{Bytes: 10e9})
	m.Earlier(Amount{Bytes: 5e9}) // resumed
	wantLine(t, m, "working: 50%, 4.7 GiB of 9.3 GiB")
	c.pass(5 * time.Second)
	m.Add(Amount{Bytes: 50e6})
	wantLine(t, m, "working: 50%, 8m15s left, 10.0 MB/s, 4.7 GiB of 9.3 GiB")
	// It goes ten times as fast, for longer than the rate looks back.
	for range 10 {
		c.pass(5 * time.Second)
		m.Add(Amount{Bytes: 500e6 - 400e6})
		m.line(0)
	}
	m.Earlier(Amount{Bytes: 1e9}) // more that was found to be there
	c.pass(5 * time.Second)
	m.Add(Amount{Bytes: 100e6})
	wantLine(t, m, "working: 71%, 2m23s left, 20.0 MB/s, 6.7 GiB of 9.3 GiB")
}

// TestMeterKeepsFewSamples checks that work of days takes no more memory than work of minutes.
func TestMeterKeepsFewSamples(t *testing.T) {
	m, c := newTestMeter(Amount{})
	for range 10_000 {
		c.pass(terminalInterval)
		m.Add(Amount{Chunks: 1})
		m.line(80)
	}
	if got, most := len(m.samples), int(rateWindow/terminalInterval)+2; got > most {
		t.Errorf("%d samples, more than %d", got, most)
	}
}

func TestMeterTellsOfStall(t *testing.T) {
	m, c := newTestMeter(Amount{Chunks: 10})
	c.pass(5 * time.Second)
	m.Add(Amount{Chunks: 5})
	wantLine(t, m, "working: 50%, 5 s left, 5 of 10 chunks")
	c.pass(9 * time.Second)
	wantLine(t, m, "working: 50%, 14 s left, 5 of 10 chunks")
	m.Set(Amount{Chunks: 5}) // nothing new
	c.pass(3 * time.Second)
	wantLine(t, m, "working: 50%, no progress for 12 s, 5 of 10 chunks")
	c.pass(time.Hour)
	wantLine(t, m, "working: 50%, no progress for 1h0m, 5 of 10 chunks")
	m.Add(Amount{Chunks: 1})
	c.pass(time.Second)
	if got := m.line(0); strings.Contains(got, "no progress") {
		t.Errorf("after it went on: %q", got)
	}
	// Nor does it stand still while it finds what is done.
	c.pass(time.Hour)
	m.Earlier(Amount{Chunks: 3})
	c.pass(time.Second)
	wantLine(t, m, "working: 90%, 9 of 10 chunks")
	// What begins anew has not stood still.
	c.pass(time.Hour)
	m.Begin("other work", Amount{})
	c.pass(time.Second)
	wantLine(t, m, "other work")
	c.pass(stallAfter)
	wantLine(t, m, "other work: no progress for 11 s")
}

func TestMeterWithoutTotals(t *testing.T) {
	m, c := newTestMeter(Amount{})
	m.Noun = "operation"
	m.Detail = func() string { return "3 versions" }
	c.pass(10 * time.Second)
	m.Set(Amount{Bytes: 5000, Entries: 20})
	wantLine(t, m, "working: 0.5 kB/s, 2 operations/s, 3 versions, 4.9 KiB, 20 operations")

	m, _ = newTestMeter(Amount{})
	wantLine(t, m, "working")
	m.SetSteps(1, 0)
	wantLine(t, m, "working")
	m.SetSteps(1, 3)
	wantLine(t, m, "working: 33%")

	m, _ = newTestMeter(Amount{})
	m.SetBytes(1024, 0)
	wantLine(t, m, "working: 1 KiB")
	m.SetBytes(2048, 3072)
	wantLine(t, m, "working: 66%, 2 KiB of 3 KiB")
}

// TestMeterDoesNotBelieve checks that totals which turn out to be wrong are not told.
func TestMeterDoesNotBelieve(t *testing.T) {
	m, c := newTestMeter(Amount{Bytes: 10, Entries: 2, Chunks: 4})
	c.pass(4 * time.Second)
	m.Set(Amount{Bytes: 3 << 10, Entries: 30, Chunks: 1})
	wantLine(t, m, "working: 25%, 12 s left, 0.8 kB/s, 8 entries/s, 1 of 4 chunks, 3 KiB, 30 entries")
}

func TestMeterOnTerminal(t *testing.T) {
	m, c := newTestMeter(Amount{Bytes: 100e6, Chunks: 10})
	c.pass(4 * time.Second)
	m.Add(Amount{Bytes: 47e6, Chunks: 5})
	for width, want := range map[int]string{
		200: "working [#########-----------] 47%, 5 s left, 11.8 MB/s, 5 of 10 chunks, 44.8 MiB of 95.4 MiB",
		60:  "working [#########-----------] 47%, 5 s left, 11.8 MB/s",
		40:  "working [#########-----------] 47%",
	} {
		if got := m.line(width); got != want {
			t.Errorf("of %d characters:\ngot  %q\nwant %q", width, got, want)
		}
	}
	m.Set(Amount{Bytes: 100e6, Chunks: 10})
	if got, want := m.line(40), "working [####################] 100%"; got != want {
		t.Errorf("at the end: got %q, want %q", got, want)
	}
}

// TestStartMeter checks that a meter is told of with a bar on a terminal, and without elsewhere.
func TestStartMeter(t *testing.T) {
	for _, terminal := range []bool{true, false} {
		stderr := &lockedBuffer{wrote: make(chan struct{}, 1)}
		c := New(strings.NewReader(""), &bytes.Buffer{}, stderr)
		c.errTerminal = terminal
		ticks := make(chan time.Time)
		var every time.Duration
		c.ticks = func(interval time.Duration) (<-chan time.Time, func()) {
			every = interval
			return ticks, func() {}
		}
		m, _ := newTestMeter(Amount{Chunks: 2})
		m.Add(Amount{Chunks: 1})
		p := c.StartMeter(m)
		ticks <- time.Time{}
		<-stderr.wrote
		p.Stop()
		if got, want := stderr.String(), map[bool]string{
			true:  "working [##########----------] 50%, 1 of 2 chunks\r\x1b[K",
			false: "working: 50%, 1 of 2 chunks\n",
		}[terminal]; got != want {
			t.Errorf("terminal %v: got %q, want %q", terminal, got, want)
		}
		if want := map[bool]time.Duration{true: 200 * time.Millisecond, false: 5 * time.Second}[terminal]; every != want {
			t.Errorf("terminal %v: it is told every %s, want %s", terminal, every, want)
		}
	}
}

func TestRates(t *testing.T) {
	for bytes, want := range map[float64]string{0: "0.0 kB/s", 1234: "1.2 kB/s", 12.34e6: "12.3 MB/s", 5.6e9: "5600.0 MB/s"} {
		if got := Rate(bytes); got != want {
			t.Errorf("%g bytes: %q, want %q", bytes, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "1 s", 1400 * time.Millisecond: "1 s", 59499 * time.Millisecond: "59 s", 59501 * time.Millisecond: "1m0s",
		125 * time.Second: "2m5s", 2*time.Hour + 5*time.Minute + 40*time.Second: "2h6m",
	} {
		if got := roughly(d); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
}
