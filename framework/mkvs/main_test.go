package mkvs_test

import (
	"testing"

	"go.uber.org/goleak"
)

// No goroutine outlives the call that it was begun in.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
