package main

import (
	"fmt"
	"os"
)

// configurations are the configuration files of all scripts, by name.
func configurations(from, to string) map[string]string {
	self, err := os.Executable()
	if err != nil {
		panic(fmt.Sprintf("the test's own file: %v", err))
	}
	const serveBbolt = `
  args = ["__ckpt-backend", "bbolt"]`
	return map[string]string{
		"ckpt.hcl":     fmt.Sprintf(configuration, from, to),
		"small.hcl":    smallConfiguration,
		"plugin.hcl":   pluginConfiguration(self, serveBbolt),
		"sum.hcl":      pluginConfiguration(self, serveBbolt+"\n  sha256 = \"0011223344556677889900112233445566778899001122334455667788990011\""),
		"missing.hcl":  pluginConfiguration("no-such-plugin", ""),
		"noplugin.hcl": pluginConfiguration("/bin/sh", "\n  args = [\"-c\", \"echo hello\"]"),
	}
}

// configuration has the namespaces a, kept by backend $FROM, and b, kept by backend $TO, with the same
// id, and other ones.
const configuration = `data_dir = "state"

backend "from" {
  plugin = %q
}

backend "to" {
  plugin = %q
}

backend "memory" {
  plugin = "memory"
}

namespace "a" {
  id      = "8000000000000000000000000000000000000000000000000000000000000000"
  backend = "from"
}

namespace "b" {
  id      = "8000000000000000000000000000000000000000000000000000000000000000"
  backend = "to"
}

namespace "other" {
  id      = "8000000000000000000000000000000000000000000000000000000000000001"
  backend = "to"
}

namespace "auto" {
  id      = "8000000000000000000000000000000000000000000000000000000000000000"
  backend = "from"
  checkpoints {
    interval   = 2
    keep       = 2
    chunk_size = "1KiB"
  }
}

namespace "volatile" {
  id      = "8000000000000000000000000000000000000000000000000000000000000000"
  backend = "memory"
  checkpoints {
    interval = 1
    keep     = 1
  }
}

namespace "small" {
  id      = "8000000000000000000000000000000000000000000000000000000000000000"
  backend = "from"
  limits {
    key_bytes   = 4
    value_bytes = 8
  }
}
`

// pluginConfiguration has the namespace a, kept by a plugin of this path and with these other arguments
// of its block.
func pluginConfiguration(path, arguments string) string {
	return fmt.Sprintf(`data_dir = "state"

plugin "mine" {
  path = %q%s
}

backend "from" {
  plugin = "mine"
}

namespace "a" {
  id      = "8000000000000000000000000000000000000000000000000000000000000000"
  backend = "from"
}
`, path, arguments)
}

// smallConfiguration has the namespaces a, kept by bbolt, and b, by a leveldb that keeps little in memory.
const smallConfiguration = `data_dir = "state"

backend "bbolt" {
  plugin = "bbolt"
}

backend "leveldb" {
  plugin = "leveldb"
  config {
    write_buffer_bytes = 4194304
    block_cache_bytes  = 8388608
  }
}

namespace "a" {
  id      = "8000000000000000000000000000000000000000000000000000000000000000"
  backend = "bbolt"
}

namespace "b" {
  id      = "8000000000000000000000000000000000000000000000000000000000000000"
  backend = "leveldb"
}
`
