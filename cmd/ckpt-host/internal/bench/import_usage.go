package bench

import (
	"os"
	"runtime/debug"
	"sync"
	"time"
)

// processWatch watches what this process and another one use, until end.
type processWatch struct {
	pids []int
	// before is what this one used at the beginning.
	before int64
	cpu    []float64
	meters []*anonMeter
	peaks  []int64
	stop   chan struct{}
	done   sync.WaitGroup
}

// anonEvery is how often memory is looked at: nothing keeps its peak.
const anonEvery = 10 * time.Millisecond

// watchProcesses begins to watch this process and another, if pid is not 0. What earlier steps have left in
// memory is given back before.
func watchProcesses(pid int) *processWatch {
	debug.FreeOSMemory()
	w := &processWatch{pids: []int{os.Getpid()}, stop: make(chan struct{})}
	if pid != 0 {
		w.pids = append(w.pids, pid)
	}
	w.peaks = make([]int64, len(w.pids))
	for _, pid := range w.pids {
		w.cpu = append(w.cpu, processCPU(pid))
		w.meters = append(w.meters, newAnonMeter(pid))
	}
	w.look()
	w.before = w.peaks[0]
	w.done.Go(func() {
		tick := time.NewTicker(anonEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				w.look()
			case <-w.stop:
				return
			}
		}
	})
	return w
}

func (w *processWatch) look() {
	for i, m := range w.meters {
		w.peaks[i] = max(w.peaks[i], m.bytes())
	}
}

// end ends the watching, and tells what this process used and, where it was watched, the other.
func (w *processWatch) end() (host ProcessCost, plugin *ProcessCost) {
	close(w.stop)
	w.done.Wait()
	w.look()
	costs := make([]ProcessCost, len(w.pids))
	for i, pid := range w.pids {
		w.meters[i].close()
		costs[i] = ProcessCost{CPUSeconds: processCPU(pid) - w.cpu[i], PeakAnonBytes: w.peaks[i]}
	}
	if len(costs) > 1 {
		plugin = &costs[1]
	}
	return costs[0], plugin
}
