data_dir = "state"
backend "main" { plugin = "bbolt"
namespace "demo" {
