package faulty_test

import (
	"os"
	"testing"

	"github.com/ckpt-project/ckpt/backends/bbolt"
	"github.com/ckpt-project/ckpt/conformance/faulty"
)

// The test binary is a plugin, too: launched by a harness it serves faulty databases of bbolt, or plays a
// program that is wrong itself.
func TestMain(m *testing.M) {
	faulty.Play(bbolt.New())
	os.Exit(m.Run())
}
