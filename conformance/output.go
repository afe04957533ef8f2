package conformance

import (
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"
)

// outputLines is how much of what a process says is kept, for whoever wonders why it died.
const outputLines = 20

// output is what a plugin's process has said last, in its log or otherwise.
type output struct {
	mu    sync.Mutex
	lines []string
}

// logger returns a logger for the process, whose messages are kept here and go to another one, which may be
// nil.
func (o *output) logger(to hclog.Logger) hclog.Logger {
	level := hclog.Info
	if to != nil && to.GetLevel() < level {
		level = to.GetLevel()
	}
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Level: level, Output: io.Discard})
	l.RegisterSink(&outputSink{o, to})
	return l
}

type outputSink struct {
	o  *output
	to hclog.Logger
}

// Accept takes a message.
func (s *outputSink) Accept(_ string, level hclog.Level, message string, args ...any) {
	if s.to != nil {
		s.to.Log(level, message, args...)
	}
	if level < hclog.Info {
		return
	}
	for i := 0; i+1 < len(args); i += 2 {
		message += fmt.Sprintf(" %v=%v", args[i], args[i+1])
	}
	s.o.mu.Lock()
	defer s.o.mu.Unlock()
	if len(s.o.lines) == outputLines {
		s.o.lines = s.o.lines[1:]
	}
	s.o.lines = append(s.o.lines, message)
}

// String is what was said, a line each, as a part of an error or of a log; "" where nothing was.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.lines) == 0 {
		return ""
	}
	return "the last output of its process:\n  " + strings.Join(o.lines, "\n  ")
}
