package crash

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// short are activities that are over before a crash comes, so many times out of four.
var short = map[activity]int{finalizing: 2, pruning: 1, restoring: 1}

// pretended is a machine, and a process of it, whose database is a model.
type pretended struct {
	t      *testing.T
	m      *model
	rng    *rand.Rand
	armed  bool
	missed bool
	known  map[kind]bool
}

func (p *pretended) dir() string                  { return "" }
func (p *pretended) start() (host, error)         { return p, nil }
func (p *pretended) took(k kind, _ time.Duration) { p.known[k] = true }
func (p *pretended) knows(k kind) bool            { return p.known[k] }
func (p *pretended) crashed() bool                { return p.armed }
func (p *pretended) crash(host, *rand.Rand) error { p.armed = false; return nil }
func (p *pretended) losesPower() bool             { return false }
func (p *pretended) kill()                        {}
func (p *pretended) end() error                   { return nil }
func (p *pretended) arm(_ host, k kind, _ *rand.Rand) {
	a, ok := k.activity()
	if ok && !p.known[k] {
		p.t.Errorf("a crash in %q, which has never been done undisturbed", k)
	}
	p.armed, p.missed = true, ok && p.rng.IntN(4) < short[a]
}

func (p *pretended) do(_ context.Context, ops []op, answered func(answer)) error {
	if p.armed && !p.missed {
		return nil // nothing is done of what was in flight
	}
	for i := range ops {
		a := answer{Index: i}
		switch o := &ops[i]; o.Kind {
		case readRoot:
			a.Content = p.m.find(o.Root).content
		case lookAround:
			a.Sight = p.sight()
		default:
			p.m.apply(o)
		}
		answered(a)
	}
	return nil
}

func (p *pretended) sight() *sight {
	s := &sight{Any: p.m.any, Earliest: p.m.earliest, Latest: p.m.latest}
	for name, r := range p.m.all() {
		s.Roots = append(s.Roots, sightedRoot{name, r.content})
	}
	if ins := p.m.insert; ins != nil {
		s.Insert = &db.Multipart{Version: ins.version}
		for _, r := range ins.roots {
			s.Insert.Roots = append(s.Insert.Roots, db.MultipartRoot{
				Root: r.name, Chunks: r.chunks, Tag: []byte(r.name.String()),
				Done: slices.Sorted(maps.Keys(r.done)), Complete: r.complete,
			})
		}
	}
	return s
}

// TestCrashesAreSpread: each activity is hit about as often as each other one, though some are hard to hit
// and some can't be done most of the time; and what is hit has been done undisturbed before.
func TestCrashesAreSpread(t *testing.T) {
	c := newCounts()
	for seed := range uint64(40) {
		p := &pretended{t: t, m: newModel(), rng: rand.New(rand.NewPCG(seed, 1)), known: map[kind]bool{}}
		if err := newRun(p, &Harness{}, seed, c).history(t.Context(), crashesPerHistory); err != nil {
			t.Fatal(err)
		}
	}
	of := c.hits()
	sum := 0
	for _, n := range of {
		sum += n
	}
	for a, n := range of {
		if mean := sum / len(of); n < mean*4/5 || n > mean*5/4 {
			t.Errorf("%s were hit %d times, of %d hits", activity(a), n, sum)
		}
	}
	if t.Log(c); c.Steps > c.Crashes*40 {
		t.Errorf("%d steps for %d crashes", c.Steps, c.Crashes)
	}
}
