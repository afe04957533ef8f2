data_dir = "state"
backends "main" {
  plugin = "bbolt"
}
