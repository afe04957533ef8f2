package bench

import (
	"bytes"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"testing"
)

// TestRSSAnon compares what is sampled with what the kernel calls RssAnon.
func TestRSSAnon(t *testing.T) {
	p := openProcess(os.Getpid())
	defer p.close()
	debug.FreeOSMemory() // so that what comes is not there already
	before, ok := p.rssAnon()
	if !ok {
		t.Fatal("nothing was told")
	}
	const size = 64 << 20
	b := make([]byte, size)
	for i := 0; i < size; i += 512 {
		b[i] = 1
	}
	after, _ := p.rssAnon()
	status := statusRSSAnon(t)
	runtime.KeepAlive(b)
	const slack = 16 << 20 // what the runtime takes and gives back meanwhile; the kernel counts in batches
	if grown := after - before; grown < size-slack {
		t.Errorf("%d bytes more after %d were touched", grown, size)
	}
	if d := after - status; d < -slack || d > slack {
		t.Errorf("%d bytes, RssAnon is %d", after, status)
	}
}

func statusRSSAnon(t *testing.T) int64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(text, []byte("RssAnon:"))
	fields := bytes.Fields(rest)
	if len(fields) < 2 || string(fields[1]) != "kB" {
		t.Skip("this kernel does not tell RssAnon")
	}
	kib, err := strconv.ParseInt(string(fields[0]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}
