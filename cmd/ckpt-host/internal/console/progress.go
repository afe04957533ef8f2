package console

import (
	"cmp"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// How often progress is told: on a terminal the line is drawn again, elsewhere a line is added. The
// first line comes after one such interval, so that short work says nothing.
const (
	terminalInterval = 200 * time.Millisecond
	lineInterval     = 5 * time.Second
)

// Progress tells on stderr how far work has come, until it is stopped.
type Progress struct {
	console *Console
	stop    chan struct{}
	stopped chan struct{}
	once    sync.Once
}

// StartProgress begins to tell how far work has come, in the words that status returns. status is
// called from another goroutine. The caller calls Stop when the work ends.
func (c *Console) StartProgress(status func() string) *Progress {
	otherwise := lineInterval
	if c.errTerminal {
		otherwise = terminalInterval
	}
	return c.startProgress(cmp.Or(c.interval, otherwise), status)
}

// StartMeter begins to tell what a meter says: on a terminal with a bar. The caller calls Stop when the work ends.
func (c *Console) StartMeter(m *Meter) *Progress {
	return c.StartProgress(func() string {
		if c.errTerminal {
			return m.line(c.width())
		}
		return m.String()
	})
}

// NoProgress is StartProgress where nothing is to be told.
func (c *Console) NoProgress(func() string) *Progress {
	p := &Progress{console: c, stop: make(chan struct{}), stopped: make(chan struct{})}
	close(p.stopped)
	return p
}

func (c *Console) startProgress(interval time.Duration, status func() string) *Progress {
	p := &Progress{console: c, stop: make(chan struct{}), stopped: make(chan struct{})}
	go func() {
		defer close(p.stopped)
		ticks, end := c.ticks(interval)
		defer end()
		for {
			select {
			case <-p.stop:
				return
			case <-ticks:
				c.draw(status())
			}
		}
	}()
	return p
}

// newTicks is time's ticker.
func newTicks(interval time.Duration) (ticks <-chan time.Time, end func()) {
	ticker := time.NewTicker(interval)
	return ticker.C, ticker.Stop
}

// Stop ends the telling, waits for it to end, and takes the line of progress off the terminal. Calling
// it again does nothing.
func (p *Progress) Stop() {
	p.once.Do(func() { close(p.stop) })
	<-p.stopped
	p.console.mu.Lock()
	defer p.console.mu.Unlock()
	p.console.wipe()
}

func (c *Console) draw(status string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.errTerminal {
		_, _ = io.WriteString(c.err, status+"\n")
		return
	}
	c.wipe()
	_, _ = io.WriteString(c.err, clip(status, c.width()))
	c.drawn = true
}

// width is the number of characters that fit in a line of the terminal.
func (c *Console) width() int {
	if file, ok := c.err.(*os.File); ok {
		if width, _, err := term.GetSize(int(file.Fd())); err == nil && width > 1 {
			return width - 1
		}
	}
	return 79
}

// clip cuts a line so that it doesn't wrap, which would keep it from being wiped.
func clip(line string, width int) string {
	if runes := []rune(line); len(runes) > width {
		return string(runes[:width])
	}
	return line
}
