//go:build freebsd || dragonfly

package kvtest

// rlimit converts a length to the type of the system's limits.
func rlimit(n int64) int64 { return n }
