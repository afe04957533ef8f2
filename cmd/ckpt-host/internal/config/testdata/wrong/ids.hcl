data_dir = "state"
backend "main" {
  plugin = "bbolt"
}
namespace "short" {
  id      = "80"
  backend = "main"
}
namespace "letters" {
  id      = "zz00000000000000000000000000000000000000000000000000000000000000"
  backend = "main"
}
namespace "reserved" {
  id      = "0100000000000000000000000000000000000000000000000000000000000000"
  backend = "main"
}
namespace "number" {
  id      = 8
  backend = "main"
}
