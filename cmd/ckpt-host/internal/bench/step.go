package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/console"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/restore"
	"github.com/ckpt-project/ckpt/framework/checkpoint"
	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/plugin"
)

// Every step of Checkpoints runs in a process of its own, which is handed a stepSpec as JSON and answers
// with a Step: so its memory and processor time are those of the step, and no data set or heap of another
// step is among them.

// The steps.
const (
	stepImport   = "import"
	stepVersions = "import-versions"
	stepSorted   = "import-sorted"
	stepMake     = "make"
	stepVerify   = "verify"
	stepRestore  = "restore"
	stepRoofline = "roofline"
)

// stepSpec says what a step's process does.
type stepSpec struct {
	Step    string
	Backend string
	// Plugin says that the database is in a process of its own.
	Plugin bool
	// Database is the directory of the database, Store that of checkpoints.
	Database string
	Store    string

	Data      string
	Entries   int
	Versions  int
	ChunkSize uint64
	// Verified says that a checkpoint is verified before it appears.
	Verified bool
}

// benchNamespace is the namespace of all databases that are measured.
var benchNamespace = common.NewTestNamespaceFromSeed([]byte("bench"), 0)

// RunStep runs one step of Checkpoints in this process, given on stdin what to do, and writes to stdout
// what came out. It is for a process that Checkpoints has launched.
func RunStep(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	var spec stepSpec
	if err := json.NewDecoder(stdin).Decode(&spec); err != nil {
		return fmt.Errorf("reading what to do: %w", err)
	}
	if spec.Step == stepRoofline {
		r, err := measureRooflines(ctx, spec.Store)
		if err != nil {
			return err
		}
		return json.NewEncoder(stdout).Encode(r)
	}
	step, err := spec.run(ctx)
	if err != nil {
		return err
	}
	return json.NewEncoder(stdout).Encode(step)
}

// run does the step.
func (s *stepSpec) run(ctx context.Context) (step *Step, err error) {
	step = &Step{Step: s.Step, Plugin: s.Plugin, Verified: s.Verified}
	if s.Step == stepVerify {
		return step, step.measure(ctx, 0, func() error { return s.verify(ctx, step) })
	}
	ndb, pid, closeAll, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeAll()) }()
	switch s.Step {
	case stepImport, stepVersions, stepSorted:
		data, err := newData(ctx, s.Data, s.Entries, func(int) {})
		if err != nil {
			return nil, err
		}
		im := newImport(ndb, data, importWay(s.Step), s.Versions)
		return step, step.measure(ctx, pid, func() error {
			if err := im.run(ctx); err != nil {
				return err
			}
			step.Entries, step.Bytes = data.len(), int64(len(data.bytes))
			if len(im.times) > 1 {
				times := sumUp(im.times)
				step.Version = &times
			}
			return nil
		})
	case stepMake:
		return step, step.measure(ctx, pid, func() error { return s.make(ctx, ndb, step) })
	case stepRestore:
		return step, step.measure(ctx, pid, func() error { return s.restore(ctx, ndb, step) })
	default:
		return nil, fmt.Errorf("there is no step %q", s.Step)
	}
}

// open opens the step's database; pid is that of its process, 0 where it is in this one.
func (s *stepSpec) open(ctx context.Context) (ndb db.NodeDB, pid int, closeAll func() error, err error) {
	cfg := &db.Config{Dir: s.Database, Namespace: benchNamespace}
	ctx = context.WithoutCancel(ctx)
	if !s.Plugin {
		factory, err := factoryOf(s.Backend)
		if err != nil {
			return nil, 0, nil, err
		}
		if ndb, err = factory.New(ctx, cfg); err != nil {
			return nil, 0, nil, err
		}
		return ndb, 0, func() error { return ndb.Close(ctx) }, nil
	}
	path, args, err := plugin.Builtin(s.Backend)
	if err != nil {
		return nil, 0, nil, err
	}
	logger := hclog.New(&hclog.LoggerOptions{Output: os.Stderr, Level: hclog.Warn})
	p, err := plugin.Supervise(ctx, plugin.LaunchConfig{Path: path, Args: args, Logger: logger}, plugin.Restarts{Max: -1})
	if err != nil {
		return nil, 0, nil, err
	}
	if ndb, err = p.Open(ctx, cfg); err != nil {
		return nil, 0, nil, errors.Join(err, p.Close(ctx))
	}
	return ndb, p.PID(), func() error { return errors.Join(ndb.Close(ctx), p.Close(ctx)) }, nil
}

// latest returns the database's newest root.
func latest(ctx context.Context, ndb db.NodeDB) (node.Root, error) {
	version, ok, err := ndb.GetLatestVersion(ctx)
	if err != nil {
		return node.Root{}, err
	}
	if !ok {
		return node.Root{}, errors.New("there is no version")
	}
	roots, err := ndb.GetRootsForVersion(ctx, version)
	if err != nil {
		return node.Root{}, err
	}
	if len(roots) != 1 {
		return node.Root{}, fmt.Errorf("version %d has %d roots", version, len(roots))
	}
	return roots[0], nil
}

// make makes a checkpoint of the newest version. What has to be there before and is not part of making one,
// it finds out before it takes the time.
func (s *stepSpec) make(ctx context.Context, ndb db.NodeDB, step *Step) error {
	root, err := latest(ctx, ndb)
	if err != nil {
		return err
	}
	verification := checkpoint.VerifyNever
	if s.Verified {
		verification = checkpoint.VerifyAlways
	}
	creator, err := checkpoint.NewFileCreator(s.Store, ndb, checkpoint.WithVerification(verification))
	if err != nil {
		return err
	}
	if _, err := creator.CreateCheckpoint(ctx, root, s.ChunkSize); err != nil {
		return err
	}
	manifest, _, err := creator.(checkpoint.Inspector).Describe(ctx, root)
	if err != nil {
		return err
	}
	step.Entries, step.Bytes, step.Chunks = int(manifest.Entries), manifest.RawBytes, len(manifest.Chunks)
	return nil
}

// theCheckpoint returns the one checkpoint of a store.
func theCheckpoint(ctx context.Context, store string) (checkpoint.Stored, *checkpoint.Manifest, error) {
	d, err := checkpoint.OpenDirectory(store)
	if err != nil {
		return checkpoint.Stored{}, nil, err
	}
	all, err := d.List(ctx)
	if err != nil {
		return checkpoint.Stored{}, nil, err
	}
	if len(all) != 1 || all[0].Err != nil {
		return checkpoint.Stored{}, nil, fmt.Errorf("%s holds %d checkpoints, want one: %v", store, len(all), all)
	}
	manifest, err := checkpoint.ReadManifest(all[0].Path, all[0].Metadata)
	return all[0], manifest, err
}

// describe notes what the step was about, given the store that it read.
func (s *stepSpec) describe(ctx context.Context, step *Step) error {
	_, manifest, err := theCheckpoint(ctx, s.Store)
	if err != nil {
		return err
	}
	step.Entries, step.Bytes, step.Chunks = int(manifest.Entries), manifest.RawBytes, len(manifest.Chunks)
	return nil
}

func (s *stepSpec) verify(ctx context.Context, step *Step) error {
	stored, _, err := theCheckpoint(ctx, s.Store)
	if err != nil {
		return err
	}
	if _, err := checkpoint.Verify(ctx, stored.Path); err != nil {
		return err
	}
	return s.describe(ctx, step)
}

// restore restores the store's checkpoint, as the command does, up to the end of Finalize: it is durable
// then.
func (s *stepSpec) restore(ctx context.Context, ndb db.NodeDB, step *Step) error {
	plan, err := restore.NewPlan(ctx, s.Store, benchNamespace, nil, checkpoint.Limits{})
	if err != nil {
		return err
	}
	if _, err := restore.Run(ctx, ndb, plan, console.NewMeter("restoring", console.Amount{}), hclog.NewNullLogger()); err != nil {
		return err
	}
	return s.describe(ctx, step)
}

// measure calls f, and notes how long it took and what this process and the plugin's, where there is one,
// took of the machine.
func (step *Step) measure(ctx context.Context, plugin int, f func() error) error {
	debug.FreeOSMemory() // what preparing has left
	self := newMeter(os.Getpid())
	if n, ok := self.process.rssAnon(); ok {
		step.BaseRSSAnonBytes = n
	}
	meters := []*meter{self}
	if plugin != 0 {
		meters = append(meters, newMeter(plugin))
	}
	stop := sample(meters)
	began := time.Now()
	err := f()
	step.Seconds = time.Since(began).Seconds()
	stop()
	if err != nil {
		return err
	}
	step.Host = self.usage()
	if plugin != 0 {
		u := meters[1].usage()
		step.PluginProcess = &u
	}
	if step.Seconds > 0 {
		step.EntriesPerSecond = float64(step.Entries) / step.Seconds
		step.MBPerSecond = float64(step.Bytes) / step.Seconds / 1e6
	}
	return ctx.Err()
}

// storeOf returns a directory for one checkpoint.
func storeOf(dir string, n int) string { return filepath.Join(dir, fmt.Sprintf("store-%d", n)) }
