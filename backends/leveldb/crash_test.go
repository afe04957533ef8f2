package leveldb_test

import (
	"testing"

	"github.com/ckpt-project/ckpt/backends/leveldb"
	"github.com/ckpt-project/ckpt/conformance/crash"
)

// The buffer is as small as it can be, so that histories fill it: then the engine goes on with another
// journal, and merges tables.
var crashHarness = crash.Harness{
	Factory: leveldb.New(), Strict: true, Crashes: 24, Settings: []byte(`{"write_buffer_bytes": 1048576}`),
}

func TestKills(t *testing.T) { crash.Kills(t, crashHarness) }
