package bench

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
)

// cpuSeconds is the processor time that this process has taken.
func cpuSeconds() (float64, bool) {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0, false
	}
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return seconds(usage.Utime) + seconds(usage.Stime), true
}

// resetPeakRSS makes peakRSS begin anew. Some containers do not allow it.
func resetPeakRSS() bool { return os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) == nil }

// peakRSS is the most memory that this process had in use since resetPeakRSS, in bytes.
func peakRSS() (int64, bool) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, false
	}
	for line := range bytes.Lines(status) {
		if rest, found := bytes.CutPrefix(line, []byte("VmHWM:")); found {
			number, _ := bytes.CutSuffix(bytes.TrimSpace(rest), []byte(" kB"))
			kib, err := strconv.ParseInt(string(number), 10, 64)
			return kib << 10, err == nil
		}
	}
	return 0, false
}
