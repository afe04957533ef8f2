package quickstart_test

import (
	"context"
	"os"
	"os/signal"
	"testing"

	"github.com/ckpt-project/ckpt/backends/bbolt"
	"github.com/ckpt-project/ckpt/backends/leveldb"
	"github.com/ckpt-project/ckpt/backends/memory"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/cli"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/console"
	"github.com/ckpt-project/ckpt/framework/plugin"
)

// asCommand makes the test binary be the program, with its arguments.
const asCommand = "CKPT_TEST_AS_COMMAND"

// TestMain lets the test binary be its own backends' processes, and the program that tests run.
func TestMain(m *testing.M) {
	if plugin.ServeBuiltin(os.Args, "test", memory.New(), bbolt.New(), leveldb.New()) {
		return
	}
	if os.Getenv(asCommand) != "" {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		code := cli.Run(ctx, os.Args[1:], "test", console.New(os.Stdin, os.Stdout, os.Stderr))
		stop()
		os.Exit(code)
	}
	os.Exit(m.Run())
}
