package history

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/ckpt-project/ckpt/framework/checkpoint"
	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// namespace is that of all databases here.
var namespace = common.NewTestNamespaceFromSeed([]byte("history"), 0)

const (
	stateType = node.RootTypeState
	ioType    = node.RootTypeIO
)

// run is a history that is happening: a database, and what it should hold.
type run struct {
	*rapid.T
	ctx context.Context
	h   Harness
	dir string
	cfg db.Config
	ndb db.NodeDB
	// embed is the database's EmbedBytes, durable and logs what it can.
	embed         int
	durable, logs bool

	model
	// tree is the one that is open and being changed; nil where none is.
	tree *openTree
	// restorer is the present database's.
	restorer checkpoint.Restorer
	pins     []pinned
	walks    []*walk

	// sources counts the databases that checkpoints were made of.
	sources int
	// rng chooses what is looked at, and what need not be drawn. It is made anew at each step.
	rng  *rand.Rand
	seed uint64
	step uint64
}

func begin(t *rapid.T, h Harness, dir string) *run {
	r := &run{
		T: t, ctx: t.Context(), h: h, dir: dir, model: newModel(),
		cfg: db.Config{
			Dir: dir + "/db", Namespace: namespace, Settings: h.Settings,
			DiscardWriteLogs: rapid.SampledFrom([]bool{false, false, false, true}).Draw(t, "discard write logs"),
		},
		seed: rapid.Uint64().Draw(t, "seed"),
	}
	r.open()
	info := r.ndb.Info()
	r.embed, r.durable, r.logs = info.EmbedBytes, info.Capabilities.Durable, info.Capabilities.WriteLogs
	if r.logs && r.cfg.DiscardWriteLogs {
		r.Fatalf("write logs are kept, and should be discarded")
	}
	return r
}

// live lets everything happen, and ends.
func (r *run) live() {
	defer func() {
		// Also where a check has failed: nothing may be held of the directory.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), time.Minute)
		defer cancel()
		for len(r.walks) > 0 {
			r.walks[0].stop()
			r.walks = r.walks[1:]
		}
		if err := r.ndb.Close(ctx); err != nil && !errors.Is(err, db.ErrClosed) && !errors.Is(err, db.ErrUnavailable) {
			r.Errorf("close: %v", err)
		}
	}()
	r.Repeat(map[string]func(*rapid.T){
		"":                     r.look,
		"change":               r.do(r.change),
		"commit":               r.do(r.commit),
		"commit another":       r.do(r.commit),
		"commit records":       r.do(r.commitRecords),
		"leave a batch":        r.do(r.leaveBatch),
		"begin wrongly":        r.do(r.beginWrongly),
		"finalize":             r.do(r.finalizeNext),
		"finalize the next":    r.do(r.finalizeNext),
		"finalize again":       r.do(r.finalizeAgain),
		"finalize wrongly":     r.do(r.finalizeWrongly),
		"prune":                r.do(r.prune),
		"prune before":         r.do(r.pruneBefore),
		"prune wrongly":        r.do(r.pruneWrongly),
		"collect":              r.do(r.collect),
		"check":                r.do(r.check),
		"pin":                  r.do(r.pin),
		"release":              r.do(r.release),
		"walk":                 r.do(r.walk),
		"start a restore":      r.do(r.startRestore),
		"start a raw restore":  r.do(r.startRawRestore),
		"restore chunks":       r.do(r.restoreChunks),
		"restore more chunks":  r.do(r.restoreChunks),
		"restore and finalize": r.do(r.restoreAll),
		"abort a restore":      r.do(r.abortRestore),
		"compact":              r.do(r.compact),
		"sync":                 r.do(r.sync),
		"open again":           r.do(r.openAgain),
		"open for reading":     r.do(r.openForReading),
		"kill":                 r.do(r.kill),
	})
	r.end()
}

// do makes an action of a step. A step that makes no sense now returns false, and another is taken.
func (r *run) do(step func() bool) func(*rapid.T) {
	return func(*rapid.T) {
		r.step++
		r.rng = rand.New(rand.NewPCG(r.seed, r.step))
		if !step() {
			r.Skip("makes no sense now")
		}
	}
}

func (r *run) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatalf("%v", err)
	}
}

// refused fails the history where an error is none of those that should have come.
func (r *run) refused(what string, err error, want ...error) {
	r.Helper()
	for _, w := range want {
		if errors.Is(err, w) {
			return
		}
	}
	texts := make([]string, len(want))
	for i, w := range want {
		texts[i] = fmt.Sprintf("%q", w)
	}
	r.Fatalf("%s: error %v, want %s", what, err, strings.Join(texts, " or "))
}

// chance is true once in n times.
func (r *run) chance(n int, what string) bool { return r.index(n, what) == 0 }

// index draws one of 0 to n-1.
func (r *run) index(n int, what string) int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return rapid.SampledFrom(all).Draw(r.T, what)
}

func draw[E any](r *run, from []E, what string) E { return from[r.index(len(from), what)] }
