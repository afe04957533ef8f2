package leveldb_test

import (
	"testing"

	"github.com/ckpt-project/ckpt/backends/leveldb"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv/kvtest"
)

var storeHarness = kvtest.Harness{Open: leveldb.OpenStore}

func TestMain(m *testing.M) { kvtest.Main(m, storeHarness) }

func TestStore(t *testing.T) { kvtest.Run(t, storeHarness) }
