package conformance

import (
	"context"
	"time"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/plugin"
)

// launch starts a process of the program, which ends when the case does.
func (e *env) launch() *plugin.Process {
	e.Helper()
	s, err := e.h.Program.launch(e.ctx)
	if err != nil {
		e.Fatalf("launch: %v", err)
	}
	e.keep(s)
	e.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_ = s.process.Close(ctx) // cases that care close it themselves
	})
	return s.process
}

// openIn opens a database in a process.
func (e *env) openIn(p *plugin.Process, cfg db.Config) db.NodeDB {
	e.Helper()
	ndb, err := p.Open(e.ctx, &cfg)
	if err != nil {
		e.Fatalf("open: %v", err)
	}
	return ndb
}

// elsewhere is the config of another database.
func (e *env) elsewhere() db.Config {
	cfg := e.cfg
	cfg.Dir = e.TempDir() + "/db"
	return cfg
}

// within fails the case where f takes longer than it may.
func (e *env) within(limit time.Duration, what string, f func()) {
	e.Helper()
	began := time.Now()
	f()
	if took := time.Since(began); took > limit {
		e.Errorf("%s took %s, and should take no more than %s", what, took.Round(time.Millisecond), limit)
	}
}
