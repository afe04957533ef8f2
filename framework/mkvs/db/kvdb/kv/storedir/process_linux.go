package storedir

import (
	"bytes"
	"fmt"
)

// processStart returns when a process started, in the kernel's own terms (field 22 of its stat), or
// nothing where that can't be read.
func processStart(pid int) string {
	b, err := readSmall(fmt.Sprintf("/proc/%d/stat", pid), 4096)
	if err != nil {
		return ""
	}
	// The second field, the name in parentheses, can hold anything.
	end := bytes.LastIndexByte(b, ')')
	fields := bytes.Fields(b[end+1:])
	const startTime = 22 - 3
	if end < 0 || len(fields) <= startTime {
		return ""
	}
	return string(fields[startTime])
}
