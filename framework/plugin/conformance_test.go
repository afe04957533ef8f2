//go:build unix

package plugin_test

import (
	"regexp"
	"testing"

	"github.com/ckpt-project/ckpt/conformance"
	"github.com/ckpt-project/ckpt/framework/plugin"
)

// TestConformance runs the table over databases in processes of their own: the way there must change
// nothing of what the contract says, and the processes can be killed.
func TestConformance(t *testing.T) {
	backends := []string{"memory", "bbolt", "leveldb"}
	if testing.Short() { // the way is the same for all
		backends = backends[1:2]
	}
	for _, backend := range backends {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			conformance.Run(t, builtin(t, backend).Harness())
		})
	}
}

// TestProgramsNeedNotShareMemory proves a program that shares none, as one in another language may: what the suite
// asks of those that do is not asked of it.
func TestProgramsNeedNotShareMemory(t *testing.T) {
	program := builtin(t, "memory")
	program.NoSharedMemory = true
	cases := conformance.Select(regexp.MustCompile("^wire/(rings-and-turns|no-shared-memory|made-up-handle|malformed-messages|cancelled-walk)$"))
	r, err := conformance.Prove(t.Context(), program.Harness(), conformance.Options{Cases: cases, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Cases) != 5 {
		t.Errorf("%d cases", len(r.Cases))
	}
	for _, c := range r.Cases {
		if c.Verdict != conformance.Pass {
			t.Errorf("%s: %s: %s", c.Name, c.Verdict, c.Reason)
		}
	}
}

// builtin is the program of a built-in backend: this test's own.
func builtin(t *testing.T, backend string) conformance.Program {
	t.Helper()
	path, args, err := plugin.Builtin(backend)
	if err != nil {
		t.Fatal(err)
	}
	return conformance.Program{Path: path, Args: args, Env: []string{quickRace}, RunDir: runDir(t)}
}
