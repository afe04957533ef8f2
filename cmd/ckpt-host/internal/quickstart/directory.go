package quickstart

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/config"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/exit"
	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/common/durable"
	"github.com/ckpt-project/ckpt/framework/hash"
)

// Names of files in a quickstart's directory.
const (
	markerName  = "quickstart.json"
	configName  = "ckpt.hcl"
	journalName = "versions.log"
	dataName    = "state"
	// tempSuffix marks files that are not finished. They are made under one name each, so that a killed
	// run leaves at most one, which the next one replaces.
	tempSuffix = ".tmp"
)

// Names in the configuration that the quickstart writes.
const (
	sourceNamespace   = "history"
	restoredNamespace = "restored"
)

// writtenChunkSize is the size that the configuration says to cut checkpoints at: smaller than the default,
// so that those of small repositories have chunks, too.
const writtenChunkSize = "1MiB"

// markerFormat is the version of what a quickstart keeps in its directory.
const markerFormat = 1

// marker says that a directory is a quickstart's, and of which history. It is the first file written.
type marker struct {
	Format int `json:"quickstart"`
	// Kind is the source's kind, and First the ID of its first version.
	Kind  string `json:"kind"`
	First string `json:"first"`
}

// directory is a directory that a quickstart keeps everything in.
type directory struct {
	path   string
	config *config.Config
	// history is the namespace that versions are put into, restored the one that the last of them is
	// restored into.
	history, restored *config.Namespace
}

func (d *directory) journal() string { return filepath.Join(d.path, journalName) }

// claim makes path a quickstart's directory for a history, or takes up the one that is there. Empty
// backends mean those of an earlier run, or the defaults. What is not a quickstart's is left alone.
func claim(path string, src source, fromBackend, toBackend string) (*directory, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := durable.MakeDirs(path); err != nil {
		return nil, err
	}
	if err := claimMarker(path, src); err != nil {
		return nil, err
	}

	d := &directory{path: path}
	file := filepath.Join(path, configName)
	content, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		written := settings{
			namespace: namespaceOf(src),
			kind:      src.Origin().Kind,
			from:      cmp.Or(fromBackend, DefaultFromBackend),
			to:        cmp.Or(toBackend, DefaultToBackend),
			interval:  interval(src.Versions()),
		}
		if err := writeFile(file, written.hcl()); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	if err := d.load(file, namespaceOf(src)); err != nil {
		return nil, err
	}
	if from := d.history.Backend.PluginName(); fromBackend != "" && fromBackend != from {
		return nil, exit.Errorf(exit.Usage, "%s keeps its state in %s, not in %s", d.path, from, fromBackend).
			WithHint("leave --from-backend away, or choose another directory with --dir")
	}
	if to := d.restored.Backend.PluginName(); toBackend != "" && toBackend != to {
		written := d.settings(src)
		if !bytes.Equal(content, written.hcl()) {
			return nil, exit.Errorf(exit.Usage, "%s restores to %s, and was edited after it was written", file, to).
				WithHint("change it there, and leave --to-backend away")
		}
		// Each restore begins by removing what the last one left, so that only the config has to change.
		written.to = toBackend
		if err := writeFile(file, written.hcl()); err != nil {
			return nil, err
		}
		return d, d.load(file, namespaceOf(src))
	}
	return d, nil
}

// claimMarker finds or makes the marker of a directory.
func claimMarker(path string, src source) error {
	file := filepath.Join(path, markerName)
	content, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		if err := refuseForeign(path); err != nil {
			return err
		}
		content, err = json.MarshalIndent(&marker{Format: markerFormat, Kind: src.Origin().Kind, First: src.ID(1)}, "", "  ")
		if err != nil {
			return err
		}
		return writeFile(file, append(content, '\n'))
	}
	if err != nil {
		return err
	}
	var m marker
	if err := json.Unmarshal(content, &m); err != nil || m.Format == 0 {
		return exit.Errorf(exit.Failed, "%s was not written by quickstart", file).
			WithHint("choose another directory with --dir; nothing was changed in this one")
	}
	if m.Format != markerFormat {
		return exit.Errorf(exit.Failed, "%s is of format %d, and this program knows %d", path, m.Format, markerFormat).
			WithHint("use the program that made it, or choose another directory with --dir")
	}
	if kind := src.Origin().Kind; m.Kind != kind || m.First != src.ID(1) {
		return exit.Errorf(exit.Failed, "%s holds another history: it begins with %s %.12s, and this one with %s %.12s",
			path, versionName(m.Kind), m.First, versionName(kind), src.ID(1)).
			WithHint("choose another directory with --dir; nothing was changed in this one")
	}
	return nil
}

// refuseForeign refuses a directory with anything in it, other than a marker that was never finished.
func refuseForeign(path string) error {
	found, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, entry := range found {
		if entry.Name() != markerName+tempSuffix {
			return exit.Errorf(exit.Failed, "%s is not empty, and is not a quickstart's: it holds %q", path, entry.Name()).
				WithHint("choose an empty or new directory with --dir; nothing was changed in this one")
		}
	}
	return nil
}

// load reads the configuration, which the user may have edited.
func (d *directory) load(file string, id common.Namespace) (err error) {
	if d.config, err = config.Load(file); err != nil {
		return err
	}
	for _, want := range []struct {
		name string
		into **config.Namespace
	}{
		{sourceNamespace, &d.history}, {restoredNamespace, &d.restored},
	} {
		if *want.into = d.config.Namespace(want.name); *want.into == nil || (*want.into).ID != id {
			return exit.Errorf(exit.Config, "%s has no namespace %q with the id %s any more", file, want.name, id.Hex()).
				WithHint("put it back, or remove the file to have it written again")
		}
	}
	return nil
}

// settings returns what the configuration would have been written from, had it been as it is now.
func (d *directory) settings(src source) settings {
	s := settings{
		namespace: d.history.ID,
		kind:      src.Origin().Kind,
		from:      d.history.Backend.PluginName(),
		to:        d.restored.Backend.PluginName(),
	}
	if d.history.Checkpoints != nil {
		s.interval = d.history.Checkpoints.Interval
	}
	return s
}

// versionName is what a version of a source is called.
func versionName(kind string) string {
	if kind == "git" {
		return "commit"
	}
	return kind
}

// namespaceOf makes the namespace of a history: one for tests, the same for everyone who replays it, so
// that two people can compare roots and checkpoints.
func namespaceOf(src source) common.Namespace {
	digest := hash.NewFromBytes([]byte("ckpt quickstart\x00"), []byte(src.Origin().Kind), []byte{0}, []byte(src.ID(1)))
	n, err := common.NewNamespace([common.NamespaceIDSize]byte(digest[:common.NamespaceIDSize]), common.NamespaceTest)
	if err != nil {
		panic(err) // the flag is one of common's own
	}
	return n
}

// interval chooses how many versions there are between checkpoints: a round number, so that a history
// has some five to ten of them.
func interval(versions uint64) uint64 {
	chosen := uint64(1)
	for step := uint64(1); step <= versions/5; step *= 10 {
		for _, n := range []uint64{1, 2, 5} {
			if n*step <= versions/5 {
				chosen = n * step
			}
		}
	}
	return chosen
}

// settings is what a configuration is written from.
type settings struct {
	namespace common.Namespace
	kind      string
	from, to  string
	interval  uint64
}

// hcl is the configuration that the run works with, and the user after it.
func (s settings) hcl() []byte {
	what := "the history of a git repository: a version is a commit, a key a path, a value a file's bytes"
	if s.kind == "sample" {
		what = "the sample of the quickstart: the members of the United Nations over time"
	}
	return fmt.Appendf(nil, `# Written by "ckpt-host quickstart". The next run into this directory uses it as it is then.
# It is for %s.

data_dir = %q

backend "from" {
  plugin = %q
}

backend "to" {
  plugin = %q
}

# The state that was put in, version by version.
namespace %q {
  id         = %q
  backend    = "from"
  write_logs = false

  checkpoints {
    interval   = %d
    keep       = 3
    chunk_size = %q
  }
}

# The last version of it, restored from its checkpoint. Each run replaces it.
namespace %q {
  id         = %q
  backend    = "to"
  write_logs = false
}
`, what, dataName, s.from, s.to, sourceNamespace, s.namespace.Hex(), s.interval, writtenChunkSize,
		restoredNamespace, s.namespace.Hex())
}

// writeFile puts a file in its place at once: who finds it finds all of it, also after a loss of power.
func writeFile(path string, content []byte) error {
	temp := path + tempSuffix
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err == nil {
		err = durable.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}
