package bbolt_test

import (
	"testing"

	"github.com/ckpt-project/ckpt/backends/bbolt"
	"github.com/ckpt-project/ckpt/conformance"
	"github.com/ckpt-project/ckpt/conformance/history"
)

func TestHistories(t *testing.T) {
	history.Run(t, history.Harness{Harness: conformance.Harness{Open: bbolt.New().New}})
}
