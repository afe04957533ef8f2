package cli

import (
	"github.com/hashicorp/go-hclog"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/console"
)

// env is what all commands share.
type env struct {
	*console.Console
	// version is the program's version.
	version string
	// logLevel is the value of --log-level, valid once a command runs.
	logLevel hclog.Level
}

// logger returns the logger for the host and its backends' processes: to stderr, with --log-level.
func (e *env) logger() hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{
		Name:   "ckpt-host",
		Level:  e.logLevel,
		Output: e.Err(),
	})
}
