data_dir = "state"
backend "main" {
  plugin = "bbolt"
  config {
    cache {
      size = 1
    }
  }
}
