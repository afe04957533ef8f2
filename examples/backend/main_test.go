package main

import (
	"testing"

	"github.com/ckpt-project/ckpt/conformance"
	"github.com/ckpt-project/ckpt/conformance/history"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv/kvtest"
)

var harness = kvtest.Harness{Open: openStore}

func TestMain(m *testing.M)        { kvtest.Main(m, harness) }
func TestStore(t *testing.T)       { kvtest.Run(t, harness) }
func TestConformance(t *testing.T) { conformance.Run(t, conformance.Harness{Open: factory{}.New}) }
func TestHistories(t *testing.T) {
	history.Run(t, history.Harness{Harness: conformance.Harness{Open: factory{}.New}})
}
