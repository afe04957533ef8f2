// Package git reads the history of a repository through the git program: the commits of the
// first-parent line, what changed from one to the next with the files' bytes, and the files of one
// commit. It changes nothing in the repository.
//
// All of it is streamed: memory is taken for the list of commits (some 66 bytes each), one path and one
// file at a time, never for a whole tree or history.
package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

var (
	// ErrNotInstalled is returned when there is no git program.
	ErrNotInstalled = errors.New("git is not installed, or not in PATH")
	// ErrNotRepository is returned for a directory that is not in a git repository.
	ErrNotRepository = errors.New("not a git repository")
	// ErrNoCommits is returned for a repository whose HEAD has no commit yet.
	ErrNoCommits = errors.New("the repository has no commits yet")
	// ErrMissingObject is returned for an object that the repository lacks.
	ErrMissingObject = errors.New("git object is missing")
	// ErrMalformed is returned for output of git that this package does not understand.
	ErrMalformed = errors.New("unexpected output of git")
)

// Repository is a git repository on this machine. It can be used by any number of goroutines.
type Repository struct {
	// Dir is what a person calls the repository: its working tree's top directory, or the repository
	// itself where it is bare. It is absolute.
	Dir string
	// Format is the repository's object format.
	Format Format
	// Shallow says that the history was cut off when the repository was cloned.
	Shallow bool

	program string
	gitDir  string
	env     []string
}

// Open finds the repository that dir is in. Where dir is empty it is the one that git itself would use
// here: variables like GIT_DIR count, and otherwise the working directory.
//
// The error is ErrNotInstalled, ErrNotRepository, or what git says.
func Open(ctx context.Context, dir string) (*Repository, error) {
	program, err := exec.LookPath("git")
	if err != nil {
		return nil, ErrNotInstalled
	}
	r := &Repository{program: program, env: environment(os.Environ(), dir == "")}
	if dir != "" {
		if info, err := os.Stat(dir); err != nil {
			return nil, err
		} else if !info.IsDir() {
			return nil, fmt.Errorf("%s: %w: it is no directory", dir, ErrNotRepository)
		}
	}

	show := func(what ...string) ([]string, error) {
		out, err := r.outputIn(ctx, dir, append([]string{"rev-parse"}, what...)...)
		if err != nil {
			return nil, err
		}
		return strings.Split(strings.TrimSuffix(string(out), "\n"), "\n"), nil
	}
	gitDir, err := show("--absolute-git-dir")
	if err != nil {
		if os.Getenv("GIT_DIR") == "" || dir != "" {
			err = notRepository(err)
		}
		return nil, err
	}
	// A path can hold line feeds, so the two paths are asked for one at a time.
	r.gitDir = strings.Join(gitDir, "\n")
	facts, err := show("--is-bare-repository", "--is-shallow-repository", "--show-object-format")
	if err != nil {
		return nil, err
	}
	if len(facts) != 3 {
		return nil, fmt.Errorf("%w: rev-parse: %.200q", ErrMalformed, facts)
	}
	r.Shallow = facts[1] == "true"
	switch r.Format = Format(facts[2]); r.Format {
	case SHA1, SHA256:
	case "--show-object-format":
		r.Format = SHA1 // a git from before there was a choice says the question back
	default:
		return nil, fmt.Errorf("%s: object format %.40q is not known here", r.gitDir, facts[2])
	}
	r.Dir = r.gitDir
	if facts[0] == "false" {
		// There is no working tree inside of .git itself: then the repository's own path has to do.
		if top, err := show("--show-toplevel"); err == nil {
			r.Dir = filepath.FromSlash(strings.Join(top, "\n"))
		}
	}
	return r, nil
}

// notRepository gives git's "not a git repository" its identity. The text is not translated, because
// git runs in the C locale.
func notRepository(err error) error {
	var failed *commandError
	if errors.As(err, &failed) && strings.Contains(failed.stderr, "not a git repository") {
		return fmt.Errorf("%w: %w", ErrNotRepository, err)
	}
	return err
}

// environment is what git runs with: its messages untranslated, no question asked, no lock taken for
// mere convenience. Variables that point at a repository count only where the caller named none.
func environment(environ []string, keepLocal bool) []string {
	local := map[string]bool{
		// rev-parse --local-env-vars, without those of the configuration, which say how, not where.
		"GIT_ALTERNATE_OBJECT_DIRECTORIES": true,
		"GIT_COMMON_DIR":                   true,
		"GIT_DIR":                          true,
		"GIT_GRAFT_FILE":                   true,
		"GIT_IMPLICIT_WORK_TREE":           true,
		"GIT_INDEX_FILE":                   true,
		"GIT_INTERNAL_SUPER_PREFIX":        true,
		"GIT_NAMESPACE":                    true,
		"GIT_OBJECT_DIRECTORY":             true,
		"GIT_PREFIX":                       true,
		"GIT_REPLACE_REF_BASE":             true,
		"GIT_SHALLOW_FILE":                 true,
		"GIT_WORK_TREE":                    true,
	}
	env := make([]string, 0, len(environ)+4)
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		if local[name] && !keepLocal {
			continue
		}
		env = append(env, kv)
	}
	return append(env, "LC_ALL=C", "LANGUAGE=C", "GIT_TERMINAL_PROMPT=0", "GIT_OPTIONAL_LOCKS=0")
}

// Head returns the commit that HEAD names, and the branch's short name ("" where HEAD is detached). The
// error is ErrNoCommits where there is none.
func (r *Repository) Head(ctx context.Context) (ID, string, error) {
	branch := ""
	if out, err := r.output(ctx, "symbolic-ref", "--short", "--quiet", "HEAD"); err == nil {
		branch = strings.TrimSpace(string(out))
	} else if ctx.Err() != nil {
		return ID{}, "", ctx.Err()
	}
	out, err := r.output(ctx, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
	if err != nil {
		var failed *commandError
		if errors.As(err, &failed) && failed.stderr == "" {
			return ID{}, branch, fmt.Errorf("%s: %w", r.Dir, ErrNoCommits)
		}
		return ID{}, branch, err
	}
	id, err := ParseID(string(bytes.TrimSpace(out)))
	return id, branch, err
}
