package bench

import (
	"context"
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ckpt-project/ckpt/conformance/vectors"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// fewTimes is for tests of what is told, rather than for measuring.
var fewTimes = sizes{scanPasses: 1, pointReads: 20, commitRounds: 3}

func emptyAfter(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left in the directory: %v, %v", left, err)
	}
}

// TestStorage looks at what can be known of a run beforehand.
func TestStorage(t *testing.T) {
	const entries, versions, keep, many = 300, 23, 5, 150
	dir := t.TempDir()
	steps := map[string]bool{}
	result, err := measureStorage(t.Context(), StorageOptions{
		Backends: Backends, DataSets: DataSets, Entries: entries,
		Versions: versions, Keep: keep, ManyVersions: many, Dir: dir,
		Tell: func(status string) {
			step, _, _ := strings.Cut(status, ":")
			steps[step] = true
		},
	}, fewTimes)
	if err != nil {
		t.Fatal(err)
	}
	emptyAfter(t, dir)
	if len(result.Runs) != len(Backends)*len(DataSets) || len(result.Prunes) != 2*len(Backends) {
		t.Fatalf("%d runs, %d prunes", len(result.Runs), len(result.Prunes))
	}
	if m := result.Machine; m.HashesPerSecond <= 0 || m.Fsync.MedianMS <= 0 {
		t.Errorf("machine: %+v", m)
	}
	for _, r := range result.Runs {
		t.Run(r.Backend+"-"+r.Data, func(t *testing.T) {
			if !steps[r.Backend+", "+r.Data] {
				t.Error("nothing was told of it")
			}
			checkRun(t, r, entries, versions, keep)
		})
	}
	for i, p := range result.Prunes {
		want := PruneCost{Backend: Backends[i/2], Kept: []int{fewVersions, many}[i%2], Pruned: prunedOneByOne}
		if p.Backend != want.Backend || p.Kept != want.Kept || p.Pruned != want.Pruned || !ordered(p.Prune) || p.CollectMS <= 0 {
			t.Errorf("prune cost %d: %+v", i, p)
		}
	}
}

func checkRun(t *testing.T, r Run, entries, versions, keep int) {
	set := vectors.DataSet{Kind: r.Data, Seed: dataSeed, N: uint64(entries)}
	bytes := 0
	for i := range entries {
		key, value := set.Entry(uint64(i))
		bytes += len(key) + len(value)
	}
	onDisk := r.Backend != "memory"
	if r.Load.Entries != entries || r.Load.EntriesPerSecond <= 0 {
		t.Errorf("load: %+v", r.Load)
	}
	if r.Disk.KeyValueBytes != int64(bytes) || r.Disk.FileBytes > 0 != onDisk || r.Disk.Amplification > 0 != onDisk {
		t.Errorf("disk: %+v, want %d bytes of keys and values", r.Disk, bytes)
	}
	// No key is a prefix of another here, so that the tree is a binary one.
	if want := 2*entries - 1; r.Scan.Nodes != want || r.Scan.Records < want/2 || r.Scan.Records >= want {
		t.Errorf("scan: %+v, want %d nodes", r.Scan, want)
	}
	if !ordered(r.Reads.Times) {
		t.Errorf("reads: %+v", r.Reads)
	}
	if len(r.Commits) != len(commitSizes) {
		t.Fatalf("%d sizes of commits", len(r.Commits))
	}
	for i, c := range r.Commits {
		if c.Updates != commitSizes[i] || !ordered(c.Times) {
			t.Errorf("commits: %+v", c)
		}
	}
	s := r.Steady
	if s.Versions != versions || s.Keep != keep || s.VersionsPerSecond <= 0 || s.Seconds < s.CollectSeconds || s.FileBytesLast > 0 != onDisk {
		t.Errorf("steady: %+v", s)
	}
	measured := 0
	for _, segment := range s.Segments {
		measured += segment.Versions
		if !ordered(segment.Commit) || !ordered(segment.Prune) {
			t.Errorf("segment: %+v", segment)
		}
	}
	if measured != versions || len(s.Segments) != steadySegments {
		t.Errorf("%d versions in %d segments", measured, len(s.Segments))
	}
	for _, u := range []Usage{r.Load.Usage, r.Scan.Usage, r.Reads.Usage, r.Commits[0].Usage, s.Usage} {
		if known := u.CPUSeconds != nil; known != (runtime.GOOS == "linux") || known && *u.CPUSeconds <= 0 {
			t.Errorf("processor time: %v", u.CPUSeconds)
		}
	}
}

func ordered(t Times) bool { return 0 < t.MedianMS && t.MedianMS <= t.P95MS && t.P95MS <= t.MaxMS }

// TestSteadyKeeps looks into the database that a steady state leaves.
func TestSteadyKeeps(t *testing.T) {
	ctx := t.Context()
	r := &run{dir: t.TempDir(), opts: StorageOptions{Entries: 50}}
	data, err := r.makeData(ctx, "uniform")
	if err != nil {
		t.Fatal(err)
	}
	s := loaded(t, r, "bbolt", data)
	if _, err := s.steady(ctx, data, 3, 4, func(int) {}); err != nil {
		t.Fatal(err)
	}
	earliest, _, err := s.ndb.GetEarliestVersion(ctx)
	if err != nil {
		t.Fatal(err)
	}
	latest, _, err := s.ndb.GetLatestVersion(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if earliest != 6 || latest != 8 { // the load, three to begin with, four that are measured
		t.Errorf("versions %d to %d", earliest, latest)
	}
}

func TestStorageEndsWithItsContext(t *testing.T) {
	for _, step := range []string{"data set", "load", "commits of 10 ", "commit and prune", "tiny versions"} {
		t.Run(step, func(t *testing.T) {
			dir := t.TempDir()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			_, err := measureStorage(ctx, StorageOptions{
				Backends: []string{"leveldb"}, DataSets: []string{"accounts"}, Entries: 100,
				Versions: 5, Keep: 2, ManyVersions: 101, Dir: dir,
				Tell: func(status string) {
					if strings.Contains(status, step) {
						cancel()
					}
				},
			}, fewTimes)
			if !errors.Is(err, context.Canceled) {
				t.Errorf("ended with %v", err)
			}
			emptyAfter(t, dir)
		})
	}
}

func TestSumUp(t *testing.T) {
	times := make([]time.Duration, 100)
	for i := range times {
		times[i] = time.Duration(100-i) * time.Millisecond
	}
	if got, want := sumUp(times), (Times{MedianMS: 50, P95MS: 95, MaxMS: 100}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got, want := sumUp(times[:1]), (Times{MedianMS: 1, P95MS: 1, MaxMS: 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// loaded returns a database with the data set in it, which the test removes.
func loaded(t testing.TB, r *run, backend string, data *data) *state {
	t.Helper()
	s := opened(t, r, backend)
	if _, err := s.load(t.Context(), data, func(string, int) {}); err != nil {
		t.Fatal(err)
	}
	return s
}

func opened(t testing.TB, r *run, backend string) *state {
	t.Helper()
	s, err := r.open(t.Context(), backend, db.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.remove(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}
