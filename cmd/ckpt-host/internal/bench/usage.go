package bench

import "runtime/debug"

// measure calls f and tells what it took of the machine. What earlier steps have left in memory is given
// back before.
func measure(f func() error) (Usage, error) {
	debug.FreeOSMemory()
	resetPeak := resetPeakRSS()
	before, hasCPU := cpuSeconds()
	err := f()
	var u Usage
	if after, ok := cpuSeconds(); ok && hasCPU {
		seconds := after - before
		u.CPUSeconds = &seconds
	}
	if peak, ok := peakRSS(); ok && resetPeak {
		u.PeakRSSBytes = &peak
	}
	return u, err
}
