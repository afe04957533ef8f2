// Command ckpt-backend-bbolt is the bbolt backend as a plugin program of its own.
package main

import (
	"github.com/ckpt-project/ckpt/backends/bbolt"
	"github.com/ckpt-project/ckpt/framework/plugin"
)

// version is set when the program is built for a release.
var version = "dev"

func main() {
	plugin.Serve(plugin.ServeOptions{Factory: bbolt.New(), Version: version})
}
