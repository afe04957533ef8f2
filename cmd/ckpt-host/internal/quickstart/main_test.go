package quickstart_test

import (
	"os"
	"testing"

	"github.com/ckpt-project/ckpt/backends/bbolt"
	"github.com/ckpt-project/ckpt/backends/leveldb"
	"github.com/ckpt-project/ckpt/backends/memory"
	"github.com/ckpt-project/ckpt/framework/plugin"
)

// TestMain lets the test binary be its own backends' processes.
func TestMain(m *testing.M) {
	if plugin.ServeBuiltin(os.Args, "test", memory.New(), bbolt.New(), leveldb.New()) {
		return
	}
	os.Exit(m.Run())
}
