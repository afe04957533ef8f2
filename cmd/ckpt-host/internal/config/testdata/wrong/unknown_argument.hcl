data_dir = "state"
backend "main" {
  plugin = "bbolt"
}
namespace "demo" {
  id      = "8000000000000000000000000000000000000000000000000000000000000000"
  backend = "main"
  checkpoints {
    intervall = 10
  }
}
