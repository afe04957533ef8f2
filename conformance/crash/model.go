package crash

import (
	"fmt"
	"maps"
	"slices"

	"github.com/ckpt-project/ckpt/conformance/reference"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// model is what a database should hold. What it points to never changes, so that a copy is cheap.
type model struct {
	any              bool
	earliest, latest uint64
	final            map[uint64][]*root
	candidates       map[node.Root]*root
	insert           *insert
}

type root struct {
	name    node.Root
	content reference.Content
	// made is the commit that made it.
	made *op
}

// insert is an open multipart insert.
type insert struct {
	version uint64
	roots   []restored
}

// restored is a root of an insert.
type restored struct {
	name     node.Root
	content  reference.Content
	pieces   int
	chunks   uint64
	done     map[uint64]bool
	complete bool
}

func newModel() *model {
	return &model{final: map[uint64][]*root{}, candidates: map[node.Root]*root{}}
}

func (m *model) clone() *model {
	c := *m
	c.final, c.candidates = maps.Clone(m.final), maps.Clone(m.candidates)
	if m.insert != nil {
		c.insert = &insert{m.insert.version, slices.Clone(m.insert.roots)}
		for i := range c.insert.roots {
			c.insert.roots[i].done = maps.Clone(c.insert.roots[i].done)
		}
	}
	return &c
}

// find returns a root that has descendants or may be finalized: one of the latest version, or a candidate.
func (m *model) find(name node.Root) *root {
	if m.any && name.Version <= m.latest {
		for _, r := range m.final[name.Version] {
			if r.name == name {
				return r
			}
		}
		return nil
	}
	return m.candidates[name]
}

func (m *model) restoring(name node.Root) *restored {
	for i := range m.insert.roots {
		if r := &m.insert.roots[i]; r.name == name {
			return r
		}
	}
	return nil
}

// apply does to the model what an operation does to the database.
func (m *model) apply(o *op) {
	switch o.Kind {
	case commitRoot:
		if m.find(o.Root) == nil {
			m.candidates[o.Root] = &root{o.Root, o.Content, o}
		}
	case finalizeRoots:
		m.finalize(o.Roots)
	case pruneVersion:
		m.pruneBefore(o.Version + 1)
	case pruneBefore:
		m.pruneBefore(o.Version)
	case startInsert:
		m.insert = &insert{version: o.Version}
	case addInsertRoot:
		m.insert.roots = append(m.insert.roots, restored{
			name: o.Root, content: o.Content, pieces: o.Pieces, chunks: o.Index, done: map[uint64]bool{},
		})
	case writeChunk:
		m.restoring(o.Root).done[o.Index] = true
	case completeRoot:
		m.restoring(o.Root).complete = true
	case abortRoot:
		m.insert.roots = slices.DeleteFunc(m.insert.roots, func(r restored) bool { return r.name == o.Root })
	case abortInsert:
		m.insert = nil
	}
}

func (m *model) finalize(names []node.Root) {
	version := names[0].Version
	var roots []*root
	for _, name := range names {
		if r := m.candidates[name]; r != nil {
			roots = append(roots, r)
		} else {
			roots = append(roots, &root{name: name, content: m.restoring(name).content})
		}
	}
	if m.insert != nil && m.insert.version == version {
		m.insert = nil
	}
	if !m.any {
		m.any, m.earliest = true, version
	}
	m.latest, m.final[version] = version, roots
	for again := true; again; { // those that descend from one that goes, go
		again = false
		for name, r := range m.candidates {
			if name.Version <= version || !r.made.Old.IsEmpty() && m.find(r.made.Old) == nil {
				delete(m.candidates, name)
				again = true
			}
		}
	}
}

func (m *model) pruneBefore(version uint64) {
	for v := range m.final {
		if v < version {
			delete(m.final, v)
		}
	}
	m.earliest = slices.Min(slices.Collect(maps.Keys(m.final)))
}

// all are all roots that can be read.
func (m *model) all() map[node.Root]*root {
	all := maps.Clone(m.candidates)
	for _, roots := range m.final {
		for _, r := range roots {
			all[r.name] = r
		}
	}
	return all
}

// top is the highest version that anything is of.
func (m *model) top() uint64 {
	top := m.latest
	for name := range m.candidates {
		top = max(top, name.Version)
	}
	return top
}

// differs says how a database that was looked at is not what the model says; "" where it is.
func (m *model) differs(s *sight) string {
	if s.Any != m.any || s.Any && (s.Earliest != m.earliest || s.Latest != m.latest) {
		return fmt.Sprintf("versions %d to %d (%t), want %d to %d (%t)", s.Earliest, s.Latest, s.Any, m.earliest, m.latest, m.any)
	}
	missing := m.all()
	for _, got := range s.Roots {
		want := missing[got.Root]
		if want == nil {
			return fmt.Sprintf("%s is there, and should not be", got.Root)
		}
		delete(missing, got.Root)
		if !maps.Equal(got.Content, want.content) {
			return fmt.Sprintf("%s holds something else", got.Root)
		}
	}
	for name := range missing {
		return fmt.Sprintf("%s is not there", name)
	}
	return m.insert.differs(s)
}

func (ins *insert) differs(s *sight) string {
	if ins == nil || s.Insert == nil {
		if ins == nil && s.Insert == nil {
			return ""
		}
		return fmt.Sprintf("the multipart insert is %+v, want %+v", s.Insert, ins)
	}
	if ins.version != s.Insert.Version || len(ins.roots) != len(s.Insert.Roots) {
		return fmt.Sprintf("the multipart insert is %+v, want %+v", s.Insert, ins)
	}
	for i, want := range ins.roots {
		got := s.Insert.Roots[i]
		done := slices.Sorted(maps.Keys(want.done))
		if got.Root != want.name || got.Chunks != want.chunks || string(got.Tag) != want.name.String() ||
			!slices.Equal(got.Done, done) || got.Complete != want.complete {
			return fmt.Sprintf("the multipart insert has %s: %d chunks, %v done, complete %t; want %s: %d, %v, %t",
				got.Root, got.Chunks, got.Done, got.Complete, want.name, want.chunks, done, want.complete)
		}
	}
	return ""
}
