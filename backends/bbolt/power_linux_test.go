package bbolt_test

import (
	"testing"

	"github.com/ckpt-project/ckpt/conformance/crash"
)

func TestPowerLoss(t *testing.T) { crash.PowerLoss(t, crashHarness) }

func TestPowerLossWithoutSync(t *testing.T) { crash.PowerLossWithoutSync(t, crashHarness) }
