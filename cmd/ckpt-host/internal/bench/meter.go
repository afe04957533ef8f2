package bench

import (
	"sync"
	"time"
)

// sampleEvery is how often a process's memory is looked at: often enough for what is in use for some
// tens of milliseconds, and seldom enough not to take time from what is measured.
const sampleEvery = 5 * time.Millisecond

// ProcessUsage is what a process took of the machine during a step; what the operating system does not
// tell is left out.
type ProcessUsage struct {
	// CPUSeconds is user and system time.
	CPUSeconds *float64 `json:"cpu_seconds,omitempty"`
	// PeakRSSAnonBytes is the most anonymous memory that was resident: heaps and stacks, without the pages of
	// files that are mapped. It is sampled every 5 ms.
	PeakRSSAnonBytes *int64 `json:"peak_rss_anon_bytes,omitempty"`
}

// meter watches a process.
type meter struct {
	process *process
	began   float64
	hasCPU  bool
	cpu     float64
	peak    int64
}

func newMeter(pid int) *meter {
	m := &meter{process: openProcess(pid)}
	m.began, m.hasCPU = m.process.cpuSeconds()
	return m
}

func (m *meter) look() {
	if n, ok := m.process.rssAnon(); ok {
		m.peak = max(m.peak, n)
	}
}

// sample looks at the processes' memory until stop is called, which waits for the last look.
func sample(meters []*meter) (stop func()) {
	end := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		ticker := time.NewTicker(sampleEvery)
		defer ticker.Stop()
		for {
			for _, m := range meters {
				m.look()
			}
			select {
			case <-ticker.C:
			case <-end:
				return
			}
		}
	})
	return func() {
		for _, m := range meters {
			m.cpu, m.hasCPU = m.elapsed()
		}
		close(end)
		done.Wait()
		for _, m := range meters {
			m.process.close()
		}
	}
}

func (m *meter) elapsed() (float64, bool) {
	now, ok := m.process.cpuSeconds()
	return now - m.began, ok && m.hasCPU
}

// usage is what there is to say after stop.
func (m *meter) usage() (u ProcessUsage) {
	if m.hasCPU {
		u.CPUSeconds = &m.cpu
	}
	if m.peak > 0 {
		u.PeakRSSAnonBytes = &m.peak
	}
	return u
}
