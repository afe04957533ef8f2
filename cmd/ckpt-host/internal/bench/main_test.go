package bench

import (
	"os"
	"testing"

	"github.com/ckpt-project/ckpt/backends/bbolt"
	"github.com/ckpt-project/ckpt/backends/leveldb"
	"github.com/ckpt-project/ckpt/backends/memory"
	"github.com/ckpt-project/ckpt/framework/plugin"
)

func TestMain(m *testing.M) {
	if plugin.ServeBuiltin(os.Args, "test", memory.New(), bbolt.New(), leveldb.New()) {
		os.Exit(0)
	}
	os.Exit(m.Run())
}
