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

    chunks          = 1048577
    metadata_bytes  = 1023
    chunk_bytes     = "128GiB"
    chunk_raw_bytes = 0
    chunk_entries   = 1073741825
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

    chunks          = 0
    metadata_bytes  = "1GiB"
    chunk_bytes     = -1
    chunk_raw_bytes = "2M"
    chunk_entries   = "many"
  }
}
