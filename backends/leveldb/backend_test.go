package leveldb_test

import (
	"testing"

	"github.com/ckpt-project/ckpt/backends/leveldb"
	"github.com/ckpt-project/ckpt/conformance"
)

func TestConformance(t *testing.T) {
	conformance.Run(t, conformance.Harness{Open: leveldb.New().New})
}
