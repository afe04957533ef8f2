package cli

import (
	"fmt"
	"sync/atomic"
)

// share is how far work has come whose unit nobody knows. One goroutine sets it while another reads it.
type share struct {
	what        string
	done, total atomic.Int64
}

func newShare(what string) *share { return &share{what: what} }

func (s *share) set(done, total int64) {
	s.total.Store(total)
	s.done.Store(done)
}

// String tells it for people.
func (s *share) String() string {
	total := s.total.Load()
	if total <= 0 {
		return s.what
	}
	return fmt.Sprintf("%s: %d%%", s.what, min(100, int64(100*float64(s.done.Load())/float64(total))))
}
