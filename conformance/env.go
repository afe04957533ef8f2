package conformance

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// namespace is that of all databases here.
var namespace = common.NewTestNamespaceFromSeed([]byte("conformance"), 0)

const (
	stateType = node.RootTypeState
	ioType    = node.RootTypeIO
)

// env is what a case works in: one storage, and the database that is open there.
type env struct {
	*trial
	h   Harness
	ctx context.Context
	cfg db.Config
}

func newEnv(t *trial, h Harness) *env {
	return &env{trial: t, h: h, ctx: t.Context(), cfg: db.Config{
		Dir: t.TempDir() + "/db", Namespace: namespace, Settings: h.Settings,
	}}
}

// open opens the database, which is closed when the case ends if the case doesn't.
func (e *env) open() db.NodeDB {
	e.Helper()
	ndb, err := e.h.Open(e.ctx, &e.cfg)
	if err != nil {
		e.Fatalf("open: %v", err)
	}
	e.keep(ndb)
	e.Cleanup(func() {
		// The case's own context has ended by now.
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		err := ndb.Close(ctx)
		if err != nil && !errors.Is(err, db.ErrClosed) && !errors.Is(err, db.ErrUnavailable) {
			e.Errorf("close: %v", err)
		}
	})
	return ndb
}

// openKept opens a database of which the case takes care, so that it can be killed if the case hangs.
func (e *env) openKept(ctx context.Context, cfg *db.Config) (db.NodeDB, error) {
	ndb, err := e.h.Open(ctx, cfg)
	if err == nil {
		e.keep(ndb)
	}
	return ndb, err
}

// tryOpen opens a database that should be refused, and closes it where it is not, so that nothing is left.
func (e *env) tryOpen(cfg *db.Config) error {
	e.Helper()
	ndb, err := e.h.Open(e.ctx, cfg)
	if err == nil {
		e.check(ndb.Close(e.ctx))
	}
	return err
}

// reopen closes the database and opens it again.
func (e *env) reopen(ndb db.NodeDB) db.NodeDB {
	e.Helper()
	e.check(ndb.Close(e.ctx))
	return e.open()
}

// killed kills the database's process and opens it again.
func (e *env) killed(ndb db.NodeDB) db.NodeDB {
	e.Helper()
	e.check(e.h.Crash(ndb))
	return e.open()
}

func (e *env) check(err error) {
	e.Helper()
	if err != nil {
		e.Fatalf("%v", err)
	}
}

// is fails the case where an error is none of those that the contract asks for.
func (e *env) is(what string, err error, want ...error) {
	e.Helper()
	for _, w := range want {
		if errors.Is(err, w) {
			return
		}
	}
	texts := make([]string, len(want))
	for i, w := range want {
		texts[i] = fmt.Sprintf("%q", w)
	}
	e.Errorf("%s: error %v, want %s", what, err, strings.Join(texts, " or "))
}

// refused fails the case where there is no error; which one, the contract doesn't say.
func (e *env) refused(what string, err error) {
	e.Helper()
	if err == nil {
		e.Errorf("%s: no error", what)
	}
}

// emptyRootOf is the empty root of a version and type.
func emptyRootOf(t node.RootType, version uint64) node.Root {
	return node.Root{Namespace: namespace, Version: version, Type: t, Hash: hash.EmptyHash}
}

// unknownRootOf is a root that nobody commits.
func unknownRootOf(t node.RootType, version uint64) node.Root {
	return node.Root{Namespace: namespace, Version: version, Type: t, Hash: hash.Sum([]byte("nobody's"))}
}

// versions fails the case where the database's finalized versions are not these.
func (e *env) versions(ndb db.NodeDB, earliest, latest uint64) {
	e.Helper()
	first, any, err := ndb.GetEarliestVersion(e.ctx)
	e.check(err)
	last, any2, err := ndb.GetLatestVersion(e.ctx)
	e.check(err)
	if !any || !any2 || first != earliest || last != latest {
		e.Errorf("versions %d (%t) to %d (%t), want %d to %d", first, any, last, any2, earliest, latest)
	}
}

// roots fails the case where the roots of a version are not these, in this order.
func (e *env) roots(ndb db.NodeDB, version uint64, want ...node.Root) {
	e.Helper()
	got, err := ndb.GetRootsForVersion(e.ctx, version)
	e.check(err)
	if fmt.Sprint(got) != fmt.Sprint(want) {
		e.Errorf("roots of version %d: %v, want %v", version, got, want)
	}
}

// has fails the case where a root is not there, or is.
func (e *env) has(ndb db.NodeDB, root node.Root, want bool) {
	e.Helper()
	got, err := ndb.HasRoot(e.ctx, root)
	e.check(err)
	if got != want {
		e.Errorf("HasRoot(%s) = %t, want %t", root, got, want)
	}
}

// walked returns all entries that a walk yields, copied, up to an error.
func (e *env) walked(ndb db.NodeDB, root node.Root, from node.Position) ([]db.Entry, error) {
	var entries []db.Entry
	for entry, err := range ndb.Walk(e.ctx, root, from) {
		if err != nil {
			return entries, err
		}
		entries = append(entries, db.Entry{
			Address:  entry.Address,
			Position: append(node.Position(nil), entry.Position...),
			Record:   append([]byte(nil), entry.Record...),
		})
	}
	return entries, nil
}
