package bench

import (
	"path/filepath"
	"testing"

	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// TestImport imports in all ways, here and through a process: they lead to the same state.
func TestImport(t *testing.T) {
	data, err := newData(t.Context(), "accounts", 3500, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	var h hash.Hash
	for _, through := range variants {
		for _, way := range importWays {
			spec := stepSpec{Backend: "bbolt", Plugin: through, Database: filepath.Join(t.TempDir(), "db")}
			ndb, _, closeAll, err := spec.open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			im := newImport(ndb, data, way, 4)
			if err := im.run(t.Context()); err != nil {
				t.Fatal(err)
			}
			versions := 1
			if way == importVersions {
				versions = 4
			}
			if latest, _, err := ndb.GetLatestVersion(t.Context()); err != nil || latest != uint64(versions) || im.root.Version != latest {
				t.Errorf("%s: version %d, root %s, %v", way, latest, im.root, err)
			}
			if h == (hash.Hash{}) {
				h = im.root.Hash
			}
			if im.root.Hash != h {
				t.Errorf("%s: root %s, want %s", way, im.root, h)
			}
			if (len(im.times) > 0) != (way == importVersions) {
				t.Errorf("%s: times %v", way, im.times)
			}
			if err := closeAll(); err != nil {
				t.Error(err)
			}
		}
	}
}

// BenchmarkImport measures imports into bbolt, in this process.
func BenchmarkImport(b *testing.B) {
	for _, kind := range DataSets {
		data, err := newData(b.Context(), kind, benchEntries, func(int) {})
		if err != nil {
			b.Fatal(err)
		}
		for _, way := range importWays {
			b.Run(kind+"/"+string(way), func(b *testing.B) {
				for b.Loop() {
					b.StopTimer()
					ndb, err := openState(b.Context(), "bbolt", db.Config{Dir: filepath.Join(b.TempDir(), "db")})
					if err != nil {
						b.Fatal(err)
					}
					im := newImport(ndb.ndb, data, way, benchEntries/1000)
					b.StartTimer()
					if err := im.run(b.Context()); err != nil {
						b.Fatal(err)
					}
					b.StopTimer()
					if err := ndb.remove(b.Context()); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
				}
				perSecond(b, data.len(), "entries/s")
			})
		}
	}
}
