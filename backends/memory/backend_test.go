package memory_test

import (
	"testing"

	"github.com/ckpt-project/ckpt/backends/memory"
	"github.com/ckpt-project/ckpt/conformance"
)

func TestConformance(t *testing.T) {
	conformance.Run(t, conformance.Harness{Open: memory.New().New})
}
