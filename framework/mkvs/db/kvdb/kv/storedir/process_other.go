//go:build !linux

package storedir

func processStart(int) string { return "" }
