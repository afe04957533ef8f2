package console

import (
	"context"
	"io"
)

// pumpBytes is how much is read at once, and at most ahead of who reads.
const pumpBytes = 64 << 10

// Interruptible returns a reader of in whose Read returns when ctx ends, with its error, also while in
// has nothing to give: a terminal or a pipe is read by a goroutine of its own, which can't be broken off
// and ends with its read after ctx has ended, or with the process.
func Interruptible(ctx context.Context, in io.Reader) io.Reader {
	p := &pump{ctx: ctx, full: make(chan block), empty: make(chan []byte, 1)}
	p.empty <- make([]byte, pumpBytes)
	go p.run(in)
	return p
}

// block is what one read gave.
type block struct {
	data []byte
	err  error
}

type pump struct {
	ctx   context.Context
	full  chan block
	empty chan []byte // gives the buffer back

	present block
	rest    []byte // of present.data
}

func (p *pump) run(in io.Reader) {
	for {
		var buffer []byte
		select {
		case buffer = <-p.empty:
		case <-p.ctx.Done():
			return
		}
		n, err := in.Read(buffer[:pumpBytes])
		select {
		case p.full <- block{buffer[:n], err}:
		case <-p.ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

func (p *pump) Read(b []byte) (int, error) {
	for len(p.rest) == 0 {
		if p.present.err != nil {
			return 0, p.present.err
		}
		if p.present.data != nil {
			p.empty <- p.present.data
			p.present.data = nil
		}
		select {
		case p.present = <-p.full:
			p.rest = p.present.data
		case <-p.ctx.Done():
			return 0, p.ctx.Err()
		}
	}
	n := copy(b, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}
