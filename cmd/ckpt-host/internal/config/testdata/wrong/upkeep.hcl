data_dir = "state"
backend "main" { plugin = "bbolt" }
namespace "one" {
  id           = "8000000000000000000000000000000000000000000000000000000000000000"
  backend      = "main"
  garbage_rate = 64
  memory_bytes = 1000
}
namespace "two" {
  id           = "8000000000000000000000000000000000000000000000000000000000000001"
  backend      = "main"
  garbage_rate = -1
  memory_bytes = "2GiB"
}
namespace "three" {
  id           = "8000000000000000000000000000000000000000000000000000000000000002"
  backend      = "main"
  garbage_rate = "64M"
  memory_bytes = true
  memory       = "1GiB"
}
