//go:build unix && !freebsd && !dragonfly

package kvtest

// rlimit converts a length to the type of the system's limits.
func rlimit(n int64) uint64 { return uint64(n) }
