package faulty_test

import (
	"os"
	"testing"

	"github.com/ckpt-project/ckpt/backends/bbolt"
	"github.com/ckpt-project/ckpt/conformance"
	"github.com/ckpt-project/ckpt/conformance/faulty"
)

// The test binary is a plugin, too: launched by a harness it serves faulty databases of bbolt, or plays a
// program that is wrong itself.
func TestMain(m *testing.M) {
	faulty.Play(bbolt.New())
	os.Exit(m.Run())
}

// program is the test binary as a plugin's program, which has a defect itself or none.
func program(t *testing.T, defect string) conformance.Program {
	t.Helper()
	runDir, err := os.MkdirTemp("", "ckpt-f") // a short name: sockets go there
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if left, _ := os.ReadDir(runDir); len(left) != 0 {
			t.Errorf("left behind: %v", left)
		}
		os.RemoveAll(runDir)
	})
	// The race detector is not to hold each process for a second at its end.
	env := []string{faulty.ProgramVariable + "=" + defect, "GORACE=atexit_sleep_ms=0"}
	return conformance.Program{Path: os.Args[0], Env: env, RunDir: runDir}
}
