package quickstart

import (
	"context"
	"errors"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/exit"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// latestRoot returns the root of the last version in a database, the empty root of version 0 where there
// is none.
func latestRoot(ctx context.Context, ndb db.NodeDB) (node.Root, error) {
	root := node.Root{Namespace: ndb.Info().Namespace, Type: node.RootTypeState, Hash: hash.EmptyHash}
	latest, any, err := ndb.GetLatestVersion(ctx)
	if err != nil || !any {
		return root, err
	}
	root.Version = latest
	roots, err := ndb.GetRootsForVersion(ctx, latest)
	if err != nil {
		return root, err
	}
	for _, r := range roots {
		if r.Type == node.RootTypeState {
			return r, nil
		}
	}
	return root, nil
}

// takeUp finds out where an earlier run came to, and that what it put in is the beginning of this
// history: commit by commit where the journal tells, and where a crash of the machine cost the journal's
// end, by the last version's contents. It returns the journal, ready for the versions after root's.
func takeUp(ctx context.Context, ndb db.NodeDB, src source, path string, root node.Root) (*journal, error) {
	latest := root.Version
	if latest > src.Versions() {
		return nil, aheadError(src, latest)
	}
	var last hash.Hash
	j, known, err := openJournal(path, latest, func(line journalLine) error {
		last = line.root
		if id := src.ID(line.version); line.id != id {
			return rewrittenError(src, line)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if known == latest && (latest == 0 || last == root.Hash) {
		return j, nil
	}
	if known == latest {
		err := exit.Errorf(exit.Failed, "version %d of the database is not what was put in: something else has written to it", latest).
			WithHint("choose another directory with --dir")
		return nil, errors.Join(err, j.Close())
	}
	if err := refill(ctx, ndb, src, j, known, root); err != nil {
		return nil, errors.Join(err, j.Close())
	}
	return j, nil
}

// refill writes the journal's lost lines, when the last version proves to be that of the source.
func refill(ctx context.Context, ndb db.NodeDB, src source, j *journal, known uint64, root node.Root) error {
	if _, err := checkRoot(ctx, ndb, src, root, func(uint64) {}); err != nil {
		if errors.Is(err, errDiffers) {
			return exit.Errorf(exit.Failed, "version %d of the database is not %s %.12s: %w",
				root.Version, versionName(src.Origin().Kind), src.ID(root.Version), err).
				WithHint("the history was rewritten, or something else has written to it; choose another directory with --dir")
		}
		return err
	}
	for version := known + 1; version <= root.Version; version++ {
		roots, err := ndb.GetRootsForVersion(ctx, version)
		if err != nil {
			return err
		}
		line := journalLine{version: version, id: src.ID(version), root: hash.EmptyHash}
		for _, r := range roots {
			if r.Type == node.RootTypeState {
				line.root = r.Hash
			}
		}
		if err := j.add(line); err != nil {
			return err
		}
	}
	return nil
}

// checkRoot checks what a database holds at a root against the source's version of that number.
func checkRoot(ctx context.Context, ndb db.NodeDB, src source, root node.Root, progress func(done uint64)) (checked, error) {
	tree := mkvs.NewWithRoot(ndb, root, mkvs.WithoutWriteLog(), mkvs.WithVerifyReads())
	defer tree.Close()
	it := tree.NewIterator(ctx)
	defer it.Close()
	return check(ctx, it, src.Expect(ctx, root.Version, limitsOf(ndb)), progress)
}

func aheadError(src source, latest uint64) error {
	name := versionName(src.Origin().Kind)
	return exit.Errorf(exit.Failed, "the directory holds %d versions already, and this history has %d: it ends with %s %.12s",
		latest, src.Versions(), name, src.ID(src.Versions())).
		WithHint("check out the later %s again, or choose another directory with --dir", name)
}

func rewrittenError(src source, line journalLine) error {
	name := versionName(src.Origin().Kind)
	return exit.Errorf(exit.Failed, "the history was rewritten, or another branch is checked out: version %d in the directory is %s %.12s, and now it would be %.12s",
		line.version, name, line.id, src.ID(line.version)).
		WithHint("check out the branch that it was made from, or choose another directory with --dir; finalized versions are never changed")
}
