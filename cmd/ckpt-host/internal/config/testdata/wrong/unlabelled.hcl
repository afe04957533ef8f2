data_dir = "state"
backend {
  plugin = "bbolt"
}
