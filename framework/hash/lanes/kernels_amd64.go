//go:build !purego

package lanes

import "golang.org/x/sys/cpu"

// vectorKernels returns the kernels that CPU and operating system support, the best first. A run of a program
// can be kept from one: GODEBUG=cpu.avx512f=off,cpu.avx2=off.
func vectorKernels() (have []*Kernel) {
	if cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW {
		have = append(have, &Kernel{name: "AVX-512", lanes: 8, sum: sum8})
	}
	if cpu.X86.HasAVX2 {
		have = append(have, &Kernel{name: "AVX2", lanes: 4, sum: sum4})
	}
	return have
}
