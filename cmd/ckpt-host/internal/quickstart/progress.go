package quickstart

import (
	"fmt"
	"sync"
	"time"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/console"
)

// progress is how far the present phase has come. Phases report to it, the console reads it.
type progress struct {
	mu          sync.Mutex
	doing       string
	unit        string
	began       time.Time
	first, done uint64
	total       uint64
	changes     uint64
}

// phase begins a phase that counts units from done to total; total 0 where it isn't known.
func (p *progress) phase(doing, unit string, done, total uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.doing, p.unit, p.began = doing, unit, time.Now()
	p.first, p.done, p.total, p.changes = done, done, total, 0
}

// at says that the phase has come to done.
func (p *progress) at(done uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done = done
}

// changed says that another entry was changed: what moves while a large version comes in.
func (p *progress) changed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.changes++
}

// status is the line that tells it.
func (p *progress) status() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	took := time.Since(p.began)
	switch {
	case p.unit == "":
		return fmt.Sprintf("%s (%s)", p.doing, console.Duration(took))
	case p.total == 0:
		return fmt.Sprintf("%s: %s %s (%s)", p.doing, console.Count(p.done), p.unit, console.Duration(took))
	}
	text := fmt.Sprintf("%s: %s of %s %s", p.doing, console.Count(p.done), console.Count(p.total), p.unit)
	if p.changes > 0 {
		text += fmt.Sprintf(", %s changes", console.Count(p.changes))
	}
	// What is left is worth telling when enough is done to tell from.
	if made := p.done - p.first; made > 0 && p.done < p.total && took > 2*time.Second {
		left := time.Duration(float64(took) / float64(made) * float64(p.total-p.done))
		text += fmt.Sprintf(" (about %s left)", console.Duration(left.Round(time.Second)))
	}
	return text
}
