backend "main" {}
namespace "demo" {
  checkpoints {}
}
plugin "mine" {}
