package conformance

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// Options say what Prove does, and how.
type Options struct {
	// Profile is what has to be passed; "" means ProfileCore.
	Profile Profile
	// Cases are those that are tried; nil means all.
	Cases []Case
	// Dir is where databases are made, each case's in a directory that is removed afterwards; "" means the
	// system's for temporary files.
	Dir string
	// Parallel is how many cases run at once; 0 means two for each processor.
	Parallel int
	// Timeout is how long a case may take; 0 means DefaultTimeout. One that does not end even then is given
	// up, and its processes are killed.
	Timeout time.Duration
	// Kills is how often the crash histories kill a process at least, all of them together; 0 means
	// DefaultKills. With more they may take longer than Timeout, in proportion.
	Kills int
	// Began and Ended are told of each case, one call at a time, and may be nil.
	Began func(c *Case)
	Ended func(r *Result)
	// Alone says how a case is run alone, for reports; nil means that its name says it.
	Alone func(c *Case) string
}

// DefaultTimeout is how long a case may take where nothing else is said.
const DefaultTimeout = 2 * time.Minute

// DefaultKills is how often the crash histories kill a process where nothing else is said.
const DefaultKills = 48

// Prove runs cases against a harness's databases, and reports. Its error says that it could not begin, or
// that ctx has ended; how the backend did is in the report alone.
func Prove(ctx context.Context, h Harness, opts Options) (*Report, error) {
	s, err := newSuite(ctx, h, opts)
	if err != nil {
		return nil, err
	}
	defer s.end()
	s.report.Started = time.Now().UTC()
	if err := s.runAll(ctx); err != nil {
		return nil, err
	}
	s.report.Seconds = time.Since(s.report.Started).Seconds()
	s.finish()
	return s.report, nil
}

// suite is a run of cases.
type suite struct {
	h        Harness
	opts     Options
	dir      string
	declared map[Level]bool
	report   *Report
}

// newSuite opens a database, to see what the backend is and declares.
func newSuite(ctx context.Context, h Harness, opts Options) (*suite, error) {
	if opts.Profile == "" {
		opts.Profile = ProfileCore
	}
	if opts.Cases == nil {
		opts.Cases = Cases()
	}
	if opts.Parallel <= 0 {
		opts.Parallel = 2 * runtime.GOMAXPROCS(0)
	}
	if opts.Timeout <= 0 {
		opts.Timeout = DefaultTimeout
	}
	if opts.Kills <= 0 {
		opts.Kills = DefaultKills
	}
	dir, err := os.MkdirTemp(opts.Dir, "ckpt-conformance-")
	if err != nil {
		return nil, fmt.Errorf("conformance: %w", err)
	}
	s := &suite{h: h, opts: opts, dir: dir, declared: make(map[Level]bool), report: &Report{
		Suite: Version, Platform: runtime.GOOS + "/" + runtime.GOARCH, Profile: opts.Profile,
	}}
	if err := s.look(ctx); err != nil {
		return nil, errors.Join(err, s.end())
	}
	return s, nil
}

// end removes what the cases left.
func (s *suite) end() error { return os.RemoveAll(s.dir) }

// look asks a database what the backend is.
func (s *suite) look(ctx context.Context) error {
	if p := s.h.Program; p != nil {
		s.report.Program = p.Path
		var err error
		if s.report.SHA256, err = p.sha256(); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	ndb, err := s.h.Open(ctx, &db.Config{Dir: s.dir + "/look/db", Namespace: namespace, Settings: s.h.Settings})
	if err != nil {
		return fmt.Errorf("conformance: no database can be opened: %w", err)
	}
	info := ndb.Info()
	if err := ndb.Close(ctx); err != nil {
		return fmt.Errorf("conformance: closing the first database: %w", err)
	}
	s.report.Backend, s.report.BackendVersion, s.report.Capabilities = info.Backend, info.BackendVersion, []Level{}
	for _, c := range capabilities {
		if s.declared[c.level] = c.declared(info.Capabilities); s.declared[c.level] {
			s.report.Capabilities = append(s.report.Capabilities, c.level)
		}
	}
	if s.opts.Profile == ProfileCore && s.declared[Durable] {
		s.report.Remarks = append(s.report.Remarks, "the backend declares that it is durable: profile durable proves it")
	}
	return nil
}

// runAll runs the cases, some at once.
func (s *suite) runAll(ctx context.Context) error {
	results := make([]Result, len(s.opts.Cases))
	var workers errgroup.Group
	workers.SetLimit(s.opts.Parallel)
	tell := make(chan struct{}, 1)
	for i := range s.opts.Cases {
		if ctx.Err() != nil {
			break
		}
		workers.Go(func() error {
			c := &s.opts.Cases[i]
			if s.opts.Began != nil {
				tell <- struct{}{}
				s.opts.Began(c)
				<-tell
			}
			results[i] = s.run(ctx, c)
			if s.opts.Ended != nil {
				tell <- struct{}{}
				s.opts.Ended(&results[i])
				<-tell
			}
			return nil
		})
	}
	_ = workers.Wait() // none fails
	s.report.Cases = results
	return ctx.Err()
}

// run runs a case.
func (s *suite) run(ctx context.Context, c *Case) Result {
	r := Result{
		Name: c.Name, Area: c.Area(), Level: c.Level, Clauses: c.Clauses, Explanation: c.Explanation,
		Required: s.opts.Profile.requires(c.Level, s.declared), Alone: c.Name,
	}
	if s.opts.Alone != nil {
		r.Alone = s.opts.Alone(c)
	}
	if reason := s.impossible(c); reason != "" {
		// In this process, what is between processes is nobody's to prove.
		r.Verdict, r.Reason, r.Required = NotSupported, reason, r.Required && c.Level != Process
		return r
	}
	began := time.Now()
	t := newTrial(ctx, s, c)
	t.run()
	r.Seconds = time.Since(began).Seconds()
	r.Verdict, r.Reason, r.Log = t.result()
	return r
}

// impossible says why a case can't be tried at all.
func (s *suite) impossible(c *Case) string {
	switch {
	case c.Level == Process && s.h.Program == nil:
		return "the database lives in the suite's process"
	case c.needsCrash && s.h.Crash == nil:
		return "the database lives in the suite's process, which can't be killed"
	}
	return ""
}

// finish sums up.
func (s *suite) finish() {
	all := 0
	for _, c := range Cases() {
		if s.opts.Profile.requires(c.Level, s.declared) && !(c.Level == Process && s.h.Program == nil) {
			all++
		}
	}
	s.report.sum(all)
	for _, c := range capabilities {
		s.remark(c.level)
	}
}

// remark notes where a capability that is not declared works.
func (s *suite) remark(l Level) {
	if s.declared[l] {
		return
	}
	tried, passed := 0, 0
	for i := range s.report.Cases {
		if r := &s.report.Cases[i]; r.Level == l && r.Verdict != NotSupported {
			tried++
			if r.Verdict == Pass {
				passed++
			}
		}
	}
	if tried > 0 && passed == tried {
		s.report.Remarks = append(s.report.Remarks, fmt.Sprintf("the backend does not declare %s, and passes all %d of its cases", l, tried))
	}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
