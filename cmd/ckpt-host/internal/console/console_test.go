package console

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"
)

func TestJSONIsOneLine(t *testing.T) {
	var out bytes.Buffer
	c := New(strings.NewReader(""), &out, &bytes.Buffer{})
	if err := c.JSON(map[string]any{"a": "<&>", "b": 1}); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), `{"a":"<&>","b":1}`+"\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	c := New(strings.NewReader(""), &out, &bytes.Buffer{})
	if err := c.Table([]string{"VERSION", "TYPE"}, [][]string{{"7", "state"}, {"12345678", "io"}}); err != nil {
		t.Fatal(err)
	}
	want := "VERSION   TYPE\n7         state\n12345678  io\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

type brokenWriter struct{ err error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.err }

func TestBrokenStdoutIsAnError(t *testing.T) {
	broken := errors.New("broken")
	c := New(strings.NewReader(""), brokenWriter{broken}, &bytes.Buffer{})
	for name, err := range map[string]error{
		"JSON":   c.JSON(struct{}{}),
		"Table":  c.Table(nil, [][]string{{"x"}}),
		"Printf": c.Printf("x"),
	} {
		if !errors.Is(err, broken) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// lockedBuffer is read by the test while the progress goroutine writes, and tells of each write.
type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
	wrote  chan struct{}
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, err := b.buffer.Write(p)
	select {
	case b.wrote <- struct{}{}:
	default:
	}
	return n, err
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

func TestProgressInLines(t *testing.T) {
	stderr := &lockedBuffer{wrote: make(chan struct{}, 1)}
	c := New(strings.NewReader(""), &bytes.Buffer{}, stderr)
	p := c.startProgress(time.Millisecond, func() string { return "half" })
	<-stderr.wrote
	p.Stop()
	p.Stop()
	after := stderr.String()
	if !strings.HasPrefix(after, "half\n") || strings.Contains(after, "\r") {
		t.Errorf("stderr: %q", after)
	}
	c.Note("done %d", 1)
	if got := strings.TrimPrefix(stderr.String(), after); got != "done 1\n" {
		t.Errorf("after Stop: %q", got)
	}
}

func TestProgressOnTerminalIsWiped(t *testing.T) {
	stderr := &lockedBuffer{wrote: make(chan struct{}, 1)}
	c := New(strings.NewReader(""), &bytes.Buffer{}, stderr)
	c.errTerminal = true
	c.draw(strings.Repeat("x", 200))
	c.Note("message")
	want := strings.Repeat("x", 79) + "\r\x1b[Kmessage\n"
	if got := stderr.String(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestInterruptible(t *testing.T) {
	text := strings.Repeat("0123456789", 50_000)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	got, err := io.ReadAll(Interruptible(ctx, iotest.HalfReader(strings.NewReader(text))))
	if err != nil || string(got) != text {
		t.Errorf("read %d bytes of %d, %v", len(got), len(text), err)
	}
	broken := errors.New("broken")
	if _, err := io.ReadAll(Interruptible(ctx, iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}

	in, out := io.Pipe()
	defer out.Close()
	r := Interruptible(ctx, in)
	time.AfterFunc(time.Millisecond, cancel)
	if n, err := r.Read(make([]byte, 1)); n != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("read %d bytes, %v", n, err)
	}
}

func TestFormats(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -1234567: "-1,234,567", -100: "-100"} {
		if got := Count(n); got != want {
			t.Errorf("Count(%d) = %q, want %q", n, got, want)
		}
	}
	for want, got := range map[string]string{
		"1 chunk": Counted(1, "chunk"), "0 chunks": Counted(0, "chunk"),
		"1 entry": Counted(1, "entry"), "2,000 entries": Counted(2000, "entry"),
	} {
		if got != want {
			t.Errorf("Counted gave %q, want %q", got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		40 * time.Millisecond: "0.0 s", 1250 * time.Millisecond: "1.2 s", 90 * time.Second: "1m30s",
	} {
		if got := Duration(d); got != want {
			t.Errorf("Duration(%d) = %q, want %q", d, got, want)
		}
	}
}

func TestWrap(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "  "},
		{"one", "  one"},
		{"one two three", "  one two\n  three"},
		{"äöüäöü ab cd", "  äöüäöü ab\n  cd"}, // characters, not bytes
		{"a incomprehensibilities b", "  a\n  incomprehensibilities\n  b"},
	} {
		if got := Wrap(c.text, "  ", 11); got != c.want {
			t.Errorf("Wrap(%q) = %q, want %q", c.text, got, c.want)
		}
	}
}
