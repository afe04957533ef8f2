package console

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// rateWindow is how far back the rate looks: less would jump, more would not tell when work gets stuck.
const rateWindow = 10 * time.Second

// barWidth is the number of characters in a bar.
const barWidth = 20

// Meter measures work that has an amount: how much is done, of how much, how fast of late, and how long the
// rest takes at that rate. One goroutine sets it while another reads it.
type Meter struct {
	format func(int64) string
	now    func() time.Time

	mu          sync.Mutex
	done, total int64
	samples     []sample // the oldest first, none older than rateWindow but the first
}

// sample is how much was done at a time.
type sample struct {
	at   time.Time
	done int64
}

// NewMeter returns a meter of work whose amounts are told by format.
func NewMeter(format func(int64) string) *Meter { return &Meter{format: format, now: time.Now} }

// Set says how much is done, of how much: 0 where that isn't known. What was done before the first call, or
// where less is done than before, is no part of the rate.
func (m *Meter) Set(done, total int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.samples) == 0 || done < m.done {
		m.samples = []sample{{m.now(), done}}
	}
	m.done, m.total = done, total
}

// text tells how far the work has come; nothing where it hasn't begun.
func (m *Meter) text(bar bool) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.samples) == 0 {
		return ""
	}
	now := sample{m.now(), m.done}
	m.samples = append(m.samples, now)
	for len(m.samples) > 2 && now.at.Sub(m.samples[1].at) >= rateWindow {
		m.samples = m.samples[1:]
	}
	first := m.samples[0]
	var rate float64 // a second
	if took := now.at.Sub(first.at).Seconds(); took > 0 {
		rate = float64(now.done-first.done) / took
	}

	var parts []string
	if m.total > 0 {
		share := min(1, float64(m.done)/float64(m.total))
		percent := fmt.Sprintf("%d%%", int(100*share))
		if bar {
			full := int(barWidth * share)
			percent = "[" + strings.Repeat("#", full) + strings.Repeat("-", barWidth-full) + "] " + percent
		}
		parts = append(parts, percent, m.format(m.done)+" of "+m.format(m.total))
	} else {
		parts = append(parts, m.format(m.done))
	}
	parts = append(parts, m.format(int64(rate))+"/s")
	if left := m.total - m.done; left > 0 && rate > 0 {
		if seconds := float64(left) / rate; seconds < (1000 * time.Hour).Seconds() {
			parts = append(parts, time.Duration(seconds*float64(time.Second)).Round(time.Second).String()+" left")
		}
	}
	return strings.Join(parts, ", ")
}

// StartMeter is StartProgress for work with an amount: what the work is, then what the meter tells, with a bar
// on a terminal. what is called from another goroutine.
func (c *Console) StartMeter(m *Meter, what func() string) *Progress {
	return c.StartProgress(func() string { return meterLine(what(), m.text(c.errTerminal)) })
}

func meterLine(what, amount string) string {
	if amount == "" {
		return what
	}
	return what + ": " + amount
}
