package git_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/git"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/git/gittest"
)

const absentCommit = "0123456789012345678901234567890123456789"

func open(t *testing.T, dir string) *git.Repository {
	t.Helper()
	repo, err := git.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return repo
}

func commits(t *testing.T, repo *git.Repository) []git.Commit {
	t.Helper()
	head, _, err := repo.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	list, err := repo.FirstParents(t.Context(), head)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// replay returns the state after each commit, and the paths of files that were too large.
func replay(t *testing.T, repo *git.Repository, from git.ID, list []git.Commit, maxBytes int64) (states []map[string]string, tooLarge []string) {
	t.Helper()
	p, err := repo.Replay(t.Context(), from, list, maxBytes)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	state := map[string]string{}
	for {
		if err := p.NextTree(); err == io.EOF {
			return states, tooLarge
		} else if err != nil {
			t.Fatal(err)
		}
		for {
			change, err := p.NextChange()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if change.Removed {
				if _, there := state[string(change.Path)]; !there {
					t.Errorf("%q is removed and was not there", change.Path)
				}
				delete(state, string(change.Path))
				continue
			}
			if change.TooLarge {
				tooLarge = append(tooLarge, string(change.Path))
				continue
			}
			if int64(len(change.Content)) != change.Size {
				t.Errorf("%q: %d bytes, said to be %d", change.Path, len(change.Content), change.Size)
			}
			state[string(change.Path)] = string(change.Content)
		}
		states = append(states, maps.Clone(state))
	}
}

// model is a history, and what each commit of it holds.
type model struct {
	history gittest.History
	files   map[string]string
	modules map[string]bool
	states  []map[string]string
}

// put sets path in the model as fast-import does: files in the way, and below it, go.
func (m *model) put(path, content string, module bool) {
	for parent := path; parent != ""; {
		i := strings.LastIndexByte(parent, '/')
		parent = parent[:max(i, 0)]
		delete(m.files, parent)
		delete(m.modules, parent)
	}
	m.remove(path)
	if module {
		m.modules[path] = true
	} else {
		m.files[path] = content
	}
}

func (m *model) remove(path string) {
	below := func(p string) bool { return p == path || strings.HasPrefix(p, path+"/") }
	maps.DeleteFunc(m.files, func(p, _ string) bool { return below(p) })
	maps.DeleteFunc(m.modules, func(p string, _ bool) bool { return below(p) })
}

// random writes n commits of random changes. Names are few, so that files, directories, symlinks and
// submodules take each other's place.
func (m *model) random(rng *rand.Rand, n int, submodule string) {
	m.files, m.modules = map[string]string{}, map[string]bool{}
	names := []string{"a", "b", "a.b", "sp ace", "tab\there", "line\nfeed", "\xff\xfe", "quote\"", "-", "ümlaut"}
	name := func() string {
		parts := make([]string, 1+rng.IntN(3))
		for i := range parts {
			parts[i] = names[rng.IntN(len(names))]
		}
		return strings.Join(parts, "/")
	}
	for range n {
		m.history.Commit("main")
		for range rng.IntN(6) {
			path := name()
			switch rng.IntN(8) {
			case 0:
				m.history.Delete(path)
				m.remove(path)
			case 1:
				m.history.PutSubmodule(path, submodule)
				m.put(path, "", true)
			case 2:
				m.history.Put(gittest.Symlink, path, []byte("target/"+path))
				m.put(path, "target/"+path, false)
			case 3:
				m.history.Put(gittest.Regular, path, nil)
				m.put(path, "", false)
			default:
				content := make([]byte, rng.IntN(300))
				for i := range content {
					content[i] = byte(rng.Uint32())
				}
				mode := []string{gittest.Regular, gittest.Executable}[rng.IntN(2)]
				m.history.Put(mode, path, content)
				m.put(path, string(content), false)
			}
		}
		m.states = append(m.states, maps.Clone(m.files))
	}
}

func TestRandomHistories(t *testing.T) {
	gittest.Isolate(t)
	for _, format := range []git.Format{git.SHA1, git.SHA256} {
		for seed := range uint64(4) {
			t.Run(fmt.Sprintf("%s/%d", format, seed), func(t *testing.T) {
				made := gittest.Init(t, "--object-format="+string(format))
				var m model
				m.random(rand.New(rand.NewPCG(seed, 7)), 60, strings.Repeat("1", len(format.EmptyTree().String())))
				made.Import(&m.history)

				repo := open(t, made.Dir)
				if repo.Format != format {
					t.Fatalf("format %q", repo.Format)
				}
				list := commits(t, repo)
				if len(list) != len(m.states) {
					t.Fatalf("%d commits, want %d", len(list), len(m.states))
				}
				states, _ := replay(t, repo, format.EmptyTree(), list, 1<<20)
				for i, want := range m.states {
					if !maps.Equal(states[i], want) {
						t.Fatalf("commit %d:\ngot  %q\nwant %q", i, states[i], want)
					}
				}
				checkFiles(t, repo, list[len(list)-1].ID, m.files, len(m.modules))
			})
		}
	}
}

// checkFiles compares what Files yields with a state, ids computed from contents included.
func checkFiles(t *testing.T, repo *git.Repository, commit git.ID, want map[string]string, modules int) {
	t.Helper()
	last, seen := "", 0
	for file, err := range repo.Files(t.Context(), commit) {
		if err != nil {
			t.Fatal(err)
		}
		if string(file.Path) <= last {
			t.Errorf("%q comes after %q", file.Path, last)
		}
		last = string(file.Path)
		if file.Submodule {
			modules--
			continue
		}
		seen++
		content, there := want[last]
		if id := repo.Format.ObjectID("blob", []byte(content)); !there || id != file.Blob {
			t.Errorf("%q: blob %s, expected there %v with %s", file.Path, file.Blob, there, id)
		}
	}
	if seen != len(want) || modules != 0 {
		t.Errorf("%d files, want %d; %d submodules not seen", seen, len(want), modules)
	}
}

func TestMergesFollowTheFirstParent(t *testing.T) {
	gittest.Isolate(t)
	made := gittest.Init(t)
	var h gittest.History
	h.Commit("main") // 1
	h.Put(gittest.Regular, "base", []byte("1"))
	h.Commit("side", ":1") // 2
	h.Put(gittest.Regular, "side", []byte("2"))
	h.Commit("main") // 3
	h.Put(gittest.Regular, "main", []byte("3"))
	h.Commit("main", ":2") // 4
	h.Put(gittest.Regular, "side", []byte("2"))
	h.Commit("main") // 5, empty
	made.Import(&h)

	repo := open(t, made.Dir)
	list := commits(t, repo)
	states, _ := replay(t, repo, repo.Format.EmptyTree(), list, 100)
	want := []map[string]string{
		{"base": "1"},
		{"base": "1", "main": "3"},
		{"base": "1", "main": "3", "side": "2"},
		{"base": "1", "main": "3", "side": "2"},
	}
	if len(states) != len(want) {
		t.Fatalf("%d versions, want %d", len(states), len(want))
	}
	for i := range want {
		if !maps.Equal(states[i], want[i]) {
			t.Errorf("version %d: got %q, want %q", i, states[i], want[i])
		}
	}

	// From the middle on it is the same.
	later, _ := replay(t, repo, list[2].Tree, list[3:], 100)
	if len(later) != 1 || len(later[0]) != 0 {
		t.Errorf("the empty commit changes %q", later)
	}
}

func TestShallowClone(t *testing.T) {
	gittest.Isolate(t)
	made := gittest.Init(t)
	var h gittest.History
	for i := range 5 {
		h.Commit("main")
		h.Put(gittest.Regular, fmt.Sprint(i), []byte("x"))
	}
	made.Import(&h)
	clone := t.TempDir()
	made.Git("clone", "--quiet", "--depth=2", "--branch=main", "file://"+filepath.ToSlash(made.Dir), clone)

	repo := open(t, clone)
	if !repo.Shallow {
		t.Error("it is not said to be shallow")
	}
	states, _ := replay(t, repo, repo.Format.EmptyTree(), commits(t, repo), 100)
	if len(states) != 2 || len(states[0]) != 4 || len(states[1]) != 5 {
		t.Errorf("got %q", states)
	}
}

func TestLargeFilesAreNotRead(t *testing.T) {
	gittest.Isolate(t)
	made := gittest.Init(t)
	var h gittest.History
	h.Commit("main")
	h.Put(gittest.Regular, "a", []byte("1234567890"))
	h.Put(gittest.Regular, "b", []byte("12345678901"))
	h.Put(gittest.Regular, "c", []byte("1"))
	made.Import(&h)
	repo := open(t, made.Dir)
	states, tooLarge := replay(t, repo, repo.Format.EmptyTree(), commits(t, repo), 10)
	if len(states) != 1 || !maps.Equal(states[0], map[string]string{"a": "1234567890", "c": "1"}) {
		t.Errorf("got %q", states)
	}
	if len(tooLarge) != 1 || tooLarge[0] != "b" {
		t.Errorf("too large: %q", tooLarge)
	}
	size, err := repo.BlobSize(t.Context(), repo.Format.ObjectID("blob", []byte("12345678901")))
	if err != nil || size != 11 {
		t.Errorf("size %d, %v", size, err)
	}
}

func TestOpenFindsTheRepository(t *testing.T) {
	gittest.Isolate(t)
	made := gittest.Init(t)
	var h gittest.History
	h.Commit("main")
	h.Put(gittest.Regular, "sub/file", []byte("x"))
	made.Import(&h)
	made.Git("reset", "--quiet", "--hard")
	top, err := filepath.EvalSymlinks(made.Dir)
	if err != nil {
		t.Fatal(err)
	}

	t.Run("below the top", func(t *testing.T) {
		repo := open(t, filepath.Join(made.Dir, "sub"))
		if repo.Dir != top {
			t.Errorf("got %s, want %s", repo.Dir, top)
		}
		head, branch, err := repo.Head(t.Context())
		if err != nil || branch != "main" {
			t.Errorf("branch %q, %v", branch, err)
		}
		checkFiles(t, repo, head, map[string]string{"sub/file": "x"}, 0)
		if time, err := repo.CommitTime(t.Context(), head); err != nil || !strings.HasPrefix(time, "2020-09-13T12:26:41") {
			t.Errorf("time %q, %v", time, err)
		}
	})
	t.Run("bare, detached", func(t *testing.T) {
		bare := filepath.Join(t.TempDir(), "bare")
		made.Git("clone", "--quiet", "--bare", made.Dir, bare)
		cmd := gittest.At(t, bare)
		cmd.Git("update-ref", "--no-deref", "HEAD", "main")
		repo := open(t, bare)
		if _, branch, err := repo.Head(t.Context()); err != nil || branch != "" {
			t.Errorf("branch %q, %v", branch, err)
		}
		if list := commits(t, repo); len(list) != 1 {
			t.Errorf("%d commits", len(list))
		}
	})
	t.Run("inside .git", func(t *testing.T) {
		if list := commits(t, open(t, filepath.Join(made.Dir, ".git"))); len(list) != 1 {
			t.Errorf("%d commits", len(list))
		}
	})
	t.Run("GIT_DIR counts where no directory is named", func(t *testing.T) {
		t.Chdir(t.TempDir())
		t.Setenv("GIT_DIR", filepath.Join(made.Dir, ".git"))
		if list := commits(t, open(t, "")); len(list) != 1 {
			t.Errorf("%d commits", len(list))
		}
		other := gittest.At(t, t.TempDir())
		if _, err := git.Open(t.Context(), other.Dir); !errors.Is(err, git.ErrNotRepository) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a worktree", func(t *testing.T) {
		tree := filepath.Join(t.TempDir(), "tree")
		made.Git("worktree", "add", "--quiet", "--detach", tree)
		if list := commits(t, open(t, tree)); len(list) != 1 {
			t.Errorf("%d commits", len(list))
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	gittest.Isolate(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		dir  string
		want error
	}{
		"no repository": {t.TempDir(), git.ErrNotRepository},
		"a file":        {file, git.ErrNotRepository},
		"nothing":       {filepath.Join(t.TempDir(), "absent"), os.ErrNotExist},
	} {
		if _, err := git.Open(t.Context(), test.dir); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	t.Run("no git", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		if _, err := git.Open(t.Context(), ""); !errors.Is(err, git.ErrNotInstalled) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("GIT_DIR that is none", func(t *testing.T) {
		t.Setenv("GIT_DIR", t.TempDir())
		if _, err := git.Open(t.Context(), ""); err == nil || errors.Is(err, git.ErrNotRepository) {
			t.Errorf("got %v: that is a mistake, and no reason to look elsewhere", err)
		}
	})
	t.Run("somebody else's repository", func(t *testing.T) {
		made := gittest.Init(t)
		t.Setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
		_, err := git.Open(t.Context(), made.Dir)
		if err == nil || errors.Is(err, git.ErrNotRepository) || !strings.Contains(err.Error(), "safe.directory") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no commits", func(t *testing.T) {
		repo := open(t, gittest.Init(t).Dir)
		if _, _, err := repo.Head(t.Context()); !errors.Is(err, git.ErrNoCommits) {
			t.Errorf("got %v", err)
		}
	})
}

func TestMissingBlob(t *testing.T) {
	gittest.Isolate(t)
	made := gittest.Init(t)
	if err := os.WriteFile(filepath.Join(made.Dir, "file"), []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	made.Git("add", "file")
	made.Git("commit", "--quiet", "--message=one")
	blob := git.SHA1.ObjectID("blob", []byte("content")).String()
	if err := os.Remove(filepath.Join(made.Dir, ".git", "objects", blob[:2], blob[2:])); err != nil {
		t.Fatal(err)
	}
	repo := open(t, made.Dir)
	p, err := repo.Replay(t.Context(), repo.Format.EmptyTree(), commits(t, repo), 100)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.NextTree(); err != nil {
		t.Fatal(err)
	}
	_, err = p.NextChange()
	if !errors.Is(err, git.ErrMissingObject) || !strings.Contains(err.Error(), blob) || !strings.Contains(err.Error(), `"file"`) {
		t.Errorf("got %v", err)
	}
	if _, again := p.NextChange(); again != err {
		t.Errorf("then %v", again)
	}
}

func TestUnknownCommit(t *testing.T) {
	gittest.Isolate(t)
	made := gittest.Init(t)
	var h gittest.History
	h.Commit("main")
	made.Import(&h)
	repo := open(t, made.Dir)
	unknown, err := git.ParseID(absentCommit)
	if err != nil {
		t.Fatal(err)
	}
	if list, err := repo.FirstParents(t.Context(), unknown); err == nil || !strings.Contains(err.Error(), absentCommit) {
		t.Errorf("got %v, %v", list, err)
	}
	var failed error
	for _, err := range repo.Files(t.Context(), unknown) {
		failed = err
	}
	if failed == nil || !strings.Contains(failed.Error(), "git ls-tree") {
		t.Errorf("got %v", failed)
	}
	p, err := repo.Replay(t.Context(), repo.Format.EmptyTree(), []git.Commit{{ID: unknown, Tree: unknown}}, 100)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for err = p.NextTree(); err == nil; err = p.NextTree() {
	}
	if err == io.EOF || !strings.Contains(err.Error(), absentCommit) {
		t.Errorf("got %v", err)
	}
}

// TestReplayEndsAtAnyPoint leaves replays in the middle, by Close and by the context, with far more changes
// than are read ahead. That Close returns shows that neither processes nor goroutines are stuck.
func TestReplayEndsAtAnyPoint(t *testing.T) {
	gittest.Isolate(t)
	made := gittest.Init(t)
	var h gittest.History
	content := bytes.Repeat([]byte("0123456789"), 1000)
	for i := range 3 {
		h.Commit("main")
		for j := range 2000 {
			h.Put(gittest.Regular, fmt.Sprintf("%d/%d", i, j), fmt.Appendf(content, "%d %d", i, j))
		}
	}
	made.Import(&h)
	repo := open(t, made.Dir)
	list := commits(t, repo)

	for _, after := range []int{0, 1, 100, 1999, 2000, 2001, 5000} {
		ctx, cancel := context.WithCancel(t.Context())
		p, err := repo.Replay(ctx, repo.Format.EmptyTree(), list, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for n := 0; n < after; {
			_, err := p.NextChange()
			if err == io.EOF {
				err = p.NextTree()
			} else {
				n++
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if after%2 == 1 {
			cancel()
			for err = p.NextTree(); err == nil; err = p.NextTree() {
			}
			if !errors.Is(err, context.Canceled) && err != io.EOF {
				t.Errorf("after %d changes: %v", after, err)
			}
		}
		p.Close()
		p.Close()
		cancel()
	}

	// Trees can be skipped.
	p, err := repo.Replay(t.Context(), repo.Format.EmptyTree(), list, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for range list {
		if err := p.NextTree(); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.NextTree(); err != io.EOF {
		t.Errorf("after the last: %v", err)
	}
}

func TestObjectID(t *testing.T) {
	for _, test := range []struct {
		format  git.Format
		content string
		want    string
	}{
		// git hash-object says so.
		{git.SHA1, "hello\n", "ce013625030ba8dba906f756967f9e9ca394464a"},
		{git.SHA256, "hello\n", "2cf8d83d9ee29543b34a87727421fdecb7e3f3a183d337639025de576db9ebb4"},
	} {
		id := test.format.ObjectID("blob", []byte(test.content))
		if id.String() != test.want || id.Short() != test.want[:12] {
			t.Errorf("%s: got %s, want %s", test.format, id, test.want)
		}
		if parsed, err := git.ParseID(test.want); err != nil || parsed != id {
			t.Errorf("ParseID: %s, %v", parsed, err)
		}
	}
	if got := git.SHA1.EmptyTree().String(); got != "4b825dc642cb6eb9a060e54bf8d69288fbee4904" {
		t.Errorf("empty tree: %s", got)
	}
	for _, text := range []string{"", "12", strings.Repeat("g", 40), strings.Repeat("1", 41)} {
		if id, err := git.ParseID(text); err == nil {
			t.Errorf("ParseID(%q) = %s", text, id)
		}
	}
}
