package bbolt_test

import (
	"testing"

	"github.com/ckpt-project/ckpt/backends/bbolt"
	"github.com/ckpt-project/ckpt/conformance/crash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv/kvtest"
)

var storeHarness = kvtest.Harness{Open: bbolt.OpenStore}

func TestMain(m *testing.M) {
	if crash.Serve(bbolt.New()) {
		return
	}
	kvtest.Main(m, storeHarness)
}

func TestStore(t *testing.T) { kvtest.Run(t, storeHarness) }
