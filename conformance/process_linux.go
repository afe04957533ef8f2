package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// What the system knows of processes, from /proc. Of those of other users it does not tell what they have
// open.

// descriptors counts what a process has open.
func descriptors(pid int) (int, error) {
	names, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return len(names), err
}

// privateBytes is the memory that a process has for itself, in use or not given back yet.
func privateBytes(pid int) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte("RssAnon:")); ok {
			n, err := strconv.ParseInt(string(bytes.Fields(rest)[0]), 10, 64)
			return n << 10, err
		}
	}
	return 0, errors.ErrUnsupported
}

// whoHasOpen lists the processes that have something open in a directory, and what.
func whoHasOpen(dir string) (found []string, err error) {
	dir, err = filepath.EvalSymlinks(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	links, err := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, link := range links {
		to, err := os.Readlink(link)
		if err == nil && strings.HasPrefix(to, dir+"/") {
			found = append(found, link+" is "+to)
		}
	}
	return found, err
}

// afterName are the fields of a stat file behind the program's name, which may hold anything.
func afterName(stat []byte) [][]byte { return bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:]) }

// hasStopped says whether a process does nothing, in none of its threads.
func hasStopped(pid int) (bool, error) {
	stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err == nil && len(stats) == 0 {
		err = errors.ErrUnsupported // nothing is told of processes
	}
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			return false, nil // a thread that has just ended was not stopped
		} else if err != nil {
			return false, err
		}
		if fields := afterName(text); len(fields) == 0 || string(fields[0]) != "T" {
			return false, nil
		}
	}
	return err == nil, err
}

// leftOf lists the processes of the group that a process began which have not ended.
func leftOf(group int) (left []int, err error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it has just ended
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		fields := afterName(text) // state, parent and group
		if len(fields) < 3 || string(fields[0]) == "Z" {
			continue
		}
		if string(fields[2]) == strconv.Itoa(group) || pid == group {
			left = append(left, pid)
		}
	}
	return left, err
}
