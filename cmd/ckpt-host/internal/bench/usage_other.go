//go:build !linux

package bench

func cpuSeconds() (float64, bool) { return 0, false }

func resetPeakRSS() bool { return false }

func peakRSS() (int64, bool) { return 0, false }
