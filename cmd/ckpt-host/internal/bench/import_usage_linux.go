package bench

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
)

// clockTicks is how many of the units that /proc tells processor time in are a second, on all systems that Go
// runs on.
const clockTicks = 100

// processCPU is the processor time that a process has taken, in seconds; 0 where it isn't known.
func processCPU(pid int) float64 {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The second field is the program's name, in parentheses, and may hold anything.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	const user, system = 11, 12
	if len(fields) <= system {
		return 0
	}
	ticks := int64(0)
	for _, field := range [][]byte{fields[user], fields[system]} {
		n, err := strconv.ParseInt(string(field), 10, 64)
		if err != nil {
			return 0
		}
		ticks += n
	}
	return float64(ticks) / clockTicks
}

// anonBytes is the memory that a process has in use, without what is mapped from files; 0 where it isn't
// known.
func anonBytes(pid int) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(status) {
		if rest, found := bytes.CutPrefix(line, []byte("RssAnon:")); found {
			number, _ := bytes.CutSuffix(bytes.TrimSpace(rest), []byte(" kB"))
			kib, err := strconv.ParseInt(string(number), 10, 64)
			if err != nil {
				return 0
			}
			return kib << 10
		}
	}
	return 0
}
