package bbolt_test

import (
	"testing"

	"github.com/ckpt-project/ckpt/backends/bbolt"
	"github.com/ckpt-project/ckpt/conformance/crash"
)

var crashHarness = crash.Harness{Factory: bbolt.New(), Strict: true}

func TestKills(t *testing.T) { crash.Kills(t, crashHarness) }
