package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/size"
)

// Making, verifying and restoring take memory for the chunks in flight, whatever the state's size: shown
// by the program and its backend's process under GOMEMLIMIT, on a state that is several times larger. A
// long run is `-state 2GiB -memory 256MiB -chunk 8MiB -settings ckpt.hcl -timeout 0`.
var (
	settingsFlag = flag.String("settings", "small.hcl", "TestMemoryIsBounded: configuration, of those that the tests have")

	stateFlag  = flag.String("state", "128MiB", "TestMemoryIsBounded: bytes of keys and values of the state")
	memoryFlag = flag.String("memory", "80MiB", "TestMemoryIsBounded: GOMEMLIMIT of the program")
	chunkFlag  = flag.String("chunk", "1MiB", "TestMemoryIsBounded: chunk size of the checkpoint")
)

func parseSize(t *testing.T, text string) int64 {
	t.Helper()
	n, err := size.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return int64(n)
}

func TestMemoryIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("takes twenty seconds")
	}
	state, limit := parseSize(t, *stateFlag), parseSize(t, *memoryFlag)
	allowed := limit + limit/4
	for _, pair := range [][2]string{{"a", "b"}, {"b", "a"}} { // bbolt to leveldb, and back
		t.Run(pair[0]+"-"+pair[1], func(t *testing.T) {
			dir := t.TempDir()
			from, to := pair[0], pair[1]
			entries := importState(t, dir, from, state)
			limited := func(args ...string) []byte {
				p := newLongProgram(t, memoryTestLimit, dir, append(args, "--json")...)
				p.Env = append(p.Env, fmt.Sprintf("GOMEMLIMIT=%d", limit))
				host, backend := peaks(t, p)
				t.Logf("%v of %d MiB under %d MiB: host %.1f MiB, backend %.1f MiB", args[:2], state>>20, limit>>20,
					float64(host)/(1<<20), float64(backend)/(1<<20))
				if host > allowed || backend > allowed {
					t.Errorf("%v: resident anonymous memory of host and backend came to %d and %d bytes, more than %d", args, host, backend, allowed)
				}
				return p.stdout.Bytes()
			}
			var made struct {
				Path    string
				Entries uint64
				Root    json.RawMessage
			}
			out := limited("checkpoint", "create", "--config", *settingsFlag, "--namespace", from, "--chunk-size", *chunkFlag)
			if err := json.Unmarshal(out, &made); err != nil {
				t.Fatal(err)
			}
			if made.Entries != entries {
				t.Errorf("%d entries in the checkpoint, want %d", made.Entries, entries)
			}
			var restored struct{ Entries uint64 }
			out = limited("restore", "--from", made.Path, "--config", *settingsFlag, "--namespace", to, "--trust-source")
			if err := json.Unmarshal(out, &restored); err != nil {
				t.Fatal(err)
			}
			if restored.Entries != entries {
				t.Errorf("%d entries restored, want %d", restored.Entries, entries)
			}
		})
	}
}

// memoryTestLimit is how long a program may take in a long run.
const memoryTestLimit = time.Hour

// importState fills a namespace with a state of so many bytes, and returns the number of entries.
func importState(t *testing.T, dir, namespace string, bytes int64) (entries uint64) {
	t.Helper()
	p := newLongProgram(t, memoryTestLimit, dir, "import", "--config", *settingsFlag, "--namespace", namespace, "--sorted", "-")
	input, err := p.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriterSize(input, 1<<20)
	random := rand.New(rand.NewPCG(1, 2))
	key, value := make([]byte, 32), make([]byte, 200)
	text := base64.StdEncoding.EncodeToString
	for written := int64(0); written < bytes; entries++ {
		binary.BigEndian.PutUint64(key, entries)
		v := value[:random.IntN(len(value))]
		for i := range v {
			v[i] = byte(random.Uint32())
		}
		written += int64(len(key) + len(v))
		if _, err := fmt.Fprintf(w, `{"version":1,"key":"%s","value":"%s"}`+"\n", text(key), text(v)); err != nil {
			break // the program has ended, and says why
		}
	}
	if err := w.Flush(); err == nil {
		input.Close()
	}
	p.end(t, 0, p.Wait())
	return entries
}

// peaks runs a program, and returns the most resident anonymous memory that it and a child of it had.
func peaks(t *testing.T, p *program) (host, backend int64) {
	t.Helper()
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- p.Wait() }()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case err := <-ended:
			p.end(t, 0, err)
			if host == 0 || backend == 0 {
				t.Fatalf("the processes were not seen: %d and %d bytes", host, backend)
			}
			return host, backend
		case <-ticker.C:
		}
		host = max(host, rssAnon(p.Process.Pid))
		for _, child := range childrenOf(t, p.Process.Pid) {
			backend = max(backend, rssAnon(child))
		}
	}
}

// rssAnon is the resident anonymous memory of a process, in bytes; 0 where it has ended.
func rssAnon(pid int) int64 {
	f, err := os.Open(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0
	}
	defer f.Close()
	status, _ := io.ReadAll(f)
	for line := range bytes.Lines(status) {
		var kib int64
		if n, _ := fmt.Sscanf(string(line), "RssAnon: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	return 0
}
