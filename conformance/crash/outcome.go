package crash

import (
	"iter"
	"slices"
)

// outcome is a state that a crash may have left, and what became of the operations in flight in it.
type outcome struct {
	m                      *model
	absent, complete, lost int
}

func applyAll(m *model, s *step, indices []int) {
	for _, i := range indices {
		m.apply(&s.ops[i])
	}
}

// outcomes yields all states that a crash in a step may have left, the one with the least lost first.
//
// Where only the process has ended, what was acknowledged is there. Of what was in flight, each is there or
// is not. After a loss of power, the steps since the last promise may be gone, too: the last ones first, and
// of those of one step, which were done at once, any.
func (r *run) outcomes(s *step) iter.Seq[outcome] {
	return func(yield func(outcome) bool) {
		if !r.machine.losesPower() {
			r.subsets(r.m, s, s.acked, 0, yield)
			return
		}
		steps := append(slices.Clone(r.since), s)
		promised := slices.ContainsFunc(s.acked, func(i int) bool { return r.strict || s.ops[i].promisesOthers() })
		lost := 0
		for n := len(steps) - 1; n >= 0; n-- {
			base := r.base.clone()
			for _, before := range steps[:n] {
				applyAll(base, before, before.acked)
			}
			last := steps[n]
			var kept []int
			if n == len(steps)-1 {
				kept = slices.DeleteFunc(slices.Clone(s.acked), func(i int) bool { return !r.strict && !s.ops[i].promisesItself() })
			}
			if !r.subsets(base, last, kept, lost, yield) || promised {
				return
			}
			lost += len(last.acked)
		}
	}
}

// subsets yields what a step can have left of which the operations that are kept are there, and any of the
// others.
func (r *run) subsets(base *model, s *step, kept []int, lost int, yield func(outcome) bool) bool {
	var open []int
	for i := range s.ops {
		if !slices.Contains(kept, i) {
			open = append(open, i)
		}
	}
	for gone := range 1 << len(open) {
		o := outcome{m: base.clone(), lost: lost}
		applyAll(o.m, s, kept)
		for bit, i := range open {
			acked := slices.Contains(s.acked, i)
			switch there := gone&(1<<bit) == 0; {
			case there && !acked:
				o.complete++
			case !there && acked:
				o.lost++
			case !there:
				o.absent++
			}
			if gone&(1<<bit) == 0 {
				o.m.apply(&s.ops[i])
			}
		}
		if !yield(o) {
			return false
		}
	}
	return true
}
