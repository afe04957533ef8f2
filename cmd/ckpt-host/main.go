// Ckpt-host keeps Merkle states in storage backends that run as processes of their own, and makes, checks
// and restores checkpoints of them.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/ckpt-project/ckpt/backends/bbolt"
	"github.com/ckpt-project/ckpt/backends/leveldb"
	"github.com/ckpt-project/ckpt/backends/memory"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/cli"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/console"
	"github.com/ckpt-project/ckpt/framework/plugin"
)

func main() { os.Exit(run(console.New(os.Stdin, os.Stdout, os.Stderr))) }

// run is the program; it returns the exit code.
func run(c *console.Console) int {
	// The same file serves the built-in backends, in processes of their own.
	if plugin.ServeBuiltin(os.Args, version(), memory.New(), bbolt.New(), leveldb.New()) {
		return 0
	}
	// The first signal ends the command in good order, the second at once. A reader of stdout that has
	// gone is an error of writing, so that backends are closed then, too.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	return cli.Run(ctx, os.Args[1:], version(), c)
}

// version is the module's version, and the commit where there is none.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return "devel-" + s.Value[:min(12, len(s.Value))]
		}
	}
	return "devel"
}
