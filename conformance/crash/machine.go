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
	// took notes how an operation went that was not disturbed, and knows says whether it has for a kind: arm
	// finds a moment within an operation by that.
	took(k kind, d time.Duration)
	knows(k kind) bool
	// crashed says whether a crash has begun that was armed.
	crashed() bool
	// crash lets the machine crash now, where it has not yet. When it returns it is up again, with what the
	// crash has left.
	crash(h host, rng *rand.Rand) error
	// losesPower says whether what was not made safe may be gone.
	losesPower() bool
}

// samples is how many operations of a kind are remembered.
const samples = 16

// killing is a machine that lives, and kills its processes.
type killing struct {
	path    string
	newHost func() (host, error)
	// lasted is how long operations took, the last few of each kind.
	lasted map[kind][]time.Duration
	timer  *time.Timer
	dead   atomic.Bool
}

func (m *killing) dir() string          { return m.path }
func (m *killing) start() (host, error) { return m.newHost() }
func (m *killing) losesPower() bool     { return false }
func (m *killing) crashed() bool        { return m.dead.Load() }

// arm kills at a random time within what such an operation took before. Some take many times as long as most:
// with their mean, most would be over.
func (m *killing) arm(h host, k kind, rng *rand.Rand) {
	within := 100 * time.Microsecond
	if m.knows(k) {
		within = max(1, pick(rng, m.lasted[k]))
	}
	m.timer = time.AfterFunc(time.Duration(rng.Int64N(int64(within))), func() {
		m.dead.Store(true)
		h.kill()
	})
}

func (m *killing) took(k kind, d time.Duration) {
	m.lasted[k] = append(m.lasted[k], d)
	m.lasted[k] = m.lasted[k][max(0, len(m.lasted[k])-samples):]
}

func (m *killing) knows(k kind) bool { return len(m.lasted[k]) > 0 }

func (m *killing) crash(h host, _ *rand.Rand) error {
	if m.timer != nil {
		m.timer.Stop()
	}
	h.kill()
	_ = h.end() // it was killed
	m.dead.Store(false)
	return nil
}
