package bench

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
)

// process reads what Linux tells of a process. Its files are kept open: reading them anew costs some
// microseconds.
type process struct {
	statm, stat *os.File
}

func openProcess(pid int) *process {
	p := &process{}
	p.statm, _ = os.Open(fmt.Sprintf("/proc/%d/statm", pid))
	p.stat, _ = os.Open(fmt.Sprintf("/proc/%d/stat", pid))
	return p
}

func (p *process) close() {
	p.statm.Close() // a nil file is fine
	p.stat.Close()
}

// rssAnon is the resident anonymous memory, in bytes: what is resident and no file's and not shared. It is
// RssAnon of /proc/PID/status, which takes several times as long to read.
func (p *process) rssAnon() (int64, bool) {
	var buf [256]byte
	n, _ := p.statm.ReadAt(buf[:], 0)
	fields := bytes.Fields(buf[:n])
	const resident, shared = 1, 2
	if len(fields) <= shared {
		return 0, false
	}
	all, err1 := strconv.ParseInt(string(fields[resident]), 10, 64)
	files, err2 := strconv.ParseInt(string(fields[shared]), 10, 64)
	return (all - files) * int64(os.Getpagesize()), err1 == nil && err2 == nil
}

// clockTicks is the unit of times in /proc: 1/100 s for programs, whatever the kernel's own is.
const clockTicks = 100

// cpuSeconds is the time that the process has taken so far, user and system.
func (p *process) cpuSeconds() (float64, bool) {
	var buf [1024]byte
	n, _ := p.stat.ReadAt(buf[:], 0)
	// The second field is a name in parentheses, which may hold anything.
	_, rest, found := bytes.Cut(buf[:n], []byte(") "))
	if i := bytes.LastIndex(buf[:n], []byte(") ")); i >= 0 {
		rest = buf[i+2 : n]
	}
	fields := bytes.Fields(rest)
	const utime, stime = 14 - 3, 15 - 3
	if !found || len(fields) <= stime {
		return 0, false
	}
	user, err1 := strconv.ParseUint(string(fields[utime]), 10, 64)
	system, err2 := strconv.ParseUint(string(fields[stime]), 10, 64)
	return float64(user+system) / clockTicks, err1 == nil && err2 == nil
}
