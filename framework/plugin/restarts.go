package plugin

import (
	"math/rand/v2"
	"time"
)

// Restarts says how often, and how soon, what has failed is tried again.
type Restarts struct {
	// Max is how many failures within Window are followed by another attempt; one more is the last. 0
	// means DefaultRestarts; less than 0 means that the first failure is the last.
	Max int
	// Window is how long a failure counts; 0 means DefaultRestartWindow.
	Window time.Duration
	// Backoff is the pause after the first failure of a window; each next one is twice as long. 0 means
	// DefaultBackoff.
	Backoff time.Duration
	// MaxBackoff is the longest pause; 0 means DefaultMaxBackoff. Each pause is shortened at random by up
	// to a half, so that hosts that failed together don't come back together.
	MaxBackoff time.Duration
}

// Defaults of Restarts: five attempts within some three seconds, and then only what fails less often than
// once in ten seconds is tried for ever.
const (
	DefaultRestarts      = 5
	DefaultRestartWindow = time.Minute
	DefaultBackoff       = 100 * time.Millisecond
	DefaultMaxBackoff    = 10 * time.Second
)

func (r Restarts) withDefaults() Restarts {
	if r.Max == 0 {
		r.Max = DefaultRestarts
	}
	if r.Window <= 0 {
		r.Window = DefaultRestartWindow
	}
	if r.Backoff <= 0 {
		r.Backoff = DefaultBackoff
	}
	if r.MaxBackoff <= 0 {
		r.MaxBackoff = DefaultMaxBackoff
	}
	return r
}

// failures are those of one thing that Restarts are for. They belong to one goroutine.
type failures struct {
	restarts Restarts // with its defaults
	at       []time.Time
}

// add counts a failure, and says whether to try again, and after which pause.
func (f *failures) add(now time.Time) (pause time.Duration, again bool) {
	kept := f.at[:0]
	for _, at := range f.at {
		if now.Sub(at) < f.restarts.Window {
			kept = append(kept, at)
		}
	}
	f.at = append(kept, now)
	if len(f.at) > f.restarts.Max {
		return 0, false
	}
	pause = f.restarts.Backoff
	for i := 1; i < len(f.at) && pause < f.restarts.MaxBackoff; i++ {
		pause *= 2
	}
	pause = min(pause, f.restarts.MaxBackoff)
	return pause - rand.N(pause/2+1), true
}
