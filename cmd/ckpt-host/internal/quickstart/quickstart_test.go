package quickstart_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/config"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/console"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/exit"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/git/gittest"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/host"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/quickstart"
	"github.com/ckpt-project/ckpt/framework/checkpoint"
	"github.com/ckpt-project/ckpt/framework/mkvs"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// absentCommit stands for a submodule's commit.
const absentCommit = "0123456789012345678901234567890123456789"

// quick runs a quickstart, and returns what it said on stderr.
func quick(t *testing.T, opts quickstart.Options) (*quickstart.Result, string, error) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	opts.Console = console.New(strings.NewReader(""), &stdout, &stderr)
	opts.Logger = hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: opts.Console.Err()})
	result, err := quickstart.Run(t.Context(), opts)
	if stdout.Len() != 0 {
		t.Errorf("on stdout: %s", stdout.Bytes())
	}
	return result, stderr.String(), err
}

// must is quick where it has to work, with nothing logged.
func must(t *testing.T, opts quickstart.Options) (*quickstart.Result, string) {
	t.Helper()
	result, said, err := quick(t, opts)
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	for _, bad := range []string{"[WARN]", "[ERROR]"} {
		if strings.Contains(said, bad) {
			t.Errorf("logged:\n%s", said)
		}
	}
	return result, said
}

// refused is quick where it must not work.
func refused(t *testing.T, opts quickstart.Options, code int, want string) {
	t.Helper()
	_, said, err := quick(t, opts)
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s\n%s", err, want, said)
	}
	if got, _ := exit.Of(err); got != code {
		t.Errorf("%v: exit code %d, want %d", err, got, code)
	}
}

// dump reads all entries of a version through a backend's process.
func dump(t *testing.T, configFile, namespace string, version uint64) map[string]string {
	t.Helper()
	cfg, err := config.Load(configFile)
	if err != nil {
		t.Fatal(err)
	}
	h := host.New(hclog.NewNullLogger())
	defer func() {
		if err := h.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	ndb, err := h.Open(t.Context(), cfg.Namespace(namespace), host.Read)
	if err != nil {
		t.Fatal(err)
	}
	roots, err := ndb.GetRootsForVersion(t.Context(), version)
	if err != nil || len(roots) != 1 || roots[0].Type != node.RootTypeState {
		t.Fatalf("roots of version %d: %v, %v", version, roots, err)
	}
	tree := mkvs.NewWithRoot(ndb, roots[0])
	defer tree.Close()
	it := tree.NewIterator(t.Context())
	defer it.Close()
	entries := map[string]string{}
	for it.Rewind(); it.Valid(); it.Next() {
		entries[string(it.Key())] = string(it.Value())
	}
	if it.Err() != nil {
		t.Fatal(it.Err())
	}
	return entries
}

// history writes a small history with everything in it that git has.
func history(t *testing.T) *gittest.Repository {
	t.Helper()
	made := gittest.Init(t)
	var h gittest.History
	h.Commit("main") // 1
	h.Put(gittest.Regular, "README", []byte("hello\n"))
	h.Put(gittest.Regular, "becomes-directory", []byte("file"))
	h.Put(gittest.Regular, "gone", []byte("soon"))
	h.Commit("main") // 2
	h.Put(gittest.Regular, "becomes-directory/file", []byte("inside"))
	h.Put(gittest.Executable, "README", []byte("hello\n")) // mode only
	h.Put(gittest.Regular, "odd\xff\npath", []byte{0, 1, 2})
	h.Commit("side", ":2") // 3, not on the line
	h.Put(gittest.Regular, "side", []byte("merged"))
	h.Commit("main") // 4: empty
	h.Commit("main", ":3")
	h.Put(gittest.Regular, "side", []byte("merged"))
	h.Delete("gone")
	h.Put(gittest.Symlink, "link", []byte("README"))
	h.PutSubmodule("module", absentCommit)
	h.Put(gittest.Regular, "empty", nil)
	made.Import(&h)
	return made
}

// historyEnd is what the last version of history holds.
var historyEnd = map[string]string{
	"README": "hello\n", "becomes-directory/file": "inside", "odd\xff\npath": "\x00\x01\x02",
	"side": "merged", "link": "README", "empty": "",
}

func equal(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d entries, want %d", what, len(got), len(want))
	}
	for key, value := range want {
		if have, there := got[key]; !there || have != value {
			t.Errorf("%s: %q is %q (%v), want %q", what, key, have, there, value)
		}
	}
}

func TestQuickstart(t *testing.T) {
	gittest.Isolate(t)
	made := history(t)
	dir := filepath.Join(t.TempDir(), "demo")
	result, said := must(t, quickstart.Options{Git: made.Dir, Dir: dir})

	if result.Versions != 4 || result.Added != 4 || result.Entries != 6 || result.Verified != 6 {
		t.Errorf("got %+v", result)
	}
	if result.LeftOut != (quickstart.LeftOut{Submodules: 1}) {
		t.Errorf("left out %+v", result.LeftOut)
	}
	if result.Checkpoints < 1 || result.Checkpoint.Root != result.Root || result.Root.Version != 4 {
		t.Errorf("checkpoints: %+v", result)
	}
	if head := strings.TrimSpace(made.Git("rev-parse", "main")); result.Source.Commit != head || result.Source.Branch != "main" {
		t.Errorf("source %+v", result.Source)
	}
	for _, want := range []string{"4 commits on the first-parent line", dir} {
		if !strings.Contains(said, want) {
			t.Errorf("it did not say %q:\n%s", want, said)
		}
	}

	equal(t, "restored", dump(t, result.Config, "restored", 4), historyEnd)
	equal(t, "history, version 4", dump(t, result.Config, "history", 4), historyEnd)
	equal(t, "history, version 1", dump(t, result.Config, "history", 1), map[string]string{
		"README": "hello\n", "becomes-directory": "file", "gone": "soon",
	})
	report, err := checkpoint.Verify(t.Context(), result.Checkpoint.Path)
	if err != nil {
		t.Fatal(err)
	}
	if report.Root != result.Root {
		t.Errorf("the checkpoint is of %s", report.Root)
	}
}

func TestAgainIntoTheSameDirectory(t *testing.T) {
	gittest.Isolate(t)
	made := history(t)
	dir := filepath.Join(t.TempDir(), "demo")
	opts := quickstart.Options{Git: made.Dir, Dir: dir}
	first, _ := must(t, opts)

	again, said := must(t, opts)
	if again.Added != 0 || again.Root != first.Root || again.Verified != 6 || again.Checkpoint.MetadataHash != first.Checkpoint.MetadataHash {
		t.Errorf("got %+v", again)
	}
	for _, want := range []string{"an earlier run put in all 4 versions", "Removing the copy that an earlier run restored"} {
		if !strings.Contains(said, want) {
			t.Errorf("it did not say %q:\n%s", want, said)
		}
	}

	var h gittest.History
	h.CommitOnto("main", "refs/heads/main^0")
	h.Put(gittest.Regular, "new", []byte("file"))
	made.Import(&h)
	more, said := must(t, opts)
	if more.Versions != 5 || more.Added != 1 || more.Verified != 7 {
		t.Errorf("got %+v", more)
	}
	if want := "an earlier run put in versions 1 to 4"; !strings.Contains(said, want) {
		t.Errorf("it did not say %q:\n%s", want, said)
	}

	opts.ToBackend = "bbolt"
	other, _ := must(t, opts)
	if other.Root != more.Root || other.ToBackend != "bbolt" {
		t.Errorf("got %+v", other)
	}
	want := dump(t, other.Config, "history", 5)
	equal(t, "restored", dump(t, other.Config, "restored", 5), want)

	// The same commits in another directory, with other backends: the same root, the same checkpoint.
	elsewhere, _ := must(t, quickstart.Options{Git: made.Dir, Dir: t.TempDir(), FromBackend: "memory", ToBackend: "memory"})
	if elsewhere.Root != more.Root || elsewhere.Checkpoint.MetadataHash != more.Checkpoint.MetadataHash {
		t.Errorf("root %s and %s, metadata %s and %s", elsewhere.Root, more.Root,
			elsewhere.Checkpoint.MetadataHash, more.Checkpoint.MetadataHash)
	}
}

func TestMemoryBeginsAnew(t *testing.T) {
	gittest.Isolate(t)
	made := history(t)
	opts := quickstart.Options{Git: made.Dir, Dir: t.TempDir(), FromBackend: "memory"}
	first, _ := must(t, opts)
	again, _ := must(t, opts)
	if again.Added != 4 || again.Root != first.Root || again.Checkpoints != first.Checkpoints {
		t.Errorf("got %+v, then %+v", first, again)
	}
}

func TestRewrittenHistory(t *testing.T) {
	gittest.Isolate(t)
	made := history(t)
	opts := quickstart.Options{Git: made.Dir, Dir: t.TempDir()}
	before, _ := must(t, opts)

	made.Git("update-ref", "refs/heads/main", "main~1")
	refused(t, opts, exit.Failed, "holds 4 versions already, and this history has 3")

	var h gittest.History
	h.CommitOnto("main", "refs/heads/main^0")
	h.Put(gittest.Regular, "README", []byte("rewritten"))
	made.Import(&h)
	refused(t, opts, exit.Failed, "version 4 in the directory is commit "+before.Source.Commit[:12])

	made.Git("update-ref", "refs/heads/main", before.Source.Commit)
	after, _ := must(t, opts)
	if after.Root != before.Root {
		t.Errorf("root %s, then %s", before.Root, after.Root)
	}
}

func TestJournalLost(t *testing.T) {
	gittest.Isolate(t)
	made := history(t)
	opts := quickstart.Options{Git: made.Dir, Dir: t.TempDir()}
	before, _ := must(t, opts)
	file := filepath.Join(before.Dir, "versions.log")
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, int64(len(whole)/2)); err != nil {
		t.Fatal(err)
	}
	must(t, opts)
	if again, err := os.ReadFile(file); err != nil || !bytes.Equal(again, whole) {
		t.Errorf("%v:\n%s\nwant\n%s", err, again, whole)
	}

	// With another commit in the last version's place, what it holds tells.
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	made.Git("update-ref", "refs/heads/main", "main~1")
	var h gittest.History
	h.CommitOnto("main", "refs/heads/main^0")
	h.Put(gittest.Regular, "other", []byte("file"))
	made.Import(&h)
	refused(t, opts, exit.Failed, "version 4 of the database is not commit")
}

func TestLimits(t *testing.T) {
	gittest.Isolate(t)
	made := gittest.Init(t)
	long := strings.Repeat("directory/", 30) + "file"
	var h gittest.History
	h.Commit("main")
	h.Put(gittest.Regular, "grows", []byte("1234567890"))
	h.Put(gittest.Regular, long, []byte("x"))
	h.Put(gittest.Regular, "small", []byte("x"))
	h.Commit("main")
	h.Put(gittest.Regular, "grows", []byte("12345678901"))
	h.Put(gittest.Regular, long, []byte("y"))
	made.Import(&h)

	opts := quickstart.Options{Git: made.Dir, Dir: t.TempDir()}
	made.Git("branch", "later", "main")
	made.Git("update-ref", "refs/heads/main", "main~1")
	// The first run writes the configuration; limits are stamped into the database, so it goes again.
	first, _ := must(t, opts)
	if first.LeftOut != (quickstart.LeftOut{}) || first.Verified != 3 {
		t.Fatalf("got %+v", first)
	}
	edited, err := os.ReadFile(first.Config)
	if err != nil {
		t.Fatal(err)
	}
	edited = bytes.ReplaceAll(edited, []byte("write_logs = false"),
		[]byte("write_logs = false\n  limits {\n    key_bytes = 300\n    value_bytes = 10\n  }"))
	if err := os.WriteFile(first.Config, edited, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(first.Dir, "state")); err != nil {
		t.Fatal(err)
	}
	if limited, _ := must(t, opts); limited.LeftOut != (quickstart.LeftOut{LongPaths: 1}) || limited.Verified != 2 {
		t.Errorf("got %+v", limited)
	}
	made.Git("update-ref", "refs/heads/main", "later")
	limited, _ := must(t, opts)
	if limited.LeftOut != (quickstart.LeftOut{LongPaths: 1, LargeFiles: 1}) || limited.Verified != 1 {
		t.Errorf("got %+v", limited)
	}
	equal(t, "restored", dump(t, limited.Config, "restored", 2), map[string]string{"small": "x"})
}

func TestRepositoriesOfAllKinds(t *testing.T) {
	gittest.Isolate(t)
	t.Run("sha256", func(t *testing.T) {
		made := gittest.Init(t, "--object-format=sha256")
		var h gittest.History
		h.Commit("main")
		h.Put(gittest.Regular, "file", []byte("content"))
		made.Import(&h)
		if result, _ := must(t, quickstart.Options{Git: made.Dir, Dir: t.TempDir()}); result.Verified != 1 || len(result.Source.Commit) != 64 {
			t.Errorf("got %+v", result)
		}
	})
	t.Run("shallow and bare", func(t *testing.T) {
		made := history(t)
		clone := filepath.Join(t.TempDir(), "clone")
		made.Git("clone", "--quiet", "--bare", "--depth=2", "file://"+filepath.ToSlash(made.Dir), clone)
		result, said := must(t, quickstart.Options{Git: clone, Dir: t.TempDir()})
		if result.Versions != 2 || result.Verified != 6 || !result.Source.Shallow || !strings.Contains(said, "shallow clone") {
			t.Errorf("got %+v\n%s", result, said)
		}
	})
	t.Run("all files gone", func(t *testing.T) {
		made := gittest.Init(t)
		var h gittest.History
		h.Commit("main")
		h.Put(gittest.Regular, "file", []byte("content"))
		h.Commit("main")
		h.Delete("file")
		made.Import(&h)
		result, _ := must(t, quickstart.Options{Git: made.Dir, Dir: t.TempDir()})
		if result.Versions != 2 || result.Verified != 0 || !result.Root.IsEmpty() {
			t.Errorf("got %+v", result)
		}
	})
	t.Run("empty from the first commit on", func(t *testing.T) {
		made := gittest.Init(t)
		var h gittest.History
		h.Commit("main")
		h.Commit("main")
		h.Put(gittest.Regular, "file", []byte("content"))
		made.Import(&h)
		if result, _ := must(t, quickstart.Options{Git: made.Dir, Dir: t.TempDir()}); result.Versions != 2 || result.Verified != 1 {
			t.Errorf("got %+v", result)
		}
	})
	t.Run("many and large", func(t *testing.T) {
		made := gittest.Init(t)
		var h gittest.History
		h.Commit("main")
		for i := range 3000 {
			h.Put(gittest.Regular, fmt.Sprintf("dir%d/file%d", i%17, i), bytes.Repeat(fmt.Appendf(nil, "%d,", i), i%500))
		}
		h.Put(gittest.Regular, "large", bytes.Repeat([]byte("0123456789abcdef"), 1<<19)) // 8 MiB: more than a frame
		made.Import(&h)
		result, _ := must(t, quickstart.Options{Git: made.Dir, Dir: t.TempDir()})
		if result.Verified != 3001 || result.Checkpoint.Chunks < 2 {
			t.Errorf("got %+v", result)
		}
	})
}

// TestThousandCommits is what the quickstart promises: a repository of that size in under a minute.
func TestThousandCommits(t *testing.T) {
	gittest.Isolate(t)
	made := gittest.Init(t)
	var h gittest.History
	for i := range 1000 {
		h.Commit("main")
		for j := range 5 {
			h.Put(gittest.Regular, fmt.Sprintf("dir%d/file%d", (i+j)%7, i*(j+1)%701), bytes.Repeat(fmt.Appendf(nil, "%d ", i), 1+j*200))
		}
	}
	made.Import(&h)
	result, _ := must(t, quickstart.Options{Git: made.Dir, Dir: t.TempDir()})
	if result.Versions != 1000 || result.Verified != result.Entries || result.Entries < 1000 || result.Automatic < 3 || result.Checkpoints != 3 {
		t.Errorf("got %+v", result)
	}
	if result.Seconds > 60 {
		t.Errorf("it took %.1f seconds: %+v", result.Seconds, result.Times)
	}
}

func TestSample(t *testing.T) {
	gittest.Isolate(t)
	t.Run("asked", func(t *testing.T) {
		result, _ := must(t, quickstart.Options{Sample: true, Dir: t.TempDir()})
		if result.Versions != 42 || result.Verified != 195 || result.Source.Kind != "sample" {
			t.Errorf("got %+v", result)
		}
		restored := dump(t, result.Config, "restored", 42)
		if restored["total"] != "193" || restored["members/South Sudan"] != "2011" {
			t.Errorf("got %q", restored)
		}
	})
	t.Run("none here", func(t *testing.T) {
		t.Chdir(t.TempDir())
		t.Setenv("TMPDIR", t.TempDir())
		result, said := must(t, quickstart.Options{})
		if result.Source.Kind != "sample" || !strings.Contains(said, "There is no repository to read here (not a git repository)") {
			t.Errorf("got %+v\n%s", result, said)
		}
		if filepath.Dir(result.Dir) != os.TempDir() {
			t.Errorf("directory %s", result.Dir)
		}
	})
	t.Run("no git", func(t *testing.T) {
		t.Chdir(t.TempDir())
		t.Setenv("PATH", t.TempDir())
		if _, said := must(t, quickstart.Options{Dir: t.TempDir()}); !strings.Contains(said, "git is not installed") {
			t.Errorf("it said\n%s", said)
		}
	})
	t.Run("in a repository", func(t *testing.T) {
		made := history(t)
		t.Chdir(made.Dir)
		if result, _ := must(t, quickstart.Options{Dir: t.TempDir()}); result.Source.Kind != "git" || result.Verified != 6 {
			t.Errorf("got %+v", result)
		}
	})
}

func TestWrongInput(t *testing.T) {
	gittest.Isolate(t)
	dir := filepath.Join(t.TempDir(), "dir")
	none := t.TempDir()
	refused(t, quickstart.Options{Git: none, Dir: dir}, exit.NotFound, "--git "+none+": not a git repository")
	refused(t, quickstart.Options{Git: filepath.Join(none, "absent"), Dir: dir}, exit.NotFound, "absent")
	refused(t, quickstart.Options{Git: gittest.Init(t).Dir, Dir: dir}, exit.NotFound, "no commits yet")
	refused(t, quickstart.Options{Sample: true, Dir: dir, FromBackend: "rocksdb"}, exit.Usage, `no built-in backend "rocksdb"`)
	refused(t, quickstart.Options{Sample: true, Dir: dir, ToBackend: "oracle"}, exit.Usage, `no built-in backend "oracle"`)
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a directory was made for nothing: %v", err)
	}
	t.Run("no git", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		refused(t, quickstart.Options{Git: none, Dir: dir}, exit.Failed, "git is not installed")
	})
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, quickstart.Options{Sample: true, Dir: file}, exit.Failed, "not a directory")
}

func TestOtherChunkSize(t *testing.T) {
	gittest.Isolate(t)
	opts := quickstart.Options{Sample: true, Dir: t.TempDir()}
	first, _ := must(t, opts)
	content, err := os.ReadFile(first.Config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(first.Config, bytes.Replace(content, []byte(`"1MiB"`), []byte(`"1KiB"`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, opts, exit.Failed, "chunk size")
	if err := os.RemoveAll(first.Checkpoint.Path); err != nil {
		t.Fatal(err)
	}
	if again, _ := must(t, opts); again.Root != first.Root || again.Checkpoint.Chunks < 3 {
		t.Errorf("got %+v", again)
	}
}

func TestDamagedCopyIsFound(t *testing.T) {
	gittest.Isolate(t)
	made := history(t)
	opts := quickstart.Options{Git: made.Dir, Dir: t.TempDir()}
	result, _ := must(t, opts)
	chunk := filepath.Join(result.Checkpoint.Path, "chunks", "0")
	content, err := os.ReadFile(chunk)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	if err := os.WriteFile(chunk, content, 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, opts, exit.Invalid, "chunk 0")
	// Nothing of it can be seen, and with the checkpoint made anew all is well.
	if err := os.RemoveAll(result.Checkpoint.Path); err != nil {
		t.Fatal(err)
	}
	if again, _ := must(t, opts); again.Root != result.Root {
		t.Errorf("got %+v", again)
	}
}
