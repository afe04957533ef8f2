package mkvs

import "runtime"

// forks bounds how many goroutines work for a tree at once, beside the one that it belongs to. None
// outlives the call that it was begun in.
type forks chan struct{}

// forksForReads is how many work at once where they wait for a database: reads that wait together take as
// long as one.
const forksForReads = 8

// newForks returns forks for work that waits for a database, or for work that does not.
func newForks(reads bool) forks {
	n := runtime.GOMAXPROCS(0)
	if reads {
		n = max(n, forksForReads)
	}
	return make(forks, n-1)
}

// both does two pieces of work, at once where a goroutine may be begun.
func (f forks) both(a, b func()) {
	select {
	case f <- struct{}{}:
	default:
		a()
		b()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { <-f }()
		b()
	}()
	a()
	<-done
}
