// Package gittest makes git repositories for tests, apart from the configuration of the machine and the
// person that run them.
package gittest

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
)

// Isolate makes every git that the test starts, by itself or through the code under test, independent of
// the machine's configuration, and every commit the same each time.
func Isolate(t testing.TB) {
	t.Helper()
	home := t.TempDir()
	for name, value := range map[string]string{
		"HOME":                    home,
		"XDG_CONFIG_HOME":         filepath.Join(home, "config"),
		"GIT_CONFIG_NOSYSTEM":     "1",
		"GIT_CONFIG_GLOBAL":       filepath.Join(home, "gitconfig"),
		"GIT_CEILING_DIRECTORIES": filepath.Dir(home),
		"GIT_AUTHOR_NAME":         "A Person",
		"GIT_AUTHOR_EMAIL":        "person@example.org",
		"GIT_AUTHOR_DATE":         "2020-01-02T03:04:05Z",
		"GIT_COMMITTER_NAME":      "A Person",
		"GIT_COMMITTER_EMAIL":     "person@example.org",
		"GIT_COMMITTER_DATE":      "2020-01-02T03:04:05Z",
	} {
		t.Setenv(name, value)
	}
}

// Repository is a git repository of a test.
type Repository struct {
	// Dir is where it is.
	Dir string

	t testing.TB
}

// Init makes an empty repository in a directory of its own. args are further ones of git init.
func Init(t testing.TB, args ...string) *Repository {
	t.Helper()
	r := &Repository{Dir: t.TempDir(), t: t}
	r.Git(append([]string{"init", "--quiet", "--initial-branch=main"}, args...)...)
	return r
}

// At returns the repository, or the directory, at dir.
func At(t testing.TB, dir string) *Repository { return &Repository{Dir: dir, t: t} }

// Git runs git in the repository and returns its output. The test fails where git does.
func (r *Repository) Git(args ...string) string {
	r.t.Helper()
	return r.GitWith(nil, args...)
}

// GitWith is Git with an input.
func (r *Repository) GitWith(stdin []byte, args ...string) string {
	r.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = r.Dir
	cmd.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		r.t.Fatalf("git %q: %v\n%s", args, err, stderr.Bytes())
	}
	return string(out)
}

// History writes a history for git fast-import, commit by commit, onto one branch.
type History struct {
	buf   bytes.Buffer
	marks int
}

// Modes of files.
const (
	Regular    = "100644"
	Executable = "100755"
	Symlink    = "120000"
)

// Commit begins a commit onto the branch, with further parents that are named as git names commits.
func (h *History) Commit(branch string, merge ...string) {
	h.marks++
	message := fmt.Sprintf("commit %d", h.marks)
	fmt.Fprintf(&h.buf, "commit refs/heads/%s\nmark :%d\ncommitter A Person <person@example.org> %d +0000\ndata %d\n%s\n",
		branch, h.marks, 1_600_000_000+h.marks, len(message), message)
	for _, parent := range merge {
		fmt.Fprintf(&h.buf, "merge %s\n", parent)
	}
}

// CommitOnto begins a commit onto a branch, after one that is in the repository already.
func (h *History) CommitOnto(branch, parent string) {
	h.Commit(branch)
	fmt.Fprintf(&h.buf, "from %s\n", parent)
}

// Put sets a file of the commit that was begun. In the place of a directory it replaces what is in there,
// and the other way round.
func (h *History) Put(mode, path string, content []byte) {
	fmt.Fprintf(&h.buf, "M %s inline %s\ndata %d\n", mode, quote(path), len(content))
	h.buf.Write(content)
	h.buf.WriteByte('\n')
}

// PutSubmodule sets a submodule of the commit that was begun.
func (h *History) PutSubmodule(path, commit string) {
	fmt.Fprintf(&h.buf, "M 160000 %s %s\n", commit, quote(path))
}

// Delete removes a file or directory of the commit that was begun.
func (h *History) Delete(path string) { fmt.Fprintf(&h.buf, "D %s\n", quote(path)) }

// quote writes a path as fast-import reads any bytes.
func quote(path string) string {
	var b bytes.Buffer
	b.WriteByte('"')
	for _, c := range []byte(path) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '/' || c == '.' || c == '-' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "\\%03o", c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// Import adds what was written to the repository, and begins anew after it.
func (r *Repository) Import(h *History) {
	r.t.Helper()
	r.GitWith(h.buf.Bytes(), "fast-import", "--quiet", "--force")
	h.buf.Reset()
}
