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
	return float64(number(fields, user)+number(fields, system)) / clockTicks
}

// anonMeter tells the memory that a process has in use, without what is mapped from files.
type anonMeter struct {
	statm *os.File // nil where it isn't known
	line  [256]byte
}

func newAnonMeter(pid int) *anonMeter {
	f, err := os.Open(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return &anonMeter{}
	}
	return &anonMeter{statm: f}
}

// bytes is how much it is now, 0 where it isn't known.
func (m *anonMeter) bytes() int64 {
	if m.statm == nil {
		return 0
	}
	n, _ := m.statm.ReadAt(m.line[:], 0) // an error comes with what was read before the end
	fields := bytes.Fields(m.line[:n])
	const resident, shared = 1, 2
	return (number(fields, resident) - number(fields, shared)) * int64(os.Getpagesize())
}

func (m *anonMeter) close() {
	if m.statm != nil {
		m.statm.Close()
	}
}

// number returns the number in a field, 0 where there is none.
func number(fields [][]byte, i int) int64 {
	if i >= len(fields) {
		return 0
	}
	n, err := strconv.ParseInt(string(fields[i]), 10, 64)
	if err != nil {
		return 0
	}
	return n
}
