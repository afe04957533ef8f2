package crash

import (
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// machine is what a database's process runs on, and how that crashes.
type machine interface {
	// dir is the database's directory.
	dir() string
	// start starts a process that has nothing open.
	start() (host, error)
	// arm lets the machine crash while it does what it is asked next.
	arm(h host, k kind, rng *rand.Rand)
	// took notes how an operation went that was not disturbed.
	took(k kind, d time.Duration)
	// crashed says whether a crash has begun that was armed.
	crashed() bool
	// crash lets the machine crash now, where it has not yet. When it returns it is up again, with what the
	// crash has left.
	crash(h host, rng *rand.Rand) error
	// losesPower says whether what was not made safe may be gone.
	losesPower() bool
}

// killing is a machine that lives, and kills its processes.
type killing struct {
	path    string
	newHost func() (host, error)
	typical map[kind]time.Duration
	timer   *time.Timer
	dead    atomic.Bool
}

func newKilling(dir string, newHost func() (host, error)) *killing {
	return &killing{path: dir, newHost: newHost, typical: map[kind]time.Duration{}}
}

func (m *killing) dir() string          { return m.path }
func (m *killing) start() (host, error) { return m.newHost() }
func (m *killing) losesPower() bool     { return false }
func (m *killing) crashed() bool        { return m.dead.Load() }

// arm kills at a random time within about what such an operation takes.
func (m *killing) arm(h host, k kind, rng *rand.Rand) {
	within := m.typical[k]*5/4 + 100*time.Microsecond
	m.timer = time.AfterFunc(time.Duration(rng.Int64N(int64(within))), func() {
		m.dead.Store(true)
		h.kill()
	})
}

func (m *killing) took(k kind, d time.Duration) {
	if before := m.typical[k]; before > 0 {
		d = (3*before + d) / 4
	}
	m.typical[k] = d
}

func (m *killing) crash(h host, _ *rand.Rand) error {
	if m.timer != nil {
		m.timer.Stop()
	}
	h.kill()
	_ = h.end() // it was killed
	m.dead.Store(false)
	return nil
}
