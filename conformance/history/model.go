package history

import (
	"bytes"
	"cmp"
	"maps"
	"slices"

	"github.com/ckpt-project/ckpt/conformance/reference"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/writelog"
)

// logKind says what GetWriteLog should return for a root.
type logKind int

const (
	// logUnknown is that of an empty root that nobody may have committed.
	logUnknown logKind = iota
	logNone
	logKept
)

// root is a root as the model knows it.
type root struct {
	node.Root
	content reference.Content
	// top is the tree, with where the database has stored what.
	top *reference.Node
	// base is what it was made from; nil where that is empty.
	base   *root
	parent node.Root
	log    writelog.WriteLog
	logs   logKind
}

// model is what the database should hold.
type model struct {
	any              bool
	earliest, latest uint64
	final            map[uint64]map[node.RootType]*root
	candidates       map[node.Root]*root
	// gone are roots that were there, the last ones only.
	gone   []node.Root
	insert *insert
}

func newModel() model {
	return model{final: make(map[uint64]map[node.RootType]*root), candidates: make(map[node.Root]*root)}
}

func emptyRoot(t node.RootType, version uint64) node.Root {
	return node.Root{Namespace: namespace, Version: version, Type: t, Hash: hash.EmptyHash}
}

// nothing is the empty tree of a version and type.
func nothing(t node.RootType, version uint64) *root {
	return &root{Root: emptyRoot(t, version), content: reference.Content{}, parent: emptyRoot(t, version)}
}

// has says whether a root is there that is not only there because it is empty.
func (m *model) has(name node.Root) bool {
	if m.any && name.Version <= m.latest {
		r := m.final[name.Version][name.Type]
		return r != nil && r.Root == name
	}
	return m.candidates[name] != nil
}

// versions are the finalized ones, ascending.
func (m *model) versions() []uint64 { return slices.Sorted(maps.Keys(m.final)) }

// compareRoots orders roots as GetRootsForVersion does.
func compareRoots(a, b node.Root) int {
	return cmp.Or(cmp.Compare(a.Version, b.Version), cmp.Compare(a.Type, b.Type), bytes.Compare(a.Hash[:], b.Hash[:]))
}

// finals are all roots of finalized versions, in order.
func (m *model) finals() (roots []*root) {
	for _, v := range m.versions() {
		for t := stateType; t <= node.RootTypeMax; t++ {
			if r := m.final[v][t]; r != nil {
				roots = append(roots, r)
			}
		}
	}
	return roots
}

// pending are all candidates, in order.
func (m *model) pending() []*root {
	return slices.SortedFunc(maps.Values(m.candidates), func(a, b *root) int { return compareRoots(a.Root, b.Root) })
}

// all are all roots.
func (m *model) all() []*root { return append(m.finals(), m.pending()...) }

// bases are the roots that the next ones can be made from, but for empty ones.
func (m *model) bases() (roots []*root) {
	for _, r := range m.all() {
		if r.Type == stateType && (!m.any || r.Version >= m.latest) {
			roots = append(roots, r)
		}
	}
	return roots
}

// next is the version that comes after the latest.
func (m *model) next() uint64 {
	if !m.any {
		return 1
	}
	return m.latest + 1
}

// add notes a candidate, where it isn't there already.
func (m *model) add(r *root) {
	if m.candidates[r.Root] == nil {
		m.candidates[r.Root] = r
	}
}

// there says whether a root is still there, and still the same one: nil stands for an empty one, which
// always is.
func (m *model) there(r *root) bool {
	return r == nil || m.candidates[r.Root] == r || m.isFinal(r)
}

func (m *model) isFinal(r *root) bool { return r == nil || m.final[r.Version][r.Type] == r }

// parentFinal says whether what a candidate was made from is finalized, or empty.
func (m *model) parentFinal(r *root) bool { return m.isFinal(r.base) }

// finalize makes roots, of one version, final.
func (m *model) finalize(roots []*root) {
	v := roots[0].Version
	if !m.any {
		m.any, m.earliest = true, v
	}
	m.latest = v
	m.final[v] = make(map[node.RootType]*root)
	for _, r := range roots {
		m.final[v][r.Type] = r
		if m.candidates[r.Root] == r {
			delete(m.candidates, r.Root)
		}
	}
	if m.insert != nil && m.insert.version == v {
		m.insert = nil
	}
	for again := true; again; {
		again = false
		for name, r := range m.candidates {
			if name.Version <= v || !m.there(r.base) {
				delete(m.candidates, name)
				m.lost(name)
				again = true
			}
		}
	}
}

// prune removes the earliest version.
func (m *model) prune() {
	for _, r := range m.final[m.earliest] {
		m.lost(r.Root)
	}
	delete(m.final, m.earliest)
	m.earliest = m.versions()[0]
}

// lost notes a root that has gone.
func (m *model) lost(name node.Root) {
	if name.IsEmpty() { // there is always one
		return
	}
	if len(m.gone) == 10 {
		m.gone = m.gone[1:]
	}
	m.gone = append(m.gone, name)
}
