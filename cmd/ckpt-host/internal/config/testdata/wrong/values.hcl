data_dir = ""
plugin "mine" {
  path   = ["bin"]
  sha256 = "abc"
}
backend "main" {
  plugin = "mine"
  config {
    cache = undefined_name
  }
}
namespace "demo" {
  id         = "8000000000000000000000000000000000000000000000000000000000000000"
  backend    = "main"
  write_logs = "perhaps"
  checkpoints {
    interval   = 0
    keep       = -1
    chunk_size = "8M"
    threads    = 1.5

    initial_version = -1
    jitter          = "5"
    verification    = "allways"
  }
  limits {
    key_bytes   = 8192
    value_bytes = "2GiB"
  }
}
namespace "other" {
  id      = "8000000000000000000000000000000000000000000000000000000000000001"
  backend = "main"
  checkpoints {
    interval   = "ten"
    keep       = 0
    chunk_size = null
    threads    = 1025

    initial_version = null
    jitter          = "25h"
    verification    = true
  }
  limits {
    key_bytes   = 0
    value_bytes = false
  }
}
