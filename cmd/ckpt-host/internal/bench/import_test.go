package bench

import (
	"context"
	"flag"
	"runtime"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/plugin"
)

var importEntries = flag.Int("import.entries", benchEntries, "entries that BenchmarkImport imports")

var importNamespace = common.NewTestNamespaceFromSeed([]byte("bench"), 0)

// openForImport opens an empty database, in a process of its own unless that is here, and returns the
// process.
func openForImport(tb testing.TB, backend string, here bool) (db.NodeDB, int) {
	tb.Helper()
	cfg := &db.Config{Dir: tb.TempDir(), Namespace: importNamespace}
	closeWith := func(c interface{ Close(context.Context) error }) {
		tb.Cleanup(func() {
			if err := c.Close(context.Background()); err != nil {
				tb.Error(err)
			}
		})
	}
	if here {
		factory, err := factoryOf(backend)
		if err != nil {
			tb.Fatal(err)
		}
		ndb, err := factory.New(tb.Context(), cfg)
		if err != nil {
			tb.Fatal(err)
		}
		closeWith(ndb)
		return ndb, 0
	}
	path, args, err := plugin.Builtin(backend)
	if err != nil {
		tb.Fatal(err)
	}
	process, err := plugin.Launch(tb.Context(), plugin.LaunchConfig{Path: path, Args: args, Logger: hclog.NewNullLogger()})
	if err != nil {
		tb.Fatal(err)
	}
	closeWith(process)
	ndb, err := process.Open(tb.Context(), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	closeWith(ndb)
	return ndb, process.PID()
}

// TestImport imports in all ways, here and through a process: they lead to the same state.
func TestImport(t *testing.T) {
	data, err := newData(t.Context(), "accounts", 3500, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	var h hash.Hash
	for _, here := range []bool{true, false} {
		for _, way := range ImportWays {
			ndb, pid := openForImport(t, "bbolt", here)
			told := 0
			r, err := Import(t.Context(), ndb, data, ImportOptions{Way: way, PluginPID: pid, Tell: func(int) { told++ }})
			if err != nil {
				t.Fatal(err)
			}
			versions := 1
			if way == ImportVersions {
				versions = 4
			}
			if latest, _, err := ndb.GetLatestVersion(t.Context()); err != nil || latest != uint64(versions) || r.Versions != versions {
				t.Errorf("%s: version %d, %d told, %v", way, latest, r.Versions, err)
			}
			if h == (hash.Hash{}) {
				h = r.Root.Hash
			}
			if r.Root.Hash != h {
				t.Errorf("%s: root %s, want %s", way, r.Root, h)
			}
			if r.Entries != 3500 || r.EntriesPerSecond <= 0 || told == 0 || (r.Version != nil) != (versions > 1) || (r.Plugin == nil) != here {
				t.Errorf("%s: %+v", way, r)
			}
			if runtime.GOOS == "linux" && (r.Host.PeakAnonBytes < r.InputBytes || r.InputBytes == 0 || !here && r.Plugin.PeakAnonBytes == 0) {
				t.Errorf("%s: memory: %+v", way, r)
			}
		}
	}
	ndb, _ := openForImport(t, "memory", true)
	if _, err := Import(t.Context(), ndb, data, ImportOptions{Way: "another"}); err == nil {
		t.Error("imported in a way that there is not")
	}
}

// BenchmarkImport measures imports into bbolt, in this process and in another.
func BenchmarkImport(b *testing.B) {
	for _, kind := range DataSets {
		data, err := newData(b.Context(), kind, *importEntries, func(int) {})
		if err != nil {
			b.Fatal(err)
		}
		for _, where := range []string{"here", "plugin"} {
			for _, way := range ImportWays {
				b.Run(kind+"/"+where+"/"+string(way), func(b *testing.B) {
					for b.Loop() {
						b.StopTimer()
						ndb, pid := openForImport(b, "bbolt", where == "here")
						b.StartTimer()
						r, err := Import(b.Context(), ndb, data, ImportOptions{Way: way, PluginPID: pid})
						if err != nil {
							b.Fatal(err)
						}
						report(b, r)
					}
				})
			}
		}
	}
}

func report(b *testing.B, r ImportCost) {
	times := func(bytes int64) float64 { return float64(bytes) / float64(r.KeyValueBytes) }
	b.ReportMetric(r.EntriesPerSecond, "entries/s")
	b.ReportMetric(r.Host.CPUSeconds, "host-CPU-s")
	b.ReportMetric(times(r.Host.PeakAnonBytes), "host-anon/data")
	b.ReportMetric(times(r.InputBytes), "input/data")
	if r.Plugin != nil {
		b.ReportMetric(r.Plugin.CPUSeconds, "plugin-CPU-s")
		b.ReportMetric(float64(r.Plugin.PeakAnonBytes)/(1<<20), "plugin-anon-MiB")
	}
	if r.Version != nil {
		b.ReportMetric(r.Version.MedianMS, "ms/version")
	}
}
