// Command ckpt-backend-leveldb is the leveldb backend as a plugin program of its own.
package main

import (
	"github.com/ckpt-project/ckpt/backends/leveldb"
	"github.com/ckpt-project/ckpt/framework/plugin"
)

// version is set when the program is built for a release.
var version = "dev"

func main() {
	plugin.Serve(plugin.ServeOptions{Factory: leveldb.New(), Version: version})
}
