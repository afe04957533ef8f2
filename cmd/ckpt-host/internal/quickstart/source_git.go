package quickstart

import (
	"context"
	"io"
	"iter"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/git"
)

// gitSource is the first-parent line of a repository's HEAD.
type gitSource struct {
	repo    *git.Repository
	origin  Origin
	commits []git.Commit
}

// openGit reads the list of commits that end at HEAD as it is now: what is committed while the quickstart
// runs belongs to the next one.
func openGit(ctx context.Context, repo *git.Repository) (*gitSource, error) {
	head, branch, err := repo.Head(ctx)
	if err != nil {
		return nil, err
	}
	commits, err := repo.FirstParents(ctx, head)
	if err != nil {
		return nil, err
	}
	time, err := repo.CommitTime(ctx, head)
	if err != nil {
		return nil, err
	}
	return &gitSource{
		repo:    repo,
		commits: commits,
		origin: Origin{
			Kind: "git", Path: repo.Dir, Branch: branch, Commit: head.String(), Time: time, Shallow: repo.Shallow,
		},
	}, nil
}

func (s *gitSource) Origin() Origin { return s.origin }

func (s *gitSource) Versions() uint64 { return uint64(len(s.commits)) }

func (s *gitSource) ID(version uint64) string { return s.commits[version-1].ID.String() }

func (s *gitSource) Replay(ctx context.Context, after uint64, limits limits, visit visitor) error {
	from := s.repo.Format.EmptyTree()
	if after > 0 {
		from = s.commits[after-1].Tree
	}
	history, err := s.repo.Replay(ctx, from, s.commits[after:], int64(limits.valueBytes))
	if err != nil {
		return err
	}
	defer history.Close()
	for version := after + 1; ; version++ {
		if err := history.NextTree(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		for {
			change, err := history.NextChange()
			if err == io.EOF {
				break
			}
			if err != nil {
				return err
			}
			switch {
			case len(change.Path) > limits.keyBytes:
				// It is left out, and never was in.
			case change.Removed, change.TooLarge:
				err = visit.remove(ctx, change.Path)
			default:
				err = visit.put(ctx, change.Path, change.Content)
			}
			if err != nil {
				return err
			}
		}
		if err := visit.end(ctx, version); err != nil {
			return err
		}
	}
}

func (s *gitSource) Expect(ctx context.Context, version uint64, limits limits) iter.Seq2[expected, error] {
	return func(yield func(expected, error) bool) {
		for file, err := range s.repo.Files(ctx, s.commits[version-1].ID) {
			entry := expected{
				key:     file.Path,
				matches: func(value []byte) bool { return s.repo.Format.ObjectID("blob", value) == file.Blob },
				leftOut: func(ctx context.Context) (reason, error) { return s.leftOut(ctx, file, limits) },
			}
			if file.Submodule {
				entry.matches = func([]byte) bool { return false }
			}
			if !yield(entry, err) || err != nil {
				return
			}
		}
	}
}

func (s *gitSource) leftOut(ctx context.Context, file git.File, limits limits) (reason, error) {
	switch {
	case file.Submodule:
		return isSubmodule, nil
	case len(file.Path) > limits.keyBytes:
		return keyTooLong, nil
	}
	size, err := s.repo.BlobSize(ctx, file.Blob)
	if err == nil && size > int64(limits.valueBytes) {
		return valueTooLarge, nil
	}
	return notLeftOut, err
}
