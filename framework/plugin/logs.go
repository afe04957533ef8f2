package plugin

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/hashicorp/go-hclog"
)

// A plugin's output goes into the host's log through this file, and not through go-plugin, whose parser
// takes the host down on a line like {"@message":5}: what a plugin prints must not decide that.

const (
	// maxLogLine is where a line of a plugin's output is cut, in bytes.
	maxLogLine = 64 << 10
	// tailLines and tailLineBytes bound what is kept of a plugin's last output for error texts.
	tailLines     = 20
	tailLineBytes = 512
	// maxLogPairs bounds the values of one line that are taken over.
	maxLogPairs = 64
)

// forwarder puts lines that a plugin printed into a logger. It is safe for concurrent use.
type forwarder struct {
	logger hclog.Logger

	mu       sync.Mutex
	tail     []string
	crashing bool // a panic's text has begun: what follows belongs to it
}

// line forwards one line, without its end.
func (f *forwarder) line(line []byte) {
	if len(bytes.TrimSpace(line)) == 0 {
		return
	}
	if level, message, pairs, ok := parseLogLine(line); ok {
		f.keep(message)
		f.logger.Log(level, message, pairs...)
		return
	}
	text := printable(string(line))
	f.keep(text)
	f.logger.Log(f.levelOf(text), text)
}

// keep adds a line to the tail.
func (f *forwarder) keep(text string) {
	if len(text) > tailLineBytes {
		text = text[:tailLineBytes] + "…"
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.tail) == tailLines {
		f.tail = slices.Delete(f.tail, 0, 1)
	}
	f.tail = append(f.tail, strings.ToValidUTF8(text, "?"))
}

// lastLines returns the tail, a line each.
func (f *forwarder) lastLines() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.tail, "\n")
}

// levelOf guesses the level of a line that does not say it.
func (f *forwarder) levelOf(text string) hclog.Level {
	f.mu.Lock()
	defer f.mu.Unlock()
	if strings.HasPrefix(text, "panic: ") || strings.HasPrefix(text, "fatal error: ") {
		f.crashing = true
	}
	if f.crashing {
		return hclog.Error
	}
	if rest, ok := strings.CutPrefix(text, "["); ok {
		if name, _, ok := strings.Cut(rest, "]"); ok && len(name) <= len("ERROR") {
			if level := hclog.LevelFromString(name); level != hclog.NoLevel && level != hclog.Off {
				return level
			}
		}
	}
	return hclog.Info
}

// parseLogLine takes apart a line that hclog wrote in JSON. Anything else, and whatever is not of the type
// that hclog gives it, is not ok.
func parseLogLine(line []byte) (level hclog.Level, message string, pairs []any, ok bool) {
	if line[0] != '{' {
		return 0, "", nil, false
	}
	var fields map[string]any
	if json.Unmarshal(line, &fields) != nil {
		return 0, "", nil, false
	}
	message, ok = fields["@message"].(string)
	if !ok {
		return 0, "", nil, false
	}
	name, ok := fields["@level"].(string)
	if level = hclog.LevelFromString(name); !ok || level == hclog.NoLevel || level == hclog.Off {
		return 0, "", nil, false
	}
	keys := make([]string, 0, len(fields))
	for key := range fields {
		switch key {
		case "@message", "@level", "@timestamp":
		default:
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, key := range keys[:min(len(keys), maxLogPairs)] {
		name := strings.ReplaceAll(printable(strings.TrimPrefix(key, "@")), "\n", "?")
		pairs = append(pairs, name, plainValue(fields[key]))
	}
	// The lines of one message are told from those that the log itself begins.
	return level, strings.ReplaceAll(printable(message), "\n", "\n  "), pairs, true
}

// plainValue returns a decoded JSON value as something that a logger prints in one piece.
func plainValue(v any) any {
	switch v := v.(type) {
	case string:
		return printable(v)
	case float64, bool, nil:
		return v
	default:
		return printable(fmt.Sprint(v))
	}
}

// printable replaces what could steer a terminal. Ends of lines stay: hclog writes those of values apart.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' && r != '\n' || r >= 0x7f && r < 0xa0 || r == utf8.RuneError {
			return '?'
		}
		return r
	}, s)
}

// forwardLines hands each line of r to f until r ends. Lines are cut at maxLogLine.
func forwardLines(r io.Reader, f func(line []byte)) {
	lines := bufio.NewReaderSize(r, maxLogLine)
	for {
		line, more, err := lines.ReadLine()
		if err != nil {
			return
		}
		f(line)
		for more {
			if _, more, err = lines.ReadLine(); err != nil {
				return
			}
		}
	}
}

// lineWriter hands each line that is written to it to forward, cut at maxLogLine. What go-plugin carries
// of a plugin's os.Stdout and os.Stderr is written to it in pieces.
type lineWriter struct {
	forward func(line []byte)

	mu      sync.Mutex
	pending []byte
	cut     bool
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for rest := p; len(rest) > 0; {
		piece, after, ended := bytes.Cut(rest, []byte{'\n'})
		rest = after
		if room := maxLogLine - len(w.pending); !w.cut {
			w.cut = len(piece) > room
			w.pending = append(w.pending, piece[:min(len(piece), room)]...)
		}
		if ended {
			w.forward(w.pending)
			w.pending, w.cut = w.pending[:0], false
		}
	}
	return len(p), nil
}
