package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ckpt-project/ckpt/conformance/reference"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/plugin"
)

// These cases damage a database's files and open it again. What is asked of it then is answered rightly or
// with an error.
//
// There is one thing that no backend can tell: where the end of a log, or the newest of two heads, does not
// make sense, this is what a loss of power leaves, and the database opens as it was a moment before. So an
// older state of the database as a whole is taken for right. A state in which something older is missing
// and something newer is there is not, and neither is an empty database.

const (
	// placesDamaged is how many places a case damages, one at a time.
	placesDamaged = 60
	// placeLimit is how long all answers may take that are asked for at one place. An engine can follow a
	// damaged length for minutes; that is an error, too, and no place is waited for longer.
	placeLimit = 2 * time.Second
	// damageLimit is how long a case goes on with new places.
	damageLimit = 3 * time.Second
)

// stored is a database that was closed: its files and what is in them.
type stored struct {
	files map[string][]byte // by path below its directory
	dirs  []string
	// versions are the finalized ones, from 1 on; the candidate came after them.
	versions  []*tree
	candidate *tree
}

// durableState makes a database with tables, pages and journals of its engine's, closes it, and reads its
// files.
func (e *env) durableState() *stored {
	e.Helper()
	e.cfg.GarbageRate = -1
	ndb := e.open()
	if !ndb.Info().Capabilities.Durable {
		e.unsupported("the backend has no files to damage")
	}
	s := &stored{files: map[string][]byte{}}
	r := newRandom(110)
	t := empty(stateType, 0)
	for v := uint64(1); v <= 4; v++ {
		c := r.change(t.content, 20)
		for i := range 25 {
			c[fmt.Sprintf("large %d", (int(v)*10+i)%60)] = r.bytes(600 + r.IntN(3000))
		}
		t = e.version(ndb, t, v, c)
		s.versions = append(s.versions, t)
		if v == 2 {
			e.check(ndb.Compact(e.ctx, nil)) // what follows is stored as it comes
		}
	}
	s.candidate = e.commit(ndb, t, 5, t.content.With("the", "candidate"))
	e.check(ndb.Close(e.ctx))
	e.check(filepath.WalkDir(e.cfg.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(e.cfg.Dir, path)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			s.dirs = append(s.dirs, name)
		case d.Type().IsRegular():
			s.files[name], err = os.ReadFile(path)
		}
		return err
	}))
	return s
}

// bytes returns n bytes that no engine makes shorter.
func (r random) bytes(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return string(b)
}

// names are the files that hold something, sorted.
func (s *stored) names() (names []string) {
	for _, name := range slices.Sorted(maps.Keys(s.files)) {
		if len(s.files[name]) > 0 {
			names = append(names, name)
		}
	}
	return names
}

// place is a byte of a file.
type place struct {
	file string
	at   int
}

// anyPlaces are bytes anywhere: half of them as files are long, half as many in each file.
func (s *stored) anyPlaces(r random) (places []place) {
	names := s.names()
	all := 0
	for _, name := range names {
		all += len(s.files[name])
	}
	for i := range placesDamaged {
		if i%2 == 0 {
			name := names[i/2%len(names)]
			places = append(places, place{name, r.IntN(len(s.files[name]))})
			continue
		}
		at := r.IntN(all)
		for _, name := range names {
			if at < len(s.files[name]) {
				places = append(places, place{name, at})
				break
			}
			at -= len(s.files[name])
		}
	}
	return places
}

// placesInValues are bytes within values of entries, wherever in the files these are.
func (s *stored) placesInValues(e *env, r random) (places []place) {
	var all []place
	for _, t := range append(slices.Clone(s.versions), s.candidate) {
		for _, key := range t.content.Keys() {
			value := t.content[key]
			if len(value) < 600 {
				continue
			}
			part := []byte(value[len(value)/2:][:32])
			for _, name := range s.names() {
				for rest, from := s.files[name], 0; ; {
					at := bytes.Index(rest, part)
					if at < 0 {
						break
					}
					all = append(all, place{name, from + at + r.IntN(len(part))})
					rest, from = rest[at+1:], from+at+1
				}
			}
		}
	}
	if len(all) == 0 {
		e.unsupported("the backend stores values in a form in which they can't be found")
	}
	for range placesDamaged {
		places = append(places, all[r.IntN(len(all))])
	}
	return places
}

// write makes a directory with the database's files, of which change may change, or leave out by returning
// nil and false, one.
func (s *stored) write(dir string, change func(name string, content []byte) ([]byte, bool)) error {
	for _, name := range s.dirs {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			return err
		}
	}
	for name, content := range s.files {
		content, there := change(name, content)
		if !there {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// workbench opens damaged databases, all in one process as long as that lasts.
type workbench struct {
	e       *env
	s       *stored
	process *plugin.Process // nil where databases live in this process
	// opened, older and wrong count the places at which the database could be opened, was an older one, and
	// told of damage; slow those at which it took too long.
	tried, opened, older, wrong, slow int
}

func (e *env) newWorkbench(s *stored) *workbench {
	b := &workbench{e: e, s: s}
	if e.h.Program != nil {
		b.process = e.launch()
	}
	return b
}

func (b *workbench) String() string {
	return fmt.Sprintf("%d places: %d could be opened, %d as an older state; %d told of damage when they were read; %d took too long",
		b.tried, b.opened, b.older, b.wrong, b.slow)
}

// try opens a database that was changed, asks it everything, and fails the case where an answer is wrong.
func (b *workbench) try(what string, change func(name string, content []byte) ([]byte, bool)) {
	e := b.e
	e.Helper()
	b.tried++
	cfg := e.elsewhere()
	defer func() { _ = os.RemoveAll(cfg.Dir) }() // as it will be with the case
	e.check(b.s.write(cfg.Dir, change))
	ctx, cancel := context.WithTimeout(e.ctx, placeLimit)
	defer cancel()
	cfg.LockWait = placeLimit
	open := e.h.Open
	if b.process != nil {
		open = b.process.Open
	}
	ndb, err := open(ctx, &cfg)
	if err != nil {
		b.opening(what, err)
		b.kept(what, cfg.Dir, change)
		return
	}
	b.opened++
	q := &questions{ctx: ctx, ndb: ndb, s: b.s}
	q.askAll()
	for _, wrong := range q.wrong {
		e.Errorf("%s: %s", what, wrong)
	}
	if q.latest < uint64(len(b.s.versions)) || !q.candidate {
		b.older++
	}
	if len(q.errors) > 0 {
		b.wrong++
	}
	gone := false
	for _, err := range q.errors {
		if gone = b.reading(what, err); gone {
			break
		}
	}
	if !gone {
		closing, cancel := context.WithTimeout(e.ctx, soon)
		defer cancel()
		if err := ndb.Close(closing); err != nil {
			_ = b.reading(what+": Close", err) // and nothing more is asked
		}
	}
}

// opening looks at the error of opening.
func (b *workbench) opening(what string, err error) {
	e := b.e
	e.Helper()
	if b.tookTooLong(err) {
		return
	}
	e.is(what+": opened", err, db.ErrCorrupted, db.ErrForeign, db.ErrFormatVersion, db.ErrBadNamespace)
	b.lives(what, err)
}

// reading looks at the error of an answer, and says whether that took too long, so that the process is gone.
func (b *workbench) reading(what string, err error) (gone bool) {
	e := b.e
	e.Helper()
	if b.tookTooLong(err) {
		return true
	}
	e.is(what, err, db.ErrCorrupted)
	b.lives(what, err)
	return false
}

// lives fails the case where an error says that the process has ended, or panicked.
func (b *workbench) lives(what string, err error) {
	e := b.e
	e.Helper()
	for _, dead := range []error{db.ErrUnavailable, plugin.ErrPanicked} {
		if errors.Is(err, dead) {
			e.Fatalf("%s: %v", what, err)
		}
	}
}

// tookTooLong says whether an error is that the place's time is up, and then begins with another process.
func (b *workbench) tookTooLong(err error) bool {
	if !errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	b.slow++
	if b.process != nil {
		b.e.check(killProcess(&served{process: b.process}))
		b.process = b.e.launch()
	}
	return true
}

// kept fails the case where much is gone of a database that could not be opened. Where things lie may have
// changed: an engine begins to recover before it finds that it can't.
func (b *workbench) kept(what, dir string, change func(name string, content []byte) ([]byte, bool)) {
	e := b.e
	e.Helper()
	before, after := 0, int64(0)
	for name, content := range b.s.files {
		if content, there := change(name, content); there {
			before += len(content)
		}
	}
	e.check(filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			after += info.Size()
		}
		return err
	}))
	if after < int64(before)*3/4 {
		e.Errorf("%s: it could not be opened, and %d bytes are left of %d", what, after, before)
	}
}

// questions are asked of a database that was damaged.
type questions struct {
	ctx context.Context
	ndb db.NodeDB
	s   *stored
	// latest is the version that it says is the latest, candidate that the candidate is there.
	latest    uint64
	candidate bool
	errors    []error
	wrong     []string
}

func (q *questions) saw(err error) bool {
	if err != nil {
		q.errors = append(q.errors, err)
	}
	return err != nil
}

func (q *questions) isWrong(format string, args ...any) {
	q.wrong = append(q.wrong, fmt.Sprintf(format, args...))
}

func (q *questions) askAll() {
	latest, any, err := q.ndb.GetLatestVersion(q.ctx)
	switch {
	case q.saw(err):
		return
	case !any || latest < 1 || latest > uint64(len(q.s.versions)):
		q.isWrong("the latest version is %d (%t)", latest, any)
		return
	}
	q.latest = latest
	if earliest, any, err := q.ndb.GetEarliestVersion(q.ctx); !q.saw(err) && (!any || earliest != 1) {
		q.isWrong("the earliest version is %d (%t)", earliest, any)
	}
	for i, t := range q.s.versions[:latest] {
		roots, err := q.ndb.GetRootsForVersion(q.ctx, t.root.Version)
		if !q.saw(err) && !slices.Equal(roots, []node.Root{t.root}) {
			q.isWrong("the roots of version %d are %v", t.root.Version, roots)
		}
		q.askTree(t)
		if i > 0 {
			q.askLog(q.s.versions[i-1], t)
		}
		if q.ctx.Err() != nil {
			return
		}
	}
	if latest == uint64(len(q.s.versions)) {
		there, err := q.ndb.HasRoot(q.ctx, q.s.candidate.root)
		if q.candidate = there; !q.saw(err) && there {
			q.askTree(q.s.candidate)
		}
	}
	report, err := q.ndb.Check(q.ctx, db.CheckOptions{})
	if err == nil && report.OK() && len(q.errors) > 0 {
		q.isWrong("Check finds nothing, and reading found: %v", q.errors[0])
	}
	if err != nil {
		q.saw(err)
	}
}

// askTree reads a tree in each way there is.
func (q *questions) askTree(t *tree) {
	if there, err := q.ndb.HasRoot(q.ctx, t.root); !q.saw(err) && !there {
		q.isWrong("%s is not there", t.root)
	}
	if address, err := q.ndb.RootAddress(q.ctx, t.root); !q.saw(err) && address != t.top.Address {
		q.isWrong("%s is said to be at %s", t.root, address)
	}
	want := t.top.Entries()
	n := 0
	var end error
	for entry, err := range q.ndb.Walk(q.ctx, t.root, nil) {
		if end = err; err != nil {
			break
		}
		if n >= len(want) || !reference.SameEntry(entry, want[n]) {
			q.isWrong("%s: entry %d of the walk is another one", t.root, n)
			break
		}
		n++
	}
	if !q.saw(end) && n != len(want) && len(q.wrong) == 0 {
		q.isWrong("%s: the walk ends after %d of %d entries", t.root, n, len(want))
	}
	for i := 0; i < len(want); i += 1 + len(want)/12 {
		record, err := q.ndb.GetNode(q.ctx, t.root, want[i].Address, want[i].Position)
		if !q.saw(err) && !bytes.Equal(record, want[i].Record) {
			q.isWrong("%s: GetNode at %s returns another record", t.root, want[i].Position)
		}
	}
	keys := t.content.Keys()
	for i := 0; i < len(keys); i += 1 + len(keys)/6 {
		path, err := q.ndb.GetPath(q.ctx, t.root, t.top.Address, 0, node.Key(keys[i]))
		if q.saw(err) {
			continue
		}
		agree, _ := t.top.Path(node.Key(keys[i]))
		for j, n := range agree {
			if j >= len(path) || !reference.SameEntry(path[j], n.Entry()) {
				q.isWrong("%s: GetPath of %.40q has another node in place %d", t.root, keys[i], j)
				break
			}
		}
	}
}

// askLog reads the changes from one version to the next.
func (q *questions) askLog(start, end *tree) {
	if !q.ndb.Info().Capabilities.WriteLogs {
		return
	}
	want := start.content.Log(end.content)
	n := 0
	for change, err := range q.ndb.GetWriteLog(q.ctx, start.root, end.root) {
		if q.saw(err) {
			return
		}
		if n >= len(want) || !bytes.Equal(change.Key, want[n].Key) || !bytes.Equal(change.Value, want[n].Value) || change.Type() != want[n].Type() {
			q.isWrong("change %d from %s to %s is another one", n, start.root, end.root)
			return
		}
		n++
	}
	if n != len(want) {
		q.isWrong("%d changes of %d from %s to %s", n, len(want), start.root, end.root)
	}
}

// flip damages bytes, one at a time.
func (e *env) flip(choose func(s *stored, r random) []place) {
	e.Helper()
	s := e.durableState()
	b := e.newWorkbench(s)
	r := newRandom(111)
	began := time.Now()
	for _, p := range choose(s, r) {
		by := byte(1 + r.IntN(255))
		b.try(fmt.Sprintf("byte %d of %d of %s changed by %#02x", p.at, len(s.files[p.file]), p.file, by), func(name string, content []byte) ([]byte, bool) {
			if name == p.file {
				content = bytes.Clone(content)
				content[p.at] ^= by
			}
			return content, true
		})
		if time.Since(began) > damageLimit {
			break
		}
	}
	e.Logf("%s", b)
}

func flippedBytes(e *env) {
	if e.h.Program == nil { // what engines make of damage outside values can take this process with it
		flippedInValues(e)
		return
	}
	e.flip(func(s *stored, r random) []place { return s.anyPlaces(r) })
}

func flippedInValues(e *env) {
	e.flip(func(s *stored, r random) []place { return s.placesInValues(e, r) })
}

// truncatedFiles cuts the files, one at a time.
func truncatedFiles(e *env) {
	s := e.durableState()
	b := e.newWorkbench(s)
	for _, name := range s.names() {
		length := len(s.files[name])
		for _, to := range slices.Compact([]int{0, length / 3, length * 3 / 4, length - 1}) {
			b.try(fmt.Sprintf("%s cut from %d to %d bytes", name, length, to), func(n string, content []byte) ([]byte, bool) {
				if n == name {
					content = content[:to]
				}
				return content, true
			})
		}
	}
	e.Logf("%s", b)
}

// missingFiles leaves the files out, one at a time.
func missingFiles(e *env) {
	s := e.durableState()
	b := e.newWorkbench(s)
	for _, name := range s.names() {
		b.try(name+" missing", func(n string, content []byte) ([]byte, bool) { return content, n != name })
	}
	e.Logf("%s", b)
}
