package plugin

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
)

func TestParseLogLine(t *testing.T) {
	for line, want := range map[string]string{
		`{"@level":"warn","@message":"m","@timestamp":"2026-01-02T03:04:05.000000Z","b":1,"a":"x"}`: "warn m [a x b 1]",
		`{"@level":"info","@message":"m","@module":"bbolt","list":[1,{"a":null}]}`:                  "info m [module bbolt list [1 map[a:<nil>]]]",
		`{"@level":"error","@message":"\u001b[2J\u0007","k\u0000":"\u009b"}`:                        "error ?[2J? [k? ?]",
		`{"@level":"info","@message":"m","@timestamp":7}`:                                           "info m []",
		`{"@level":"info","@message":"two\nlines"}`:                                                 "info two\n  lines []",
		`{"@message":5}`:                     "",
		`{"@level":1,"@message":"m"}`:        "",
		`{"@level":"loud","@message":"m"}`:   "",
		`{"@level":"off","@message":"m"}`:    "",
		`{"@message":"no level"}`:            "",
		`{"@level":"warn"}`:                  "",
		`{"@level":"warn","@message":"m"} x`: "",
		`{`:                                  "",
		`null`:                               "",
		`[]`:                                 "",
		`text`:                               "",
	} {
		got := ""
		if level, message, pairs, ok := parseLogLine([]byte(line)); ok {
			got = fmt.Sprintf("%v %s %v", level, message, pairs)
		}
		if got != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
}

func TestTail(t *testing.T) {
	f := &forwarder{logger: hclog.NewNullLogger()}
	for i := range 100 {
		f.line([]byte(fmt.Sprintf("line %d %s", i, strings.Repeat("ä", 10_000))))
	}
	lines := strings.Split(f.lastLines(), "\n")
	if len(lines) != tailLines || !strings.HasPrefix(lines[0], "line 80 ") || !strings.HasPrefix(lines[tailLines-1], "line 99 ") {
		t.Errorf("%.40q", lines)
	}
	for _, line := range lines {
		if len(line) > tailLineBytes+10 {
			t.Errorf("%d bytes", len(line))
		}
	}
}

func TestLineWriter(t *testing.T) {
	var got []string
	w := &lineWriter{forward: func(line []byte) { got = append(got, string(line)) }}
	long := strings.Repeat("x", 3*maxLogLine)
	for _, piece := range []string{"one\ntw", "o", "\n", "\n", long, "y\nlast\n", "not ended"} {
		if n, err := w.Write([]byte(piece)); n != len(piece) || err != nil {
			t.Fatal(n, err)
		}
	}
	want := []string{"one", "two", "", long[:maxLogLine], "last"}
	if !slices.Equal(got, want) {
		t.Errorf("%d lines: %.40q", len(got), got)
	}
}

func TestForwardLines(t *testing.T) {
	long := strings.Repeat("x", 5*maxLogLine+17)
	var got []string
	forwardLines(strings.NewReader("one\r\n"+long+"\n\nlast"), func(line []byte) { got = append(got, string(line)) })
	if want := []string{"one", long[:maxLogLine], "", "last"}; !slices.Equal(got, want) {
		t.Errorf("%d lines: %.40q", len(got), got)
	}
}

// FuzzLogLine: no line that a plugin prints brings the host down, or steers its terminal.
func FuzzLogLine(f *testing.F) {
	f.Add([]byte(`{"@level":"warn","@message":"m","a":[1]}`))
	f.Add([]byte("[ERROR] text"))
	f.Fuzz(func(t *testing.T, line []byte) {
		var out strings.Builder
		forward := &forwarder{logger: hclog.New(&hclog.LoggerOptions{Output: &out, Level: hclog.Trace})}
		forward.line(line)
		if i := strings.IndexFunc(out.String(), func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' || r == 0x7f }); i >= 0 {
			t.Errorf("%q", out.String())
		}
	})
}
