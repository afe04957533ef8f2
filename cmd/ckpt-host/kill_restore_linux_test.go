package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ckpt-project/ckpt/conformance/vectors"
)

// The environment says how many kills there are of each backend, and which histories: those numbered from a
// seed on.
const (
	killsVariable = "CKPT_CRASHES"
	seedVariable  = "CKPT_CRASH_SEED"
)

const (
	// defaultKills is how often restores into a backend are killed.
	defaultKills = 20
	// killsPerDatabase is after how many kills a restore is left alone.
	killsPerDatabase = 12
	// restoreWorkers is how many chunks the program verifies at once, and restoreInFlight how many there are with
	// those that wait to be committed.
	restoreWorkers  = 2
	restoreInFlight = restoreWorkers + 2
	// patience is longer than any restore takes.
	patience = time.Minute
)

// killedBackends are the backends that restores are killed on, and the namespaces that they keep.
var killedBackends = []struct{ name, namespace string }{{"bbolt", "a"}, {"leveldb", "b"}}

// TestKilledRestores restores a version of two roots into one empty database after the other. It kills the
// program and the process of its backend, in turn, at any moment of the restore, and runs the program again,
// until a run comes to its end: then the database holds what it should, and no chunk that was in before a kill
// has been restored again after it.
func TestKilledRestores(t *testing.T) {
	number := func(variable string, otherwise uint64) uint64 {
		n, err := strconv.ParseUint(cmp.Or(os.Getenv(variable), fmt.Sprint(otherwise)), 10, 32)
		if err != nil {
			t.Fatalf("%s: %v", variable, err)
		}
		return n
	}
	otherwise := uint64(defaultKills)
	if testing.Short() {
		otherwise /= 2
	}
	kills, first := int(number(killsVariable, otherwise)), number(seedVariable, 1)
	source := newRestoreSource(t)
	for _, b := range killedBackends {
		t.Run(b.name, func(t *testing.T) {
			k := &restoreKills{source: source, namespace: b.namespace}
			t.Run("undisturbed", func(t *testing.T) { k.undisturbed(t) })
			for seed := first; k.done() < kills && !t.Failed(); seed++ {
				t.Run(fmt.Sprint("seed-", seed), func(t *testing.T) { k.database(t, rand.New(rand.NewPCG(seed, 0x6b696c6c))) })
			}
			t.Logf("seeds from %d on: %s", first, k)
		})
	}
}

// restoreSource is what is restored.
type restoreSource struct {
	checkpoints string
	state, io   string // the entries
	chunks      []string
	watch       *watch
}

func newRestoreSource(t *testing.T) *restoreSource {
	t.Helper()
	dir := t.TempDir()
	run := func(args ...string) *program {
		return runProgram(t, 0, dir, append(args, "--config", "ckpt.hcl", "--namespace", "a")...)
	}
	var operations strings.Builder
	set := vectors.DataSet{Kind: "uniform", Seed: 1, N: 20_000}
	for i := range set.N {
		key, value := set.Entry(i)
		entry := line(1, string(key), string(value))
		if i%5 == 4 {
			entry = strings.Replace(entry, `"key"`, `"type":"io","key"`, 1)
		}
		operations.WriteString(entry)
	}
	if err := os.WriteFile(filepath.Join(dir, "ops.ndjson"), []byte(operations.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	run("import", "ops.ndjson")
	run("checkpoint", "create", "--chunk-size", "32KiB")
	run("checkpoint", "create", "--chunk-size", "32KiB", "--root-type", "io")

	s := &restoreSource{checkpoints: filepath.Join(dir, "state", "a", "checkpoints")}
	s.state, s.io = run("dump").stdout.String(), run("dump", "--root-type", "io").stdout.String()
	var err error
	if s.chunks, err = filepath.Glob(filepath.Join(s.checkpoints, "1", "*", "chunks", "*")); err != nil {
		t.Fatal(err)
	}
	var dirs []string
	for _, chunk := range s.chunks {
		if chunks := filepath.Dir(chunk); !slices.Contains(dirs, chunks) {
			dirs = append(dirs, chunks)
		}
	}
	if len(dirs) != 2 || len(s.chunks) < 60 {
		t.Fatalf("%d chunks in %v", len(s.chunks), dirs)
	}
	s.watch = newWatch(t, dirs...)
	return s
}

// restorePhase is where a restore has come to.
type restorePhase int

const (
	phaseOpening restorePhase = iota // no chunk has been begun by this run
	phaseChunks
	phaseEnding // all chunks have been begun, by this or another run
	phases
)

// restoreKills are restores into one backend, and what has happened to them.
type restoreKills struct {
	source    *restoreSource
	namespace string

	// What an undisturbed restore takes, to its first chunk, for a chunk, and after all are begun.
	opening, chunk, ending time.Duration

	databases, host, plugin int
	in                      [phases]int
	// finalized counts kills that came when the version was there already, late those of the backend's process
	// that came when the program needed it no more.
	finalized, late int
	// begun counts chunks that runs which were killed had begun, again those of them that were begun later
	// once more. restored and resumed are what the last runs tell.
	begun, again, restored, resumed int
}

func (k *restoreKills) done() int { return k.host + k.plugin }

func (k *restoreKills) String() string {
	return fmt.Sprintf("%d databases, %d kills (%d of the host, %d of the plugin; %d more of a plugin that was needed no more): %d before a run's first chunk, %d among chunks, %d when all were begun (%d of these when the version was finalized); "+
		"%d chunks were begun in runs that were killed: %d of them not again, %d again; in the end %d chunks were restored, %d of them by earlier runs than the last; an undisturbed restore took %s, %s a chunk, and %s",
		k.databases, k.done(), k.host, k.plugin, k.late, k.in[phaseOpening], k.in[phaseChunks], k.in[phaseEnding], k.finalized,
		k.begun, k.begun-k.again, k.again, k.restored, k.resumed, k.opening.Round(time.Millisecond), k.chunk.Round(time.Microsecond), k.ending.Round(time.Millisecond))
}

func (k *restoreKills) history(t *testing.T) *restoreHistory {
	return &restoreHistory{restoreKills: k, dir: t.TempDir(), begunBy: map[string]int{}}
}

// undisturbed restores without kills, and notes what that takes.
func (k *restoreKills) undisturbed(t *testing.T) {
	h := k.history(t)
	began := time.Now()
	r := h.start(t)
	r.until(t, func() bool { return len(r.opened) > 0 }, patience)
	first := time.Now()
	r.until(t, func() bool { return h.missing(r) == 0 }, patience)
	last := time.Now()
	h.ended(t, r)
	k.opening, k.chunk, k.ending = first.Sub(began), last.Sub(first)/time.Duration(len(k.source.chunks)), time.Since(last)
	h.finish(t, r)
}

// database restores into an empty database until a run comes to its end.
func (k *restoreKills) database(t *testing.T, rng *rand.Rand) {
	h := k.history(t)
	h.rng = rng
	for h.killed(t) {
	}
	h.count(t)
	k.databases++
}

// restoreHistory is one database.
type restoreHistory struct {
	*restoreKills
	dir  string
	rng  *rand.Rand
	runs [][]string // the chunks that each run has begun
	// begunBy is the last run that has begun a chunk.
	begunBy map[string]int
	// kept is how many chunks are known to be in, inLast how many were when the last run began.
	kept, inLast int
}

// missing is how many chunks no run has begun.
func (h *restoreHistory) missing(r *watched) int {
	missing := len(h.source.chunks) - len(h.begunBy)
	for _, chunk := range r.opened {
		if _, begun := h.begunBy[chunk]; !begun {
			missing--
		}
	}
	return missing
}

func (h *restoreHistory) start(t *testing.T) *watched {
	t.Helper()
	return h.source.watch.start(t, h.program(t, "restore", "--from", h.source.checkpoints, "--trust-source", "--json"))
}

// ended waits for the end of a run, and returns its exit code.
func (h *restoreHistory) ended(t *testing.T, r *watched) int {
	t.Helper()
	code := r.wait(t)
	for _, chunk := range r.opened {
		h.begunBy[chunk] = len(h.runs)
	}
	h.runs = append(h.runs, r.opened)
	return code
}

// killed runs the program, and says whether it was killed. Where it was not, the restore has come to its end.
func (h *restoreHistory) killed(t *testing.T) bool {
	r := h.start(t)
	plugin := h.done()%2 == 1
	struck := len(h.runs) < killsPerDatabase && h.aim(t, r) && h.strike(t, r, plugin)
	code := h.ended(t, r)
	phase := h.phase(r) // the kill may have come later than it was meant to
	switch {
	case struck && code != 0 && plugin:
		h.plugin++
		r.end(t, 7, nil)
		if text := r.stderr.String(); phase == phaseChunks && !strings.Contains(text, "run the same command again to go on") {
			t.Errorf("the backend's process was killed among chunks, and the program says %s", text)
		}
	case struck && code != 0:
		h.host++
		r.end(t, -1, nil)
	default:
		if struck && plugin {
			h.late++
		}
		r.end(t, 0, nil)
		h.finish(t, r)
		return false
	}
	h.in[phase]++
	if phase == phaseEnding || phase == phaseChunks && h.rng.IntN(4) == 0 {
		h.look(t)
	}
	return true
}

func (h *restoreHistory) program(t *testing.T, args ...string) *program {
	t.Helper()
	p := newProgram(t, h.dir, append(args, "--config", "ckpt.hcl", "--namespace", h.namespace)...)
	p.Env = append(p.Env, fmt.Sprint("GOMAXPROCS=", restoreWorkers))
	return p
}

// aim waits for a moment to kill in. It returns false where the program has ended before.
func (h *restoreHistory) aim(t *testing.T, r *watched) bool {
	t.Helper()
	within := func(d time.Duration) time.Duration { return time.Duration(h.rng.Int64N(int64(d) + 1)) }
	never := func() bool { return false }
	missing := h.missing(r)
	switch n := h.rng.IntN(10); {
	case missing == 0 && n < 5: // is left alone
		return r.until(t, never, patience)
	case missing == 0:
		return r.until(t, never, within(h.opening+h.ending))
	case n < 3:
		return r.until(t, never, within(h.opening))
	case n < 5: // most of the time the restored version is read back; more is at stake before that
		return r.until(t, func() bool { return h.missing(r) == 0 }, patience) && r.until(t, never, within(within(h.ending)))
	default:
		chunks := 1 + h.rng.IntN(min(missing, len(h.source.chunks)/3))
		return r.until(t, func() bool { return len(r.opened) >= chunks }, patience) && r.until(t, never, within(2*h.chunk))
	}
}

func (h *restoreHistory) phase(r *watched) restorePhase {
	switch {
	case h.missing(r) == 0:
		return phaseEnding
	case len(r.opened) == 0:
		return phaseOpening
	}
	return phaseChunks
}

// strike kills the program or the process of its backend. It returns false where there is none any more.
func (h *restoreHistory) strike(t *testing.T, r *watched, plugin bool) bool {
	t.Helper()
	pid := r.Process.Pid
	if plugin {
		if pid = nextChild(t, r.program, 0); pid == 0 {
			return false
		}
	}
	err := syscall.Kill(pid, syscall.SIGKILL)
	if err != nil && !errors.Is(err, syscall.ESRCH) {
		t.Fatal(err)
	}
	return err == nil
}

// look has another process see what a restore has come to that was killed: the chunks are in that had been
// restored, and nothing is visible, or all.
func (h *restoreHistory) look(t *testing.T) {
	t.Helper()
	p := h.program(t, "db", "stats", "--json")
	p.end(t, 0, p.Run())
	var stats struct {
		Latest    *uint64
		Roots     []struct{}
		Multipart *struct{ Roots []struct{ Done int } }
	}
	if err := json.Unmarshal(p.stdout.Bytes(), &stats); err != nil {
		t.Fatal(err)
	}
	begun := len(h.begunBy)
	switch {
	case stats.Latest != nil && stats.Multipart == nil && len(stats.Roots) == 2 && begun == len(h.source.chunks):
		h.finalized++
		h.kept = begun
	case stats.Latest == nil && stats.Multipart != nil:
		h.kept = 0
		for _, root := range stats.Multipart.Roots {
			h.kept += root.Done
		}
	default:
		t.Fatalf("after a kill with %d chunks begun the database tells %s", begun, p.stdout.String())
	}
	if h.kept > begun || h.kept < begun-len(h.runs)*lostChunks {
		t.Errorf("%d chunks are in, of %d that were begun in %d runs", h.kept, begun, len(h.runs))
	}
}

// lostChunks is how many chunks a kill can cost: those that are being restored, and where the backend's process
// alone dies, one more that is just being begun.
const lostChunks = restoreInFlight + 1

// finish looks at what a restore has come to whose last run was not killed.
func (h *restoreHistory) finish(t *testing.T, last *watched) {
	t.Helper()
	var result struct {
		AlreadyThere  bool `json:"already_there"`
		Chunks        int
		ChunksResumed int `json:"chunks_resumed"`
		Roots         []struct{ Hash string }
	}
	if err := json.Unmarshal(last.stdout.Bytes(), &result); err != nil {
		t.Fatal(err)
	}
	all := len(h.source.chunks)
	if result.Chunks != all || len(result.Roots) != 2 {
		t.Errorf("restored %+v", result)
	}
	if len(h.begunBy) != all {
		t.Errorf("%d chunks of %d were ever read", len(h.begunBy), all)
	}
	switch {
	case result.AlreadyThere && len(last.opened) > 0:
		t.Errorf("a version that was there was restored once more, from %d chunks", len(last.opened))
	case result.AlreadyThere:
		result.ChunksResumed = all
	case result.ChunksResumed != all-len(last.opened) || result.ChunksResumed < h.kept:
		t.Errorf("%d chunks of %d taken up, and %d restored; %d were in", result.ChunksResumed, all, len(last.opened), h.kept)
	}
	h.inLast = result.ChunksResumed

	run := func(args ...string) string {
		p := h.program(t, args...)
		p.end(t, 0, p.Run())
		return p.stdout.String()
	}
	run("db", "check")
	if run("dump") != h.source.state || run("dump", "--root-type", "io") != h.source.io {
		t.Error("not the same entries")
	}
}

// count checks how much was done again, and adds this database to the numbers.
func (h *restoreHistory) count(t *testing.T) {
	for i, opened := range h.runs[:len(h.runs)-1] {
		again := 0
		for _, chunk := range opened {
			if h.begunBy[chunk] > i {
				again++
			}
		}
		if again > lostChunks {
			t.Errorf("run %d was killed, and %d of its chunks were restored again", i, again)
		}
		h.begun, h.again = h.begun+len(opened), h.again+again
	}
	h.restored, h.resumed = h.restored+len(h.source.chunks), h.resumed+h.inLast
}
