//go:build purego || !amd64

package lanes

func vectorKernels() []*Kernel { return nil }
