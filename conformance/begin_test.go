package conformance_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ckpt-project/ckpt/backends/memory"
	"github.com/ckpt-project/ckpt/conformance"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/plugin"
)

// pluginVariable makes the test's own binary a plugin that behaves as its value says.
const pluginVariable = "CKPT_CONFORMANCE_TEST_PLUGIN"

func init() {
	if behaviour := os.Getenv(pluginVariable); behaviour != "" {
		plugin.Serve(plugin.ServeOptions{Factory: misbehaving(behaviour), Version: "1"})
		os.Exit(0)
	}
}

// misbehaving is a backend whose databases don't open, or don't last.
type misbehaving string

func (misbehaving) Name() string { return "misbehaving" }

func (b misbehaving) New(ctx context.Context, cfg *db.Config) (db.NodeDB, error) {
	println("out of luck") // as the runtime's panics, and unlike os.Stderr here, it goes straight to the host
	switch b {
	case "dies":
		os.Exit(4)
	case "hangs":
		select {}
	}
	return memory.New().New(ctx, cfg) // it forgets
}

func misbehaves(t *testing.T, behaviour string) conformance.Harness {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return conformance.Program{Path: self, Env: []string{pluginVariable + "=" + behaviour}}.Harness()
}

// TestNotBegun proves what is none of the backend's cases: programs that are no plugins, and databases that
// don't open. There is a report either way, with a reason that a person can use, and nothing is left.
func TestNotBegun(t *testing.T) {
	script := func(text string) conformance.Harness {
		path := filepath.Join(t.TempDir(), "program")
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		return conformance.Program{Path: path, StartTimeout: time.Second}.Harness()
	}
	full := errors.New("the disk is full \x1b[2J")
	for _, c := range []struct {
		name    string
		h       conformance.Harness
		verdict conformance.Verdict
		is      error
		reason  string
	}{
		{"not a plugin", script("echo hello"), conformance.Fail, plugin.ErrLaunchFailed, "without saying that it is a plugin"},
		{"dies at the start", script("echo out of luck >&2; exit 3"), conformance.Fail, plugin.ErrLaunchFailed, "exit status 3\nits last output:\n  out of luck"},
		{"hangs at the start", script("exec sleep 100"), conformance.Fail, plugin.ErrLaunchFailed, "within 1s"},
		{"dies when it opens", misbehaves(t, "dies"), conformance.Fail, db.ErrUnavailable, "exit status 4\nthe last output of its process:\n  out of luck"},
		{"its process hangs when it opens", misbehaves(t, "hangs"), conformance.Fail, context.DeadlineExceeded, "opening an empty database hangs"},
		{"not there", conformance.Program{Path: "./nothing"}.Harness(), conformance.Error, os.ErrNotExist, "no such program"},
		{"not in the path", conformance.Program{Path: "nothing-of-that-name"}.Harness(), conformance.Error, plugin.ErrLaunchFailed, "no such program"},
		{"not executable", conformance.Program{Path: notExecutable(t)}.Harness(), conformance.Fail, os.ErrPermission, "permission denied"},
		{
			"bad settings",
			conformance.Harness{Open: memory.New().New, Settings: []byte(`{"unheard_of":1}`)},
			conformance.Error, db.ErrBadSettings, "unheard_of",
		},
		{"can't open", conformance.Harness{Open: func(context.Context, *db.Config) (db.NodeDB, error) {
			return nil, full
		}}, conformance.Fail, full, "the disk is full \ufffd[2J"},
		{"hangs when it opens", conformance.Harness{Open: func(ctx context.Context, _ *db.Config) (db.NodeDB, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}, conformance.Fail, context.DeadlineExceeded, "hangs"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			r, err := conformance.Prove(t.Context(), c.h, conformance.Options{Dir: dir, Timeout: 3 * time.Second})
			if !errors.Is(err, c.is) {
				t.Errorf("error %v, want %v", err, c.is)
			}
			if r.Verdict != c.verdict || !strings.Contains(r.Reason, c.reason) || strings.Contains(r.Reason, "conformance:") {
				t.Errorf("verdict %s with reason %q, want %s with %q", r.Verdict, r.Reason, c.verdict, c.reason)
			}
			if r.Cases == nil || r.Capabilities == nil || r.Profile != conformance.ProfileCore || r.Suite == "" {
				t.Errorf("the report is not whole: %+v", r)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

func notExecutable(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestInterrupted ends a run in its first case: there is no report, and no directory.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	dir := t.TempDir()
	r, err := conformance.Prove(ctx, conformance.Harness{Open: memory.New().New}, conformance.Options{
		Dir: dir, Parallel: 1, Began: func(*conformance.Case) { cancel() },
	})
	if r != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("report %v, error %v", r, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestBenchmarksAreBesideTheVerdict measures, and sees that it is no part of what a backend has to pass.
func TestBenchmarksAreBesideTheVerdict(t *testing.T) {
	one := conformance.Select(regexp.MustCompile("^versions/empty-root$"))
	opts := conformance.Options{Cases: one, Dir: t.TempDir(), Benchmarks: true}
	r, err := conformance.Prove(t.Context(), conformance.Harness{Open: memory.New().New}, opts)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Benchmarks) < 6 || len(r.Remarks) > 0 {
		t.Errorf("%d benchmarks, remarks %q", len(r.Benchmarks), r.Remarks)
	}
	for _, b := range r.Benchmarks {
		if b.Value <= 0 || b.Unit == "" {
			t.Errorf("%+v", b)
		}
	}
	verdict, counts := r.Verdict, r.Counts

	// The same with a backend that opens no database once the case has ended.
	ended := false
	opts.Ended = func(*conformance.Result) { ended = true }
	full := conformance.Harness{Open: func(ctx context.Context, cfg *db.Config) (db.NodeDB, error) {
		if ended {
			return nil, errors.New("the disk is full")
		}
		return memory.New().New(ctx, cfg)
	}}
	if r, err = conformance.Prove(t.Context(), full, opts); err != nil {
		t.Fatal(err)
	}
	if r.Verdict != verdict || r.Counts != counts {
		t.Errorf("%s %+v without benchmarks that work, %s %+v with them", r.Verdict, r.Counts, verdict, counts)
	}
	if len(r.Remarks) != 1 || !strings.Contains(r.Remarks[0], "the disk is full") {
		t.Errorf("remarks %q", r.Remarks)
	}
}

// TestKeep keeps the directory of a case that fails, and of no other.
func TestKeep(t *testing.T) {
	dir := t.TempDir()
	cases := conformance.Select(regexp.MustCompile("^(versions/empty-root|versions/committed-and-reopened)$"))
	for range 2 { // what an earlier run has kept is not in the way
		r, err := conformance.Prove(t.Context(), conformance.Harness{Open: memory.New().New}, conformance.Options{Cases: cases, Keep: dir})
		if err != nil {
			t.Fatal(err)
		}
		left, err := os.ReadDir(dir)
		if err != nil || len(left) != 1 || left[0].Name() != "versions-committed-and-reopened" {
			t.Errorf("kept %v, %v", left, err)
		}
		for _, c := range r.Cases {
			said := strings.Contains(strings.Join(c.Log, "\n"), "its directory is kept: "+dir)
			if said != (c.Name == "versions/committed-and-reopened") {
				t.Errorf("%s: %s, log %q", c.Name, c.Verdict, c.Log)
			}
		}
	}
}

// TestReasonsTravel has a case fail with an error that names a file: on other machines its path says nothing.
func TestReasonsTravel(t *testing.T) {
	dir := t.TempDir()
	cases := conformance.Select(regexp.MustCompile("^read-only/open$"))
	r, err := conformance.Prove(t.Context(), conformance.Harness{Open: memory.New().New}, conformance.Options{Cases: cases, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Cases[0].Reason + strings.Join(r.Cases[0].Log, "\n"); !strings.Contains(got, " DIR/read-only-open/1/db") || strings.Contains(got, dir) {
		t.Errorf("it says %s", got)
	}
}

// TestFailuresHaveTheProcessesOutput has a case fail, and one pass: the log of the first has what its
// processes have said, as a panic of theirs, and the other's has not.
func TestFailuresHaveTheProcessesOutput(t *testing.T) {
	cases := conformance.Select(regexp.MustCompile("^(versions/empty-root|versions/committed-and-reopened)$"))
	r, err := conformance.Prove(t.Context(), misbehaves(t, "forgets"), conformance.Options{Cases: cases, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range r.Cases {
		said := strings.Contains(strings.Join(c.Log, "\n"), "the last output of its process:\n  out of luck")
		if want := c.Name == "versions/committed-and-reopened"; said != want || (c.Verdict == conformance.NotSupported) != want { // what is not declared is no failure
			t.Errorf("%s: %s, log %q", c.Name, c.Verdict, c.Log)
		}
	}
}
