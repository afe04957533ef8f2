// Package plugins_test builds the plugin programs and launches them as a host does.
package plugins_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/plugin"
)

func TestPrograms(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute) // a build from nothing takes a while
	defer cancel()
	bin := t.TempDir()
	build := exec.CommandContext(ctx, "go", "build", "-o", bin+string(filepath.Separator), "./...")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, backend := range []string{"memory", "bbolt", "leveldb"} {
		t.Run(backend, func(t *testing.T) {
			program := filepath.Join(bin, "ckpt-backend-"+backend)
			out, err := exec.CommandContext(ctx, program, "describe").Output()
			if err != nil {
				t.Fatal(err)
			}
			var description struct{ Backend string }
			if err := json.Unmarshal(out, &description); err != nil || description.Backend != backend {
				t.Errorf("describes itself as %s (%v)", out, err)
			}

			p, err := plugin.Launch(ctx, plugin.LaunchConfig{Path: program})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close(ctx)
			dir := t.TempDir()
			ndb, err := p.Open(ctx, &db.Config{Dir: dir, Namespace: common.NewTestNamespaceFromSeed([]byte("plugins"), 0)})
			if err != nil {
				t.Fatal(err)
			}
			if _, found, err := ndb.GetLatestVersion(ctx); found || err != nil {
				t.Error("a new database has a version:", found, err)
			}
			if err := p.Close(ctx); err != nil {
				t.Error(err)
			}
			if files, err := os.ReadDir(dir); err != nil || ndb.Info().Capabilities.Durable != (len(files) > 0) {
				t.Errorf("%d files, %v", len(files), err)
			}
		})
	}
}
