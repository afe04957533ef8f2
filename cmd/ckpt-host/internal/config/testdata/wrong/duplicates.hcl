data_dir = "state"
plugin "mine" {
  path = "a"
}
plugin "mine" {
  path = "b"
}
plugin "bbolt" {
  path = "c"
}
backend "main" {
  plugin = "bbolt"
}
backend "main" {
  plugin = "leveldb"
}
namespace "demo" {
  id      = "8000000000000000000000000000000000000000000000000000000000000000"
  backend = "main"
}
namespace "demo" {
  id      = "8000000000000000000000000000000000000000000000000000000000000001"
  backend = "main"
}
namespace "Demo" {
  id      = "8000000000000000000000000000000000000000000000000000000000000002"
  backend = "main"
  limits {}
  limits {}
}
