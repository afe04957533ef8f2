// Package console is where a command's words go: results to stdout, for people or as JSON for programs,
// everything else to stderr, with one line that tells how long work goes on.
package console

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"text/tabwriter"
	"time"

	"golang.org/x/term"
)

// Console is a command's input and outputs. It may be used by several goroutines at once.
type Console struct {
	in       io.Reader
	out, err io.Writer

	inTerminal, outTerminal, errTerminal bool

	// interval is how long progress waits to be told, again and again; 0 for what suits stderr.
	interval time.Duration
	// ticks tells when progress is to be told; tests have a clock of their own.
	ticks func(interval time.Duration) (ticks <-chan time.Time, end func())

	// mu orders what is written to stderr: messages, logs, and the line of progress, which is wiped before
	// anything else is written and drawn again with its next step.
	mu    sync.Mutex
	drawn bool
}

// New returns a console over the three streams. One that is a terminal is treated as such.
func New(in io.Reader, out, err io.Writer) *Console {
	return &Console{
		in: in, out: out, err: err,
		inTerminal:  isTerminal(in),
		outTerminal: isTerminal(out),
		errTerminal: isTerminal(err),
		ticks:       newTicks,
	}
}

// SetInterval has progress told so often, in the place of what suits stderr: for tests, whose work need not last then
// for it to be told. It is called before anything is written.
func (c *Console) SetInterval(interval time.Duration) { c.interval = interval }

func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// In is stdin.
func (c *Console) In() io.Reader { return c.in }

// Out is stdout, for a command's result alone.
func (c *Console) Out() io.Writer { return c.out }

// Err is stderr, for everything else.
func (c *Console) Err() io.Writer { return messages{c} }

// Interactive says whether there is a person at the keyboard who can be asked.
func (c *Console) Interactive() bool { return c.inTerminal && c.errTerminal }

// OutTerminal says whether stdout is a terminal: then a result that streams is progress enough.
func (c *Console) OutTerminal() bool { return c.outTerminal }

// Note writes a message to stderr, on a line of its own.
func (c *Console) Note(format string, args ...any) {
	_, _ = fmt.Fprintf(c.Err(), format+"\n", args...)
}

// JSON writes v to stdout as one JSON object on one line; indented where stdout is a terminal.
func (c *Console) JSON(v any) error {
	encoder := json.NewEncoder(c.out)
	encoder.SetEscapeHTML(false)
	if c.outTerminal {
		encoder.SetIndent("", "  ")
	}
	if err := encoder.Encode(v); err != nil {
		return fmt.Errorf("writing the result: %w", err)
	}
	return nil
}

// Printf writes a part of the result to stdout.
func (c *Console) Printf(format string, args ...any) error {
	if _, err := fmt.Fprintf(c.out, format, args...); err != nil {
		return fmt.Errorf("writing the result: %w", err)
	}
	return nil
}

// Table writes rows to stdout, their cells in columns. header may be nil.
func (c *Console) Table(header []string, rows [][]string) error {
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	write := func(cells []string) {
		for i, cell := range cells {
			if i > 0 {
				_, _ = io.WriteString(w, "\t")
			}
			_, _ = io.WriteString(w, cell)
		}
		_, _ = io.WriteString(w, "\n")
	}
	if header != nil {
		write(header)
	}
	for _, row := range rows {
		write(row)
	}
	// The tabwriter keeps everything until here, so that this is where a failing stdout shows.
	if err := w.Flush(); err != nil {
		return fmt.Errorf("writing the result: %w", err)
	}
	return nil
}

// messages is stderr with the line of progress wiped before what is written.
type messages struct{ c *Console }

func (m messages) Write(p []byte) (int, error) {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	m.c.wipe()
	return m.c.err.Write(p)
}

// wipe takes the line of progress off the terminal. The caller holds mu.
func (c *Console) wipe() {
	if c.drawn {
		_, _ = io.WriteString(c.err, "\r\x1b[K")
		c.drawn = false
	}
}
