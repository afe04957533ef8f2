package leveldb_test

import (
	"testing"

	"github.com/ckpt-project/ckpt/backends/leveldb"
	"github.com/ckpt-project/ckpt/conformance/crash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv/kvtest"
)

var storeHarness = kvtest.Harness{
	Open: leveldb.OpenStore,
	// It waits for a second whether anyone still gives memory back.
	Lingering: []string{"github.com/syndtr/goleveldb/leveldb.(*DB).mpoolDrain"},
}

func TestMain(m *testing.M) {
	if crash.Serve(leveldb.New()) {
		return
	}
	kvtest.Main(m, storeHarness)
}

func TestStore(t *testing.T) { kvtest.Run(t, storeHarness) }
