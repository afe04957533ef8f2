data_dir = "state"
plugin "mine" {
  path = "bin/mine"
}
backend "main" {
  plugin = "bolt"
}
backend "other" {
  plugin = "something-else-entirely"
}
backend "third" {
  plugin = "Mine"
}
namespace "demo" {
  id      = "8000000000000000000000000000000000000000000000000000000000000000"
  backend = "mian"
}
namespace "demo2" {
  id      = "8000000000000000000000000000000000000000000000000000000000000000"
  backend = "nowhere"
}
