package console

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/size"
)

const (
	// rateWindow is how far back the rate looks: long enough to even out chunks, short enough to tell what
	// is so now and not what was an hour ago.
	rateWindow = 20 * time.Second
	// leastForecast is how long work goes on before the time left is told.
	leastForecast = 2 * time.Second
	// stallAfter is how long nothing has to happen until that is told.
	stallAfter = 10 * time.Second
	// barCells is the number of cells of the bar on a terminal.
	barCells = 20
)

// Amount is an amount of work, done or to do. What is not known, or is no measure of this work, is 0.
type Amount struct {
	Bytes   int64
	Entries int64
	Chunks  int64
	// Steps are of a size that nobody knows.
	Steps int64
}

// Plus is the sum of both.
func (a Amount) Plus(b Amount) Amount {
	return Amount{a.Bytes + b.Bytes, a.Entries + b.Entries, a.Chunks + b.Chunks, a.Steps + b.Steps}
}

func (a Amount) minus(b Amount) Amount {
	return Amount{a.Bytes - b.Bytes, a.Entries - b.Entries, a.Chunks - b.Chunks, a.Steps - b.Steps}
}

// measures are what the share that is done can be measured by, the best first.
var measures = []func(Amount) int64{
	func(a Amount) int64 { return a.Bytes },
	func(a Amount) int64 { return a.Entries },
	func(a Amount) int64 { return a.Chunks },
	func(a Amount) int64 { return a.Steps },
}

// Meter tells how far work has come, how fast it goes, and how long it will take. Those who do the work and
// the one who tells of it call it side by side.
type Meter struct {
	// Noun is what entries are called, in the singular. It is set before the work begins.
	Noun string
	// Detail is what else to tell, where it is set. It is called by the one who tells.
	Detail func() string

	now func() time.Time

	mu    sync.Mutex
	what  string
	total Amount
	// earlier was done before the work began, and counts for the share and not for the rate.
	earlier, done Amount
	// changed is when something was done last, or found to be done, or when the work began.
	changed time.Time
	// samples are what was done at which time: one that is a rateWindow old or older, then newer ones.
	samples []sample
}

type sample struct {
	at   time.Time
	done Amount
}

// NewMeter returns a meter of work that begins now. total is what there is to do, as far as that is known.
func NewMeter(what string, total Amount) *Meter {
	m := &Meter{Noun: "entry", now: time.Now}
	m.Begin(what, total)
	return m
}

// Begin tells that other work begins, of which nothing is done yet.
func (m *Meter) Begin(what string, total Amount) {
	now := m.now()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.what, m.total = what, total
	m.earlier, m.done = Amount{}, Amount{}
	m.changed = now
	m.samples = []sample{{at: now}}
}

// Earlier tells of a part of the work that was found to be done before it began.
func (m *Meter) Earlier(a Amount) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.earlier, m.changed = m.earlier.Plus(a), m.now()
}

// Add tells of work that was done.
func (m *Meter) Add(a Amount) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.set(m.done.Plus(a))
}

// Set tells of all the work that was done since it began.
func (m *Meter) Set(done Amount) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.set(done)
}

// SetBytes tells of bytes done, and of those there are in all: 0 where that is not known.
func (m *Meter) SetBytes(done, total int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.total.Bytes = total
	m.set(Amount{Bytes: done})
}

// SetSteps tells of steps done, and of those there are in all.
func (m *Meter) SetSteps(done, total int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.total.Steps = total
	m.set(Amount{Steps: done})
}

// Done is what was done before the work began, and since.
func (m *Meter) Done() (earlier, since Amount) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.earlier, m.done
}

func (m *Meter) set(done Amount) {
	if done != m.done {
		m.done, m.changed = done, m.now()
	}
}

// String tells how far the work is, without a bar and all of it.
func (m *Meter) String() string { return m.line(0) }

// line tells how far the work is, in a line: as long as it takes where width is 0, otherwise of at most that
// many characters and with a bar. What matters most stands first, and what does not fit is left out.
func (m *Meter) line(width int) string {
	var detail string
	if m.Detail != nil {
		detail = m.Detail()
	}
	now := m.now()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.samples = append(m.samples, sample{now, m.done})
	for len(m.samples) > 2 && now.Sub(m.samples[1].at) >= rateWindow {
		m.samples = m.samples[1:]
	}

	measure := m.measure()
	head := m.what + ":"
	var parts []string
	if measure != nil {
		share := float64(measure(m.earlier.Plus(m.done))) / float64(measure(m.total))
		if width > 0 {
			full := int(share * barCells)
			head = fmt.Sprintf("%s [%s%s]", m.what, strings.Repeat("#", full), strings.Repeat("-", barCells-full))
		}
		parts = append(parts, fmt.Sprintf("%d%%", int(100*share)))
	}
	if idle := now.Sub(m.changed); idle >= stallAfter {
		parts = append(parts, fmt.Sprintf("no progress for %s", roughly(idle)))
	} else {
		parts = append(parts, m.forecast(measure)...)
	}
	if detail != "" {
		parts = append(parts, detail)
	}
	parts = append(parts, m.amounts()...)
	if len(parts) == 0 {
		return m.what
	}
	return joinParts(head, parts, width)
}

// joinParts joins parts to a line, as many as fit.
func joinParts(head string, parts []string, width int) string {
	text := head
	for i, part := range parts {
		next := text + ", " + part
		if i == 0 {
			next = text + " " + part
		}
		if width > 0 && len([]rune(next)) > width {
			break
		}
		text = next
	}
	return text
}

// measure is what the share that is done is measured by: the best measure whose total is known. One that more
// was done of than there is to do was told wrong.
func (m *Meter) measure() func(Amount) int64 {
	all := m.earlier.Plus(m.done)
	for _, measure := range measures {
		if total := measure(m.total); total > 0 && measure(all) <= total {
			return measure
		}
	}
	return nil
}

// forecast tells the time left and the rates, as far as they are known. It goes by what was done lately, so that
// what was done before the work began, or went faster or slower long ago, does not count.
func (m *Meter) forecast(measure func(Amount) int64) (parts []string) {
	first, last := m.samples[0], m.samples[len(m.samples)-1]
	span := last.at.Sub(first.at)
	if span <= 0 {
		return nil
	}
	did := last.done.minus(first.done)
	if measure != nil && span >= leastForecast && measure(did) > 0 {
		left := measure(m.total.minus(m.earlier).minus(m.done))
		seconds := float64(left) * span.Seconds() / float64(measure(did))
		if left > 0 && seconds < float64(longestForecast/time.Second) {
			parts = append(parts, roughly(time.Duration(seconds*float64(time.Second)))+" left")
		}
	}
	perSecond := func(n int64) float64 { return float64(n) / span.Seconds() }
	if did.Bytes > 0 {
		parts = append(parts, Rate(perSecond(did.Bytes)))
	}
	if did.Entries > 0 {
		parts = append(parts, Counted(int64(perSecond(did.Entries)+0.5), m.Noun)+"/s")
	}
	return parts
}

// longestForecast is the longest time left that is told: what is longer tells nobody anything.
const longestForecast = 1000 * time.Hour

// amounts tells what is done, and of how much.
func (m *Meter) amounts() (parts []string) {
	all := m.earlier.Plus(m.done)
	if all.Chunks > 0 || m.total.Chunks > 0 {
		parts = append(parts, outOf(all.Chunks, m.total.Chunks, "chunk"))
	}
	switch {
	case m.total.Bytes >= all.Bytes && m.total.Bytes > 0:
		parts = append(parts, fmt.Sprintf("%s of %s", size.Format(all.Bytes), size.Format(m.total.Bytes)))
	case all.Bytes > 0:
		parts = append(parts, size.Format(all.Bytes))
	}
	if all.Entries > 0 || m.total.Entries > 0 {
		parts = append(parts, outOf(all.Entries, m.total.Entries, m.Noun))
	}
	return parts
}

// outOf tells how many there are of how many, where that is known.
func outOf(n, total int64, noun string) string {
	if total <= 0 || n > total {
		return Counted(n, noun)
	}
	return fmt.Sprintf("%s of %s", Count(n), Counted(total, noun))
}
