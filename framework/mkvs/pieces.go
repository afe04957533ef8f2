package mkvs

import "iter"

// pieces holds values in the order in which they were added, in pieces: it grows, and takes over what others
// hold, without copies.
type pieces[T any] struct {
	full [][]T
	last []T
	n    int
}

// The length of pieces: the first is short, and each as long as all before, up to a bound.
const (
	leastPiece = 16
	mostPiece  = 512
)

func (p *pieces[T]) len() int { return p.n }

func (p *pieces[T]) add(v T) {
	if len(p.last) == cap(p.last) {
		p.end()
		p.last = make([]T, 0, min(max(p.n, leastPiece), mostPiece))
	}
	p.last = append(p.last, v)
	p.n++
}

// end ends the present piece.
func (p *pieces[T]) end() {
	if len(p.last) > 0 {
		p.full = append(p.full, p.last)
	}
	p.last = nil
}

// join takes over what another holds, which comes behind, and leaves that empty.
func (p *pieces[T]) join(other *pieces[T]) {
	if other.n > 0 {
		p.end()
		p.full = append(p.full, other.full...)
		p.last = other.last
		p.n += other.n
	}
	*other = pieces[T]{}
}

// all yields the values.
func (p *pieces[T]) all() iter.Seq[T] {
	return func(yield func(T) bool) {
		for _, piece := range p.full {
			for i := range piece {
				if !yield(piece[i]) {
					return
				}
			}
		}
		for i := range p.last {
			if !yield(p.last[i]) {
				return
			}
		}
	}
}
