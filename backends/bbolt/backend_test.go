package bbolt_test

import (
	"testing"

	"github.com/ckpt-project/ckpt/backends/bbolt"
	"github.com/ckpt-project/ckpt/conformance"
)

func TestConformance(t *testing.T) {
	conformance.Run(t, conformance.Harness{Open: bbolt.New().New})
}
