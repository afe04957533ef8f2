data_dir = "state"
backend "../main" {
  plugin = "bbolt"
}
backend "" {
  plugin = "bbolt"
}
namespace ".." {
  id      = "8000000000000000000000000000000000000000000000000000000000000000"
  backend = "../main"
}
namespace "a/b" {
  id      = "8000000000000000000000000000000000000000000000000000000000000000"
  backend = "../main"
}
