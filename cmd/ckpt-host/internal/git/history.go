package git

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
)

// Commit is a commit and the tree that it names.
type Commit struct {
	ID   ID
	Tree ID
}

// FirstParents returns the commits of the first-parent line that ends at tip, oldest first. In a shallow
// clone the line begins where the clone does.
func (r *Repository) FirstParents(ctx context.Context, tip ID) ([]Commit, error) {
	c, err := r.start(ctx, false, "rev-list", "--first-parent", "--reverse", "--format=tformat:%H %T", tip.String())
	if err != nil {
		return nil, err
	}
	defer c.stop()
	var commits []Commit
	lines := bufio.NewReader(c.stdout)
	for {
		line, err := lines.ReadSlice('\n')
		if err == io.EOF && len(line) == 0 {
			break
		}
		if err != nil {
			return nil, c.broken(err)
		}
		// Before each line of the format comes one that reads "commit ID".
		text := strings.TrimSuffix(string(line), "\n")
		id, tree, _ := strings.Cut(text, " ")
		if id == "commit" {
			continue
		}
		var commit Commit
		if commit.ID, err = ParseID(id); err == nil {
			commit.Tree, err = ParseID(tree)
		}
		if err != nil {
			return nil, fmt.Errorf("git rev-list: %w: %w", ErrMalformed, err)
		}
		commits = append(commits, commit)
	}
	return commits, c.wait()
}

// CommitTime returns when a commit was made, as git writes it in ISO 8601.
func (r *Repository) CommitTime(ctx context.Context, commit ID) (string, error) {
	out, err := r.output(ctx, "rev-list", "--max-count=1", "--no-walk", "--format=tformat:%cI", commit.String())
	if err != nil {
		return "", err
	}
	_, time, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return time, nil
}
