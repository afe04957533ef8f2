// Package quickstart shows in one run what the framework does, on real data: it puts the history of a git
// repository, version by version, into a Merkle state that a backend keeps in a process of its own, while a
// checkpointer makes checkpoints of it; restores the last version's checkpoint into another kind of backend
// in another process; and compares what came out with what git says was to come out.
//
// Everything lies in one directory, with the configuration that the other commands go on with. A run into
// the directory of an earlier one takes up its versions, wherever that one ended and however.
package quickstart

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/config"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/console"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/exit"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/git"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/host"
	"github.com/ckpt-project/ckpt/framework/checkpoint"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// The backends that are used where none are chosen.
const (
	DefaultFromBackend = "bbolt"
	DefaultToBackend   = "leveldb"
)

// Options say what to run on and where.
type Options struct {
	// Git is a directory in the repository to read. Where it is empty, the repository is the one that the
	// program runs in, and where that is none, the sample is taken.
	Git string
	// Sample takes the sample that ships with the program, whatever the directory.
	Sample bool
	// Dir is the directory to keep everything in; empty: a new one among the temporary files.
	Dir string
	// FromBackend and ToBackend name built-in backends; empty: those of an earlier run, or the defaults.
	FromBackend, ToBackend string

	Console *console.Console
	// Logger takes the messages of the backends' processes and of the checkpointer.
	Logger hclog.Logger
}

// run is one quickstart on its way.
type run struct {
	Options
	*console.Console
	progress progress
	src      source
	dir      *directory
	result   Result
}

// Run does all of it. Progress and notes go to stderr; nothing is written to stdout. Where it fails, what
// was done so far is kept for the next run.
func Run(ctx context.Context, opts Options) (*Result, error) {
	r := &run{Options: opts, Console: opts.Console}
	started := time.Now()
	r.progress.phase("Reading the history", "", 0, 0)
	telling := r.StartProgress(r.progress.status)
	defer telling.Stop()

	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	if err := r.work(ctx); err != nil {
		if r.Dir == "" || ctx.Err() != nil {
			r.Note("What was done so far is in %s; a run with --dir %s goes on with it.", r.dir.path, shellQuote(r.dir.path))
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("interrupted: %w", ctx.Err())
		}
		return nil, err
	}
	r.result.Seconds = seconds(time.Since(started))
	return &r.result, nil
}

// prepare finds the history and the directory.
func (r *run) prepare(ctx context.Context) error {
	for _, name := range []string{r.FromBackend, r.ToBackend} {
		if name != "" && !slices.Contains(config.BuiltinPlugins, name) {
			return exit.Errorf(exit.Usage, "there is no built-in backend %q", name).
				WithHint("choose one of %s", strings.Join(config.BuiltinPlugins, ", "))
		}
	}
	began := time.Now()
	var err error
	if r.src, err = r.openSource(ctx); err != nil {
		return err
	}
	r.result.Times.Reading = seconds(time.Since(began))
	r.result.Source = r.src.Origin()
	r.result.Versions = r.src.Versions()
	r.noteSource()

	path := r.Dir
	if path == "" {
		if path, err = os.MkdirTemp("", "ckpt-quickstart-"); err != nil {
			return err
		}
	}
	if r.dir, err = claim(path, r.src, r.FromBackend, r.ToBackend); err != nil {
		return err
	}
	r.result.Dir, r.result.Config = r.dir.path, r.dir.config.File
	r.result.FromBackend = r.dir.history.Backend.PluginName()
	r.result.ToBackend = r.dir.restored.Backend.PluginName()
	return nil
}

func (r *run) openSource(ctx context.Context) (source, error) {
	if r.Sample {
		return openSample()
	}
	repo, err := git.Open(ctx, r.Git)
	switch {
	case err == nil:
	case r.Git != "" && errors.Is(err, git.ErrNotRepository):
		return nil, exit.Errorf(exit.NotFound, "--git %s: %w", r.Git, git.ErrNotRepository)
	case r.Git != "":
		return nil, fmt.Errorf("--git %s: %w", r.Git, err)
	case errors.Is(err, git.ErrNotRepository), errors.Is(err, git.ErrNotInstalled):
		r.Note("There is no repository to read here (%s), so a small sample is taken.", reasonOf(err))
		return openSample()
	default:
		return nil, err
	}
	src, err := openGit(ctx, repo)
	if errors.Is(err, git.ErrNoCommits) {
		return nil, exit.Errorf(exit.NotFound, "%w", err).
			WithHint("make a commit, name another repository with --git, or take the sample with --sample")
	}
	if err != nil {
		return nil, err
	}
	return src, nil
}

// reasonOf is why there is no repository, in a few words.
func reasonOf(err error) string {
	if errors.Is(err, git.ErrNotInstalled) {
		return git.ErrNotInstalled.Error()
	}
	return git.ErrNotRepository.Error()
}

func (r *run) noteSource() {
	origin, count := r.src.Origin(), console.Count(r.src.Versions())
	if origin.Kind == "sample" {
		r.Note("History: the members of the United Nations over time, %s versions", count)
		return
	}
	at := origin.Branch
	if at == "" {
		at = "detached HEAD"
	}
	shallow := ""
	if origin.Shallow {
		shallow = "; it is a shallow clone, so the history begins where the clone does"
	}
	r.Note("History: %s (%s), %s commits on the first-parent line%s", origin.Path, at, count, shallow)
}

// work does everything that needs the databases.
func (r *run) work(ctx context.Context) (err error) {
	h := host.New(r.Logger)
	h.Tell = r.Note
	defer func() {
		r.progress.phase("Closing the databases", "", 0, 0)
		if closeErr := h.Close(ctx); err == nil {
			err = closeErr
		}
	}()

	r.progress.phase("Opening "+r.result.FromBackend, "", 0, 0)
	from, err := h.Open(ctx, r.dir.history, host.Write)
	if err != nil {
		return err
	}
	creator, err := checkpoint.NewFileCreator(r.dir.history.CheckpointsDir(), from, r.creatorOptions()...)
	if err != nil {
		return err
	}
	root, err := r.commit(ctx, from, creator)
	if err != nil {
		return err
	}
	metadata, err := r.checkpoint(ctx, creator, root)
	if err != nil {
		return err
	}
	to, err := r.restore(ctx, h, creator, metadata)
	if err != nil {
		return err
	}
	if err := r.check(ctx, to, root); err != nil {
		return err
	}
	return r.measure(ctx, from, to, creator)
}

// commit puts in the versions that are not there yet, while a checkpointer follows.
func (r *run) commit(ctx context.Context, ndb db.NodeDB, creator checkpoint.Creator) (root node.Root, err error) {
	began := time.Now()
	defer func() { r.result.Times.Committing = seconds(time.Since(began)) }()
	root, err = latestRoot(ctx, ndb)
	if err != nil {
		return root, err
	}
	r.progress.phase("Comparing with what an earlier run put in", "", 0, 0)
	journal, err := takeUp(ctx, ndb, r.src, r.dir.journal(), root)
	if err != nil {
		return root, err
	}
	defer func() { err = errors.Join(err, journal.Close()) }()

	first, last := root.Version+1, r.src.Versions()
	r.result.Added = last - root.Version
	switch {
	case root.Version == 0:
		r.Note("Directory: %s", r.dir.path)
	case root.Version == last:
		r.Note("Directory: %s, where an earlier run put in all %s versions", r.dir.path, console.Count(last))
	default:
		r.Note("Directory: %s, where an earlier run put in versions 1 to %s", r.dir.path, console.Count(root.Version))
	}
	if first <= last {
		following := ""
		if c := r.dir.history.Checkpoints; c != nil {
			following = fmt.Sprintf("; a checkpointer makes one checkpoint in %s versions, and keeps the last %s",
				console.Count(c.Interval), console.Count(c.Keep))
			if c.Interval == 1 {
				following = fmt.Sprintf("; a checkpointer follows, and keeps the last %s checkpoints", console.Count(c.Keep))
			}
		}
		r.Note("Committing versions %s to %s to %s%s", console.Count(first), console.Count(last), r.result.FromBackend, following)
	}

	follower, err := r.follow(ctx, ndb, creator)
	if err != nil {
		return root, err
	}
	r.progress.phase("Committing to "+r.result.FromBackend, "versions", root.Version, last)
	root, err = commitAll(ctx, ndb, r.src, journal, root, &arrivals{&r.progress, follower})
	if err == nil {
		r.progress.phase("Waiting for the checkpointer", "", 0, 0)
	}
	err = errors.Join(err, follower.finish(ctx, err == nil))
	r.result.Automatic = follower.made.Load()
	return root, err
}

// arrivals hands on how a history goes in, to who tells of it and who makes checkpoints of it.
type arrivals struct {
	*progress
	follower *follower
}

func (a *arrivals) finalized(version uint64) {
	a.at(version)
	a.follower.notify(version)
}

// restore restores a checkpoint into a fresh database of the other backend.
func (r *run) restore(ctx context.Context, h *host.Host, from checkpoint.ChunkProvider, m *checkpoint.Metadata) (db.NodeDB, error) {
	began := time.Now()
	defer func() { r.result.Times.Restoring = seconds(time.Since(began)) }()
	r.progress.phase("Opening "+r.result.ToBackend, "", 0, 0)
	if err := r.clear(ctx, r.dir.restored); err != nil {
		return nil, err
	}
	to, err := h.Open(ctx, r.dir.restored, host.Write)
	if err != nil {
		return nil, err
	}
	r.Note("Restoring it into %s", r.result.ToBackend)
	r.progress.phase("Restoring into "+r.result.ToBackend, "chunks", 0, uint64(len(m.Chunks)))
	if err := restore(ctx, to, from, m, r.progress.at); err != nil {
		err = fmt.Errorf("restoring version %d: %w", m.Root.Version, err)
		if code, _ := exit.Of(err); code == exit.Invalid {
			return nil, (&exit.Error{Code: code, Err: err}).
				WithHint("remove the checkpoint, %s, and the next run makes it again", shellQuote(r.result.Checkpoint.Path))
		}
		return nil, err
	}
	return to, nil
}

// check compares the restored version with its source.
func (r *run) check(ctx context.Context, ndb db.NodeDB, root node.Root) error {
	began := time.Now()
	defer func() { r.result.Times.Checking = seconds(time.Since(began)) }()
	against := "the sample"
	if r.result.Source.Kind == "git" {
		against = "git ls-tree"
	}
	r.Note("Checking it against %s", against)
	r.progress.phase("Checking against "+against, "entries", 0, 0)
	found, err := checkRoot(ctx, ndb, r.src, root, r.progress.at)
	if errors.Is(err, errDiffers) {
		return &exit.Error{Code: exit.Invalid, Err: err}
	}
	if err != nil {
		return err
	}
	r.result.Root = root
	r.result.Entries, r.result.Verified = found.entries, found.entries
	r.result.Bytes, r.result.LeftOut = found.bytes, found.leftOut
	return nil
}

func seconds(d time.Duration) float64 { return float64(d.Milliseconds()) / 1000 }
