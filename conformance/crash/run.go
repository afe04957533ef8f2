package crash

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// hangs is after how long an operation is taken to be one that never ends.
const hangs = 2 * time.Minute

// Violation is what a database did that it had promised not to do.
type Violation struct {
	// Text says what.
	Text string
	// Steps are the last steps before it, and what was in flight.
	Steps []string
}

func (v *Violation) Error() string {
	return fmt.Sprintf("%s\n\t%s", v.Text, strings.Join(v.Steps, "\n\t"))
}

// Counts are what happened in some histories.
type Counts struct {
	Histories, Crashes, Steps int
	// inFlight counts the crashes while an operation was going on, by what it was.
	inFlight map[kind]int
	// Absent and Complete are how operations in flight were found afterwards, Lost those that were
	// acknowledged, with no promise yet, and gone.
	Absent, Complete, Lost int
}

func newCounts() *Counts { return &Counts{inFlight: map[kind]int{}} }

// hits is how many crashes hit each activity.
func (c *Counts) hits() (of [activities]int) {
	for k, n := range c.inFlight {
		if a, ok := k.activity(); ok {
			of[a] += n
		}
	}
	return of
}

func (c *Counts) String() string {
	n := 0
	var by, kinds []string
	for a, hits := range c.hits() {
		by = append(by, fmt.Sprintf("%s %d", activity(a), hits))
	}
	for _, k := range slices.Sorted(maps.Keys(c.inFlight)) {
		n += c.inFlight[k]
		kinds = append(kinds, fmt.Sprintf("%s %d", k, c.inFlight[k]))
	}
	return fmt.Sprintf("%d histories, %d steps, %d crashes, %d of them with something in flight: %s; by operation: %s; of that, %d absent and %d complete afterwards; %d acknowledged without a promise and gone",
		c.Histories, c.Steps, c.Crashes, n, strings.Join(by, ", "), strings.Join(kinds, ", "), c.Absent, c.Complete, c.Lost)
}

// run is one history: a database, a model of it, and the process that has it open.
type run struct {
	script
	machine  machine
	settings []byte
	// strict says that all that was acknowledged is promised.
	strict bool
	host   host
	counts *Counts
	// hits counts the crashes of this history that hit an activity. Those of others count for nothing here:
	// what a seed does must not depend on what came before it.
	hits  [activities]int
	trace []string

	// base is what has to be there after a loss of power, since what was acknowledged on top of it.
	base  *model
	since []*step
	// saw is given what a look has seen.
	saw func(*sight)
}

func newRun(m machine, h *Harness, seed uint64, c *Counts) *run {
	r := &run{machine: m, settings: h.Settings, strict: h.Strict, counts: c, base: newModel()}
	r.rng, r.m = rand.New(rand.NewPCG(seed, 0x63726173)), newModel()
	return r
}

// maxTrace is how many steps a violation shows.
const maxTrace = 40

func (r *run) violation(format string, args ...any) error {
	return &Violation{fmt.Sprintf(format, args...), r.trace}
}

func (r *run) note(text string) {
	if r.trace = append(r.trace, text); len(r.trace) > maxTrace {
		r.trace = r.trace[1:]
	}
}

// history lives through so many crashes, frees what is due, and looks whether anything else is stored.
func (r *run) history(ctx context.Context, crashes int) error {
	r.counts.Histories++
	if err := r.boot(ctx); err != nil {
		return err
	}
	for range crashes {
		for range r.rng.IntN(10) {
			if err := r.calm(ctx, r.next()); err != nil {
				return err
			}
			if r.chance(25) {
				if err := r.restart(ctx); err != nil {
					return err
				}
			}
		}
		var ops []op
		switch {
		case r.chance(20):
			ops = []op{{Kind: closeDatabase}}
		case r.chance(12):
			ops = r.besides()
		}
		if len(ops) == 0 {
			var err error
			if ops, err = r.telling(ctx); err != nil {
				return err
			}
		}
		if err := r.crash(ctx, ops); err != nil {
			return err
		}
	}
	return r.finish(ctx)
}

// patience is for how many steps it is waited until what was chosen can be done.
const patience = 60

// telling returns operations to crash in. They are of the activity that has been hit least often so far:
// neither how long each takes nor how often it can be done decides which are hit. What has never been done
// undisturbed is done once, so that a moment within it can be found.
func (r *run) telling(ctx context.Context) ([]op, error) {
	a := r.leastHit()
	if a == collecting {
		if ops := r.prune(); len(ops) > 0 { // so that there is something to collect
			if err := r.calm(ctx, ops); err != nil {
				return nil, err
			}
		}
	}
	for range patience {
		ops := r.during(a)
		switch {
		case len(ops) == 0:
			ops = r.towards(a)
		case r.machine.knows(ops[0].Kind):
			return r.besideReader(ops), nil
		}
		if err := r.calm(ctx, ops); err != nil {
			return nil, err
		}
	}
	return r.commits(), nil // these always can be done
}

// leastHit chooses among those that have been hit least often.
func (r *run) leastHit() activity {
	var least []activity
	for a, n := range r.hits {
		if n == slices.Min(r.hits[:]) {
			least = append(least, activity(a))
		}
	}
	return pick(r.rng, least)
}

// calm does a step that nothing disturbs.
func (r *run) calm(ctx context.Context, ops []op) error {
	s := &step{ops: ops}
	began := time.Now()
	if err := r.do(ctx, s); err != nil {
		return err
	}
	r.machine.took(ops[0].Kind, time.Since(began))
	r.note(s.String())
	for _, i := range s.acked {
		r.m.apply(&s.ops[i])
	}
	r.acknowledged(s)
	return nil
}

// acknowledged notes what has to be there, now that a whole step is done.
func (r *run) acknowledged(s *step) {
	r.since = append(r.since, s)
	if slices.ContainsFunc(s.ops, func(o op) bool { return r.strict || o.promisesOthers() }) {
		// Of those that were done beside it, only those have to be there that promise it themselves.
		for _, s := range r.since[:len(r.since)-1] {
			applyAll(r.base, s, s.acked)
		}
		rest := &step{}
		for _, i := range s.acked {
			if o := s.ops[i]; r.strict || o.promisesItself() {
				r.base.apply(&o)
			} else {
				rest.acked = append(rest.acked, len(rest.ops))
				rest.ops = append(rest.ops, o)
			}
		}
		r.since = []*step{rest}
	}
}

// do does a step's operations, and notes in it those that were acknowledged. An error is one that no
// crash explains.
func (r *run) do(ctx context.Context, s *step) error {
	ctx, cancel := context.WithTimeout(ctx, hangs)
	defer cancel()
	r.counts.Steps++
	var wrong error
	err := r.host.do(ctx, s.ops, func(a answer) {
		o := &s.ops[a.Index]
		switch {
		case a.Err != "" && !r.machine.crashed():
			wrong = r.violation("%s: %s", o, a.Err)
		case a.Err != "":
		case o.Kind == readRoot && !maps.Equal(a.Content, r.m.find(o.Root).content):
			wrong = r.violation("%s: it holds something else", o)
		default:
			s.acked = append(s.acked, a.Index)
			if o.Kind == lookAround {
				r.saw(a.Sight)
			}
		}
	})
	if wrong != nil {
		return wrong
	}
	if err != nil && !r.machine.crashed() {
		r.host.kill()
		return r.violation("%s: the process ended by itself: %v, %v", s, err, r.host.end())
	}
	return nil
}

// boot starts a process and opens the database.
func (r *run) boot(ctx context.Context) (err error) {
	r.pinned = nil
	if r.host, err = r.machine.start(); err != nil {
		return err
	}
	return r.calm(ctx, []op{r.opening()})
}

func (r *run) opening() op {
	return op{Kind: openDatabase, Dir: r.machine.dir(), Settings: r.settings}
}

// restart closes the database, waits for the end of its process and opens it in another one.
func (r *run) restart(ctx context.Context) error {
	if err := r.calm(ctx, []op{{Kind: closeDatabase}}); err != nil {
		return err
	}
	if err := r.host.end(); err != nil {
		return r.violation("the process of a database that was closed: %v", err)
	}
	return r.boot(ctx)
}

// crash lets the machine crash in the course of a step, perhaps again while the database is opened, and
// compares.
func (r *run) crash(ctx context.Context, ops []op) error {
	s := &step{ops: ops}
	if err := r.crashDuring(ctx, s); err != nil {
		return err
	}
	for r.chance(6) {
		var err error
		if r.host, err = r.machine.start(); err != nil {
			return err
		}
		if err := r.crashDuring(ctx, &step{ops: []op{r.opening()}}); err != nil {
			return err
		}
	}
	if err := r.boot(ctx); err != nil {
		return err
	}
	seen, err := r.look(ctx)
	if err != nil {
		return err
	}
	return r.settle(s, seen)
}

func (r *run) crashDuring(ctx context.Context, s *step) error {
	r.machine.arm(r.host, s.ops[0].Kind, r.rng)
	if err := r.do(ctx, s); err != nil {
		return err
	}
	if err := r.machine.crash(r.host, r.rng); err != nil {
		return err
	}
	r.counts.Crashes++
	if in := s.unacked(); len(in) > 0 {
		k := s.ops[in[0]].Kind
		r.counts.inFlight[k]++
		if a, ok := k.activity(); ok {
			r.hits[a]++
		}
	}
	r.note("CRASH in " + s.String())
	return nil
}

// look looks at everything.
func (r *run) look(ctx context.Context) (seen *sight, err error) {
	s := &step{ops: []op{{Kind: lookAround, Version: r.m.top() + 4}}}
	r.saw = func(s *sight) { seen = s }
	if err := r.do(ctx, s); err != nil {
		return nil, err
	}
	if seen.Wrong != "" {
		return nil, r.violation("check: %s", seen.Wrong)
	}
	return seen, nil
}

// settle finds out which of the states that the crash in a step may have left the database is in.
func (r *run) settle(s *step, seen *sight) error {
	if seen.Pins != 0 {
		return r.violation("%d pins are left", seen.Pins)
	}
	first := ""
	for o := range r.outcomes(s) {
		differs := o.m.differs(seen)
		if differs == "" {
			r.counts.Complete += o.complete
			r.counts.Absent += o.absent
			r.counts.Lost += o.lost
			r.m, r.base, r.since = o.m, o.m.clone(), nil
			return nil
		}
		if first == "" {
			first = differs
		}
	}
	return r.violation("the database is in none of the states that the crash may have left: %s", first)
}

// finish frees everything that is due, and looks whether anything else is stored.
func (r *run) finish(ctx context.Context) error {
	if r.m.insert != nil {
		if err := r.calm(ctx, []op{{Kind: abortInsert}}); err != nil {
			return err
		}
	}
	for _, ops := range [][]op{{{Kind: unpinAll}}, {{Kind: pruneBefore, Version: r.m.latest}}, {{Kind: collectGarbage}}, {{Kind: compactFiles}}} {
		if ops[0].Kind == pruneBefore && !r.m.any {
			continue
		}
		if err := r.calm(ctx, ops); err != nil {
			return err
		}
	}
	if err := r.restart(ctx); err != nil {
		return err
	}
	seen, err := r.look(ctx)
	if err != nil {
		return err
	}
	if differs := r.m.differs(seen); differs != "" {
		return r.violation("at the end: %s", differs)
	}
	if err := r.calm(ctx, []op{{Kind: closeDatabase}}); err != nil {
		return err
	}
	if err := r.host.end(); err != nil {
		return r.violation("the process of a database that was closed: %v", err)
	}
	return nil
}
